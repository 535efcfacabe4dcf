"""Every reference network: its three executions agree, it fits what the report says, and it answers well.

The networks and their data are outside the repository (QUTEC_SHARED); without them nothing is collected
here but one skip. `test_digits` has the same for the network of the repository.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import qutec
from benchmarks._accuracy import exit_accuracies
from benchmarks._arm_library import int8_library
from benchmarks._networks import DIGITS, Network, find_networks, shared_folder
from qutec.errors import DoesNotFitError
from qutec.simulate import build_host, build_image, run_image, run_many
from tests.end_to_end.compiled import Executions, compiled, require, samples_of, some_inputs

NETWORKS = [network for network in find_networks() if network != DIGITS]
RECORDED = {
    "mlperf_resnet8_ic_int8_qdq_b1": "tflm_mlperf_resnet8_ic_int8.npz",
    "mlperf_dscnn_kws_int8_qdq_b1": "tflm_mlperf_dscnn_kws_int8.npz",
}
ONE_POINT = 0.01
STANDARD_ERRORS = 1.645
"""A loss counts where it is above one point with 95 % confidence."""
ROUNDING = 1e-9

each_network = pytest.mark.parametrize(
    "network",
    NETWORKS or [pytest.param(None, marks=pytest.mark.skip(reason=f"no networks in '{shared_folder()}'"))],
    ids=lambda network: network.name if network else "none",
)


@pytest.fixture(scope="session")
def arm_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = os.environ.get("CMSIS_NN_PATH")
    if not root:
        pytest.skip("CMSIS_NN_PATH is not set")
    return int8_library(Path(root), tmp_path_factory.mktemp("arm") / "cmsis-nn")


@each_network
@pytest.mark.emulated
def test_executions_agree_in_exactly_the_memory_of_the_report(network: Network, tmp_path: Path) -> None:
    require("zig", "unicorn", "cc")
    build = compiled(network)
    executions = Executions(build, some_inputs(network, build))
    project = build.save(tmp_path / "net")

    executions.assert_reference(build_host(project).run_many(executions.samples))
    image = build_image(project, build.target.core)
    sram = build.report.sram_bytes
    executions.assert_reference(run_many(image, executions.samples, sram_bytes=sram))

    measured = run_image(image, executions.samples[0], sram_bytes=sram, count=False)
    arena = build.report.arena_bytes
    assert arena - build.plan.alignment.arena < measured.arena_high_water_bytes <= arena
    assert measured.stack_bytes <= build.report.stack_estimate_bytes


@each_network
def test_network_compiles_for_what_it_needs_and_not_for_less(network: Network) -> None:
    if any(part in network.name for part in ("_bn_", "_dyn", "_nchw", "_evtap")):
        pytest.skip("the same program as that of its network's plain file")
    calibration = samples_of(network).calibration
    smallest = qutec.compile(network.path, target="cortex-m4", calibration=calibration, optimize="sram")
    needed = smallest.report.sram_bytes
    assert needed <= compiled(network).report.sram_bytes
    again = qutec.compile(network.path, target="cortex-m4", calibration=calibration, sram=needed)
    # The smallest arena is not that of the smallest stack: a region of fewer layers has a smaller frame.
    assert again.report.sram_bytes <= needed
    too_little = smallest.report.arena_bytes + smallest.report.stack_estimate_bytes // 2
    with pytest.raises(DoesNotFitError, match="bytes of SRAM are needed"):
        qutec.compile(network.path, target="cortex-m4", calibration=calibration, sram=too_little)


@each_network
def test_int8_is_within_a_point_of_float(network: Network) -> None:
    # Where d of n samples are right for one network only, the difference of the two accuracies has a standard
    # error of sqrt(d) / n: with 200 images more than the point that is asked for, with 1,000 keywords less.
    accuracies = exit_accuracies(network, compiled(network), samples_of(network))
    assert accuracies
    for entry in accuracies:
        chance = STANDARD_ERRORS * np.sqrt(entry.one_right) / entry.samples if entry.samples < 1000 else 0.0
        lost = round(entry.samples * (entry.original - entry.int8))
        assert lost <= entry.samples * (ONE_POINT + chance) + ROUNDING, entry


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.emulated
def test_outputs_equal_those_of_tensorflow_lite_micro(name: str, tmp_path: Path) -> None:
    require("zig", "unicorn")
    network = next((network for network in NETWORKS if network.name == name), None)
    recorded = shared_folder() / "models" / RECORDED[name]
    if network is None or not recorded.is_file():
        pytest.skip(f"'{shared_folder()}' has no {name} with recorded outputs (QUTEC_SHARED)")
    with np.load(recorded) as archive:
        inputs, expected = archive["x"], archive["y"]
    build = compiled(network)
    inputs = inputs.reshape(len(inputs), *build.program.inputs[0].logical_shape[1:])

    (reference,) = build.run_int8(inputs).values()
    np.testing.assert_array_equal(reference, expected)
    executions = Executions(build, [inputs])
    image = build_image(build.save(tmp_path / "net"), build.target.core)
    emulated = run_many(image, executions.samples, sram_bytes=build.report.sram_bytes)
    np.testing.assert_array_equal(np.stack([outputs[0] for outputs in emulated]), expected)


@each_network
@pytest.mark.emulated
def test_arm_library_gives_the_same_bytes(network: Network, arm_library: Path, tmp_path: Path) -> None:
    require("zig", "unicorn", "cc")
    build = compiled(network)
    executions = Executions(build, some_inputs(network, build))
    project = build.save(tmp_path / "net")
    host = build_host(project, cmsis_nn=arm_library)
    executions.assert_reference(host.run_many(executions.samples))
    image = build_image(project, build.target.core, cmsis_nn=arm_library)
    executions.assert_reference(run_many(image, executions.samples))
