"""Everything decided about a network's memory: the order of its calls, where outputs overlap inputs, and
moves.

Kernels run from low to high addresses, so an output that overlaps its input lies below it, and a chain of
calls drifts to the start of the arena. There a `Move` takes the buffer back up, at the price of a copy within
the arena. Moves cost instructions (a fraction of a percent), all else is free, so they are made only where
asked for: `Goal.SRAM` makes the arena as small as they can, and then leaves out those that it does not need;
`Goal.SPEED` makes as few as the given limit needs, and none without a limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

from qutec.planner.arena import DEFAULT_PLAN_SECONDS, Solution, solution_plan, solve
from qutec.planner.effort import Effort
from qutec.planner.flow import Flow, Sharing, build_flow
from qutec.planner.input_rows import no_rows
from qutec.planner.plan import Alignment, Plan, Technique
from qutec.planner.regions import cheapest_regions, smallest_regions, with_regions
from qutec.planner.validate import validate_plan
from qutec.program import Buffer, BufferKind, Call, Move, Program, Tensor
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


@dataclass(frozen=True)
class _Candidate:
    """A program, and the best solution found for it; the order is not applied yet."""

    program: Program
    scratch: tuple[int, ...]
    solution: Solution


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
        the
            same on every machine.
        alignment: of the arena, buffers and scratch.

    Raises:
        PlanError: the program has no valid plan, for example because a call reads what nobody wrote.
        UnsupportedModelError: the layers that read the rows of a streamed input cannot run row by row.
    """

    def flow_of(program: Program, scratch: Sequence[int], sharing: Sharing) -> Flow:
        return build_flow(
            program, scratch, alignment=alignment, sharing=sharing, core=core, keep_input=keep_input
        )

    effort = Effort.of_seconds(seconds)
    techniques = [
        _technique(name, solve(flow_of(program, scratch, sharing), effort.share(_TECHNIQUE_SHARE)))
        for name, sharing in zip(LAYERWISE, (Sharing.NONE, Sharing.IN_PLACE), strict=True)
    ]

    def solved(program: Program, scratch: Sequence[int], effort: Effort, enough: int = 0) -> _Candidate:
        flow = flow_of(program, scratch, Sharing.OVERLAP)
        return _Candidate(program, tuple(scratch), solve(flow, effort, enough))

    best = whole = solved(program, scratch, effort.share(0.5))
    techniques.append(_technique("overlap", best.solution))
    # In the order that needs least, branches of an exit stand where they leave the trunk.
    ordered, sizes = _in_order(program, scratch, whole.solution.order)
    if program.input_rows is not None:
        first = cheapest_regions(ordered, sizes, None)
        if first is None:
            raise no_rows(program)
        best = solved(*with_regions(ordered, sizes, first.regions), effort.share(0.5))
        techniques.append(_technique("streamed input", best.solution))
    fits = arena_limit is not None and best.solution.arena_bytes <= arena_limit
    if goal is Goal.SRAM or (arena_limit is not None and not fits):
        wanted = None if goal is Goal.SRAM else arena_limit
        moved = _moved(best, flow_of(program, scratch, Sharing.OVERLAP), wanted, effort, solved)
        if moved is not best:
            best = moved
            techniques.append(_technique("moves", best.solution))
        if goal is Goal.SRAM or best.solution.arena_bytes > (arena_limit or 0):
            chosen = _regions(ordered, sizes, arena_limit if goal is Goal.SPEED else None)
            streamed = solved(*with_regions(ordered, sizes, chosen), effort.share(0.5)) if chosen else best
            if streamed.solution.arena_bytes < best.solution.arena_bytes:
                best = streamed
                techniques.append(_technique("row by row", best.solution))
    ordered, sizes = _in_order(best.program, best.scratch, best.solution.order)
    plan = replace(solution_plan(ordered, best.solution), techniques=tuple(techniques))
    validate_plan(ordered, sizes, plan, core)
    return PlannedNetwork(ordered, sizes, plan)


def _technique(name: str, solution: Solution) -> Technique:
    return Technique(name, solution.arena_bytes, solution.optimal)


def _in_order(
    program: Program, scratch: Sequence[int], order: Sequence[int]
) -> tuple[Program, tuple[int, ...]]:
    calls = tuple(program.calls[i] for i in order)
    return replace(program, calls=calls), tuple(scratch[i] for i in order)


def _regions(program: Program, scratch: Sequence[int], limit: int | None) -> tuple[tuple[int, int], ...]:
    """The ranges of calls to run row by row: the cheapest that fit, or those with the smallest peak."""
    found = cheapest_regions(program, scratch, limit) if limit is not None else None
    return (found or smallest_regions(program, scratch)).regions


def _moved(
    without: _Candidate,
    flow: Flow,
    wanted: int | None,
    effort: Effort,
    solved: Callable[[Program, Sequence[int], Effort, int], _Candidate],
) -> _Candidate:
    """The candidate with the fewest moves found that need at most `wanted` bytes (None: as few as possible).

    Halves of the moves are left out as long as the arena does not grow beyond what is wanted, large buffers
    first. `without` itself where moves save nothing.
    """

    def made(names: Sequence[str], enough: int = 0) -> _Candidate:
        changed = _with_moves(without.program, without.scratch, names)
        return solved(*changed, effort.share(0.1 if enough else 0.5), enough)

    names = _movable(flow)
    best = made(names) if names else without
    if best.solution.arena_bytes >= without.solution.arena_bytes:
        return without
    bound = best.solution.lower_bound
    target = best.solution.arena_bytes
    if wanted is not None and wanted > target:
        target = wanted
    kept = list(names)
    pending = [list(names)]
    while pending and not effort.spent:
        group = pending.pop()
        fewer = [name for name in kept if name not in group]
        trial = made(fewer, target)
        if trial.solution.arena_bytes <= target:
            kept, best = fewer, trial
        elif len(group) > 1:
            half = len(group) // 2
            pending += [group[half:], group[:half]]
    # Leaving out moves cannot lower what no plan with all of them is below.
    return replace(best, solution=replace(best.solution, lower_bound=bound))


def _movable(flow: Flow) -> list[str]:
    """Buffers that overlap what they are made from and what is made from them, the largest first."""
    sources = {near.source for pairs in flow.near for near in pairs if near.below < flow.sizes[near.source]}
    targets = {near.target for pairs in flow.near for near in pairs}
    writers = Counter(b for written in flow.writes for b in written)
    found = [b for b in sources & targets if writers[b] == 1 and not flow.held[b] and not flow.is_input[b]]
    return [flow.names[b] for b in sorted(found, key=lambda b: (-flow.sizes[b], b))]


def _with_moves(
    program: Program, scratch: Sequence[int], names: Sequence[str]
) -> tuple[Program, tuple[int, ...]]:
    """The program with each of these buffers moved to a new one, which all its readers read."""
    buffers = dict(program.buffers)
    calls: list[Call] = []
    sizes: list[int] = []
    new_name: dict[str, str] = {}
    for call, size in zip(program.calls, scratch, strict=True):
        calls.append(_reading(call, new_name))
        sizes.append(size)
        for name in (tensor.buffer for tensor in call.writes if tensor.buffer in names):
            moved = f"{name}.moved"
            buffers[moved] = Buffer(moved, buffers[name].bytes, BufferKind.INTERNAL)
            calls.append(Move(f"{call.name}.move", Tensor(name), Tensor(moved), buffers[name].bytes))
            sizes.append(0)
            new_name[name] = moved
    return replace(program, buffers=buffers, calls=tuple(calls)), tuple(sizes)


def _reading(call: Call, new_name: dict[str, str]) -> Call:
    """The call with the inputs that have a new name read from there."""

    def renamed(tensor: Tensor) -> Tensor:
        return replace(tensor, buffer=new_name.get(tensor.buffer, tensor.buffer))

    changes: dict[str, Any] = {}
    for field in fields(call):
        value = getattr(call, field.name)
        if any(value is tensor for tensor in call.writes):
            continue
        if isinstance(value, Tensor):
            changes[field.name] = renamed(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Tensor):
            changes[field.name] = tuple(map(renamed, value))
    return replace(call, **changes) if new_name else call
