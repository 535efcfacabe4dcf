"""Choices of regions: what no plan with a region can be below, and the choices in the order of that.

A choice cuts the calls, in one order, into segments. A segment that runs as a region needs, whatever the
other segments, the order of the calls, the placement and the moves are: its inputs and outputs, its rows and
scratch, and every other buffer that something before it makes and something after it reads; less what its
output and its rows may share with inputs that end there. So does a call that is in no region. The largest
such need is the bound of a choice; the smallest bound over all choices is one that no plan beats.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from qutec.planner.certain import masks, reach
from qutec.planner.flow import Flow, Nearness, Sharing, beside_scratch, most_saved, nearness
from qutec.planner.regions import Segment
from qutec.program import Program
from qutec.program.row_layout import row_layout
from qutec.targets import Core

__all__ = ["Choice", "Choices"]

_NEVER = float("inf")


@dataclass(frozen=True, eq=False)
class Choice:
    """Segments that together hold all calls, in order."""

    segments: tuple[Segment, ...]
    bound: int
    """No plan with these regions has a smaller arena, moves included. Bytes."""
    cost: float
    """Instructions more than layer by layer, about, without moves."""

    @property
    def regions(self) -> tuple[tuple[int, int], ...]:
        """First call, and one past the last, of each region."""
        return tuple((s.first, s.end) for s in self.segments if s.region is not None)


class Choices:
    """All choices that the segments of a program allow; `flow` is that of the program."""

    def __init__(
        self,
        program: Program,
        flow: Flow,
        scratch: Sequence[int],
        found: Sequence[Segment],
        core: Core | None,
    ) -> None:
        needs = _Needs(program, flow, scratch, core)
        self._end = len(program.calls)
        self._bounds = {segment: flow.arena_bytes(needs.of(segment)) for segment in found}
        self._floor = flow.arena_bytes(needs.ends)

    @property
    def levels(self) -> list[int]:
        """The bounds that choices may have, the smallest first."""
        return sorted({max(bound, self._floor) for bound in self._bounds.values()})

    def cheapest_without(self, level: int, refuted: Sequence[frozenset[Segment]]) -> Choice | None:
        """The cheapest choice whose bound is at most `level` and that has none of these sets of segments."""
        fitting = [segment for segment, bound in self._bounds.items() if bound <= level]
        return next(self._cheapest_first(fitting, set(fitting), _Refuted(refuted)), None)

    def by_peak(self) -> Iterator[Choice]:
        """Every choice, those first that need least in the order as it is, with whole buffers side by side.

        Where branches may run in other orders, that tells more of what a choice is worth than its bound.
        """
        yield from self._by_level({segment: segment.peak for segment in self._bounds})

    def that_fits(self, limit: int) -> Choice | None:
        """The cheapest choice that needs no more than `limit` without overlap, in the order as it is."""
        fitting = [segment for segment in self._bounds if segment.peak <= limit]
        return next(self._cheapest_first(fitting, set(fitting)), None)

    def _by_level(self, levels: Mapping[Segment, int]) -> Iterator[Choice]:
        """Every choice by its highest level, and then by its cost."""
        for level in sorted(set(levels.values())):
            fitting = [segment for segment, own in levels.items() if own <= level]
            yield from self._cheapest_first(fitting, {s for s in fitting if levels[s] == level})

    def by_cost(self, limit: int) -> Iterator[Choice]:
        """The choices whose bound is at most `limit`, the cheapest first."""
        fitting = [segment for segment, bound in self._bounds.items() if bound <= limit]
        if self._floor <= limit:
            yield from self._cheapest_first(fitting, set(fitting))

    def _cheapest_first(
        self, fitting: Sequence[Segment], wanted: set[Segment], refuted: _Refuted | None = None
    ) -> Iterator[Choice]:
        """Paths over the cuts with at least one segment that is wanted; best first, with exact distances.

        With sets of segments that are refuted only the best of the paths that have none of them.
        """
        after: dict[int, list[Segment]] = {}
        for segment in fitting:
            after.setdefault(segment.first, []).append(segment)
        left = self._costs_to_the_end(after, wanted)
        number = 0
        heap: list[tuple[float, int, int, bool, _Begun, float, tuple[Segment, ...]]] = []
        if left.get((0, False), _NEVER) < _NEVER:
            heap.append((left[0, False], 0, 0, False, frozenset(), 0.0, ()))
        seen: set[tuple[int, bool, _Begun]] = set()
        while heap:
            _, _, place, has_one, begun, cost, path = heapq.heappop(heap)
            if refuted is not None:
                if (place, has_one, begun) in seen:
                    continue
                seen.add((place, has_one, begun))
            if place == self._end:
                bound = max([self._floor, *(self._bounds[segment] for segment in path)])
                yield Choice(path, bound, cost)
                continue
            for segment in after.get(place, ()):
                state = segment.end, has_one or segment in wanted
                next_begun = begun if refuted is None else refuted.after(begun, segment)
                if (rest := left.get(state, _NEVER)) < _NEVER and next_begun is not None:
                    number += 1
                    spent = cost + segment.cost
                    entry = (spent + rest, number, *state, next_begun, spent, (*path, segment))
                    heapq.heappush(heap, entry)

    def _costs_to_the_end(
        self, after: Mapping[int, Sequence[Segment]], wanted: set[Segment]
    ) -> dict[tuple[int, bool], float]:
        """Least cost from a place, and whether a wanted segment came before it."""
        left: dict[tuple[int, bool], float] = {(self._end, True): 0.0}
        for place in sorted(after, reverse=True):
            for has_one in (False, True):
                left[place, has_one] = min(
                    segment.cost + left.get((segment.end, has_one or segment in wanted), _NEVER)
                    for segment in after[place]
                )
        return left


_Begun = frozenset[int]
"""Numbers of refuted sets all of whose segments so far are in a path, and at least one."""


class _Refuted:
    """Sets of segments that no choice may have together."""

    def __init__(self, sets: Sequence[frozenset[Segment]]) -> None:
        self._sets = [sorted(one, key=lambda segment: segment.first) for one in sets]
        self._starting: dict[Segment, list[int]] = {}
        for number, one in enumerate(self._sets):
            self._starting.setdefault(one[0], []).append(number)

    def after(self, begun: _Begun, segment: Segment) -> _Begun | None:
        """What has begun when a path goes on with a segment; None where a set is complete then."""
        found = set()
        for number in begun:
            ahead = next(one for one in self._sets[number] if one.first >= segment.first)
            if ahead is segment:
                if segment is self._sets[number][-1]:
                    return None
                found.add(number)
            elif ahead.first >= segment.end:
                found.add(number)
        for number in self._starting.get(segment, ()):
            if len(self._sets[number]) == 1:
                return None
            found.add(number)
        return frozenset(found)


class _Needs:
    """What segments need at least, padded as `Flow` pads."""

    def __init__(self, program: Program, flow: Flow, scratch: Sequence[int], core: Core | None) -> None:
        self._program = program
        self._flow = flow
        self._scratch = scratch
        self._core = core
        self._before, self._behind = reach(flow)
        self._users, self._writers = masks(flow)
        self._number = {name: b for b, name in enumerate(flow.names)}
        sizes = [flow.padded(size) for size in flow.sizes]
        self._sizes = sizes
        self.ends = max(
            sum(size for size, is_input in zip(sizes, flow.is_input, strict=True) if is_input),
            sum(size for size, held in zip(sizes, flow.held, strict=True) if held),
        )

    def of(self, segment: Segment) -> int:
        """The largest need of the segment's region and of its other calls."""
        needs = [
            self._need(1 << i, self._flow.writes[i], self._scratch[i], self._flow.near[i], ())
            for i in segment.alone
        ]
        if segment.region is not None:
            inside = 0
            for i in range(segment.first, segment.end):
                inside |= 0 if i in segment.alone else 1 << i
            region = segment.region
            outputs = tuple(self._number[tensor.buffer] for tensor in region.writes)
            buffers = [self._program.buffers[name] for name in self._flow.names]
            granule = self._flow.alignment.granule
            near = nearness(region, self._number, buffers, Sharing.OVERLAP, self._core, granule)
            beside = beside_scratch(region, self._number, Sharing.OVERLAP, granule)
            needs.append(self._need(inside, outputs, row_layout(region).bytes, near, beside))
        return max(needs)

    def _need(
        self,
        inside: int,
        outputs: Sequence[int],
        scratch: int,
        near: Sequence[Nearness],
        beside: Sequence[tuple[int, int]],
    ) -> int:
        """Of calls (as bits) that run as one."""
        before = behind = 0
        for i in range(self._flow.calls):
            if inside >> i & 1:
                before |= self._before[i]
                behind |= self._behind[i]
        before &= ~inside
        behind &= ~inside
        live = set(outputs)
        for b in range(len(self._sizes)):
            is_made = self._flow.is_input[b] or bool(self._writers[b] & before)
            is_wanted = self._flow.held[b] or bool(self._users[b] & (behind | inside))
            if is_made and is_wanted:
                live.add(b)

        def may_end(b: int) -> bool:
            return not self._flow.held[b] and not self._users[b] & behind

        ending = [p for p in near if may_end(p.source) and not self._writers[p.target] & before]
        saved = most_saved(self._flow, ending)
        rows = self._flow.padded(scratch)
        on_inputs = sum(min(rows - distance, self._sizes[b]) for b, distance in beside if may_end(b))
        return sum(self._sizes[b] for b in live) + rows - saved - min(on_inputs, rows)
