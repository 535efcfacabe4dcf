"""The bundled kernels against a brute-force oracle and against Arm's CMSIS-NN: hosts, Cortex-M0+, M3 and M4.

Arm's sources are taken from the folder in CMSIS_NN_PATH, later than v7.0.0: that release refuses grouped 1x1
kernels, and v5.0.0 computes grouped kernels and filter offsets wrongly.

QUTEC_FUZZ_ROUNDS sets the number of random cases of each kind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from qutec.backends.cmsis_nn.kernel_index import KERNEL_DIRECTORY, SMALL_DIRECTORY, kernel_files, kernel_path
from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.backends.cmsis_nn.scratch import arm_scratch_bytes, scratch_bytes
from qutec.program import Call
from qutec.targets import Core, target
from tests.backends.kernel_cases import (
    OWN,
    SHARED,
    WIDE,
    Case,
    additions_of_all_pairs,
    draw_cases,
    wide_softmax,
    wrong_in_arm,
)
from tests.backends.kernel_encoding import encode

_HERE = Path(__file__).parent
_ROUNDS = int(os.environ.get("QUTEC_FUZZ_ROUNDS", "40"))
_WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wsign-compare",
    "-Wdouble-promotion",
    "-Wshadow",
    "-Wvla",
    "-Wmissing-field-initializers",
    "-Wunused-function",
    "-Wswitch",
    "-Werror",
    "-pedantic",
]

_ARM_SOURCES = [
    "arm_avgpool_get_buffer_sizes_s8",
    "arm_avgpool_s8",
    "arm_concatenation_s8_x",
    "arm_convolve_1_x_n_s8",
    "arm_convolve_1x1_s8",
    "arm_convolve_1x1_s8_fast",
    "arm_convolve_get_buffer_sizes_s8",
    "arm_convolve_s8",
    "arm_convolve_wrapper_s8",
    "arm_depthwise_conv_3x3_s8",
    "arm_depthwise_conv_get_buffer_sizes_s8",
    "arm_depthwise_conv_s8",
    "arm_depthwise_conv_s8_opt",
    "arm_depthwise_conv_wrapper_s8",
    "arm_elementwise_add_s8",
    "arm_elementwise_mul_s8",
    "arm_fully_connected_get_buffer_sizes_s8",
    "arm_fully_connected_s8",
    "arm_max_pool_s8",
    "arm_nn_mat_mult_kernel_row_offset_s8_s16",
    "arm_nn_mat_mult_kernel_s8_s16",
    "arm_nn_mat_mult_nt_t_s8",
    "arm_nn_softmax_common_s8",
    "arm_nn_vec_mat_mult_t_s8",
    "arm_q7_to_q15_with_offset",
    "arm_s8_to_s16_unordered_with_offset",
    "arm_softmax_s8",
]


@dataclass(frozen=True)
class _Platform:
    compiler: tuple[str, ...]
    core: Core
    machine: str | None
    """QEMU machine, or None for the host."""
    optimization: str = "-O3"
    linker_script: str = "kernel_runner.ld"


_HOST = _Platform(("gcc",), Core("host"), None)
_SANITIZED = _Platform(
    ("gcc", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"), Core("host"), None
)
_ARM_GCC = ("arm-none-eabi-gcc", "-mthumb")
_CORTEX_M3 = _Platform((*_ARM_GCC, "-mcpu=cortex-m3"), target("cortex-m3").core, "mps2-an385")
_CORTEX_M0PLUS = _Platform((*_ARM_GCC, "-mcpu=cortex-m0plus"), target("cortex-m0plus").core, "mps2-an385")
"""On a machine that has room for all cases: its core runs the code of this one too."""
_CORTEX_M4 = _Platform((*_ARM_GCC, "-mcpu=cortex-m4"), target("cortex-m4").core, "mps2-an386")
_CORTEX_M4_UNOPTIMIZED = replace(_CORTEX_M4, optimization="-O0")
"""Without optimisation the kernels take C blocks instead of those of qute_blocks.h."""
_LEVELS = (("-O1",), ("-Og",), ("-Os",), ("-Oz",), ("-O2",), ("-O3",), ("-O1", "-fno-omit-frame-pointer"))
_HELIUM_GCC = (*_ARM_GCC, "-mcpu=cortex-m55", "-mfpu=auto", "-mfloat-abi=hard")
_CORTEX_M55 = _Platform(
    _HELIUM_GCC, target("cortex-m55").core, "mps3-an547", linker_script="kernel_runner_mps3.ld"
)
_CORTEX_M55_SMALL = replace(_CORTEX_M55, optimization="-Os")


def _require(platform: _Platform) -> None:
    tools = [platform.compiler[0], *(["qemu-system-arm"] if platform.machine else [])]
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")


def _arm_folder() -> Path:
    folder = os.environ.get("CMSIS_NN_PATH")
    if not folder or not (Path(folder) / "Include" / "arm_nnfunctions.h").is_file():
        pytest.skip("CMSIS_NN_PATH does not name a CMSIS-NN folder")
    return Path(folder)


def _compile(platform: _Platform, sources: list[Path], flags: list[str], folder: Path) -> list[Path]:
    def one(source: Path) -> Path:
        target_file = folder / f"{source.stem}.o"
        command = [*platform.compiler, "-std=c99", *flags, "-c", str(source), "-o", str(target_file)]
        subprocess.run(command, check=True)
        return target_file

    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(one, sources))


def _bundled_objects(platform: _Platform, folder: Path, kernels: KernelSet = KernelSet.FAST) -> list[Path]:
    staged = folder / "kernels"
    shutil.copytree(KERNEL_DIRECTORY, staged, ignore=shutil.ignore_patterns(SMALL_DIRECTORY.name))
    if kernels is KernelSet.SMALL:
        shutil.copytree(SMALL_DIRECTORY, staged, dirs_exist_ok=True)
    include = f"-I{staged}"
    flags = [platform.optimization, *_WARNINGS, include]
    objects = _compile(platform, sorted(staged.glob("*.c")), flags, folder)
    return objects + _compile(
        platform, [_HERE / "kernel_runner.c"], ["-O1", "-DWITH_QUTE_KERNELS", include], folder
    )


def _arm_objects(platform: _Platform, folder: Path) -> list[Path]:
    root = _arm_folder()
    include = f"-I{root / 'Include'}"
    found = {path.stem: path for path in (root / "Source").rglob("*.c")}
    sources = [found[name] for name in _ARM_SOURCES if name in found]
    # Arm's kernels shift negative values and overflow as the hardware does.
    objects = _compile(platform, sources, ["-O2", "-fwrapv", include], folder)
    return objects + _compile(platform, [_HERE / "kernel_runner.c"], ["-O1", include], folder)


def _run_cases(
    platform: _Platform,
    objects: list[Path],
    cases: list[Case],
    folder: Path,
    scratch: Callable[[Call, Core], int] = scratch_bytes,
) -> None:
    words = encode(cases, platform.core, scratch)
    table = folder / "cases.c"
    numbers = ",".join("(-2147483647 - 1)" if w == -(2**31) else str(w) for w in words)
    table.write_text(
        f"#include <stdint.h>\nextern const int32_t case_words[];\n"
        f"const int32_t case_words[] = {{{numbers}}};\n"
    )
    program = folder / "cases.elf"
    link = ["-nostartfiles", f"-T{_HERE / platform.linker_script}"] if platform.machine else []
    subprocess.run(
        [*platform.compiler, *link, str(table), *map(str, objects), "-o", str(program)], check=True
    )
    command = [str(program)]
    if platform.machine:
        command = ["qemu-system-arm", "-machine", platform.machine, "-kernel", str(program)]
        command += ["-semihosting-config", "enable=on,target=native"]
        command += ["-display", "none", "-monitor", "none", "-serial", "none"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    output = result.stdout + result.stderr
    failed = [line for line in output.splitlines() if line.startswith("FAIL")]
    details = [f"{line}: {_describe(cases, line)}" for line in failed[:5]]
    assert not failed, "\n".join(details)
    assert f"done {len(cases)}\n" in output, output[-3000:]


def _describe(cases: list[Case], line: str) -> str:
    fields = vars(cases[int(line.split()[2].rstrip(":"))].call)
    return ", ".join(f"{k}={v}" for k, v in fields.items() if not hasattr(v, "dtype"))


@pytest.mark.parametrize("kernels", KernelSet)
@pytest.mark.parametrize(
    ("platform", "seed"),
    [(_SANITIZED, 1), (_CORTEX_M3, 2), (_CORTEX_M4, 3), (_CORTEX_M4_UNOPTIMIZED, 4), (_CORTEX_M0PLUS, 5)],
    ids=["host-sanitized", "cortex-m3", "cortex-m4", "cortex-m4-unoptimized", "cortex-m0plus"],
)
def test_bundled_kernels_equal_the_oracle(
    platform: _Platform, seed: int, kernels: KernelSet, tmp_path: Path
) -> None:
    _require(platform)
    if platform.optimization == "-O3":
        platform = replace(platform, optimization=kernels.compiler_level)
    objects = _bundled_objects(platform, tmp_path, kernels)
    _run_cases(platform, objects, draw_cases(OWN, _ROUNDS, seed), tmp_path)


@pytest.mark.parametrize(
    ("platform", "seed"), [(_CORTEX_M55, 5), (_CORTEX_M55_SMALL, 6)], ids=["speed", "size"]
)
def test_helium_kernels_equal_the_oracle(platform: _Platform, seed: int, tmp_path: Path) -> None:
    """Besides the calls of all cores, wide ones: vectors, and blocks of channels, and what they leave."""
    _require(platform)
    objects = _bundled_objects(platform, tmp_path)
    cases = draw_cases(OWN, max(1, _ROUNDS // 2), seed) + draw_cases(WIDE, max(1, _ROUNDS // 2), seed)
    _run_cases(platform, objects, cases, tmp_path)


@pytest.mark.parametrize("optimization", _LEVELS, ids=["".join(level) for level in _LEVELS])
@pytest.mark.parametrize("platform", [_CORTEX_M4, _CORTEX_M55], ids=["cortex-m4", "cortex-m55"])
def test_assembly_finds_its_registers_at_every_level(
    platform: _Platform, optimization: tuple[str, ...], tmp_path: Path
) -> None:
    """What a compiler needs registers for besides differs from level to level."""
    _require(platform)
    command = [*platform.compiler, "-std=c99", *optimization, *_WARNINGS, f"-I{KERNEL_DIRECTORY}", "-c"]
    # The small set's loops leave no register for a frame pointer.
    keeps_frames = "-fno-omit-frame-pointer" in optimization
    for folder in (KERNEL_DIRECTORY, *(() if keeps_frames else (SMALL_DIRECTORY,))):
        # All in one go: objects are named after their sources, and both folders have some names.
        objects = tmp_path / folder.name
        objects.mkdir()
        names = [str(path) for path in sorted(folder.glob("*.c"))]
        subprocess.run([*command, *names], cwd=objects, check=True)


@pytest.mark.parametrize("optimization", ["-O1", "-Os"])
def test_kernels_equal_the_oracle_at_other_levels(optimization: str, tmp_path: Path) -> None:
    platform = replace(_CORTEX_M4, optimization=optimization)
    _require(platform)
    objects = _bundled_objects(platform, tmp_path)
    _run_cases(platform, objects, draw_cases(OWN, max(1, _ROUNDS // 8), 7), tmp_path)


@pytest.mark.parametrize("platform", [_CORTEX_M4, _CORTEX_M55], ids=["cortex-m4", "cortex-m55"])
def test_additions_equal_the_oracle_for_every_pair_of_inputs(platform: _Platform, tmp_path: Path) -> None:
    """On the cores whose kernels rewrite the arithmetic."""
    _require(platform)
    objects = _bundled_objects(platform, tmp_path)
    _run_cases(platform, objects, additions_of_all_pairs(), tmp_path)


@pytest.mark.parametrize(("platform", "seed"), [(_HOST, 1), (_CORTEX_M4, 3)], ids=["host", "cortex-m4"])
def test_arm_library_equals_the_oracle_within_its_scratch(
    platform: _Platform, seed: int, tmp_path: Path
) -> None:
    """Same seeds as above, so that bundled and Arm's kernels are equal on the same calls."""
    _require(platform)
    objects = _arm_objects(platform, tmp_path)
    cases = draw_cases(SHARED, _ROUNDS, seed) + draw_cases([wide_softmax], _ROUNDS // 4, seed)
    right = [case for case in cases if not wrong_in_arm(case.call)]
    _run_cases(platform, objects, right, tmp_path, arm_scratch_bytes)


@pytest.mark.parametrize("kernels", KernelSet)
@pytest.mark.parametrize("number", range(len(OWN)), ids=[maker.__name__ for maker in OWN])
def test_kernel_files_of_a_call_link_alone(number: int, kernels: KernelSet, tmp_path: Path) -> None:
    """What `kernel_files` names for one call compiles, and leaves only memcpy and memset undefined."""
    _require(_HOST)
    case = draw_cases([OWN[number]], 1, number)[0]
    for name in kernel_files([case.call], kernels):
        shutil.copy(kernel_path(name, kernels), tmp_path)
    objects = _compile(_HOST, sorted(tmp_path.glob("*.c")), ["-O1", "-ffreestanding"], tmp_path)
    joined = tmp_path / "all.o"
    subprocess.run(["ld", "-r", *map(str, objects), "-o", str(joined)], check=True)
    undefined = subprocess.run(["nm", "-u", str(joined)], capture_output=True, text=True, check=True).stdout
    assert {line.split()[-1] for line in undefined.splitlines()} <= {"memcpy", "memset"}
