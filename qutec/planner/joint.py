"""Regions, moves, order and placement as one problem.

Choices of regions are taken best bound first (`qutec.planner.choices`) and solved with their moves, each
exactly as far as the effort goes. One that cannot be smaller than the smallest arena found is refuted
(`qutec.planner.refute`), and with it all others with the same reason. Where nothing is left whose bound is
below that arena, it is proven. A limit is met in the same way, cheapest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain, islice

from qutec.planner.choices import Choice, Choices
from qutec.planner.effort import Effort
from qutec.planner.moves import Candidate, Solver, move_bytes
from qutec.planner.plan import Alignment
from qutec.planner.refute import Refuter
from qutec.planner.regions import Segment, segments, with_segments
from qutec.program import Program

__all__ = ["RowPlans"]

_PROMISING = 12
"""Choices that are tried before those in the order of their bounds."""
_NO_LIMIT = 1 << 40
_SHARE = 0.2
"""Of what effort is left, for one choice."""
_CALL_STEPS = 20
"""Steps that a choice costs for each call, however soon it is solved: looking at it takes time as well."""
_MOVE_COST = 0.5
"""Instructions for each byte that a move copies."""


class RowPlans:
    """The candidates of one program, in one order of its calls, with layers that run row by row."""

    def __init__(
        self, solver: Solver, program: Program, scratch: Sequence[int], layerwise: Candidate | None
    ) -> None:
        """`layerwise` is the best candidate without regions, moves included, and its bound one for these.

        None where there has to be one, to take in the rows of a streamed input.
        """
        self._solver = solver
        self._program = program
        self._scratch = tuple(scratch)
        self._layerwise = layerwise

    @property
    def _step(self) -> int:
        return (self._solver.alignment or Alignment()).arena

    @cached_property
    def _segments(self) -> list[Segment]:
        return segments(self._program, self._scratch)

    @cached_property
    def _choices(self) -> Choices:
        flow = self._solver.flow(self._program, self._scratch)
        return Choices(self._program, flow, self._scratch, self._segments, self._solver.core)

    @cached_property
    def _refuter(self) -> Refuter:
        return Refuter(self._program, self._scratch, self._solver.flow)

    def smallest(self, effort: Effort) -> Candidate | None:
        """The smallest candidate found, with a bound over all choices; None where there is no choice."""
        best = self._layerwise
        bounds: list[int] = []
        refuted: list[frozenset[Segment]] = []

        def tried(choice: Choice) -> None:
            nonlocal best
            if (
                best is not None
                and (core := self._refuter.core(choice.segments, limit(), effort)) is not None
            ):
                refuted.append(core)
                return
            refuted.append(frozenset(choice.segments))
            found = self._layerwise
            if choice.regions or found is None:
                found = self._solved(choice, effort, None, best.arena_bytes if best else None)
            bounds.append(max(choice.bound, found.solution.lower_bound))
            if best is None or found.arena_bytes < best.arena_bytes:
                best = found

        def limit() -> int:
            """The largest arena that would be smaller than the best."""
            return best.arena_bytes - self._step if best is not None else _NO_LIMIT

        for choice in islice(self._choices.by_peak(), _PROMISING):
            known = any(core.issubset(choice.segments) for core in refuted)
            if best is None or (choice.bound <= limit() and not known and not effort.spent):
                tried(choice)
        for level in self._choices.levels:
            while level <= limit() and (left := self._choices.cheapest_without(level, refuted)) is not None:
                if best is not None and effort.spent:
                    return best.bounded(min([*bounds, level]))
                tried(left)
        return best.bounded(min([*bounds, best.arena_bytes])) if best is not None else None

    def cheapest(self, effort: Effort) -> Candidate | None:
        """The candidate with regions that costs least, without moves; None where there is no choice."""
        for choice in self._choices.by_cost(_NO_LIMIT):
            if choice.regions:
                program, scratch = with_segments(self._program, self._scratch, choice.segments)
                return self._solver.solved(program, scratch, effort)
        return None

    def cheapest_within(self, limit: int, effort: Effort) -> Candidate | None:
        """The cheapest candidate found that needs at most `limit` bytes, None where none is found."""
        best: Candidate | None = None
        least = float("inf")
        # One that is sure to fit, but for alignment, is there first; a cheaper one may fit as well.
        sure = self._choices.that_fits(limit)
        for choice in chain([] if sure is None else [sure], self._choices.by_cost(limit)):
            if choice.cost >= least or effort.spent:
                break
            if not choice.regions:
                continue
            found = self._solved(choice, effort, limit, None)
            cost = choice.cost + _MOVE_COST * move_bytes(found.program)
            if found.arena_bytes <= limit and cost < least:
                best, least = found, cost
        return best

    def _solved(self, choice: Choice, effort: Effort, limit: int | None, below: int | None) -> Candidate:
        """The candidate of a choice; moves only where it is not good enough without."""
        effort.spend(_CALL_STEPS * len(self._program.calls))
        share = effort.share(_SHARE)
        program, scratch = with_segments(self._program, self._scratch, choice.segments)
        enough = choice.bound if limit is None else limit
        found = self._solver.solved(program, scratch, share, enough)
        if found.arena_bytes <= enough:
            return found
        return self._solver.moved(found, share, wanted=limit, below=below)
