"""First-fit placement, improved by a bounded local search.

Items are placed one after the other, each at the lowest offset that nothing placed before it excludes; pinned
ones are there first. Only the order matters, and without overlap some order reaches the optimum: that of the
offsets in an optimal placement, since then every item finds its optimal offset free or finds a lower one. So
the search is one over orders: a few that are known to be good, then a hill climb from them.

Placing an item costs a sort of what it conflicts with, whatever the number of items; the conflicts are found
once, by a sweep over time. So a pass over n items takes n log n where the number of buffers live at a time is
bounded, as it is in networks. Where it is not, `place_by_time` needs no list of conflicts.

The result is deterministic, and the effort is counted in placements, not in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from qutec.planner.by_time import place_by_time
from qutec.planner.conflicts import Conflict, conflicts_of, pair_count
from qutec.planner.effort import Effort
from qutec.planner.plan import PinError
from qutec.planner.problem import Item, Problem

__all__ = ["Placement", "first_fit", "improve"]

_MOST_PAIRS_PER_ITEM = 200
_PATIENCE = 200
"""Moves without a lower peak before the climb starts again from another order."""


@dataclass(frozen=True)
class Placement:
    """Byte offset of each item, and one past the highest byte."""

    offsets: tuple[int, ...]
    peak: int


def first_fit(
    items: Sequence[Item],
    conflicts: Sequence[Sequence[Conflict]],
    order: Sequence[int],
    abandon_above: int | None = None,
) -> Placement | None:
    """Place items in an order; None as soon as the peak is above `abandon_above`."""
    offsets = [-1 if item.pinned is None else item.pinned for item in items]
    peak = max((item.pinned + item.bytes for item in items if item.pinned is not None), default=0)
    for i in order:
        item = items[i]
        barred = [
            (offsets[c.other] - c.under, offsets[c.other] + c.over)
            for c in conflicts[i]
            if offsets[c.other] >= 0
        ]
        barred.sort()
        offset = 0
        for low, high in barred:
            # Both ends are free, and whatever follows begins at `low` or above.
            if low >= offset:
                break
            if high > offset:
                offset = high + -high % item.alignment
        offsets[i] = offset
        peak = max(peak, offset + item.bytes)
        if abandon_above is not None and peak > abandon_above:
            return None
    return Placement(tuple(max(offset, 0) for offset in offsets), peak)


def improve(problem: Problem, effort: Effort, enough: int = 0) -> Placement:
    """A good placement; the search ends when the arena meets the problem's lower bound, or `enough`, or
    effort is spent.

    The constructed orders are all tried even when they need more effort than there is.

    Raises:
        PinError: two items are pinned onto each other.
    """
    items = problem.items
    is_pinned = any(item.pinned is not None for item in items)
    if not is_pinned and pair_count(items) > _MOST_PAIRS_PER_ITEM * len(items):
        offsets = place_by_time(items)
        return Placement(offsets, max(o + item.bytes for o, item in zip(offsets, items, strict=True)))
    return _Search(problem, effort, enough).run()


class _Search:
    """Placements of one problem and the best of them."""

    def __init__(self, problem: Problem, effort: Effort, enough: int) -> None:
        self._problem = problem
        self._effort = effort
        self._enough = max(problem.lower_bound, enough)
        self._conflicts = conflicts_of(problem)
        _check_pins(problem.items, self._conflicts)
        self._best: Placement | None = None

    def run(self) -> Placement:
        orders = _constructed_orders(self._problem)
        for order in orders:
            self._try(order)
            if self._good_enough:
                break
        random = Random(0)
        for order in orders:
            if not self._done:
                self._climb(random, order)
        while not self._done:
            self._climb(random, random.choice(orders))
        if self._best is None:
            return Placement((0,) * len(self._problem.items), 0)
        return self._best

    @property
    def _good_enough(self) -> bool:
        best = self._best
        return best is not None and self._arena(best.peak) <= self._enough

    @property
    def _done(self) -> bool:
        return self._best is None or self._good_enough or self._effort.spent

    def _arena(self, peak: int) -> int:
        return self._problem.flow.arena_bytes(peak)

    def _try(self, order: Sequence[int], abandon_above: int | None = None) -> Placement | None:
        self._effort.spend(len(order))
        found = first_fit(self._problem.items, self._conflicts, order, abandon_above)
        if found is not None and (self._best is None or found.peak < self._best.peak):
            self._best = found
        return found

    def _climb(self, random: Random, order: list[int]) -> None:
        """Change an order step by step as long as the peak does not rise, until patience runs out."""
        current = self._try(order)
        stale = 0
        while current is not None and not self._done and stale < _PATIENCE:
            stale += 1
            neighbour = _moved(random, order, self._culprits(current, order))
            found = self._try(neighbour, abandon_above=current.peak)
            if found is not None:
                stale = 0 if found.peak < current.peak else stale
                current, order = found, neighbour

    def _culprits(self, placement: Placement, order: Sequence[int]) -> list[int]:
        """Positions in the order of the items that reach the peak."""
        top = self._arena(placement.peak) - self._problem.flow.alignment.arena
        items = self._problem.items
        return [position for position, i in enumerate(order) if placement.offsets[i] + items[i].bytes > top]


def _check_pins(items: Sequence[Item], conflicts: Sequence[Sequence[Conflict]]) -> None:
    for item, found in zip(items, conflicts, strict=True):
        for conflict in found:
            other = items[conflict.other]
            if item.pinned is None or other.pinned is None:
                continue
            if -conflict.under < item.pinned - other.pinned < conflict.over:
                raise PinError(
                    f"{item.name} ({item.bytes} bytes, pinned to {item.pinned}) and {other.name} "
                    f"({other.bytes} bytes, pinned to {other.pinned}) need the same place at the same time"
                )


def _contention(problem: Problem) -> list[int]:
    """For each item, the most bytes that are needed at any time of its life. n log n by doubling spans."""
    spans = [list(problem.needs)]
    while 2 << len(spans) <= 2 * len(problem.needs):
        previous, step = spans[-1], 1 << (len(spans) - 1)
        spans.append([max(a, b) for a, b in zip(previous, previous[step:], strict=False)])

    def most(first: int, last: int) -> int:
        level = (last - first + 1).bit_length() - 1
        return max(spans[level][first], spans[level][last + 1 - (1 << level)])

    return [most(item.first_use + 1, item.last_use + 1) for item in problem.items]


def _constructed_orders(problem: Problem) -> list[list[int]]:
    """Orders worth trying first; ties go to the earlier item, so that the result does not vary."""
    items = problem.items
    contention = _contention(problem)

    def life(i: int) -> int:
        return items[i].last_use - items[i].first_use + 1

    keys: tuple[Callable[[int], tuple[int, ...]], ...] = (
        lambda i: (-items[i].bytes, -life(i)),
        lambda i: (-items[i].bytes * life(i),),
        lambda i: (-contention[i], -items[i].bytes, -life(i)),
        lambda i: (-contention[i], -items[i].bytes * life(i)),
        lambda i: (-life(i), -items[i].bytes),
        lambda i: (items[i].first_use, -items[i].bytes),
        # Outputs overlap inputs from below, so that what comes later is placed first.
        lambda i: (-items[i].last_use, -items[i].bytes),
        lambda i: (-items[i].first_use, items[i].bytes),
        lambda i: (-contention[i], -items[i].first_use, -items[i].bytes),
    )
    placed = [i for i, item in enumerate(items) if item.bytes and item.pinned is None]
    orders = [sorted(placed, key=lambda i: (*key(i), i)) for key in keys]
    return [order for i, order in enumerate(orders) if order not in orders[:i]]


def _moved(random: Random, order: Sequence[int], culprits: Sequence[int]) -> list[int]:
    """A neighbour of an order: an item that makes the peak is placed earlier, or two items swap turns."""
    moved = list(order)
    if random.randrange(2):
        position = random.choice(culprits)
        moved.insert(random.randrange(position + 1), moved.pop(position))
    else:
        a, b = random.choice(culprits), random.randrange(len(moved))
        moved[a], moved[b] = moved[b], moved[a]
    return moved
