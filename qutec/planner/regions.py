"""Which layers run row by row: the cuts of a network, and the regions between them.

A cut is a place in the order of calls where one buffer alone is live. Between two cuts the calls may run as
one region (`qutec.program.RowRegion`), which then needs its input, its output and the rows that it holds;
nothing else is live there. So the peak of a network is the largest of its segments', and the best choice of
segments is a shortest path over the cuts: for the smallest arena that whose largest segment is smallest, for
a given limit that which costs least among those whose segments all fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from qutec.program import BufferKind, Call, InputRows, Program, RowRegion
from qutec.program.row_layout import best_turns, row_layout
from qutec.program.row_schedule import row_schedule, row_stages

__all__ = ["Segmentation", "cheapest_regions", "smallest_regions", "with_regions"]

_CALL_COST = 150
"""Instructions, about, of one more call of a kernel: what it prepares, and what asks for it."""
_MOVE_COST = 0.6
"""Instructions, about, for each byte that moves up when a row goes."""


@dataclass(frozen=True)
class Segmentation:
    """Ranges of calls (first, one past the last) that run as regions, and about what that needs and costs."""

    regions: tuple[tuple[int, int], ...]
    peak: int
    """Bytes that the worst segment needs, buffers whole and nothing overlapping."""
    cost: float
    """Instructions more than layer by layer."""


@dataclass(frozen=True)
class _Segment:
    """Calls between two cuts: run as a region, or one block as it is."""

    first: int
    end: int
    streamed: bool
    peak: int
    cost: float


def smallest_regions(program: Program, scratch: Sequence[int]) -> Segmentation:
    """The segments with the smallest peak, of those the cheapest."""
    segments = _segments(program, scratch)
    limit = _best(segments, len(program.calls), key=lambda s: (s.peak, 0.0))
    fitting = [s for s in segments if s.peak <= limit.peak]
    return _best(fitting, len(program.calls), key=lambda s: (0, s.cost))


def cheapest_regions(program: Program, scratch: Sequence[int], limit: int | None) -> Segmentation | None:
    """The cheapest segments of which none needs more than `limit` bytes; None where there are none."""
    fitting = [s for s in _segments(program, scratch) if limit is None or s.peak <= limit]
    reachable = {0}
    for segment in fitting:
        if segment.first in reachable:
            reachable.add(segment.end)
    if len(program.calls) not in reachable:
        return None
    return _best(fitting, len(program.calls), key=lambda s: (0, s.cost))


def _best(
    segments: Sequence[_Segment], end: int, key: Callable[[_Segment], tuple[int, float]]
) -> Segmentation:
    """Least in the largest first part of `key`, then in the sum of the second."""
    best: dict[int, tuple[tuple[int, float], tuple[_Segment, ...]]] = {0: ((0, 0.0), ())}
    for segment in sorted(segments, key=lambda s: (s.first, s.end)):
        if segment.first not in best:
            continue
        (peak, cost), path = best[segment.first]
        own_peak, own_cost = key(segment)
        value = (max(peak, own_peak), cost + own_cost)
        if segment.end not in best or value < best[segment.end][0]:
            best[segment.end] = (value, (*path, segment))
    path = best[end][1]
    return Segmentation(
        tuple((s.first, s.end) for s in path if s.streamed),
        max((s.peak for s in path), default=0),
        sum(s.cost for s in path),
    )


def _segments(program: Program, scratch: Sequence[int]) -> list[_Segment]:
    cuts = _cuts(program)
    found: list[_Segment] = []
    for a, first in enumerate(cuts[:-1]):
        if not any(isinstance(call, InputRows) for call in program.calls[first : cuts[a + 1]]):
            peak = _layerwise_peak(program, scratch, first, cuts[a + 1])
            found.append(_Segment(first, cuts[a + 1], False, peak, 0.0))
        for end in cuts[a + 1 :]:
            region = _region(program, scratch, first, end)
            if region is not None:
                places = [program.buffers[t.buffer] for t in (*region.reads, region.writes)]
                ends = [place.bytes for place in places if place.in_arena]
                layout = row_layout(region)
                found.append(_Segment(first, end, True, sum(ends) + layout.bytes, _cost(region)))
    return found


def _cuts(program: Program) -> list[int]:
    """Places in the order of calls before which at most one buffer is live, and both ends of the order."""
    born: dict[str, int] = {}
    dies: dict[str, int] = {}
    for port in program.inputs:
        born[port.tensor.buffer] = -1
    for i, call in enumerate(program.calls):
        for tensor in call.reads:
            dies[tensor.buffer] = i
        born.setdefault(call.writes.buffer, i)
        dies[call.writes.buffer] = max(dies.get(call.writes.buffer, i), i)
    for name, buffer in program.buffers.items():
        if buffer.kind is BufferKind.OUTPUT:
            dies[name] = len(program.calls)
    cuts = [0]
    for place in range(1, len(program.calls)):
        live = [n for n, start in born.items() if start < place <= dies.get(n, -1)]
        if len(live) <= 1:
            cuts.append(place)
    return [*cuts, len(program.calls)]


def _region(program: Program, scratch: Sequence[int], first: int, end: int) -> RowRegion | None:
    """The calls from `first` to `end` as a region; None where they cannot be one."""
    calls = program.calls[first:end]
    if len(calls) < 2 or row_stages(calls) is None:
        return None
    name = f"{calls[0].name} .. {calls[-1].name}"
    inner = {call.writes.buffer for call in calls[:-1]}
    others = (*program.calls[:first], *program.calls[end:])
    outside = {tensor.buffer for call in others for tensor in (*call.reads, call.writes)}
    held = {b.name for b in program.buffers.values() if b.kind is not BufferKind.INTERNAL}
    constant = {b.name for b in program.buffers.values() if b.kind is BufferKind.CONSTANT}
    reads = {t.buffer for call in calls for t in call.reads}
    if inner & (outside | held) or reads & constant or len(inner) != len(calls) - 1:
        return None
    region = RowRegion(name, tuple(calls), tuple(scratch[first:end]))  # type: ignore[arg-type]
    try:
        return best_turns(region)
    except ValueError:
        return None


def _layerwise_peak(program: Program, scratch: Sequence[int], first: int, end: int) -> int:
    """Bytes of the calls between two cuts, in order, buffers whole."""
    calls = program.calls[first:end]
    last_use: dict[str, int] = {}
    for i, call in enumerate(calls):
        for tensor in (*call.reads, call.writes):
            last_use[tensor.buffer] = i
    last_use[calls[-1].writes.buffer] = len(calls)
    live: set[str] = set()
    peak = 0
    for i, call in enumerate(calls):
        live |= {t.buffer for t in (*call.reads, call.writes)}
        places = (program.buffers[name] for name in live)
        held = sum(buffer.bytes for buffer in places if buffer.in_arena)
        peak = max(peak, held + scratch[first + i])
        live = {name for name in live if last_use[name] > i}
    return peak


def _cost(region: RowRegion) -> float:
    schedule = row_schedule(region)
    calls = sum(stage.rows for stage in schedule.stages)
    moved = sum(
        (schedule.held[stage.call.output.buffer].rows - 1) * stage.row_bytes * stage.rows
        for stage in schedule.stages[:-1]
    )
    return _CALL_COST * calls + _MOVE_COST * moved


def with_regions(
    program: Program, scratch: Sequence[int], regions: Sequence[tuple[int, int]]
) -> tuple[Program, tuple[int, ...]]:
    """The program with these ranges of calls as regions, and the scratch of its calls."""
    calls: list[Call] = []
    sizes: list[int] = []
    buffers = dict(program.buffers)
    place = 0
    for first, end in (*regions, (len(program.calls), len(program.calls))):
        calls += program.calls[place:first]
        sizes += scratch[place:first]
        place = end
        if first < end:
            region = _region(program, scratch, first, end)
            assert region is not None
            calls.append(region)
            sizes.append(row_layout(region).bytes)
            for name in region.inner_buffers:
                del buffers[name]
    return replace(program, calls=tuple(calls), buffers=buffers), tuple(sizes)
