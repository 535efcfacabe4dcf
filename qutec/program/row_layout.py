"""Where a region holds its rows, its kernels' scratch and its sums: one run of bytes, its own scratch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from qutec.program.elementwise_calls import Add, Mul
from qutec.program.input_calls import InputRows
from qutec.program.row_region import RowRegion
from qutec.program.row_schedule import RowSchedule, row_schedule

__all__ = ["RowLayout", "best_turns", "row_layout"]

_ALIGNMENT = 4


@dataclass(frozen=True, eq=False)
class RowLayout:
    """Byte offsets within the region's scratch."""

    schedule: RowSchedule
    rows: Mapping[str, int]
    """Of the rows of each buffer that has a place of its own."""
    scratch: tuple[tuple[int | None, int], ...]
    """Offset (None without) and bytes of the scratch of each call."""
    sums: tuple[int | None, ...]
    """Of the int32 sums of each call that takes in rows."""
    bytes: int
    distance: Mapping[str, int]
    """How far above the start of the scratch each input may begin, where nobody reads it afterwards."""


@lru_cache(maxsize=2048)
def row_layout(region: RowRegion) -> RowLayout:
    """What lives within a round at the bottom, above it what stays from round to round.

    An input dies from its first row on while the region runs, so rows and sums that begin late may lie on it
    where it is not needed any more. Let `end` be the end of a row in its piece (the rows of a map, or sums)
    and `free` the bytes of the input that are read for the last time before the row begins: the input may
    begin max (start of the piece + end - free) above the scratch. Pieces are in the order of max (end - free)
    less their size, the largest first, which makes that least (Jackson's rule).
    """
    schedule = row_schedule(region)
    stages = schedule.stages
    bottom, offsets, scratch = _within_a_round(region, schedule)
    pieces = [_Piece(None, bottom, ((bottom, 0),))]
    for number, stage in enumerate(stages):
        name = stage.call.output.buffer
        if name in schedule.held and not schedule.held[name].passing:
            rows = schedule.held[name].rows
            begun = schedule.begun[number][:rows]
            ends = tuple(((row + 1) * stage.row_bytes, now) for row, now in enumerate(begun))
            pieces.append(_Piece(name, _aligned(rows * stage.row_bytes), ends))
        if stage.sums_bytes:
            size = _aligned(stage.sums_bytes)
            pieces.append(_Piece(number, size, ((size, schedule.sums_begun[number]),)))
    row_bytes = {window.buffer: window.row_bytes for stage in stages for window in stage.windows}
    frees = {name: (row_bytes[name], until) for name, until in schedule.read_until.items()}
    if frees:
        row, until = max(frees.values(), key=lambda rows: rows[0] * len(rows[1]))
        pieces.sort(key=lambda piece: piece.size - piece.reach(row, until))
    top = base = 0
    sums: list[int | None] = [None] * len(stages)
    distance = dict.fromkeys(frees, 0)
    for piece in pieces:
        for name, (row, until) in frees.items():
            distance[name] = max(distance[name], top + piece.reach(row, until))
        if isinstance(piece.what, str):
            offsets[piece.what] = top
        elif piece.what is not None:
            sums[piece.what] = top
        else:
            base = top
        top += piece.size
    offsets |= {name: base + offsets[name] for name in offsets if schedule.held[name].passing}
    scratch = [(None if place is None else base + place, size) for place, size in scratch]
    return RowLayout(schedule, offsets, tuple(scratch), tuple(sums), top, distance)


@dataclass(frozen=True)
class _Piece:
    """Bytes that stay from round to round: the rows of a map, sums, or the place of all that does not."""

    what: str | int | None
    size: int
    ends: tuple[tuple[int, int], ...]
    """Where each of its rows ends, and when it begins."""

    def reach(self, row_bytes: int, read_until: Sequence[int]) -> int:
        """How far above the start of the piece the input has to begin."""
        return max(end - row_bytes * bisect_left(read_until, now) for end, now in self.ends)


def _within_a_round(
    region: RowRegion, schedule: RowSchedule
) -> tuple[int, dict[str, int], list[tuple[int | None, int]]]:
    """Bytes of passing rows and kernel scratch, and the offsets of both.

    A passing row lives from its maker's turn to its last reader's (its maker's being that of the operand that
    is made in its place, where there is one), a kernel's scratch in its own turn. The largest is placed
    first, each at the lowest offset where nothing is that lives at the same time.
    """
    stages = schedule.stages
    turn = {number: position for position, number in enumerate(region.order)}
    begins = {stage.call.output.buffer: turn[number] for number, stage in enumerate(stages)}
    for name, held in schedule.held.items():
        if held.within is not None:
            begins[held.within] = min(begins[held.within], begins[name])
    wanted: list[tuple[int, int, int, str | int]] = []
    for number, stage in enumerate(stages):
        name = stage.call.output.buffer
        if name in schedule.held and schedule.held[name].passing and schedule.held[name].within is None:
            wanted.append((stage.row_bytes, begins[name], schedule.held[name].last_reader, name))
        if not stage.sums_bytes and (size := region.scratch[number]):
            wanted.append((size, turn[number], turn[number], number))
    offsets: dict[str, int] = {}
    placed: list[tuple[int, int, int, int]] = []
    scratch: list[tuple[int | None, int]] = [(None, 0)] * len(stages)
    for size, first, last, what in sorted(wanted, key=lambda item: (-item[0], item[1])):
        size_aligned = _aligned(size)
        near = sorted((begin, end) for begin, end, a, b in placed if a <= last and b >= first)
        offset = 0
        for begin, end in near:
            if begin >= offset + size_aligned:
                break
            offset = max(offset, end)
        placed.append((offset, offset + size_aligned, first, last))
        if isinstance(what, str):
            offsets[what] = offset
        else:
            scratch[what] = (offset, size)
    return max((end for _, end, _, _ in placed), default=0), offsets, scratch


def best_turns(region: RowRegion) -> RowRegion:
    """The region with the turns that need least memory, of those tried.

    A branch that is short (the shortcut of a residual block) runs ahead of the other where it takes its turn
    first, and its rows pile up. So calls whose rows are held for an elementwise one are tried right after it.
    """
    layout = row_layout(region)
    best, least = region, layout.bytes
    for number, call in enumerate(region.calls):
        held = layout.schedule.held.get(call.output.buffer)
        # A round begins when the application has written a row of a streamed input.
        if held is None or held.rows == 1 or isinstance(call, InputRows):
            continue
        readers = [n for n, one in enumerate(region.calls) if call.output in one.reads]
        if len(readers) != 1 or not isinstance(region.calls[readers[0]], Add | Mul):
            continue
        order = [n for n in best.order if n != number]
        order.insert(order.index(readers[0]) + 1, number)
        trial = replace(best, turns=tuple(order))
        if (size := row_layout(trial).bytes) < least:
            best, least = trial, size
    return best


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
