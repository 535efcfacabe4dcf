"""`--optimize flash`: the same answers from less code, within the limits that are promised."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

import qutec
from benchmarks._chain_project import flash_by_file
from benchmarks._networks import find_networks
from qutec import Build
from qutec.backends.cmsis_nn import KernelSet
from qutec.executions import verify_build
from qutec.simulate import build_image, measure_flash
from qutec.simulate.project import read_project
from qutec.targets import target
from tests.backends.test_access_order import library_folder
from tests.end_to_end.compiled import require

RESNET = "mlperf_resnet8_ic_int8_qdq_b1"
NAMES = (RESNET, "mlperf_dscnn_kws_int8_qdq_b1", "digits")
KERNEL_LIMITS = {KernelSet.FAST: 14 * 1024, KernelSet.SMALL: 6 * 1024}
"""Bytes of code of the kernels of ResNet-8 on a Cortex-M4, by arm-none-eabi-gcc."""


@cache
def compiled(name: str, optimize: str) -> Build:
    networks = [network for network in find_networks([name]) if network.name == name]
    if not networks:
        pytest.skip(f"there is no {name} (QUTEC_SHARED)")
    calibration = None if "int8" in name else "random"
    return qutec.compile(networks[0].path, optimize=optimize, calibration=calibration)


@pytest.mark.parametrize("kernels", KernelSet)
def test_kernels_of_resnet_8_are_within_their_limit(kernels: KernelSet) -> None:
    require("gcc")
    build = compiled(RESNET, "flash" if kernels is KernelSet.SMALL else "speed")
    sizes = flash_by_file(build.program, build.target.core, kernels)
    code = sum(size for name, size in sizes.items() if name != "chain.c")
    assert 0 < code <= KERNEL_LIMITS[kernels]


@pytest.mark.emulated
@pytest.mark.parametrize("name", NAMES)
def test_every_byte_of_the_answer_is_the_same(name: str) -> None:
    """On exactly the SRAM of the report."""
    require("unicorn", "zig", "cc")
    small = compiled(name, "flash")
    assert "reference = host C" in verify_build(small)
    fast = compiled(name, "speed")
    rng = np.random.default_rng(0)
    inputs = {
        port.name: rng.integers(-128, 128, (4, *port.logical_shape[1:]), dtype=np.int8)
        for port in small.program.inputs
    }
    for one, other in zip(small.run_int8(inputs).values(), fast.run_int8(inputs).values(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_flash_is_smaller_in_the_same_arena(name: str, tmp_path: Path) -> None:
    require("gcc")
    small, fast = compiled(name, "flash"), compiled(name, "speed")
    assert small.report.arena_bytes == fast.report.arena_bytes
    assert small.report.flash_bytes["weights"] == fast.report.flash_bytes["weights"]
    sizes = [
        measure_flash(build.save(tmp_path / build.report.optimize), build.target.core, "gcc")
        for build in (small, fast)
    ]
    assert sizes[0] < sizes[1]
    assert small.report.flash_bytes["code"] < fast.report.flash_bytes["code"]


def test_whoever_builds_the_project_gets_the_small_code(tmp_path: Path) -> None:
    """The files decide, and the level comes with them: for CMake, and for the simulator."""
    require("gcc")
    project = compiled("digits", "flash").save(tmp_path / "net")
    assert 'OPTIMIZE "-Os"' in (project / "CMakeLists.txt").read_text()
    assert read_project(project).compiler_level == "-Os"
    assert "qute_small_put.c" in {path.name for path in (project / "kernels").iterdir()}
    assert not (project / "kernels" / "qute_convolve_s8.c").exists()
    core = target("cortex-m4").core
    by_default, loudly = (
        build_image(project, core, compiler="gcc", optimize=level).flash_bytes for level in (None, "-Os")
    )
    assert by_default == loudly


@pytest.mark.emulated
def test_arms_library_links_in_place_of_the_small_kernels(tmp_path: Path) -> None:
    require("cc")
    small = compiled("digits", "flash")
    assert "reference = host C" in verify_build(small, cmsis_nn=library_folder("arm"))
