"""Everything decided about a network's memory: which layers run row by row, the order of the calls, moves,
where outputs overlap inputs.

Order and overlap are free. Moves cost a copy within the arena (a fraction of a percent of an inference), rows
some calls more, so they are made only where asked for: `Goal.SRAM` takes what makes the arena smallest,
`Goal.SPEED` the cheapest that meets the given limit, and none without a limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from qutec.planner.arena import DEFAULT_PLAN_SECONDS, Solution, solution_plan, solve
from qutec.planner.concat_views import with_concat_views
from qutec.planner.effort import Effort
from qutec.planner.flow import Sharing
from qutec.planner.input_rows import no_rows
from qutec.planner.joint import RowPlans
from qutec.planner.moves import Candidate, Solver
from qutec.planner.plan import Alignment, PinError, Plan, Scope, Technique
from qutec.planner.schedule import best_order
from qutec.planner.validate import validate_plan
from qutec.program import Program, RowRegion
from qutec.targets import Core

__all__ = ["LAYERWISE", "Goal", "PlannedNetwork", "plan_network"]

LAYERWISE = ("whole buffers", "in place")
"""Names of the techniques without overlap."""

_TECHNIQUE_SHARE = 0.15
"""Of the effort, for each of the plans that only tell what a technique saves."""


class Goal(StrEnum):
    """What a plan is to be good at."""

    SPEED = "speed"
    """The fastest plan that fits."""
    SRAM = "sram"
    """The smallest arena."""


@dataclass(frozen=True)
class PlannedNetwork:
    """A program with its calls in their final order, moves included, and its plan."""

    program: Program
    scratch: tuple[int, ...]
    plan: Plan


def plan_network(
    program: Program,
    scratch: Sequence[int],
    *,
    core: Core | None = None,
    goal: Goal = Goal.SPEED,
    arena_limit: int | None = None,
    keep_input: bool = False,
    seconds: float = DEFAULT_PLAN_SECONDS,
    alignment: Alignment | None = None,
    pinned: Mapping[str, int] | None = None,
) -> PlannedNetwork:
    """Order the calls of a program and place what they need; the result is validated.

    Args:
        program: in any order that computes the network.
        scratch: bytes of kernel scratch of each call, 0 for none.
        core: what the overlap has to be safe on; None for every core.
        goal: see `Goal`.
        arena_limit: bytes that the arena may have. A plan that needs more is returned all the same.
        keep_input: whether the caller wants its inputs back after the last call.
        seconds: how long to search where the optimum is not found at once, as steps (`Effort`): the plan is
            the same on every machine.
        alignment: of the arena, buffers and scratch.
        pinned: offsets of buffers of inputs and outputs that may lie nowhere else.

    Raises:
        PlanError: the program has no valid plan, for example because a call reads what nobody wrote.
        PinError: two buffers are pinned onto each other, or a pin is impossible by itself.
        UnsupportedModelError: the layers that read the rows of a streamed input cannot run row by row.
    """
    _check_pinned(program, pinned or {})
    solver = Solver(core, keep_input, alignment, pinned or {})
    effort = Effort.of_seconds(seconds)
    limit = None if goal is Goal.SRAM else arena_limit
    viewed, viewed_scratch = with_concat_views(program, scratch)
    has_views = viewed is not program
    found = _planned(solver, program, scratch, goal, limit, effort.share(0.5) if has_views else effort)
    if has_views:
        found = _better(found, _planned(solver, viewed, viewed_scratch, goal, limit, effort), limit)
    ordered, sizes = _in_order(found.best)
    plan = replace(
        solution_plan(ordered, found.best.solution), techniques=tuple(found.techniques), scope=found.scope
    )
    validate_plan(ordered, sizes, plan, core)
    return PlannedNetwork(ordered, sizes, plan)


@dataclass(frozen=True)
class _Found:
    """What the planner made of one program."""

    best: Candidate
    scope: Scope
    techniques: list[Technique]


def _planned(
    solver: Solver, program: Program, scratch: Sequence[int], goal: Goal, limit: int | None, effort: Effort
) -> _Found:
    techniques = [
        _technique(name, solve(solver.flow(program, scratch, sharing), effort.share(_TECHNIQUE_SHARE)))
        for name, sharing in zip(LAYERWISE, (Sharing.NONE, Sharing.IN_PLACE), strict=True)
    ]
    only_order = goal is Goal.SPEED and limit is None
    best = solver.solved(program, scratch, effort.share(0.5 if only_order else 0.2))
    techniques.append(_technique("overlap", best.solution))
    scope = Scope.ORDER
    if program.input_rows is not None:
        best, scope = _with_streamed_input(solver, best, goal, limit, effort, techniques)
    elif goal is Goal.SRAM or (limit is not None and best.arena_bytes > limit):
        best, scope = _with_moves_and_rows(solver, best, limit, effort, techniques)
    return _Found(best, scope, techniques)


def _better(copied: _Found, viewed: _Found, limit: int | None) -> _Found:
    """The smaller one, or the faster of two within the limit; a bound for both."""
    bound = min(found.best.solution.lower_bound for found in (copied, viewed))
    ranks = list(Scope)

    def key(found: _Found) -> tuple[int, ...]:
        if limit is not None and found.best.arena_bytes <= limit:
            return (0, ranks.index(found.scope))
        return (1, found.best.arena_bytes)

    # A concatenation less is faster.
    chosen = viewed if key(viewed) <= key(copied) else copied
    return replace(chosen, best=chosen.best.bounded(bound))


def _check_pinned(program: Program, pinned: Mapping[str, int]) -> None:
    # Other buffers come and go with moves and regions.
    ports = {port.tensor.buffer for port in (*program.inputs, *program.outputs)}
    for name in pinned:
        if name not in ports:
            raise PinError(f"{name} cannot be pinned: it is neither an input nor an output")


def _with_moves_and_rows(
    solver: Solver, whole: Candidate, limit: int | None, effort: Effort, techniques: list[Technique]
) -> tuple[Candidate, Scope]:
    """The cheapest candidate within `limit`, or the smallest: without one, or where none is within it.

    Adds the techniques that save something.
    """
    moved = solver.moved(whole, effort.share(0.2), wanted=limit)
    if moved.arena_bytes < whole.arena_bytes:
        techniques.append(_technique("moves", moved.solution))
    if limit is not None and moved.arena_bytes <= limit:
        return moved, Scope.MOVES
    plans = RowPlans(solver, *_for_rows(solver, whole, effort), moved)
    best = plans.cheapest_within(limit, effort.share(0.5)) if limit is not None else None
    scope = Scope.GIVEN_ROWS
    if best is None:
        best, scope = plans.smallest(effort) or moved, Scope.ROWS
    if best.arena_bytes < moved.arena_bytes:
        # What only fits a limit may well be larger than the smallest.
        techniques.append(
            Technique("row by row", best.arena_bytes, scope is Scope.ROWS and best.solution.optimal)
        )
    if not any(isinstance(call, RowRegion) for call in best.program.calls) and scope is Scope.GIVEN_ROWS:
        scope = Scope.MOVES
    return best, scope


def _with_streamed_input(
    solver: Solver,
    whole: Candidate,
    goal: Goal,
    limit: int | None,
    effort: Effort,
    techniques: list[Technique],
) -> tuple[Candidate, Scope]:
    """The same where a region has to take in the input; `whole` is the plan with the input in the arena.

    The cheapest such candidate where there is neither a limit nor another goal. Raises UnsupportedModelError.
    """
    plans = RowPlans(solver, *_for_rows(solver, whole, effort), None)
    cheapest = plans.cheapest(effort.share(0.3))
    if cheapest is None:
        raise no_rows(whole.program)
    techniques.append(_technique("streamed input", cheapest.solution))
    if goal is not Goal.SRAM and (limit is None or cheapest.arena_bytes <= limit):
        return cheapest, Scope.GIVEN_ROWS
    best = plans.cheapest_within(limit, effort.share(0.5)) if limit is not None else None
    scope = Scope.GIVEN_ROWS
    if best is None:
        best, scope = plans.smallest(effort), Scope.ROWS
    assert best is not None  # where one choice is possible, that with the smallest bound is
    if best.arena_bytes < cheapest.arena_bytes:
        techniques.append(
            Technique("row by row", best.arena_bytes, scope is Scope.ROWS and best.solution.optimal)
        )
    return best, scope


def _for_rows(solver: Solver, whole: Candidate, effort: Effort) -> tuple[Program, tuple[int, ...]]:
    """The program in the order that needs least, whatever its best placement is.

    There branches of an exit stand where they leave the trunk.
    """
    order = best_order(solver.flow(whole.program, whole.scratch), effort.share(_TECHNIQUE_SHARE)).calls
    calls = tuple(whole.program.calls[i] for i in order)
    return replace(whole.program, calls=calls), tuple(whole.scratch[i] for i in order)


def _technique(name: str, solution: Solution) -> Technique:
    return Technique(name, solution.arena_bytes, solution.optimal)


def _in_order(candidate: Candidate) -> tuple[Program, tuple[int, ...]]:
    order = candidate.solution.order
    calls = tuple(candidate.program.calls[i] for i in order)
    return replace(candidate.program, calls=calls), tuple(candidate.scratch[i] for i in order)
