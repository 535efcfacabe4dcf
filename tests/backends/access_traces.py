"""Calls that run on an emulated core while every access of their tensors is recorded."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qutec.backends.cmsis_nn import KernelSet, emit_project, scratch_bytes
from qutec.backends.cmsis_nn.scratch import arm_scratch_bytes
from qutec.planner import Alignment, Plan
from qutec.ports import PortInfo
from qutec.program import Call, Int8Array, Program
from qutec.reference import run_program
from qutec.simulate import build_image, run_many
from qutec.simulate.emulation import resolve_sram
from qutec.simulate.unicorn_machine import UnicornMachine
from qutec.targets import Core
from tests.backends.emitted import PROVENANCE, program_of, random_inputs

GAP = 64
"""Bytes between the places of two calls, so that no access of one is taken for one of the other."""


@dataclass(frozen=True)
class Event:
    """One access of a call: to its output or to one of its inputs, counted from the start of that tensor."""

    is_write: bool
    operand: int
    """-1 for the output, else which input; where tensors overlap, reads count as those of an input."""
    offset: int
    size: int


@dataclass(frozen=True)
class Trace:
    """What one call did, and whether its outputs are those of the reference."""

    call: Call
    events: tuple[Event, ...]
    stale: tuple[int, ...]
    """Numbers of the events that read a byte which the same call had written before."""
    correct: bool


@dataclass(frozen=True)
class Distance:
    """Where the output of a call goes: `by` bytes below (above where negative) one of its inputs."""

    operand: int
    by: int


def run_traced(
    calls: Sequence[Call],
    distances: Sequence[Distance | None],
    core: Core,
    folder: Path,
    cmsis_nn: Path | None = None,
    *,
    kernels: KernelSet = KernelSet.FAST,
    watch: bool = True,
) -> list[Trace]:
    """Run all calls, one after the other, each on tensors of its own; None keeps a call's tensors apart.

    Without `watch` the traces are empty: Unicorn 2.1 loses the condition of loads in some IT blocks while
    accesses are watched, which Arm's maximum pool is compiled to on Armv7-M.
    """
    program = program_of(calls)
    scratch = _scratch(program, core)
    plan = _plan(program, scratch, distances)
    inputs = random_inputs(program, seed=len(calls))
    _emit(program, plan, scratch, inputs, kernels, core, folder)
    image = build_image(folder, core, compiler="gcc", cmsis_nn=cmsis_nn)
    machine = UnicornMachine(image, resolve_sram(image, None))
    machine.start(painting=0)
    machine.set_inputs(b"".join(values[0].tobytes() for values in inputs))
    events: list[tuple[bool, int, int]] = []
    if watch:
        machine.watch_arena(lambda is_write, offset, size: events.append((is_write, offset, size)))
    machine.invoke()
    done = len(events)
    outputs = machine.outputs()
    wanted = b"".join(_stored(values[0]) for values in run_program(program, inputs))
    return _traces(program, plan, events[:done], outputs, wanted)


def _stored(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values).tobytes()


def _scratch(program: Program, core: Core) -> list[int]:
    """Enough for either library, so that both have the same."""
    return [max(scratch_bytes(call, core), arm_scratch_bytes(call, core)) for call in program.calls]


def _plan(program: Program, scratch: Sequence[int], distances: Sequence[Distance | None]) -> Plan:
    """Every call's tensors behind those of the call before it, and all scratch behind all tensors."""
    offsets: dict[str, int] = {}
    top = 0
    for call, distance in zip(program.calls, distances, strict=True):
        names = [tensor.buffer for tensor in call.reads]
        (output,) = call.writes
        size = program.buffers[output.buffer].bytes
        near = None if distance is None else names[distance.operand]
        for name in dict.fromkeys(names):
            if name != near:
                offsets[name] = top
                top += program.buffers[name].bytes + GAP
        if distance is None or near is None:
            offsets[output.buffer] = top
            top += size + GAP
            continue
        # Tensors start where their buffers do or somewhat behind: a distance is one of tensors.
        shift = distance.by - call.reads[distance.operand].offset + output.offset
        offsets[output.buffer] = top + max(0, -shift)
        offsets[near] = top + max(0, shift)
        top = max(offsets[near] + program.buffers[near].bytes, offsets[output.buffer] + size) + GAP
    top = -(-top // 16) * 16
    most = max(scratch, default=0)
    return Plan(
        offsets=offsets,
        scratch_offsets=tuple(top if size else None for size in scratch),
        arena_bytes=-(-(top + most) // 16) * 16,
        lower_bound_bytes=0,
        allocations=(),
        live_bytes=(0,) * len(scratch),
        alignment=Alignment(),
    )


def _emit(
    program: Program,
    plan: Plan,
    scratch: Sequence[int],
    inputs: Sequence[Int8Array],
    kernels: KernelSet,
    core: Core,
    folder: Path,
) -> None:
    sample = [values[0] for values in inputs]
    project = emit_project(program, plan, scratch, "net", PROVENANCE, sample, kernels, core)
    report = {
        "symbol_prefix": "net",
        "arena_bytes": plan.arena_bytes,
        "arena_arm_bytes": project.arena_arm_bytes,
        "compiler_level": kernels.compiler_level,
        "layers": [{"name": call.name, "kernel": type(call).__name__} for call in program.calls],
        "inputs": [PortInfo.of(port).to_json() for port in program.inputs],
        "outputs": [PortInfo.of(port).to_json() for port in program.outputs],
    }
    for name, text in {**project.files, "report.json": json.dumps(report)}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _traces(
    program: Program, plan: Plan, events: Sequence[tuple[bool, int, int]], outputs: bytes, wanted: bytes
) -> list[Trace]:
    begins = [
        min(plan.offsets[t.buffer] for t in (*call.reads, *call.writes)) - GAP // 2 for call in program.calls
    ]
    end = max(plan.offsets[name] + program.buffers[name].bytes for name in plan.offsets) + GAP // 2
    found: list[list[tuple[bool, int, int]]] = [[] for _ in program.calls]
    for event in events:
        if event[1] < end:
            found[bisect_right(begins, event[1]) - 1].append(event)
    traces = []
    position = 0
    for call, own, port in zip(program.calls, found, program.outputs, strict=True):
        mine, reference = (np.frombuffer(o, np.int8)[position:][: port.bytes] for o in (outputs, wanted))
        region = call.written_region()
        correct = np.array_equal(mine[region], reference[region])
        position += port.bytes
        traces.append(_trace(program, plan, call, own, correct))
    return traces


def _trace(
    program: Program, plan: Plan, call: Call, events: Sequence[tuple[bool, int, int]], correct: bool
) -> Trace:
    places = [
        (k, plan.offsets[t.buffer] + t.offset, plan.offsets[t.buffer] + program.buffers[t.buffer].bytes)
        for k, t in enumerate(call.reads)
    ]
    (output,) = call.writes
    begin = plan.offsets[output.buffer] + output.offset
    made: list[Event] = []
    overwritten: set[int] = set()
    stale: list[int] = []
    for number, (is_write, offset, size) in enumerate(events):
        touched = range(offset, offset + size)
        operand, start = -1, begin
        if is_write:
            overwritten.update(touched)
        else:
            if not overwritten.isdisjoint(touched):
                stale.append(number)
            for k, low, high in places:
                if low <= offset < high:
                    operand, start = k, low
        made.append(Event(is_write, operand, offset - start, size))
    return Trace(call, tuple(made), tuple(stale), correct)


def distances_in(trace: Trace, operand: int) -> tuple[int, int]:
    """The smallest `below` and `above` at which no read of the trace would find an overwritten byte.

    The tensors of the trace lie apart. For each write, the bytes that are read later must be behind its end,
    or before its start.
    """
    first, last = 1 << 40, -(1 << 40)
    below = above = -(1 << 40)
    for event in reversed(trace.events):
        if event.is_write:
            below = max(below, event.offset + event.size - first)
            above = max(above, last - event.offset)
        elif event.operand == operand:
            first = min(first, event.offset)
            last = max(last, event.offset + event.size)
    return below, above


def renamed(calls: Sequence[Call]) -> list[Call]:
    """The calls with names of their own."""
    return [replace(call, name=f"{call.name}_{i}") for i, call in enumerate(calls)]


def run_near(
    calls: Sequence[Call],
    distances: Sequence[Distance | None],
    core: Core,
    folder: Path,
    cmsis_nn: Path | None = None,
) -> list[bool]:
    """Whether each call's output is the reference's at these distances.

    It runs in QEMU, which has the cores with Helium but does not watch accesses: a byte that is overwritten
    before it is read shows in the output of random data.
    """
    program = program_of(calls)
    scratch = _scratch(program, core)
    plan = _plan(program, scratch, distances)
    inputs = random_inputs(program, seed=len(calls))
    _emit(program, plan, scratch, inputs, KernelSet.FAST, core, folder)
    image = build_image(folder, core, compiler="gcc", cmsis_nn=cmsis_nn)
    outputs = run_many(image, [[values[0] for values in inputs]], sram_bytes=None, emulator="qemu")[0]
    wanted = run_program(program, inputs)
    found = []
    for call, got, want in zip(program.calls, outputs, wanted, strict=True):
        region = call.written_region()
        found.append(np.array_equal(got[region], want.reshape(-1)[region]))
    return found
