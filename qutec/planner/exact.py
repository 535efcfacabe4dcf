"""Exact placement: whether items fit below a limit, by branch and bound.

Every conflict is a choice, one item above the other or below it; a set of choices is a system of differences
whose least solution is found by propagation. Each item has a window of offsets; a choice that would leave
some window empty is refused, and where only one is left it is taken. When the lowest offsets of all windows
satisfy every conflict they are a solution; else the search branches on the conflict that they violate with
the least room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from qutec.planner.conflicts import Conflict
from qutec.planner.effort import Effort
from qutec.planner.problem import Item

__all__ = ["Verdict", "fit_below"]

_PAIRS_PER_STEP = 16
"""Conflicts looked at for one step of effort."""


class Verdict(Enum):
    """What an exact search found out besides a placement."""

    IMPOSSIBLE = "impossible"
    UNDECIDED = "undecided"


class _Choice(Enum):
    OPEN = 0
    ABOVE = 1
    BELOW = 2


@dataclass(frozen=True, slots=True)
class _Pair:
    """`i` lies `over` or more above `j`, or `under` or more below it."""

    i: int
    j: int
    over: int
    under: int


def fit_below(
    items: Sequence[Item], conflicts: Sequence[Sequence[Conflict]], limit: int, effort: Effort
) -> tuple[int, ...] | Verdict:
    """Offsets of all items whose ends are at most `limit`, or why there are none."""
    return _Search(items, conflicts, limit, effort).run()


@dataclass(slots=True)
class _Node:
    low: list[int]
    high: list[int]
    choices: list[_Choice]

    def copy(self) -> _Node:
        return _Node(self.low.copy(), self.high.copy(), self.choices.copy())


class _Search:
    def __init__(
        self,
        items: Sequence[Item],
        conflicts: Sequence[Sequence[Conflict]],
        limit: int,
        effort: Effort,
    ) -> None:
        self._items = items
        self._effort = effort
        self._limit = limit
        self._pairs = _pairs(conflicts)
        self._of: list[list[int]] = [[] for _ in items]
        for p, pair in enumerate(self._pairs):
            self._of[pair.i].append(p)
            self._of[pair.j].append(p)
        self._looked_at = 0

    def run(self) -> tuple[int, ...] | Verdict:
        low = [item.pinned or 0 for item in self._items]
        high = [_down(self._limit - item.bytes, item) for item in self._items]
        for i, item in enumerate(self._items):
            if item.pinned is not None:
                high[i] = min(high[i], item.pinned)
        if any(start > end for start, end in zip(low, high, strict=True)):
            return Verdict.IMPOSSIBLE
        root = _Node(low, high, [_Choice.OPEN] * len(self._pairs))
        stack = [(root, list(range(len(self._items))))]
        while stack:
            node, changed = stack.pop()
            if not self._propagate(node, changed):
                continue
            if self._effort.spent:
                return Verdict.UNDECIDED
            worst = self._violated(node)
            if worst is None:
                return tuple(node.low)
            # The choice with more room is looked at first, that is, pushed last.
            pair = self._pairs[worst]
            room_above = node.high[pair.i] - node.low[pair.j] - pair.over
            room_below = node.high[pair.j] - node.low[pair.i] - pair.under
            choices = [_Choice.BELOW, _Choice.ABOVE]
            if room_below > room_above:
                choices.reverse()
            for choice in choices:
                child = node.copy()
                child.choices[worst] = choice
                stack.append((child, [pair.i, pair.j]))
        return Verdict.IMPOSSIBLE

    def _propagate(self, node: _Node, changed: list[int]) -> bool:
        """Narrow windows until nothing moves; False when one is empty."""
        queue = list(dict.fromkeys(changed))
        waiting = set(queue)
        while queue:
            item = queue.pop()
            waiting.discard(item)
            for p in self._of[item]:
                self._count()
                moved = self._narrow(node, p)
                if moved is None:
                    return False
                for other in moved:
                    if other not in waiting:
                        waiting.add(other)
                        queue.append(other)
        return True

    def _count(self) -> None:
        self._looked_at += 1
        if self._looked_at == _PAIRS_PER_STEP:
            self._looked_at = 0
            self._effort.spend()

    def _narrow(self, node: _Node, p: int) -> list[int] | None:
        """Apply one conflict: the items whose windows moved, None if one became empty."""
        pair = self._pairs[p]
        choice = node.choices[p]
        if choice is _Choice.OPEN:
            may_be_above = node.low[pair.j] + pair.over <= node.high[pair.i]
            may_be_below = node.low[pair.i] + pair.under <= node.high[pair.j]
            if may_be_above and may_be_below:
                return []
            if not (may_be_above or may_be_below):
                return None
            choice = _Choice.ABOVE if may_be_above else _Choice.BELOW
            node.choices[p] = choice
        if choice is _Choice.ABOVE:
            return self._order(node, pair.j, pair.i, pair.over)
        return self._order(node, pair.i, pair.j, pair.under)

    def _order(self, node: _Node, lower: int, upper: int, distance: int) -> list[int] | None:
        """offset(upper) >= offset(lower) + distance."""
        moved = []
        start = _up(node.low[lower] + distance, self._items[upper])
        if start > node.low[upper]:
            node.low[upper] = start
            moved.append(upper)
        end = _down(node.high[upper] - distance, self._items[lower])
        if end < node.high[lower]:
            node.high[lower] = end
            moved.append(lower)
        if node.low[upper] > node.high[upper] or node.low[lower] > node.high[lower]:
            return None
        return moved

    def _violated(self, node: _Node) -> int | None:
        """The open conflict that the lowest offsets violate and that leaves the least room."""
        worst, least = None, 0
        for p, pair in enumerate(self._pairs):
            if node.choices[p] is not _Choice.OPEN:
                continue
            i, j = node.low[pair.i], node.low[pair.j]
            if i >= j + pair.over or j >= i + pair.under:
                continue
            room = min(
                node.high[pair.i] - node.low[pair.j] - pair.over,
                node.high[pair.j] - node.low[pair.i] - pair.under,
            )
            if worst is None or room < least:
                worst, least = p, room
        self._effort.spend(1 + len(self._pairs) // (4 * _PAIRS_PER_STEP))
        return worst


def _pairs(conflicts: Sequence[Sequence[Conflict]]) -> list[_Pair]:
    return [
        _Pair(i, c.other, c.over, c.under) for i, found in enumerate(conflicts) for c in found if c.other < i
    ]


def _up(offset: int, item: Item) -> int:
    return -(-offset // item.alignment) * item.alignment


def _down(offset: int, item: Item) -> int:
    return offset // item.alignment * item.alignment
