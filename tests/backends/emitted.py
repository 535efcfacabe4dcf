"""Programs made of any calls, emitted into a folder that the simulator can build."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qutec.backends.cmsis_nn import KernelSet, Provenance, emit_project, prepare, scratch_bytes
from qutec.planner import Plan, plan_program
from qutec.ports import PortInfo
from qutec.program import (
    Add,
    Buffer,
    BufferKind,
    Call,
    Concat,
    Copy,
    Fill,
    Gather,
    Indices,
    Int8Array,
    Lookup,
    Mul,
    Port,
    Program,
    Quantization,
    StoredArray,
    Tensor,
)
from qutec.reference import run_program
from qutec.targets import target
from tests import random_calls

PROVENANCE = Provenance("1.2.3", "qutec compile net.onnx", "net", "0" * 64, "cortex-m4")
SCALE = Quantization(0.05, -3)


@dataclass(frozen=True)
class Operand:
    """How a call's tensors are stored: bytes that lie before and after them in their buffers."""

    before: int = 0
    after: int = 0


def program_of(
    calls: Sequence[Call],
    constants: Mapping[tuple[int, int], Int8Array] | None = None,
    offsets: Mapping[int, Operand] | None = None,
) -> Program:
    """Every call on inputs and an output of its own; all outputs are the network's.

    `constants[call, k]` is what operand k of a call reads, from flash. `offsets[call]` moves the tensors of
    a call into their buffers; where a call walks backwards, room is made for it in any case.
    """
    constants, offsets = constants or {}, offsets or {}
    buffers: dict[str, Buffer] = {}
    made: list[Call] = []
    inputs: list[Port] = []
    outputs: list[Port] = []

    def stored(name: str, region: Indices, where: Operand, kind: BufferKind) -> Tensor:
        start = max(0, -int(region.min(initial=0))) + where.before
        size = start + int(region.max(initial=0)) + 1 + where.after
        buffers[name] = Buffer(name, size, kind)
        return Tensor(name, start)

    for number, call in enumerate(calls):
        where = offsets.get(number, Operand())
        tensors = []
        for k in range(len(call.reads)):
            name, region = f"x{number}_{k}", call.read_region(k)
            if (number, k) in constants:
                tensors.append(stored(name, region, where, BufferKind.CONSTANT))
                data = np.resize(constants[number, k], buffers[name].bytes)
                buffers[name] = replace(buffers[name], data=data)
                continue
            tensors.append(stored(name, region, where, BufferKind.INPUT))
            inputs.append(Port(name, Tensor(name), (buffers[name].bytes,), SCALE))
        # The port reads the output's bytes alone: what lies around them nobody writes.
        output = stored(f"y{number}", call.written_region(), where, BufferKind.OUTPUT)
        size = int(call.written_region().max(initial=0)) + 1
        outputs.append(Port(output.buffer, output, (size,), SCALE))
        made.append(_rewired(call, tensors, output))
    return Program("net", buffers, tuple(made), tuple(inputs), tuple(outputs))


def _rewired(call: Call, tensors: Sequence[Tensor], output: Tensor) -> Call:
    match call:
        case Concat():
            return replace(call, inputs=tuple(tensors), output=output)
        case Add() | Mul():
            return replace(call, input_1=tensors[0], input_2=tensors[1], output=output)
        case Fill():
            return replace(call, output=output)
        case _:
            return replace(call, input=tensors[0], output=output)


def every_kind(seed: int = 1) -> list[Call]:
    """One call of every kind."""
    rng = np.random.default_rng(seed)
    x, y = Tensor("x"), Tensor("y")
    table = rng.permutation(np.arange(-128, 128)).astype(np.int8)
    add = random_calls.add(rng)
    return [
        random_calls.conv2d(rng),
        random_calls.depthwise_conv2d(rng),
        replace(random_calls.fully_connected(rng), filter_offset=0),
        random_calls.avg_pool2d(rng),
        random_calls.max_pool2d(rng),
        replace(add, input_1_shift=-1, input_2_shift=-2, output_shift=-18),
        random_calls.mul(rng),
        random_calls.softmax(rng),
        Lookup("lookup", x, y, 20, table),
        Concat("concat", (x, x), y, 4, (3, 1)),
        Copy("copy", x, y, (1, 2, 3, 4), (0, 12, 1, 3), (0, 12, 4, 1)),
        Gather("gather", x, y, np.array([5, 0, 5, 2], dtype=np.int32)),
        Fill("fill", y, 9, -128),
    ]


def random_inputs(program: Program, samples: int = 1, seed: int = 0) -> list[Int8Array]:
    """int8 [samples, size] for each input."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-128, 128, (samples, port.size), dtype=np.int8) for port in program.inputs]


def flat(outputs: Sequence[StoredArray]) -> list[StoredArray]:
    """The first sample of every output of `run_program`, flat."""
    return [values[0].reshape(-1) for values in outputs]


def planned(program: Program, core: str) -> tuple[Plan, list[int]]:
    """The plan and the scratch of every call."""
    scratch = [scratch_bytes(call, target(core).core) for call in program.calls]
    return plan_program(program, scratch), scratch


def emit(
    program: Program,
    folder: Path,
    *,
    core: str = "cortex-m4",
    prefix: str = "net",
    provenance: Provenance = PROVENANCE,
    sample: Sequence[Int8Array] | None = None,
    kernels: KernelSet = KernelSet.FAST,
) -> Path:
    """Prepare, plan and emit `program` into `folder`, with what the simulator reads of a report.json."""
    program = prepare(program, target(core).core)
    plan, scratch = planned(program, core)
    sample = sample or [values[0] for values in random_inputs(program, seed=1)]
    project = emit_project(program, plan, scratch, prefix, provenance, sample, kernels)
    ports = {
        "inputs": [PortInfo.of(port).to_json() for port in program.inputs],
        "outputs": [PortInfo.of(port).to_json() for port in program.outputs],
    }
    layers = [{"name": call.name, "kernel": type(call).__name__} for call in program.calls]
    sizes = {"arena_bytes": plan.arena_bytes, "arena_arm_bytes": project.arena_arm_bytes}
    level = kernels.compiler_level
    report = {"symbol_prefix": prefix, "compiler_level": level, **sizes, "layers": layers, **ports}
    for name, text in {**project.files, "report.json": json.dumps(report)}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def expect_reference(
    program: Program, inputs: Sequence[Sequence[Int8Array]], got: Sequence[tuple[Int8Array, ...]]
) -> None:
    """Every output of every sample has the bytes of the reference."""
    for sample, outputs in zip(inputs, got, strict=True):
        wanted = run_program(program, [values[None] for values in sample])
        for call, mine, theirs in zip(program.calls, outputs, wanted, strict=True):
            fields = {k: v for k, v in vars(call).items() if not hasattr(v, "dtype")}
            np.testing.assert_array_equal(mine, theirs.reshape(-1), err_msg=str(fields))
