"""The network of the repository on every kind of core, in each emulator, with each compiler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qutec
from benchmarks._networks import DIGITS
from qutec import Build
from qutec.simulate import Compiler, Emulator, build_image, run_image, run_many
from qutec.targets import target, target_names
from tests.end_to_end.compiled import Executions, require

UNICORN_CORES = ("cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")
HELIUM_CORES = ("cortex-m55", "cortex-m85")
CORES = [name for name in target_names() if target(name).core.name == name]

ROADS = [
    *((core, compiler, "unicorn") for core in UNICORN_CORES for compiler in ("zig", "gcc")),
    *((core, compiler, "qemu") for core in HELIUM_CORES for compiler in ("zig", "gcc")),
    ("cortex-m4", "gcc", "qemu"),
]


def _build(core: str) -> tuple[Build, Executions]:
    images = np.random.default_rng(5).random((4, 1, 8, 8), np.float32)
    build = qutec.compile(DIGITS.path, target=core, calibration=images)
    return build, Executions(build, build.stored(images))


def test_every_core_that_can_be_compiled_for_is_run() -> None:
    assert sorted(CORES) == sorted((*UNICORN_CORES, *HELIUM_CORES))


@pytest.mark.emulated
@pytest.mark.parametrize(("core", "compiler", "emulator"), ROADS)
def test_core_gives_the_bytes_of_the_reference(
    core: str, compiler: Compiler, emulator: Emulator, tmp_path: Path
) -> None:
    require(compiler, emulator)
    build, executions = _build(core)
    image = build_image(build.save(tmp_path / "net"), build.target.core, compiler=compiler)
    sram = build.report.sram_bytes
    executions.assert_reference(run_many(image, executions.samples, sram_bytes=sram, emulator=emulator))
    measured = run_image(image, executions.samples[0], sram_bytes=sram, emulator=emulator)
    assert measured.instructions
    assert measured.stack_bytes <= build.report.stack_estimate_bytes
    assert measured.arena_high_water_bytes <= build.report.arena_bytes


def test_all_cores_have_the_same_outputs() -> None:
    outputs = [_build(core)[1].reference() for core in CORES]
    for other in outputs[1:]:
        for name, values in outputs[0].items():
            np.testing.assert_array_equal(other[name], values)


@pytest.mark.emulated
def test_both_emulators_count_the_same_instructions(tmp_path: Path) -> None:
    require("gcc", "qemu", "unicorn")
    build, executions = _build("cortex-m4")
    image = build_image(build.save(tmp_path / "net"), build.target.core, compiler="gcc")
    exact = run_image(image, executions.samples[0], sram_bytes=None)
    ticks = run_image(image, executions.samples[0], sram_bytes=None, emulator="qemu")
    assert exact.instructions is not None
    assert ticks.instructions is not None
    assert abs(exact.instructions - ticks.instructions) <= 2 * ticks.resolution
    assert exact.stack_bytes == ticks.stack_bytes
