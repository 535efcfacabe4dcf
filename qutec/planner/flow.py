"""A program without its order: what every call needs in the arena, and which calls must come before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from qutec.planner.overlap import Overlap, safe_overlap
from qutec.planner.plan import Alignment, PinError, PlanError
from qutec.program import Buffer, BufferKind, Call, ExitCheck, Indices, Program, RowRegion, Tensor
from qutec.program.row_layout import row_layout
from qutec.targets import Core

__all__ = ["Flow", "Nearness", "Sharing", "beside_scratch", "build_flow", "most_saved", "nearness"]


class Sharing(IntEnum):
    """How far the output of a call may share memory with an input that dies there."""

    NONE = 0
    """Not at all."""
    IN_PLACE = 1
    """Where the kernel reads every byte just before it writes it: tables, sums, products."""
    OVERLAP = 2
    """As far as the order of the kernel's reads and writes allows."""


@dataclass(frozen=True)
class Nearness:
    """Two buffers that may overlap at one call: the source ends there and the target begins there.

    Allowed are offset(source) - offset(target) >= below and offset(target) - offset(source) >= above, both
    multiples of the granule. Disjoint buffers satisfy one of them.
    """

    source: int
    target: int
    below: int
    above: int


@dataclass(frozen=True)
class Flow:
    """Buffers by number, in program order without constants and unused ones; calls by number."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    is_input: tuple[bool, ...]
    held: tuple[bool, ...]
    """Whether the caller reads the buffer after the last call (or wants its input back)."""
    reads: tuple[tuple[int, ...], ...]
    """The buffers that each call reads, without repetition."""
    writes: tuple[tuple[int, ...], ...]
    """The buffers that each call writes, without repetition."""
    scratch: tuple[int, ...]
    before: tuple[tuple[int, ...], ...]
    """The calls that each call needs done."""
    near: tuple[tuple[Nearness, ...], ...]
    """For each call what its output may overlap, if the lifetimes are as `Nearness` says."""
    beside: tuple[tuple[tuple[int, int], ...], ...]
    """For each call the buffers that its scratch may overlap, if they end there, and how far above the start
    of the scratch each has to begin."""
    alignment: Alignment
    pinned: tuple[int | None, ...] = ()
    """The offset that each buffer must have, None where it is free; empty where all are."""

    @property
    def pinned_end(self) -> int:
        """One past the last byte of the pinned buffers, which no placement is below."""
        places = zip(self.pinned, self.sizes, strict=False)
        return max((offset + size for offset, size in places if offset is not None), default=0)

    def pin(self, buffer: int) -> int | None:
        """The offset that the buffer must have."""
        return self.pinned[buffer] if self.pinned else None

    @property
    def calls(self) -> int:
        """How many calls there are."""
        return len(self.writes)

    def padded(self, size: int) -> int:
        """Bytes that `size` bytes take from every other buffer."""
        return _round_up(size, self.alignment.granule)

    def arena_bytes(self, peak: int) -> int:
        """The size of an arena whose highest used byte is `peak` - 1."""
        return _round_up(peak, self.alignment.arena)


def build_flow(
    program: Program,
    scratch: Sequence[int],
    *,
    alignment: Alignment | None = None,
    sharing: Sharing = Sharing.OVERLAP,
    core: Core | None = None,
    keep_input: bool = False,
    pinned: Mapping[str, int] | None = None,
) -> Flow:
    """The flow of a program; `scratch[i]` is the kernel scratch of call i in bytes.

    Calls keep their order where one writes bytes that the other reads or writes. A buffer that an output port
    refers to is held. `pinned` has the offsets of buffers that may lie nowhere else.

    Raises:
        PlanError: scratch does not match the calls; a call reads what nobody wrote or writes a constant.
        PinError: a pinned buffer is not in the arena, or its offset is negative or not aligned.
    """
    alignment = alignment or Alignment()
    if len(scratch) != len(program.calls):
        raise PlanError(f"{len(program.calls)} calls, but scratch sizes for {len(scratch)}")
    for i, (call, size) in enumerate(zip(program.calls, scratch, strict=True)):
        if size < 0:
            raise PlanError(f"call {i} ({call.name}) has a scratch size of {size} bytes")
    held = _held(program, keep_input)
    used = _used(program, held)
    number = {name: i for i, name in enumerate(used)}
    buffers = [program.buffers[name] for name in used]
    reads = tuple(_arena_reads(program, call, number) for call in program.calls)
    writes = tuple(
        tuple(dict.fromkeys(number[tensor.buffer] for tensor in call.writes)) for call in program.calls
    )
    _check_written(program, buffers, reads, writes, held)
    return Flow(
        names=tuple(used),
        sizes=tuple(buffer.bytes for buffer in buffers),
        is_input=tuple(buffer.kind is BufferKind.INPUT for buffer in buffers),
        held=tuple(buffer.name in held for buffer in buffers),
        reads=reads,
        writes=writes,
        scratch=tuple(scratch),
        before=_predecessors(program, reads, writes, buffers),
        near=tuple(
            nearness(call, number, buffers, sharing, core, alignment.granule) for call in program.calls
        ),
        beside=tuple(beside_scratch(call, number, sharing, alignment.granule) for call in program.calls),
        alignment=alignment,
        pinned=_pinned(pinned or {}, used, alignment),
    )


def _most_shared(size_source: int, size_target: int, near: Nearness) -> int:
    """The most bytes that source and target can have in common, sizes as given."""
    # With d = offset(source) - offset(target) the common bytes grow up to a plateau and fall behind it.
    low, high = sorted((0, size_target - size_source))
    nearest = (max(near.below, low), min(-near.above, high))
    return max(0, *(min(size_target, d + size_source) - max(0, d) for d in nearest))


def _round_up(value: int, to: int) -> int:
    return -(-value // to) * to


def _pinned(pinned: Mapping[str, int], used: Sequence[str], alignment: Alignment) -> tuple[int | None, ...]:
    for name, offset in pinned.items():
        if name not in used:
            raise PinError(f"{name} cannot be pinned: no such buffer is in the arena")
        if offset < 0 or offset % alignment.buffer:
            raise PinError(
                f"{name} cannot be pinned to {offset}: offsets are 0 or more, multiples of {alignment.buffer}"
            )
    return tuple(pinned.get(name) for name in used) if pinned else ()


def _held(program: Program, keep_input: bool) -> set[str]:
    kinds = {BufferKind.OUTPUT, BufferKind.INPUT} if keep_input else {BufferKind.OUTPUT}
    held = {b.name for b in program.arena_buffers() if b.kind in kinds}
    arena = {b.name for b in program.arena_buffers()}
    return held | {port.tensor.buffer for port in program.outputs} & arena


def _used(program: Program, held: set[str]) -> list[str]:
    """The buffers that take arena, in program order."""
    touched = set(held)
    for i, call in enumerate(program.calls):
        for tensor in (*call.reads, *call.writes):
            if tensor.buffer not in program.buffers:
                raise PlanError(
                    f"{call.name} uses the buffer {tensor.buffer}, which the program does not have"
                )
            touched.add(tensor.buffer)
        for tensor in call.writes:
            if not program.buffers[tensor.buffer].in_arena:
                raise PlanError(f"call {i} ({call.name}) writes {tensor.buffer}, which is not in the arena")
    return [b.name for b in program.arena_buffers() if b.name in touched or b.kind is BufferKind.INPUT]


def _arena_reads(program: Program, call: Call, number: Mapping[str, int]) -> tuple[int, ...]:
    found = (tensor.buffer for tensor in call.reads)
    return tuple(dict.fromkeys(number[name] for name in found if name in number))


def _check_written(
    program: Program,
    buffers: Sequence[Buffer],
    reads: Sequence[tuple[int, ...]],
    writes: Sequence[tuple[int, ...]],
    held: set[str],
) -> None:
    written = {i for i, buffer in enumerate(buffers) if buffer.kind is BufferKind.INPUT}
    for i, call in enumerate(program.calls):
        for b in reads[i]:
            if b not in written:
                raise PlanError(f"call {i} ({call.name}) reads {buffers[b].name} before any call wrote it")
        written.update(writes[i])
    for i, buffer in enumerate(buffers):
        if buffer.name in held and i not in written:
            raise PlanError(f"the caller reads {buffer.name} before any call wrote it")


def _predecessors(
    program: Program,
    reads: Sequence[tuple[int, ...]],
    writes: Sequence[tuple[int, ...]],
    buffers: Sequence[Buffer],
) -> tuple[tuple[int, ...], ...]:
    before: list[set[int]] = [set() for _ in program.calls]
    writers: list[list[int]] = [[] for _ in buffers]
    readers: list[list[int]] = [[] for _ in buffers]
    regions = _Regions(program)
    for i in range(len(program.calls)):
        for b in reads[i]:
            before[i].update(w for w in writers[b] if regions.meet(b, buffers, w, i))
            readers[b].append(i)
        for b in writes[i]:
            earlier = {*writers[b], *readers[b]} - {i}
            before[i].update(k for k in earlier if regions.meet(b, buffers, k, i))
            writers[b].append(i)
    for i, call in enumerate(program.calls):
        if isinstance(call, ExitCheck):
            # An inference may end here: what an exit needs stays before it, what it does not stays behind.
            before[i].update(range(i))
            for later in before[i + 1 :]:
                later.add(i)
        if any(program.buffers[tensor.buffer].kind is BufferKind.STREAMED for tensor in call.reads):
            # Rows come when an inference begins, so what takes them in is the first to run.
            for k, others in enumerate(before):
                others.update({i} - {k})
    return tuple(tuple(sorted(calls)) for calls in before)


class _Regions:
    """Which bytes of a buffer calls touch; looked at only where a buffer has more than one writer."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._writers: dict[str, int] = {}
        for call in program.calls:
            for name in {tensor.buffer for tensor in call.writes}:
                self._writers[name] = self._writers.get(name, 0) + 1
        self._touched: dict[tuple[int, str], tuple[Indices, Indices]] = {}

    def meet(self, b: int, buffers: Sequence[Buffer], one: int, other: int) -> bool:
        """Whether one of two calls writes a byte of buffer `b` that the other touches.

        Where the buffer has one writer they do, since both use it and one of them writes.
        """
        name = buffers[b].name
        if self._writers.get(name, 0) < 2 and buffers[b].kind is not BufferKind.INPUT:
            return True
        read, written = self._region(one, name)
        other_read, other_written = self._region(other, name)
        pairs = (written, other_written), (written, other_read), (read, other_written)
        return any(np.intersect1d(first, second).size for first, second in pairs)

    def _region(self, i: int, name: str) -> tuple[Indices, Indices]:
        """The bytes of a buffer that a call reads, and those that it writes."""
        if (i, name) not in self._touched:
            call = self._program.calls[i]
            read = [call.read_region(k) + t.offset for k, t in enumerate(call.reads) if t.buffer == name]
            written = [
                call.written_region(k) + t.offset for k, t in enumerate(call.writes) if t.buffer == name
            ]
            nothing = np.zeros(0, np.int64)
            self._touched[i, name] = np.concatenate([nothing, *read]), np.concatenate([nothing, *written])
        return self._touched[i, name]


def nearness(
    call: Call,
    number: Mapping[str, int],
    buffers: Sequence[Buffer],
    sharing: Sharing,
    core: Core | None,
    granule: int,
) -> tuple[Nearness, ...]:
    """What the outputs of a call may overlap: at most one entry for each of them and each buffer it reads.

    Nothing where a call that is no region has several outputs: then no order of its accesses is known.
    """
    if sharing is Sharing.NONE or not call.reads:
        return ()
    if len(call.writes) != 1 and not isinstance(call, RowRegion):
        return ()
    found: dict[tuple[int, int], Nearness] = {}
    for output, written in enumerate(call.writes):
        target = number[written.buffer]
        for tensor, distance in zip(call.reads, safe_overlap(call, core, output), strict=True):
            source = number.get(tensor.buffer)
            if source is None or source == target:
                continue
            near = _between(source, target, tensor, written, distance, buffers, granule)
            if other := found.get((source, target)):
                near = Nearness(source, target, max(near.below, other.below), max(near.above, other.above))
            found[source, target] = near
    limit = 0 if sharing is Sharing.IN_PLACE else None
    return tuple(
        near
        for near in found.values()
        if (limit is None or near.below <= limit)
        and (near.below < buffers[near.target].bytes or near.above < buffers[near.source].bytes)
    )


def most_saved(flow: Flow, pairs: Iterable[Nearness]) -> int:
    """What overlapping saves at one call, at most: of each target no more than its size."""
    shared: dict[int, int] = {}
    for pair in pairs:
        source, target = (flow.padded(flow.sizes[b]) for b in (pair.source, pair.target))
        shared[pair.target] = min(target, shared.get(pair.target, 0) + _most_shared(source, target, pair))
    return sum(shared.values())


def beside_scratch(
    call: Call, number: Mapping[str, int], sharing: Sharing, granule: int
) -> tuple[tuple[int, int], ...]:
    """The buffers that the scratch of a call may overlap, and how far above its start each has to begin.

    The inputs of a region die row by row, so rows that begin late may lie on them.
    """
    if sharing is not Sharing.OVERLAP or not isinstance(call, RowRegion):
        return ()
    layout = row_layout(call)
    return tuple(
        (number[name], _round_up(distance, granule))
        for name, distance in layout.distance.items()
        if distance < layout.bytes and name in number
    )


def _between(
    source: int,
    target: int,
    read: Tensor,
    written: Tensor,
    distance: Overlap,
    buffers: Sequence[Buffer],
    granule: int,
) -> Nearness:
    """Distances of tensors as distances of the buffers that they lie in; apart is always far enough."""
    shift = written.offset - read.offset
    below = min(distance.below + shift, buffers[target].bytes)
    above = min(distance.above - shift, buffers[source].bytes)
    return Nearness(source, target, _round_up(below, granule), _round_up(above, granule))
