"""Reference networks on an emulated core with Helium: the same bytes, far fewer instructions."""

from __future__ import annotations

import os
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
@pytest.mark.parametrize("library", ["bundled", "arm"])
@pytest.mark.parametrize(
    ("optimize", "arena", "arm_arena"),
    [("speed", 11_584, 16_048), ("sram", 5_696, 10_160)],
    ids=["speed", "sram"],
)
def test_every_byte_is_right_on_exactly_the_sram_that_is_stated(
    optimize: str, arena: int, arm_arena: int, library: str, tmp_path: Path
) -> None:
    """The arena is planned for the bundled kernels; Arm's find what scratch they want besides behind it."""
    require("gcc", "qemu")
    folder = os.environ.get("CMSIS_NN_PATH") if library == "arm" else None
    if library == "arm" and not folder:
        pytest.skip("there is no CMSIS-NN (CMSIS_NN_PATH)")
    network = network_named("mlperf_dscnn_kws_int8_qdq_b1")
    calibration = samples_of(network).calibration
    build = qutec.compile(network.path, target=CORE, calibration=calibration, optimize=optimize)
    report = build.report
    assert (report.arena_bytes, report.arena_arm_bytes) == (arena, arm_arena)
    executions = Executions(build, some_inputs(network, build))
    arm = Path(folder) if folder else None
    image = build_image(build.save(tmp_path / "net"), build.target.core, compiler="gcc", cmsis_nn=arm)
    sram = report.sram_arm_bytes if arm else report.sram_bytes
    executions.assert_reference(run_many(image, executions.samples, sram_bytes=sram, emulator="qemu"))
