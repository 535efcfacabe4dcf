"""A program without a model as an emitted project on disk, and the flash and stack that it takes."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np

from qutec.backends.cmsis_nn import (
    EmittedProject,
    KernelSet,
    Provenance,
    emit_project,
    prepare,
    scratch_bytes,
    useful_scratch_bytes,
)
from qutec.planner import Plan, plan_program
from qutec.program import Call, Program
from qutec.simulate import Compiler, build_image, run_image
from qutec.simulate.project import read_project
from qutec.simulate.sources import network_jobs
from qutec.simulate.toolchain import CompileJob, Toolchain, compile_all, link, target_toolchain
from qutec.targets import Core

__all__ = [
    "all_scratch",
    "flash_by_file",
    "measured_stack",
    "needed_scratch",
    "struct_bytes",
    "write_project",
]

_PREFIX = "chain"
_FLAGS = (
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
)

# What an application calls; volatile results keep every port alive. There is no start-up code: the image is
# linked to be measured, not run.
_MAIN = """
#include "chain.h"
static uint8_t arena[CHAIN_ARENA_BYTES] __attribute__((aligned(16)));
int main(void);
int main(void)
{
    static volatile int8_t port;
    chain_context context;
    if (chain_init(&context, arena, sizeof arena) != CHAIN_OK)
    {
        return 1;
    }
    chain_input(&context, 0)[0] = port;
    const chain_status status = chain_invoke(&context);
    port = chain_output(&context, 0)[0];
    return (int)status;
}
"""

# A section that the linker kept: name, address, size, object file; the name may stand on a line of its own.
_SECTION = re.compile(
    r"^ \.(?:text|rodata|data)(?:\.\S+)?\s+0x[0-9a-f]+\s+0x(?P<size>[0-9a-f]+)\s+(?P<file>\S.*)$",
    re.MULTILINE,
)
_MEMBER = re.compile(r"\((?:lib\w*-)?(\w+?)(?:-stub)?\.o\)$")
_NUMBER = re.compile(r"^\d+-")

_OBJECTS: dict[tuple[Toolchain, tuple[str, ...], str, bytes], bytes] = {}
"""Objects of kernels by what they were made with."""


ScratchOf: TypeAlias = Callable[[Call, Core, KernelSet], int]
"""Bytes of scratch to plan for a call."""


def needed_scratch(call: Call, core: Core, kernels: KernelSet) -> int:
    """What the call cannot do without."""
    return scratch_bytes(call, core)


def all_scratch(call: Call, core: Core, kernels: KernelSet) -> int:
    """All that is of use to its kernel."""
    return max(scratch_bytes(call, core), useful_scratch_bytes(call, core, kernels))


def write_project(
    program: Program,
    core: Core,
    folder: Path,
    kernels: KernelSet = KernelSet.FAST,
    scratch: ScratchOf = all_scratch,
) -> Path:
    """The program as a project for `core` in `folder`, with what the simulator wants of its report."""
    program, plan, project = _emitted(program, core, kernels, scratch)
    for name, text in project.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    report = {
        "symbol_prefix": _PREFIX,
        "arena_bytes": plan.arena_bytes,
        "arena_arm_bytes": project.arena_arm_bytes,
        "inputs": [{"bytes": port.size} for port in program.inputs],
        "outputs": [{"bytes": port.size} for port in program.outputs],
        "layers": [call.name for call in program.calls],
        "compiler_level": kernels.compiler_level,
    }
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return folder


def struct_bytes(program: Program, core: Core, kernels: KernelSet = KernelSet.FAST) -> tuple[int, ...]:
    """Bytes of the parameter structs of each call."""
    return _emitted(program, core, kernels)[2].struct_bytes


def _emitted(
    program: Program, core: Core, kernels: KernelSet, scratch_of: ScratchOf = all_scratch
) -> tuple[Program, Plan, EmittedProject]:
    """What is prepared for the core, its plan and its files."""
    program = prepare(program, core)
    scratch = [scratch_of(call, core, kernels) for call in program.calls]
    plan = plan_program(program, scratch)
    sample = [np.zeros(port.size, np.int8) for port in program.inputs]
    provenance = Provenance("0", "benchmarks.code_size", _PREFIX, "0" * 64, core.name)
    return program, plan, emit_project(program, plan, scratch, _PREFIX, provenance, sample, kernels, core)


def flash_by_file(program: Program, core: Core, kernels: KernelSet = KernelSet.FAST) -> Counter[str]:
    """Bytes of .text + .rodata + .data that an application links, by C file, with arm-none-eabi-gcc.

    Functions of the compiler's own libraries are under their names, such as 'memcpy'; the weights file and
    the application's main are left out.
    """
    toolchain = target_toolchain(core, "gcc")
    with tempfile.TemporaryDirectory(prefix="qutec-size-") as name:
        folder = Path(name)
        project = read_project(write_project(program, core, folder / "project", kernels))
        flags = (project.compiler_level, *_FLAGS)
        main, image, listing = folder / "main.c", folder / "image.elf", folder / "image.map"
        main.write_text(_MAIN, encoding="utf-8")
        jobs = network_jobs(project, folder, flags, None)
        jobs.append(CompileJob(main, folder / "main.o", (*flags, f"-I{project.path}")))
        _compile_once(toolchain, jobs)
        options = ["-nostartfiles", "-Wl,--gc-sections", "-Wl,--entry=main", f"-Wl,-Map={listing}"]
        link(toolchain, [job.output for job in jobs], image, options)
        return _kept(listing.read_text(encoding="utf-8"))


def _compile_once(toolchain: Toolchain, jobs: list[CompileJob]) -> None:
    """Compile what has not been compiled before: the kernels are the same in every project."""
    fresh = []
    for job in jobs:
        key = (toolchain, job.flags[:-2], job.source.name, job.source.read_bytes())
        known = _OBJECTS.get(key) if job.source.parent.name == "kernels" else None
        if known is None:
            fresh.append((key, job))
        else:
            job.output.write_bytes(known)
    compile_all(toolchain, [job for _, job in fresh])
    _OBJECTS.update(
        (key, job.output.read_bytes()) for key, job in fresh if job.source.parent.name == "kernels"
    )


def _kept(listing: str) -> Counter[str]:
    placed = listing.partition("Linker script and memory map")[2]
    sizes: Counter[str] = Counter()
    for section in _SECTION.finditer(placed):
        name = _origin(section["file"])
        if name not in ("main.c", f"{_PREFIX}_weights.c"):
            sizes[name] += int(section["size"], 16)
    return Counter({name: size for name, size in sizes.items() if size})


def _origin(path: str) -> str:
    member = _MEMBER.search(path)
    return member[1] if member else f"{_NUMBER.sub('', Path(path).stem)}.c"


def measured_stack(
    programs: list[Program],
    core: Core,
    compiler: Compiler,
    kernels: KernelSet = KernelSet.FAST,
    cmsis_nn: Path | None = None,
    scratch: ScratchOf = needed_scratch,
) -> int:
    """The deepest stack in bytes of an inference of any of the programs on the emulated core.

    With `cmsis_nn` the programs are linked with Arm's library in that folder.
    """
    deepest = 0
    for program in programs:
        with tempfile.TemporaryDirectory(prefix="qutec-stack-") as name:
            project = write_project(program, core, Path(name), kernels, scratch)
            image = build_image(project, core, compiler=compiler, cmsis_nn=cmsis_nn)
            inputs = [np.zeros(port.size, np.int8) for port in program.inputs]
            result = run_image(
                image, inputs, sram_bytes=None, emulator="qemu" if core.mve else "unicorn", count=False
            )
            deepest = max(deepest, result.stack_bytes)
    return deepest
