"""The C compilers: command lines for each core and for the host, and running them.

zig is the default for targets: `ziglang` comes from PyPI, so that one pinned version gives the same code
on every machine. arm-none-eabi-gcc is what published figures are usually quoted with.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from qutec.errors import QutecError, ToolMissingError
from qutec.targets import Core

__all__ = [
    "CompileJob",
    "Compiler",
    "Toolchain",
    "compile_all",
    "host_toolchain",
    "link",
    "target_toolchain",
    "warning_flags",
]

Compiler: TypeAlias = Literal["auto", "zig", "gcc"]

_SHOWN_ERROR_LINES = 12

_ZIG_CPUS = {
    "cortex-m0": "cortex_m0",
    "cortex-m0plus": "cortex_m0plus",
    "cortex-m3": "cortex_m3",
    "cortex-m4": "cortex_m4+vfp4d16sp",
    "cortex-m7": "cortex_m7+fp_armv8d16sp",
    "cortex-m33": "cortex_m33+dsp+fp_armv8d16sp",
    "cortex-m55": "cortex_m55+mve_fp+fp_armv8d16+fullfp16",
    "cortex-m85": "cortex_m85+mve_fp+fp_armv8d16+fullfp16",
}

_GCC_CPUS = {
    "cortex-m0": ("-mcpu=cortex-m0",),
    "cortex-m0plus": ("-mcpu=cortex-m0plus",),
    "cortex-m3": ("-mcpu=cortex-m3",),
    "cortex-m4": ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16"),
    "cortex-m7": ("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16"),
    "cortex-m33": ("-mcpu=cortex-m33", "-mfpu=fpv5-sp-d16"),
    "cortex-m55": ("-mcpu=cortex-m55", "-mfpu=auto"),
    # gcc learnt cortex-m85 in release 13; it runs the code of its architecture's elder sibling.
    "cortex-m85": ("-mcpu=cortex-m55", "-mfpu=auto"),
}


# zig compiles for targets without an operating system as -ffreestanding, which turns every fixed-size
# memcpy into a call, and keeps a frame pointer; neither is what a firmware build does.
_ZIG_CODE_FLAGS = ("-fhosted", "-fomit-frame-pointer", "-fno-stack-protector", "-fno-sanitize=undefined")


@dataclass(frozen=True)
class Toolchain:
    """A compiler driver with the flags that choose what it compiles for."""

    name: Literal["zig", "gcc", "host"]
    command: tuple[str, ...]
    machine_flags: tuple[str, ...] = ()

    def optimization(self, level: str) -> tuple[str, ...]:
        """Flags for a level such as "-O3"; zig's driver alone would make -O2 of every speed level."""
        return (level, "-Xclang", level) if self.name == "zig" else (level,)


@dataclass(frozen=True)
class CompileJob:
    """One C file, the object file to make, and its own flags."""

    source: Path
    output: Path
    flags: tuple[str, ...]


def warning_flags() -> tuple[str, ...]:
    """Language and warnings that every C file of this project must pass as errors."""
    return (
        "-std=c99",
        "-pedantic",
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
    )


def target_toolchain(core: Core, compiler: Compiler) -> Toolchain:
    """The cross compiler for `core`; "auto" is zig, or gcc where zig is not installed.

    Raises ToolMissingError, which says how to install what is missing.
    """
    zig, gcc = _zig_command(), shutil.which("arm-none-eabi-gcc")
    if compiler in ("auto", "zig") and zig is not None:
        triple = f"thumb-freestanding-eabi{'hf' if core.fpu else ''}"
        flags = ("-target", triple, f"-mcpu={_ZIG_CPUS[core.name]}")
        return Toolchain("zig", zig, (*flags, *_ZIG_CODE_FLAGS))
    if compiler in ("auto", "gcc") and gcc is not None:
        abi = f"-mfloat-abi={'hard' if core.fpu else 'soft'}"
        return Toolchain("gcc", (gcc,), (*_GCC_CPUS[core.name], "-mthumb", abi))
    if compiler == "gcc":
        raise ToolMissingError("arm-none-eabi-gcc is not on PATH; install it: apt install gcc-arm-none-eabi")
    raise ToolMissingError(
        "the package 'ziglang' (a cross compiler) is missing; install it: pip install 'qutec[sim]'"
    )


def host_toolchain() -> Toolchain:
    """The compiler for this machine: cc, gcc or clang on PATH, else zig. Raises ToolMissingError."""
    for name in ("cc", "gcc", "clang"):
        path = shutil.which(name)
        if path is not None:
            return Toolchain("host", (path,))
    zig = _zig_command()
    if zig is None:
        raise ToolMissingError(
            "no cc, gcc or clang on PATH; install one: apt install gcc, or pip install 'qutec[sim]'"
        )
    return Toolchain("zig", zig)


def compile_all(toolchain: Toolchain, jobs: Sequence[CompileJob]) -> None:
    """Compile every job, as many at once as there are processors. Raises QutecError with the first errors."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        futures = [pool.submit(_compile, toolchain, job) for job in jobs]
        try:
            for future in futures:
                future.result()
        except QutecError:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def link(toolchain: Toolchain, objects: Sequence[Path], output: Path, flags: Sequence[str]) -> None:
    """Link objects into `output`. Raises QutecError with the linker's first errors."""
    arguments = [*toolchain.machine_flags, *(str(path) for path in objects), *flags, "-o", str(output)]
    _run(toolchain, arguments, output.parent, f"linking {output.name}")


def _compile(toolchain: Toolchain, job: CompileJob) -> None:
    arguments = [*toolchain.machine_flags, *job.flags, "-c", str(job.source), "-o", str(job.output)]
    _run(toolchain, arguments, job.output.parent, str(job.source))


def _run(toolchain: Toolchain, arguments: Sequence[str], folder: Path, what: str) -> None:
    result = subprocess.run(
        [*toolchain.command, *arguments],
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode == 0:
        return
    lines = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line or "undefined" in line] or lines
    raise QutecError("\n".join([f"{toolchain.name} failed: {what}", *errors[:_SHOWN_ERROR_LINES]]))


def _zig_command() -> tuple[str, ...] | None:
    if importlib.util.find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang", "cc")
    return None


def _environment() -> dict[str, str]:
    """The caller's environment, with a cache folder for zig that exists without HOME too."""
    environment = dict(os.environ)
    if "ZIG_GLOBAL_CACHE_DIR" not in environment:
        environment["ZIG_GLOBAL_CACHE_DIR"] = str(_user_cache() / "zig")
    return environment


def _user_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    if root:
        return Path(root) / "qutec"
    try:
        return Path.home() / ".cache" / "qutec"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / "qutec-cache"
