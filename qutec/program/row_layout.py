"""Where a region holds its rows, its kernels' scratch and its sums: one run of bytes, its own scratch."""

from __future__ import annotations

from collections.abc import Mapping
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


@lru_cache(maxsize=64)
def row_layout(region: RowRegion) -> RowLayout:
    """Rows and sums that stay from round to round one after the other; above them what lives within one.

    A passing row lives from its maker's turn to its last reader's (its maker's being that of the operand that
    is made in its place, where there is one), a kernel's scratch in its own turn. The largest is placed
    first, each at the lowest offset where nothing is that lives at the same time.
    """
    schedule = row_schedule(region)
    stages = schedule.stages
    top = 0
    offsets: dict[str, int] = {}
    sums: list[int | None] = [None] * len(stages)
    for number, stage in enumerate(stages):
        name = stage.call.output.buffer
        if name in schedule.held and not schedule.held[name].passing:
            offsets[name] = top
            top += _aligned(schedule.held[name].rows * stage.row_bytes)
        if stage.sums_bytes:
            sums[number] = top
            top += _aligned(stage.sums_bytes)
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
            offsets[what] = top + offset
        else:
            scratch[what] = (top + offset, size)
    total = top + max((end for _, end, _, _ in placed), default=0)
    return RowLayout(schedule, offsets, tuple(scratch), tuple(sums), total)


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
