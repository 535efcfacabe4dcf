"""Which items exclude each other's offsets, and by how much; found by a sweep over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qutec.planner.problem import Item, Problem

__all__ = ["Conflict", "conflicts_of", "pair_count"]


@dataclass(frozen=True, slots=True)
class Conflict:
    """Item `i` lies `over` or more bytes above the other item's offset, or `under` or more bytes below it."""

    other: int
    over: int
    under: int


def pair_count(items: Sequence[Item]) -> int:
    """How many pairs are live at a common time, in the time of a sort."""
    starts = sorted(item.first_use for item in items)
    ends = sorted(item.last_use for item in items)
    pairs = live = done = 0
    for start in starts:
        while ends[done] < start:
            done += 1
            live -= 1
        pairs += live
        live += 1
    return pairs


def conflicts_of(problem: Problem) -> list[list[Conflict]]:
    """For each item its conflicts with every item of some size that is live at a common time."""
    items = problem.items
    near = {(pair.source, pair.target): pair for pair in problem.near}
    found: list[list[Conflict]] = [[] for _ in items]
    live: list[int] = []
    for i in sorted(range(len(items)), key=lambda i: (items[i].first_use, i)):
        item = items[i]
        if not item.bytes:
            continue
        live = [j for j in live if items[j].last_use >= item.first_use]
        for j in live:
            over, under = items[j].bytes, item.bytes
            if (pair := near.get((j, i))) is not None:
                over, under = pair.above, pair.below
            elif (pair := near.get((i, j))) is not None:
                over, under = pair.below, pair.above
            found[i].append(Conflict(j, over, under))
            found[j].append(Conflict(i, under, over))
        live.append(i)
    return found
