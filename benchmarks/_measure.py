"""What a compiled network costs on an emulated core, and whether all its executions agree.

Figures are quoted with arm-none-eabi-gcc -O3 in QEMU under -icount (one instruction is counted as one,
whatever it is); where either is missing, with zig cc -O3 in Unicorn. Flash is .text + .rodata + .data of
an image with the network less that of an image with an empty main.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks._networks import Samples
from qutec import Build
from qutec.errors import ToolMissingError
from qutec.ports import PortInfo
from qutec.program import Int8Array
from qutec.simulate import (
    Compiler,
    Emulation,
    Emulator,
    build_host,
    build_image,
    measure_flash,
    run_image,
    run_many,
)
from qutec.targets import Core
from qutec.verify import Execution, verify_outputs

__all__ = ["Measurement", "Tools", "find_tools", "measure", "stored_samples"]


@dataclass(frozen=True)
class Tools:
    """A cross compiler and an emulator, and their versions in words."""

    compiler: Compiler
    emulator: Emulator
    words: str


@dataclass(frozen=True)
class Measurement:
    """Costs of one inference; bytes, and instructions of `<prefix>_invoke`."""

    instructions: int
    layers: tuple[int, ...]
    """Instructions of each call, in order."""
    stack_bytes: int
    arena_high_water_bytes: int
    flash_bytes: int


def find_tools(core: Core | None = None) -> Tools:
    """gcc and QEMU where both are installed, else zig and Unicorn, which has no core with Helium."""
    gcc, qemu = shutil.which("arm-none-eabi-gcc"), shutil.which("qemu-system-arm")
    if gcc and qemu:
        release = _printed(gcc, "-dumpfullversion").strip()
        found = re.search(r"version ([\d.]+)", _printed(qemu, "--version"))
        return Tools(
            "gcc", "qemu", f"arm-none-eabi-gcc {release} -O3, QEMU {found[1] if found else '?'} -icount"
        )
    if core is not None and core.mve:
        raise ToolMissingError(f"{core.name} needs arm-none-eabi-gcc and qemu-system-arm")
    return Tools("zig", "unicorn", f"zig {version('ziglang')} cc -O3, Unicorn {version('unicorn')}")


def stored_samples(build: Build, samples: Samples, count: int) -> list[Int8Array]:
    """`count` inputs [count, *shape] for each port: real ones spread over the data, then random codes."""
    real = build.stored(samples.x)
    rows = np.linspace(0, len(real[0]) - 1, count - count // 2).astype(int)
    generator = np.random.default_rng(0)
    return [
        np.concatenate(
            [values[rows], generator.integers(-128, 128, (count // 2, *values.shape[1:]), np.int8)]
        )
        for values in real
    ]


def measure(
    build: Build, project: Path, stored: list[Int8Array], tools: Tools, cmsis_nn: Path | None = None
) -> Measurement:
    """Costs of the saved build on the first input, after comparing all inputs with the reference.

    The C runs on this machine and on the emulated core, with the bundled kernels or with Arm's CMSIS-NN
    from `cmsis_nn`; the core has exactly the SRAM that the report says is needed. Raises VerificationError
    where an output byte differs, and as `qutec.simulate`.
    """
    inputs = [PortInfo.of(port) for port in build.program.inputs]
    outputs = [PortInfo.of(port) for port in build.program.outputs]
    count = len(stored[0])
    samples = [
        [port.to_memory(values[i]) for port, values in zip(inputs, stored, strict=True)] for i in range(count)
    ]

    def in_onnx_order(results: list[tuple[Int8Array, ...]]) -> list[Int8Array]:
        return [
            np.stack([port.from_memory(result[k]).reshape(-1) for result in results])
            for k, port in enumerate(outputs)
        ]

    core = build.target.core
    host = build_host(project, cmsis_nn=cmsis_nn)
    image = build_image(project, core, compiler=tools.compiler, cmsis_nn=cmsis_nn)
    sram = build.report.sram_bytes if cmsis_nn is None else build.report.sram_arm_bytes
    emulated = run_many(image, samples, sram_bytes=sram, emulator=tools.emulator)
    executions: dict[str, Execution] = {
        "host C": lambda: in_onnx_order(host.run_many(samples)),
        f"{core.name} in {tools.emulator}": lambda: in_onnx_order(emulated),
    }
    reference = build.run_int8({port.name: values for port, values in zip(inputs, stored, strict=True)})
    expected = [values.reshape(count, -1) for values in reference.values()]
    verify_outputs([port.name for port in outputs], expected, executions)
    result = run_image(image, samples[0], sram_bytes=sram, emulator=tools.emulator)
    flash = measure_flash(project, core, tools.compiler, cmsis_nn=cmsis_nn)
    return _measurement(result, flash)


def _measurement(result: Emulation, flash_bytes: int) -> Measurement:
    assert result.instructions is not None
    return Measurement(
        instructions=result.instructions,
        layers=tuple(instructions for _, instructions in result.layers),
        stack_bytes=result.stack_bytes,
        arena_high_water_bytes=result.arena_high_water_bytes,
        flash_bytes=flash_bytes,
    )


def _printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
