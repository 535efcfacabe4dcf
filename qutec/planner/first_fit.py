"""First-fit placement, improved by a bounded local search.

Blocks are placed one after the other, each at the lowest offset where nothing placed before it is live at
the same time. Only the order matters, and some order reaches the optimum: that of the offsets in an
optimal placement, since then every block finds its optimal offset free or finds a lower one. So the search
is one over orders: a few that are known to be good, then a hill climb from them.

The result is deterministic, and the effort is counted in placements, not in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from qutec.planner.problem import Block, Problem, live_bytes, lower_bound, merge

__all__ = ["SearchLimits", "Solution", "solve"]

_MERGED_SHARE = 0.8
"""Of the in-place pairs, how many a random choice takes: most, since a merge needs fewer live bytes."""


@dataclass(frozen=True)
class SearchLimits:
    """How long to search. No limit makes the search give up before it has one complete placement."""

    placements: int = 60_000
    """Blocks placed in all before the best solution so far is taken; about 10 microseconds each for
    networks of usual size. The constructed orders are all tried even when they need more."""
    patience: int = 200
    """Moves without a lower peak before the climb starts again from another constructed order."""
    seed: int = 0
    """Of the random moves."""


@dataclass(frozen=True)
class Solution:
    """Byte offset of each item, the blocks that the solver made of them, and one past the highest byte."""

    offsets: tuple[int, ...]
    blocks: tuple[Block, ...]
    peak: int


class _Arena:
    """The blocks placed so far, by offset. Placing one costs a few passes over contiguous arrays."""

    def __init__(self, capacity: int) -> None:
        self._count = 0
        self._start, self._end, self._first, self._last = np.zeros((4, capacity), dtype=np.int64)

    def clear(self) -> None:
        self._count = 0

    def place(self, block: Block) -> int:
        """Put a block at the lowest offset that is free during its life, and return the offset."""
        n = self._count
        start, end = self._start[:n], self._end[:n]
        meets = ((self._first[:n] <= block.last_use) & (self._last[:n] >= block.first_use)).nonzero()[0]
        offset = 0
        if meets.size:
            starts = start[meets]
            # What follows each met block: the highest end so far, since blocks met may overlap each other.
            free_from = np.maximum.accumulate(end[meets])
            free_from += -free_from % block.alignment
            if starts[0] < block.bytes:
                fits = free_from[:-1] + block.bytes <= starts[1:]
                gap = int(fits.argmax()) if fits.any() else -1
                offset = int(free_from[gap])
        self._insert(int(start.searchsorted(offset)), offset, block)
        return offset

    def _insert(self, at: int, offset: int, block: Block) -> None:
        n = self._count
        values = (offset, offset + block.bytes, block.first_use, block.last_use)
        for column, value in zip((self._start, self._end, self._first, self._last), values, strict=True):
            column[at + 1 : n + 1] = column[at:n]
            column[at] = value
        self._count = n + 1


class _Search:
    """Placements of one problem, the best of them, and what they have cost so far."""

    def __init__(self, problem: Problem, limits: SearchLimits) -> None:
        self.problem = problem
        self.limits = limits
        self.bound = lower_bound(problem)
        self.placements = 0
        self.best: Solution | None = None
        self._arena = _Arena(len(problem.items))

    @property
    def done(self) -> bool:
        """Whether the best solution is proven optimal, or the effort is used up."""
        return self.proven or self.placements >= self.limits.placements

    @property
    def proven(self) -> bool:
        return self.best is not None and self.problem.arena_bytes(self.best.peak) <= self.bound

    def first_fit(
        self, blocks: tuple[Block, ...], order: Sequence[int], abandon_above: int | None = None
    ) -> Solution | None:
        """Place blocks in an order; None as soon as the peak is above `abandon_above`."""
        self._arena.clear()
        offsets = [0] * len(self.problem.items)
        peak = 0
        for i in order:
            block = blocks[i]
            offset = self._arena.place(block)
            self.placements += 1
            peak = max(peak, offset + block.bytes)
            if abandon_above is not None and peak > abandon_above:
                return None
            for item in block.items:
                offsets[item] = offset
        solution = Solution(tuple(offsets), blocks, peak)
        if self.best is None or peak < self.best.peak:
            self.best = solution
        return solution


def _contention(problem: Problem, blocks: Sequence[Block]) -> list[int]:
    """For each block, the most bytes that are live at any time of its life."""
    live = live_bytes(problem, blocks)
    return [int(live[b.first_use + 1 : b.last_use + 2].max()) for b in blocks]


def _constructed_orders(problem: Problem, blocks: tuple[Block, ...]) -> list[list[int]]:
    """Orders worth trying first; ties go to the earlier block, so that the result does not vary."""
    contention = _contention(problem, blocks)

    def life(i: int) -> int:
        return blocks[i].last_use - blocks[i].first_use + 1

    keys: tuple[Callable[[int], tuple[int, ...]], ...] = (
        lambda i: (-blocks[i].bytes, -life(i)),
        lambda i: (-blocks[i].bytes * life(i),),
        lambda i: (-contention[i], -blocks[i].bytes, -life(i)),
        lambda i: (-contention[i], -blocks[i].bytes * life(i)),
        lambda i: (-life(i), -blocks[i].bytes),
        lambda i: (blocks[i].first_use, -blocks[i].bytes),
        lambda i: (-blocks[i].last_use, -blocks[i].bytes),
    )
    placed = [i for i, block in enumerate(blocks) if block.bytes]
    orders = [sorted(placed, key=lambda i: (*key(i), i)) for key in keys]
    return [order for i, order in enumerate(orders) if order not in orders[:i]]


def _culprits(problem: Problem, solution: Solution, order: Sequence[int]) -> list[int]:
    """Positions in the order of the blocks that reach the peak."""
    ends = {i: solution.offsets[solution.blocks[i].items[0]] + solution.blocks[i].bytes for i in order}
    top = problem.arena_bytes(solution.peak) - problem.alignment.arena
    return [position for position, i in enumerate(order) if ends[i] > top]


def _moved(random: Random, order: Sequence[int], culprits: Sequence[int]) -> list[int]:
    """A neighbour of an order: a block that makes the peak is placed earlier, or two blocks swap turns."""
    moved = list(order)
    if random.randrange(2):
        position = random.choice(culprits)
        moved.insert(random.randrange(position + 1), moved.pop(position))
    else:
        a, b = random.choice(culprits), random.randrange(len(moved))
        moved[a], moved[b] = moved[b], moved[a]
    return moved


def _climb(search: _Search, random: Random, blocks: tuple[Block, ...], order: list[int]) -> None:
    """Change an order step by step as long as the peak does not rise, until patience runs out."""
    current = search.first_fit(blocks, order)
    stale = 0
    while current is not None and not search.done and stale < search.limits.patience:
        stale += 1
        neighbour = _moved(random, order, _culprits(search.problem, current, order))
        solution = search.first_fit(blocks, neighbour, abandon_above=current.peak)
        if solution is not None:
            stale = 0 if solution.peak < current.peak else stale
            current, order = solution, neighbour


def _merges(problem: Problem, random: Random) -> dict[int, int]:
    """A random choice of in-place pairs."""
    chosen: dict[int, int] = {}
    for target, sources in problem.sources.items():
        if random.random() < _MERGED_SHARE:
            chosen[target] = random.choice(sources)
    return chosen


def _restart(
    search: _Search, random: Random, starts: Sequence[tuple[tuple[Block, ...], list[int]]]
) -> tuple[tuple[Block, ...], list[int]]:
    """Where the next climb begins: a constructed order, every other time with other in-place pairs."""
    if not search.problem.in_place or random.randrange(2):
        return random.choice(starts)
    blocks = merge(search.problem, _merges(search.problem, random))
    return blocks, random.choice(_constructed_orders(search.problem, blocks))


def solve(problem: Problem, limits: SearchLimits | None = None) -> Solution:
    """Place every item of a problem; the same problem and limits always give the same solution.

    In-place pairs are taken where that does not raise the peak: the constructed orders are tried with
    every pair and with none, the climb with other choices as well. The search ends when the arena
    meets the lower bound.
    """
    search = _Search(problem, limits or SearchLimits())
    starts: list[tuple[tuple[Block, ...], list[int]]] = []
    for chosen in ({target: sources[0] for target, sources in problem.sources.items()}, {}):
        blocks = merge(problem, chosen)
        for order in _constructed_orders(problem, blocks):
            search.first_fit(blocks, order)
            starts.append((blocks, order))
            if search.best is not None and search.proven:
                return search.best
        if not problem.in_place:
            break
    random = Random(search.limits.seed)
    for blocks, order in sorted(starts, key=lambda s: len(s[0])):
        if not search.done:
            _climb(search, random, blocks, order)
    while not search.done:
        _climb(search, random, *_restart(search, random, starts))
    if search.best is None:
        raise AssertionError("a search always completes at least one placement")
    return search.best
