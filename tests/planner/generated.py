"""Programs that run row by row, executed as generated C: on this machine and on the emulated core."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qutec.backends.cmsis_nn import Provenance, emit_project, scratch_bytes
from qutec.planner import PlannedNetwork
from qutec.planner.regions import row_region
from qutec.ports import PortInfo
from qutec.program import Int8Array, Program
from qutec.simulate import build_host, build_image, run_many
from qutec.targets import target

CORE = target("cortex-m4").core


def scratch_of(program: Program) -> list[int]:
    return [scratch_bytes(call, CORE) for call in program.calls]


def longest_region(program: Program) -> int:
    """One past the last call of the longest region from the first call on."""
    scratch = scratch_of(program)
    ends = range(len(program.calls), 1, -1)
    return next(end for end in ends if row_region(program, scratch, 0, end) is not None)


def inputs_of(program: Program, count: int = 3) -> list[Int8Array]:
    rng = np.random.default_rng(5)
    return [rng.integers(-128, 128, (count, *p.logical_shape[1:]), np.int8) for p in program.inputs]


def host_outputs(
    net: PlannedNetwork, inputs: Sequence[Int8Array], folder: Path, library: Path | None = None
) -> list[list[npt.NDArray[np.generic]]]:
    """Outputs of the generated C, by sample, in ONNX order; `library` is Arm's where it is to be linked."""
    samples = _emit(net, inputs, folder)
    host = build_host(folder, cmsis_nn=library, sanitize=library is None, optimize="-O1")
    return _outputs(net, host.run_many(samples))


def emulated_outputs(
    net: PlannedNetwork, inputs: Sequence[Int8Array], folder: Path
) -> list[list[npt.NDArray[np.generic]]]:
    """The same on the emulated core, where a byte outside of the arena is an error."""
    samples = _emit(net, inputs, folder)
    return _outputs(net, run_many(build_image(folder, CORE, compiler="zig"), samples))


def _emit(net: PlannedNetwork, inputs: Sequence[Int8Array], folder: Path) -> list[list[Int8Array]]:
    """Writes the project; returns the samples in memory order."""
    ports = [PortInfo.of(port) for port in net.program.inputs]
    outputs = [PortInfo.of(port) for port in net.program.outputs]
    samples = [[p.to_memory(x[i]) for p, x in zip(ports, inputs, strict=True)] for i in range(len(inputs[0]))]
    provenance = Provenance("0", "command", "model", "0" * 64, "cortex-m4")
    project = emit_project(net.program, net.plan, net.scratch, "net", provenance, samples[0])
    report = {
        "qutec_version": "0",
        "symbol_prefix": "net",
        "arena_bytes": net.plan.arena_bytes,
        "arena_arm_bytes": project.arena_arm_bytes,
        "layers": [None] * len(net.program.calls),
        "inputs": [port.to_json() for port in ports],
        "outputs": [port.to_json() for port in outputs],
    }
    for name, text in {**project.files, "report.json": json.dumps(report)}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return samples


def _outputs(
    net: PlannedNetwork, results: Sequence[Sequence[Int8Array]]
) -> list[list[npt.NDArray[np.generic]]]:
    outputs = [PortInfo.of(port) for port in net.program.outputs]
    return [[p.from_memory(flat).ravel() for p, flat in zip(outputs, row, strict=True)] for row in results]
