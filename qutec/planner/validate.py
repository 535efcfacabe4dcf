"""Independent check of a plan: the program is replayed on the bytes of the arena.

The replay knows nothing of lifetimes, distances or the solver. Every byte carries the number of the write
that filled it, both where it is in the arena and where it belongs in its buffer; a call may read a byte
only when the two numbers agree. Exact regions are used, so that buffers which are filled piece by
piece (concatenation, padding, slices) are checked piece by piece. Where a call writes over what it reads, the
call itself is replayed step by step in the order of its kernel (`qutec.planner.access`); a region is replayed
row by row on the bytes of its scratch (`qutec.planner.validate_rows`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qutec.planner.access import Ranges, access_order
from qutec.planner.plan import Plan, PlanError
from qutec.planner.validate_rows import validate_rows
from qutec.program import BufferKind, ExitCheck, Indices, InputRows, Program, RowRegion, Tensor
from qutec.program.row_layout import RowLayout, row_layout
from qutec.targets import Core

__all__ = ["validate_plan"]

_Stamps: TypeAlias = npt.NDArray[np.int64]

_Touched: TypeAlias = tuple[Tensor, Indices]
"""A tensor, and the bytes of its buffer that a call reads or writes."""

_NEVER = 0


def validate_plan(program: Program, scratch: Sequence[int], plan: Plan, core: Core | None = None) -> None:
    """Check that running `program` with `plan` reads only what was written for it.

    `scratch[i]` is the kernel scratch of call i in bytes; `core` says whose kernels run, None: any. What is
    checked: everything is inside the arena and aligned; every byte that a call or the caller, after any
    exit, reads still holds the last write to it, also when the call's own output is written over its input;
    scratch overlaps nothing that its call reads or writes; the plan's report (its allocations and totals)
    agrees with its offsets.

    Raises:
        PlanError: names the call, the buffer and the byte of the first fault.
    """
    _check_rows_of_input(program)
    _check_places(program, scratch, plan)
    _check_report(program, scratch, plan)
    replay = _Replay(program, scratch, plan, core)
    replay.write_inputs()
    for i in range(len(program.calls)):
        replay.run(i)
        if isinstance(program.calls[i], ExitCheck):
            replay.read_outputs()
    replay.read_outputs()


def _check_rows_of_input(program: Program) -> None:
    """A streamed input is read by one call, the first in turn of a region that runs before all others."""
    streamed = {buffer.name for buffer in program.buffers.values() if buffer.kind is BufferKind.STREAMED}
    if not streamed:
        return
    first = program.calls[0]
    readers = [call for call in program.calls if streamed & {tensor.buffer for tensor in call.reads}]
    if len(streamed) > 1 or readers != [first] or not isinstance(first, RowRegion):
        raise PlanError(f"rows of {', '.join(sorted(streamed))} are not taken in by the first call alone")
    inside = [call for call in first.calls if streamed & {tensor.buffer for tensor in call.reads}]
    call = inside[0]
    if len(inside) > 1 or not isinstance(call, InputRows) or first.order[0] != first.calls.index(call):
        raise PlanError(f"{call.name} reads {call.reads[0].buffer}, which is handed in row by row")
    if call.rows * call.row_bytes != program.buffers[call.input.buffer].bytes:
        raise PlanError(f"{call.name} takes {call.rows} rows of {call.row_bytes} bytes, not the whole input")


def _check_places(program: Program, scratch: Sequence[int], plan: Plan) -> None:
    """Sizes, bounds and alignment of every place in the arena."""
    calls = len(program.calls)
    if len(scratch) != calls or len(plan.scratch_offsets) != calls:
        raise PlanError(
            f"{calls} calls, {len(scratch)} scratch sizes, {len(plan.scratch_offsets)} scratch offsets"
        )
    if plan.arena_bytes % plan.alignment.arena:
        raise PlanError(f"the arena's {plan.arena_bytes} bytes are no multiple of {plan.alignment.arena}")
    for buffer in program.arena_buffers():
        if buffer.name in plan.offsets:
            where = f"buffer {buffer.name}"
            _check_place(plan, where, plan.offsets[buffer.name], buffer.bytes, plan.alignment.buffer)
    for i, (size, offset) in enumerate(zip(scratch, plan.scratch_offsets, strict=True)):
        where = f"scratch of call {i} ({program.calls[i].name})"
        if size and offset is None:
            raise PlanError(f"{where} needs {size} bytes and has no place")
        if offset is not None:
            _check_place(plan, where, offset, size, plan.alignment.scratch)


def _check_place(plan: Plan, what: str, offset: int, size: int, alignment: int) -> None:
    if offset < 0 or offset + size > plan.arena_bytes:
        raise PlanError(
            f"{what} at bytes {offset} to {offset + size} is outside the arena of {plan.arena_bytes} bytes"
        )
    if offset % alignment:
        raise PlanError(f"{what} at byte {offset} is not aligned to {alignment} bytes")


def _check_report(program: Program, scratch: Sequence[int], plan: Plan) -> None:
    """What the plan says about itself: the same places as its offsets, a bound not above the size."""
    if plan.lower_bound_bytes > plan.arena_bytes:
        raise PlanError(f"{plan.arena_bytes} arena bytes are below the bound of {plan.lower_bound_bytes}")
    if len(plan.live_bytes) != len(program.calls):
        raise PlanError(f"live bytes for {len(plan.live_bytes)} of {len(program.calls)} calls")
    listed = {a.name if a.scratch_of is None else a.scratch_of: (a.offset, a.bytes) for a in plan.allocations}
    places: dict[str | int, tuple[int, int]] = {}
    for name, offset in plan.offsets.items():
        if name not in program.buffers:
            raise PlanError(f"the plan places {name}, which the program does not have")
        places[name] = (offset, program.buffers[name].bytes)
    for i, (size, place) in enumerate(zip(scratch, plan.scratch_offsets, strict=True)):
        if place is not None:
            places[i] = (place, size)
    if listed != places or len(listed) != len(plan.allocations):
        differing = sorted(str(key) for key, _ in listed.items() ^ places.items())
        raise PlanError(f"allocations and offsets disagree: {', '.join(differing[:4])}")


class _Replay:
    """The arena during a run. Write 0 is none, 1 is the caller's, i + 2 is the output of call i.

    `_held` tells for each arena byte which write to which buffer it holds; `_latest` tells for each byte
    of a buffer which write to it was the last.
    """

    def __init__(self, program: Program, scratch: Sequence[int], plan: Plan, core: Core | None) -> None:
        self._program = program
        self._core = core
        self._scratch = scratch
        self._plan = plan
        self._numbers = {name: i for i, name in enumerate(program.buffers)}
        self._held_write: _Stamps = np.full(plan.arena_bytes, _NEVER, dtype=np.int64)
        self._held_buffer: _Stamps = np.full(plan.arena_bytes, -1, dtype=np.int64)
        self._latest = {
            b.name: np.full(b.bytes, _NEVER, dtype=np.int64)
            for b in program.arena_buffers()
            if b.name in plan.offsets
        }

    def write_inputs(self) -> None:
        """The caller writes every input, then all of them must be there."""
        for name, region in self._input_regions():
            self._write("the caller", name, region, 1)
        for name, region in self._input_regions():
            self._read("the caller's input", name, region)

    def run(self, i: int) -> None:
        call = self._program.calls[i]
        who = f"call {i} ({call.name})"
        if isinstance(call, RowRegion):
            layout = row_layout(call)
            if self._scratch[i] < layout.bytes:
                raise PlanError(f"{who} needs {layout.bytes} bytes of scratch and has {self._scratch[i]}")
            self._check_rows(i, call, layout)
        written = [(t, self._region(who, t, call.written_region(k))) for k, t in enumerate(call.writes)]
        read = [(t, self._region(who, t, call.read_region(k))) for k, t in enumerate(call.reads)]
        for tensor, region in read:
            if not self._is_outside(tensor.buffer):
                self._read(who, tensor.buffer, region)
        for output, _ in written:
            if self._is_outside(output.buffer):
                raise PlanError(f"{who} writes {output.buffer}, which is not in the arena")
        # Rows of a region may lie on what it has read; its own replay knows.
        touched = [] if isinstance(call, RowRegion) else read
        self._check_scratch(i, who, [*touched, *written])
        if len(written) == 1 or isinstance(call, RowRegion):
            self._check_apart(who, [], written)
            for k, (output, region) in enumerate(written):
                self._check_overlap(i, who, read, output, region, k)
        else:
            self._check_apart(who, read, written)
        for output, region in written:
            self._write(who, output.buffer, region, i + 2)

    def read_outputs(self) -> None:
        """The caller reads every output port; whatever else was written to an output must be there too."""
        for port in self._program.outputs:
            if not self._is_outside(port.tensor.buffer):
                region = self._region(f"output {port.name}", port.tensor, np.arange(port.size))
                self._read(f"output {port.name}", port.tensor.buffer, region)
        for buffer in self._program.arena_buffers():
            if buffer.kind is BufferKind.OUTPUT:
                written = self._latest_of("the caller", buffer.name).nonzero()[0]
                self._read("the caller after the last call", buffer.name, written)

    def _input_regions(self) -> Iterator[tuple[str, Indices]]:
        with_port = set()
        for port in self._program.inputs:
            if self._is_outside(port.tensor.buffer):
                continue
            with_port.add(port.tensor.buffer)
            yield (
                port.tensor.buffer,
                self._region(f"input {port.name}", port.tensor, np.arange(port.size)),
            )
        for buffer in self._program.arena_buffers():
            if buffer.kind is BufferKind.INPUT and buffer.name not in with_port:
                yield buffer.name, np.arange(buffer.bytes)

    def _is_outside(self, name: str) -> bool:
        """Whether it is nowhere in the arena: in flash, or handed in row by row."""
        return not self._program.buffers[name].in_arena

    def _region(self, who: str, tensor: Tensor, indices: Indices) -> Indices:
        """Byte numbers within the tensor's buffer, checked against its size."""
        if tensor.buffer not in self._program.buffers:
            raise PlanError(f"{who} uses the buffer {tensor.buffer}, which the program does not have")
        if not self._is_outside(tensor.buffer):
            self._latest_of(who, tensor.buffer)
        size = self._program.buffers[tensor.buffer].bytes
        region = indices + tensor.offset
        if region.size and (region.min() < 0 or region.max() >= size):
            raise PlanError(
                f"{who} uses bytes {region.min()} to {region.max()} of {tensor.buffer}, which has {size}"
            )
        return region

    def _latest_of(self, who: str, name: str) -> _Stamps:
        if name not in self._latest:
            raise PlanError(f"{who} uses {name}, which has no place in the arena")
        return self._latest[name]

    def _address(self, name: str, region: Indices) -> Indices:
        return region + self._plan.offsets[name]

    def _write(self, who: str, name: str, region: Indices, write: int) -> None:
        self._latest_of(who, name)[region] = write
        address = self._address(name, region)
        self._held_write[address] = write
        self._held_buffer[address] = self._numbers[name]

    def _read(self, who: str, name: str, region: Indices) -> None:
        wanted = self._latest_of(who, name)[region]
        unwritten = (wanted == _NEVER).nonzero()[0]
        if unwritten.size:
            raise PlanError(f"{who} reads byte {region[unwritten[0]]} of {name}, which nobody wrote")
        address = self._address(name, region)
        held_write, held_buffer = self._held_write[address], self._held_buffer[address]
        lost = ((held_write != wanted) | (held_buffer != self._numbers[name])).nonzero()[0]
        if lost.size:
            k = lost[0]
            raise PlanError(
                f"{who} reads byte {region[k]} of {name} at arena byte {address[k]}, "
                f"but {self._describe(int(held_write[k]), int(held_buffer[k]))} is there"
            )

    def _describe(self, write: int, buffer: int) -> str:
        if write < 0:
            return f"scratch of call {-write - 1} ({self._program.calls[-write - 1].name})"
        name = list(self._numbers)[buffer]
        if write == 1:
            return f"the caller's {name}"
        return f"{name} written by call {write - 2} ({self._program.calls[write - 2].name})"

    def _check_rows(self, i: int, region: RowRegion, layout: RowLayout) -> None:
        tensors = [t for t in (*region.reads, *region.writes) if not self._is_outside(t.buffer)]
        places = {t.buffer: self._plan.offsets[t.buffer] for t in tensors if t.buffer in self._plan.offsets}
        if len(places) < len(tensors):
            raise PlanError(f"call {i} ({region.name}): an input or output has no place in the arena")
        validate_rows(region, layout, places, self._plan.scratch_offsets[i] or 0)

    def _check_scratch(self, i: int, who: str, touched: Sequence[_Touched]) -> None:
        """Scratch must not share a byte with the call's tensors; then it overwrites what was there."""
        offset = self._plan.scratch_offsets[i]
        if offset is None or not self._scratch[i]:
            return
        end = offset + self._scratch[i]
        for tensor, region in touched:
            if self._is_outside(tensor.buffer):
                continue
            address = self._address(tensor.buffer, region)
            hit = ((address >= offset) & (address < end)).nonzero()[0]
            if hit.size:
                raise PlanError(
                    f"{who}: scratch at bytes {offset} to {end} overlaps {tensor.buffer} "
                    f"at arena byte {address[hit[0]]}"
                )
        self._held_write[offset:end] = -i - 1

    def _check_apart(self, who: str, read: Sequence[_Touched], written: Sequence[_Touched]) -> None:
        """No output shares a byte with another, or with what is read by a call that keeps no order."""
        for k, (output, region) in enumerate(written):
            address = self._address(output.buffer, region)
            for tensor, other in (*read, *written[:k]):
                if self._is_outside(tensor.buffer):
                    continue
                common = np.intersect1d(address, self._address(tensor.buffer, other))
                if common.size:
                    raise PlanError(
                        f"{who} writes {output.buffer} over {tensor.buffer} at arena byte {common[0]}"
                    )

    def _check_overlap(
        self, i: int, who: str, read: Sequence[_Touched], output: Tensor, written: Indices, number: int
    ) -> None:
        """The output may be on bytes of an input that no later step of the call reads."""
        call = self._program.calls[i]
        shared = [
            k
            for k, (tensor, region) in enumerate(read)
            if not self._is_outside(tensor.buffer)
            and _meet(self._address(tensor.buffer, region), self._address(output.buffer, written))
        ]
        if not shared:
            return
        order = access_order(call, self._core, number)
        start = self._plan.offsets[output.buffer] + output.offset
        never = order.steps + order.late + 1
        overwritten = np.full(self._plan.arena_bytes, never, dtype=np.int64)
        _stamp(overwritten, order.written + start, range(order.steps - 1, -1, -1))
        for k in shared:
            tensor = read[k][0]
            begin = self._plan.offsets[tensor.buffer] + tensor.offset
            needed = np.full(self._plan.arena_bytes, -1, dtype=np.int64)
            _stamp(needed, order.read[k] + begin, range(order.steps))
            # A byte's last read is done before the writes of step `needed` + late + 1.
            lost = ((overwritten <= needed + order.late) & (needed >= 0)).nonzero()[0]
            if lost.size:
                first = lost[overwritten[lost].argmin()]
                raise PlanError(
                    f"{who} writes {output.buffer} over {tensor.buffer}, which it still reads, at arena byte "
                    f"{first}: written in step {overwritten[first]}, read until step {needed[first]} of "
                    f"{order.steps}"
                )


def _meet(one: Indices, other: Indices) -> bool:
    if not one.size or not other.size or one.max() < other.min() or other.max() < one.min():
        return False
    return bool(np.intersect1d(one, other).size)


def _stamp(stamps: _Stamps, ranges: Ranges, steps: range) -> None:
    """Write the number of each step over its range, in the order of `steps`."""
    numbers = np.array(steps, dtype=np.int64)
    begins, ends = ranges[numbers, 0], ranges[numbers, 1]
    if (ends - begins <= 1).all():
        # Of several values for one place numpy keeps the last.
        taken = ends > begins
        stamps[begins[taken]] = numbers[taken]
        return
    for number, begin, end in zip(numbers.tolist(), begins.tolist(), ends.tolist(), strict=True):
        stamps[begin:end] = number
