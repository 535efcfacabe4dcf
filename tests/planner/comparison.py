"""The planner beside the exhaustive search, on one random network.

What both share is said in `tests.planner.brute_force`; in the comparison with regions also which ranges of
calls may be one (`segments`), and the order that they are ranges of, since both are part of what is proven.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from qutec.planner import Alignment, Effort, Goal, plan_network
from qutec.planner.arena import solve
from qutec.planner.concat_views import with_concat_views
from qutec.planner.flow import Sharing
from qutec.planner.moves import Solver
from qutec.planner.regions import Segment, segments, with_segments
from qutec.planner.schedule import best_order
from qutec.program import Move, Program, RowRegion
from tests.planner.brute_force import GRANULE, joined_in_place, smallest_arena, with_any_moves
from tests.planner.random_graphs import features, random_graph, random_maps

__all__ = ["COMPARISONS", "GRANULES", "Comparison"]

GRANULES = Alignment(GRANULE, GRANULE, GRANULE)
_SOLVER = Solver(None, False, GRANULES, {})
_NONE_YET = 1 << 30


@dataclass(frozen=True)
class Comparison:
    """Arenas of one network, in bytes."""

    planned: int
    smallest: int
    proven: bool
    """Whether the planner calls its arena the smallest."""
    features: frozenset[str]

    @property
    def agreed(self) -> bool:
        """Whether the planner found the smallest arena, and knew it."""
        return self.proven and self.planned == self.smallest


def whole_buffers(seed: int) -> Comparison:
    """Order and places where no two buffers overlap."""
    net, scratch = random_graph(seed)
    found = solve(_SOLVER.flow(net, scratch, Sharing.NONE), _effort())
    smallest = smallest_arena(net, scratch, overlap=False)
    return Comparison(found.arena_bytes, smallest, found.optimal, frozenset(features(net)))


def overlap(seed: int) -> Comparison:
    """Order and places where outputs overlap inputs: what is compiled without options."""
    net, scratch = random_graph(seed)
    plan = plan_network(net, scratch, alignment=GRANULES).plan
    smallest = _NONE_YET
    for variant in (net, scratch), joined_in_place(net, scratch):
        smallest = smallest_arena(*variant, at_most=smallest)
    return Comparison(plan.arena_bytes, smallest, plan.optimal, frozenset(features(net)))


def moves(seed: int) -> Comparison:
    """Order, places and moves."""
    net, scratch = random_graph(seed)
    found = [
        _SOLVER.moved(_SOLVER.solved(*variant, _effort()), _effort())
        for variant in ((net, scratch), with_concat_views(net, scratch))
    ]
    planned = min(candidate.arena_bytes for candidate in found)
    proven = planned <= min(candidate.solution.lower_bound for candidate in found)
    smallest, what = _NONE_YET, features(net)
    for joined in (net, scratch), joined_in_place(net, scratch):
        for variant in with_any_moves(*joined):
            need = smallest_arena(*variant, at_most=smallest)
            if need < smallest:
                smallest, has_moves = need, any(isinstance(call, Move) for call in variant[0].calls)
    return Comparison(planned, smallest, proven, frozenset(what | ({"moves"} if has_moves else set())))


def regions(seed: int) -> Comparison:
    """Regions, moves, order and places together."""
    net, scratch = random_maps(seed)
    plan = plan_network(net, scratch, alignment=GRANULES, goal=Goal.SRAM).plan
    smallest, what = _NONE_YET, features(net)
    used: set[str] = set()
    for variant in _with_any_regions(net, scratch):
        need = smallest_arena(*variant, at_most=smallest)
        if need < smallest:
            smallest, used = need, _techniques(variant[0])
    return Comparison(plan.arena_bytes, smallest, plan.optimal, frozenset(what | used))


COMPARISONS = {
    "whole buffers": whole_buffers,
    "overlap": overlap,
    "overlap and moves": moves,
    "regions, overlap and moves": regions,
}
"""By what may be decided besides order and places."""


def _effort() -> Effort:
    return Effort.of_seconds(5)


def _with_any_regions(net: Program, scratch: Sequence[int]) -> Iterator[tuple[Program, list[int]]]:
    """Every choice of regions and moves, cheap to look at first."""
    for joined, sizes in (net, scratch), joined_in_place(net, scratch):
        order = best_order(_SOLVER.flow(joined, sizes), _effort()).calls
        ordered = replace(joined, calls=tuple(joined.calls[i] for i in order))
        sizes = [sizes[i] for i in order]
        for path in partitions(segments(ordered, sizes), 0, len(ordered.calls)):
            yield from with_any_moves(*with_segments(ordered, sizes, path))


def partitions(found: Sequence[Segment], place: int, end: int) -> Iterator[tuple[Segment, ...]]:
    """Every way to cut the calls from `place` on into segments."""
    if place == end:
        yield ()
        return
    for segment in found:
        if segment.first == place:
            for rest in partitions(found, segment.end, end):
                yield (segment, *rest)


def _techniques(net: Program) -> set[str]:
    kinds = {Move: "moves", RowRegion: "regions"}
    return {kinds[type(call)] for call in net.calls if type(call) in kinds}
