"""The emitted CMake project: host, cross build, Arm's library, and as a part of another project."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from qutec.backends.cmsis_nn import KernelSet
from qutec.program import Int8Array, Program
from qutec.reference import run_program
from tests.backends.emitted import SCALE, emit, every_kind, flat, program_of, random_inputs

pytestmark = pytest.mark.skipif(
    shutil.which("cmake") is None or shutil.which("gcc") is None, reason="cmake or gcc is not installed"
)

TAGS = ("v5.0.0", "v6.0.0", "v7.0.0", "HEAD")


def run(*command: str | Path) -> str:
    """Standard output; a failure shows what the command said."""
    words = [str(part) for part in command]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    return result.stdout


def build(source: Path, folder: Path, *options: str) -> str:
    """Configure and build; what cmake said while it configured."""
    said = run("cmake", "-S", source, "-B", folder, *options)
    run("cmake", "--build", folder, "-j", "2")
    return said


def expected_print(program: Program, sample: list[Int8Array]) -> str:
    """What example/main.c prints, from the reference."""
    lines = []
    for port, values in zip(
        program.outputs, flat(run_program(program, [v[None] for v in sample])), strict=True
    ):
        lines.append(port.name)
        real = np.float32(SCALE.scale) * (values.astype(np.int32) - SCALE.zero_point).astype(np.float32)
        lines += [f"{code} {float(value):g}" for code, value in zip(values, real, strict=True)]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def program() -> Program:
    return program_of(every_kind())


@pytest.fixture(scope="module")
def sample(program: Program) -> list[Int8Array]:
    return [values[0] for values in random_inputs(program, seed=8)]


@pytest.fixture(scope="module")
def project(program: Program, sample: list[Int8Array], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return emit(program, tmp_path_factory.mktemp("cmake") / "a folder", sample=sample)


def test_the_example_prints_what_the_reference_computes(
    project: Path, program: Program, sample: list[Int8Array], tmp_path: Path
) -> None:
    said = build(project, tmp_path, "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror -pedantic")
    assert "Warning" not in said
    assert run(tmp_path / "net_example") == expected_print(program, sample)


def cmsis_nn_checkout(tag: str, folder: Path) -> Path:
    """Arm's sources at a release, or those that CMSIS_NN_PATH names for HEAD."""
    root = os.environ.get("CMSIS_NN_PATH")
    if not root:
        pytest.skip("CMSIS_NN_PATH is not set")
    if tag == "HEAD":
        return Path(root)
    command = ["git", "-C", root, "archive", tag, "Include", "Source"]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode != 0:
        pytest.skip(f"CMSIS_NN_PATH has no {tag}")
    with tarfile.open(fileobj=io.BytesIO(result.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("tag", TAGS)
def test_arms_library_gives_the_same(
    project: Path, program: Program, sample: list[Int8Array], tmp_path: Path, tag: str
) -> None:
    arm = cmsis_nn_checkout(tag, tmp_path / "arm")
    build(project, tmp_path / "build", f"-DCMSIS_NN_DIR={arm}", "-DNET_OPTIMIZE=-O0")
    built = {path.name for path in (tmp_path / "build").rglob("*.o")}
    assert "arm_nn_mat_mult_nt_t_s8.c.o" in built, "these are not Arm's kernels"
    assert "qute_convolve_s8.c.o" not in built, "a bundled kernel stands in for Arm's"
    assert run(tmp_path / "build" / "net_example") == expected_print(program, sample)


def test_a_wrong_folder_for_arms_library_is_said_so(project: Path, tmp_path: Path) -> None:
    command = ["cmake", "-S", project, "-B", tmp_path, f"-DCMSIS_NN_DIR={tmp_path}"]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "there is no Include/arm_nnfunctions.h" in result.stderr


TOOLCHAIN = """
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR arm)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_C_FLAGS_INIT "-mcpu=cortex-m4 -mthumb -mfpu=fpv4-sp-d16 -mfloat-abi=hard")
"""


def test_a_cross_build_makes_the_library_alone(project: Path, tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    toolchain = tmp_path / "cortex-m4.cmake"
    toolchain.write_text(TOOLCHAIN)
    build(project, tmp_path / "build", f"-DCMAKE_TOOLCHAIN_FILE={toolchain}")
    library = tmp_path / "build" / "libnet.a"
    assert "Tag_CPU_name" in run("arm-none-eabi-readelf", "-A", library)
    assert not (tmp_path / "build" / "net_example").exists()
    symbols = run("arm-none-eabi-nm", "--defined-only", library)
    assert "T net_invoke" in symbols
    assert "T arm_convolve_wrapper_s8" in symbols


APPLICATION = """
cmake_minimum_required(VERSION 3.16)
project(application C)
add_subdirectory("${ONE}" one)
add_subdirectory("${TWO}" two)
add_executable(application main.c)
target_link_libraries(application PRIVATE one two)
"""
MAIN = """
#include "one.h"
#include "two.h"
int main(void)
{
    one_context a;
    two_context b;
    return !(one_init(&a, one_default_arena, sizeof one_default_arena) == ONE_OK &&
             two_init(&b, two_default_arena, sizeof two_default_arena) == TWO_OK &&
             one_invoke(&a) == ONE_OK && two_invoke(&b) == TWO_OK);
}
"""


@pytest.mark.parametrize("first", KernelSet)
@pytest.mark.parametrize("second", KernelSet)
def test_two_networks_are_part_of_one_project(first: KernelSet, second: KernelSet, tmp_path: Path) -> None:
    """Whichever kernels each of them brings: those of CMSIS-NN's names are the first one's for both."""
    one = emit(program_of(every_kind(1)), tmp_path / "first", prefix="one", kernels=first)
    two = emit(program_of(every_kind(2)), tmp_path / "second", prefix="two", kernels=second)
    (tmp_path / "application").mkdir()
    (tmp_path / "application" / "CMakeLists.txt").write_text(APPLICATION)
    (tmp_path / "application" / "main.c").write_text(MAIN)
    build(tmp_path / "application", tmp_path / "build", f"-DONE={one}", f"-DTWO={two}")
    run(tmp_path / "build" / "application")
    assert not list((tmp_path / "build").rglob("one_example*")), "a part of a project builds no example"
