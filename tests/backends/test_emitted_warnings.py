"""The emitted C under every compiler and core: no warning, no libc, no writable data, usable from C++."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qutec.backends.cmsis_nn import KernelSet
from qutec.simulate import warning_flags
from tests.backends.emitted import emit, every_kind, program_of

MORE_WARNINGS = ("-Wundef", "-Wstrict-prototypes", "-Wcast-qual", "-Wwrite-strings", "-Wredundant-decls")
ARM_GCC = "arm-none-eabi-gcc"
ZIG = (sys.executable, "-m", "ziglang", "cc")
CORES = {
    "cortex-m0plus": ("-mcpu=cortex-m0plus", "-mthumb"),
    "cortex-m4": ("-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
    "cortex-m55": ("-mcpu=cortex-m55", "-mthumb", "-mfpu=auto", "-mfloat-abi=hard"),
}
ZIG_CORES = {
    "cortex-m0plus": ("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m0plus"),
    "cortex-m4": ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp"),
    "cortex-m55": ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m55+mve_fp+fp_armv8d16+fullfp16"),
}


@pytest.fixture(scope="module", params=list(KernelSet))
def project(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """One call of every kind, with either set of kernels."""
    folder = tmp_path_factory.mktemp("every_kind") / "net"
    return emit(program_of(every_kind()), folder, kernels=request.param)


def sources(project: Path) -> list[Path]:
    """The library's C files, without the example."""
    return sorted([*project.glob("*.c"), *(project / "kernels").glob("*.c")])


def run(*command: str | Path) -> str:
    """Standard output; a failure shows what the command said."""
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[:4000]
    return result.stdout


def compile_each(command: tuple[str, ...], flags: tuple[str, ...], project: Path, folder: Path) -> list[Path]:
    """An object for each source; fails at the first warning."""
    folder.mkdir(parents=True, exist_ok=True)
    includes = (f"-I{project}", f"-I{project / 'kernels'}")
    objects = []
    for source in sources(project):
        objects.append(folder / f"{source.stem}.o")
        run(*command, *warning_flags(), *MORE_WARNINGS, *flags, *includes, "-c", source, "-o", objects[-1])
    return objects


def need(tool: str) -> str:
    """The tool, or a skip."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} is not installed")
    return path


def test_gcc_on_the_host_warns_of_nothing(project: Path, tmp_path: Path) -> None:
    gcc = need("gcc")
    objects = compile_each((gcc,), ("-O2",), project, tmp_path)
    flags = (*warning_flags(), *MORE_WARNINGS, f"-I{project}")
    example = tmp_path / "example"
    run(gcc, *flags, project / "example" / "main.c", *objects, "-o", example)
    printed = run(example).split()
    assert printed.count("y0") == 1
    assert "failed" not in printed


@pytest.mark.parametrize("core", sorted(CORES))
def test_arm_gcc_warns_of_nothing(project: Path, tmp_path: Path, core: str) -> None:
    compile_each((need(ARM_GCC),), (*CORES[core], "-O3"), project, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("core", sorted(ZIG_CORES))
def test_zig_warns_of_nothing(project: Path, tmp_path: Path, core: str) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")
    harness = Path(__file__).parents[2] / "qutec" / "simulate" / "harness"
    compile_each(ZIG, (*ZIG_CORES[core], "-O3", f"-I{harness}"), project, tmp_path)


def test_the_code_is_free_of_libc_but_for_memory_functions(project: Path, tmp_path: Path) -> None:
    gcc = need(ARM_GCC)
    allowed = {
        "cortex-m4": {"memcpy", "memset"},
        "cortex-m55": {"memcpy", "memset"},
        # No long multiplication, division or CLZ on this core; the compiler brings functions for them.
        "cortex-m0plus": {
            *("memcpy", "memset", "__aeabi_lmul", "__clzsi2"),
            *("__aeabi_idiv", "__aeabi_uidiv", "__aeabi_idivmod", "__aeabi_uidivmod"),
        },
    }
    for core, flags in CORES.items():
        objects = compile_each((gcc,), (*flags, "-O3"), project, tmp_path / core)
        linked = tmp_path / f"{core}.o"
        run(gcc, *flags, "-nostdlib", "-r", *objects, "-o", linked)
        undefined = {line.split()[-1] for line in run("arm-none-eabi-nm", "-u", linked).splitlines()}
        # Helpers of Thumb-1 for switch tables are code that gcc shares, not library functions.
        undefined = {name for name in undefined if not name.startswith("__gnu_thumb1_case")}
        assert undefined <= allowed[core], core


def test_nothing_but_the_default_arena_is_writable(project: Path, tmp_path: Path) -> None:
    objects = compile_each((need(ARM_GCC),), (*CORES["cortex-m4"], "-O3"), project, tmp_path)
    table = run("arm-none-eabi-size", *objects)
    for line in table.splitlines()[1:]:
        _, data, bss, *_, name = line.split()
        if not name.endswith("net_arena.o"):
            assert (data, bss) == ("0", "0"), name


def test_constants_can_be_read_word_by_word(project: Path, tmp_path: Path) -> None:
    """Weights start at a multiple of 4, where a load of four of them is one access on every core."""
    gcc = need(ARM_GCC)
    objects = compile_each((gcc,), (*CORES["cortex-m4"], "-Os", "-fdata-sections"), project, tmp_path)
    weights = next(path for path in objects if path.name == "net_weights.o")
    lines = run("arm-none-eabi-objdump", "-h", weights).splitlines()
    aligned = [line.split()[-1] for line in lines if ".rodata.net_weights" in line]
    assert aligned
    assert all(int(power.removeprefix("2**")) >= 2 for power in aligned)


CPP_MAIN = """
#include "net.h"
#include "net.h"
#include <cstdint>
#include <cstring>
static int calls = 0;
static void count(void *user, std::int32_t layer) { calls += (*static_cast<int *>(user) == 7) && layer >= 0; }
int main()
{
    alignas(NET_ARENA_ALIGN) static std::uint8_t arena[NET_ARENA_BYTES];
    net_context context;
    int seven = 7;
    if (net_init(&context, arena, sizeof arena) != NET_OK) { return 1; }
    context.on_layer = count;
    context.user = &seven;
    std::memset(net_input(&context, 0), 3, NET_INPUT_0_BYTES);
    if (net_invoke(&context) != NET_OK || calls != NET_LAYER_COUNT) { return 2; }
    return net_output(&context, 0) == nullptr ? 3 : 0;
}
"""


def test_the_api_is_usable_from_cpp(project: Path, tmp_path: Path) -> None:
    gxx, gcc = need("g++"), need("gcc")
    objects = compile_each((gcc,), ("-O1",), project, tmp_path)
    main = tmp_path / "main.cpp"
    main.write_text(CPP_MAIN)
    flags = ("-std=c++11", "-Wall", "-Wextra", "-Wshadow", "-Wold-style-cast", "-pedantic", "-Werror")
    run(gxx, *flags, f"-I{project}", main, *objects, "-o", tmp_path / "app")
    run(tmp_path / "app")
