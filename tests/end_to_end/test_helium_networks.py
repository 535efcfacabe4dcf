"""Reference networks on an emulated core with Helium: the same bytes, far fewer instructions."""

from __future__ import annotations

from pathlib import Path

import pytest

import qutec
from benchmarks._networks import Network, find_networks, shared_folder
from qutec.simulate import build_image, run_image, run_many
from tests.end_to_end.compiled import Executions, compiled, require, samples_of, some_inputs

CORE = "cortex-m55"
INSTRUCTIONS = {
    # A quarter of what it takes on a Cortex-M4 (docs/results.md); docs/helium.md.
    "mlperf_resnet8_ic_int8_qdq_b1": 13_876_040 // 4,
    "mlperf_dscnn_kws_int8_qdq_b1": 1_150_000,
}


def network_named(name: str) -> Network:
    for network in find_networks([name]):
        if network.name == name:
            return network
    pytest.skip(f"'{shared_folder()}' has no {name} (QUTEC_SHARED)")


@pytest.mark.emulated
@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_network_takes_no_more_instructions_than_is_said(name: str, tmp_path: Path) -> None:
    require("gcc", "qemu")
    network = network_named(name)
    build = compiled(network, CORE)
    executions = Executions(build, some_inputs(network, build))
    image = build_image(build.save(tmp_path / "net"), build.target.core, compiler="gcc")
    sram = build.report.sram_bytes
    executions.assert_reference(run_many(image, executions.samples, sram_bytes=sram, emulator="qemu"))
    measured = run_image(image, executions.samples[0], sram_bytes=sram, emulator="qemu")
    assert measured.instructions is not None
    assert measured.instructions <= INSTRUCTIONS[name]


@pytest.mark.emulated
def test_layers_run_row_by_row(tmp_path: Path) -> None:
    require("gcc", "qemu")
    network = network_named("mlperf_dscnn_kws_int8_qdq_b1")
    calibration = samples_of(network).calibration
    build = qutec.compile(network.path, target=CORE, calibration=calibration, optimize="sram")
    executions = Executions(build, some_inputs(network, build))
    image = build_image(build.save(tmp_path / "net"), build.target.core, compiler="gcc")
    sram = build.report.sram_bytes
    executions.assert_reference(run_many(image, executions.samples, sram_bytes=sram, emulator="qemu"))
