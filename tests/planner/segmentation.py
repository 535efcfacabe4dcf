"""Regions of a program without the planner's search: a shortest path over the cuts, buffers whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qutec.planner.regions import Segment, row_region, segments, with_segments
from qutec.program import Program


@dataclass(frozen=True)
class Segmentation:
    """Segments that together hold all calls, in order."""

    segments: tuple[Segment, ...]

    @property
    def regions(self) -> tuple[tuple[int, int], ...]:
        """Ranges of calls (first, one past the last) that run as regions."""
        return tuple((s.first, s.end) for s in self.segments if s.region)

    @property
    def peak(self) -> int:
        """Bytes that the worst segment needs, buffers whole and nothing overlapping."""
        return max((s.peak for s in self.segments), default=0)

    @property
    def cost(self) -> float:
        """Instructions more than layer by layer, about."""
        return sum(s.cost for s in self.segments)


def smallest_regions(program: Program, scratch: Sequence[int]) -> Segmentation:
    """The segments with the smallest peak, of those the cheapest."""
    found, end = segments(program, scratch), len(program.calls)
    limit = _best(found, end, key=lambda s: (s.peak, 0.0))
    return _best([s for s in found if s.peak <= limit.peak], end, key=lambda s: (0, s.cost))


def _best(segments: Sequence[Segment], end: int, key: Callable[[Segment], tuple[int, float]]) -> Segmentation:
    """Least in the largest first part of `key`, then in the sum of the second."""
    best: dict[int, tuple[tuple[int, float], tuple[Segment, ...]]] = {0: ((0, 0.0), ())}
    for segment in sorted(segments, key=lambda s: (s.first, s.end)):
        if segment.first not in best:
            continue
        (peak, cost), path = best[segment.first]
        own_peak, own_cost = key(segment)
        value = (max(peak, own_peak), cost + own_cost)
        if segment.end not in best or value < best[segment.end][0]:
            best[segment.end] = (value, (*path, segment))
    return Segmentation(best[end][1])


def with_regions(
    program: Program, scratch: Sequence[int], regions: Sequence[tuple[int, int]]
) -> tuple[Program, tuple[int, ...]]:
    """The program with these ranges of calls as regions, and the scratch of its calls."""
    path: list[Segment] = []
    for first, end in regions:
        found = row_region(program, scratch, first, end)
        assert found is not None
        path.append(Segment(first, end, *found, 0, 0.0))
    return with_segments(program, scratch, path)
