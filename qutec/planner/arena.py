"""From a program to a validated plan: the order of its calls, then places for what they need.

`plan_network` decides everything; `plan_program` places the buffers of a program whose order is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qutec.planner.certain import certain_conflicts, last_readers
from qutec.planner.conflicts import conflicts_of
from qutec.planner.effort import Effort
from qutec.planner.exact import Verdict, fit_below
from qutec.planner.first_fit import Placement, improve
from qutec.planner.flow import Flow, Sharing, build_flow
from qutec.planner.plan import Alignment, Allocation, Plan
from qutec.planner.problem import Problem, build_problem
from qutec.planner.schedule import best_order, orders_below
from qutec.planner.validate import validate_plan
from qutec.program import Program
from qutec.targets import Core

__all__ = ["DEFAULT_PLAN_SECONDS", "Solution", "exceeds", "plan_program", "solution_plan", "solve"]

DEFAULT_PLAN_SECONDS = 10.0

_ORDER_SHARE, _HEURISTIC_SHARE, _CERTAIN_SHARE = 0.3, 0.2, 0.3
_MOST_EXACT_ITEMS = 1_000


@dataclass(frozen=True)
class Solution:
    """An order of a flow's calls, a placement in that order, and what no solution of the flow can beat."""

    order: tuple[int, ...]
    problem: Problem
    placement: Placement
    lower_bound: int
    """Bytes of arena. For one order only where the order was given."""

    @property
    def arena_bytes(self) -> int:
        """The arena's size."""
        return self.problem.flow.arena_bytes(self.placement.peak)

    @property
    def optimal(self) -> bool:
        """Whether nothing smaller is possible."""
        return self.arena_bytes <= self.lower_bound


def plan_program(
    program: Program,
    scratch: Sequence[int],
    *,
    sharing: Sharing = Sharing.OVERLAP,
    core: Core | None = None,
    keep_input: bool = False,
    alignment: Alignment | None = None,
    pinned: Mapping[str, int] | None = None,
    effort: Effort | None = None,
) -> Plan:
    """Place every buffer and the scratch of every call of a program, run in the order given, in one arena.

    Args:
        program: its calls are neither changed nor re-ordered.
        scratch: bytes of kernel scratch of each call, 0 for none.
        sharing: how far an output may share memory with an input that dies.
        core: what the overlap has to be safe on; None for every core.
        keep_input: whether the caller wants its inputs back after the last call.
        alignment: of the arena, buffers and scratch.
        pinned: offsets of buffers that may lie nowhere else.
        effort: how long to search when the lower bound is not met at once.

    Raises:
        PlanError: the program has no valid plan, for example because a call reads what nobody wrote.
    """
    flow = build_flow(
        program,
        scratch,
        alignment=alignment,
        sharing=sharing,
        core=core,
        keep_input=keep_input,
        pinned=pinned,
    )
    effort = effort or Effort.of_seconds(DEFAULT_PLAN_SECONDS)
    solution = _place(flow, tuple(range(flow.calls)), effort)
    plan = solution_plan(program, solution)
    validate_plan(program, scratch, plan, core)
    return plan


def solve(flow: Flow, effort: Effort, enough: int = 0) -> Solution:
    """The smallest arena over every order that the flow allows, or the best found and a bound.

    The order that needs least comes first. Where its best placement does not meet its bound, every other
    order that might is placed as well. The search ends at an arena of `enough` bytes.
    """
    stage = effort.share(_ORDER_SHARE)
    found = best_order(flow, stage)
    best = _place(flow, found.calls, effort, enough)
    bound = flow.arena_bytes(max(found.bound, flow.pinned_end))
    exact = flow.calls <= _MOST_EXACT_ITEMS and not effort.spent
    if exact and best.arena_bytes > max(bound, enough):
        bound = _raised(flow, bound, best.arena_bytes, effort)
        if best.arena_bytes > bound:
            return _over_orders(flow, best, bound, effort, enough)
    return replace(best, lower_bound=min(bound, best.arena_bytes))


def exceeds(flow: Flow, limit: int, effort: Effort) -> bool:
    """Whether it is certain that no order and placement of the flow needs at most `limit` bytes.

    False as soon as one is found, and where the effort does not suffice.
    """
    order = best_order(flow, effort.share(_ORDER_SHARE))
    if flow.arena_bytes(max(order.bound, flow.pinned_end)) > limit:
        return True
    if flow.calls > _MOST_EXACT_ITEMS:
        return False
    if fit_below(*certain_conflicts(flow), limit, effort.share(_CERTAIN_SHARE)) is Verdict.IMPOSSIBLE:
        return True
    best = _place(flow, order.calls, effort.share(_HEURISTIC_SHARE), limit)
    if best.arena_bytes <= limit or effort.spent:
        return False
    # Of an arena that would just be too large there is no smaller one: then all orders were tried.
    above = replace(best, placement=replace(best.placement, peak=flow.arena_bytes(limit + 1)))
    return _over_orders(flow, above, 0, effort, limit).lower_bound > limit


def _place(flow: Flow, order: tuple[int, ...], effort: Effort, enough: int = 0) -> Solution:
    """The best placement for one order; the bound is that of the order."""
    problem = build_problem(flow, order)
    placement = improve(problem, effort.share(_HEURISTIC_SHARE), enough)
    return _refined(Solution(order, problem, placement, problem.lower_bound), effort, enough)


def _raised(flow: Flow, bound: int, arena: int, effort: Effort) -> int:
    """The bound, raised as far as what excludes each other in every order allows; at most `arena`."""
    step = flow.alignment.arena
    items, conflicts = certain_conflicts(flow)
    while bound < arena:
        # The arena itself first: if all below it is excluded, nothing is left to ask.
        limit = arena - step
        if fit_below(items, conflicts, limit, effort.share(0.1)) is Verdict.IMPOSSIBLE:
            return arena
        arena = (bound + limit) // 2 // step * step
    return bound


def _refined(solution: Solution, effort: Effort, enough: int = 0) -> Solution:
    """Ask for less and less arena until that is impossible, or enough, or the effort is spent."""
    problem = solution.problem
    conflicts = None
    exact = len(problem.items) <= _MOST_EXACT_ITEMS and not effort.spent
    while exact and solution.arena_bytes > max(solution.lower_bound, enough):
        conflicts = conflicts or conflicts_of(problem)
        limit = solution.arena_bytes - problem.flow.alignment.arena
        found = fit_below(problem.items, conflicts, limit, effort)
        if found is Verdict.UNDECIDED:
            break
        if found is Verdict.IMPOSSIBLE:
            return replace(solution, lower_bound=solution.arena_bytes)
        solution = replace(solution, placement=_placement(problem, found))
    return solution


def _placement(problem: Problem, offsets: tuple[int, ...]) -> Placement:
    ends = (o + item.bytes for o, item in zip(offsets, problem.items, strict=True))
    return Placement(offsets, max(ends, default=0))


def _over_orders(flow: Flow, best: Solution, bound: int, effort: Effort, enough: int) -> Solution:
    """Look for something smaller in every order.

    Orders are parted by which call reads a buffer last; a part whose certain conflicts exclude a smaller
    arena is done with. What is left is tried order by order, orders with the same lifetimes only once.
    """
    complete = True
    parts = [flow]
    while parts and best.arena_bytes > max(bound, enough):
        part = parts.pop()
        limit = best.arena_bytes - flow.alignment.arena
        if fit_below(*certain_conflicts(part), limit, effort.share(0.1)) is Verdict.IMPOSSIBLE:
            continue
        if effort.spent:
            complete = False
            break
        if smaller_parts := last_readers(part):
            parts += reversed(smaller_parts)
            continue
        best, all_tried = _order_by_order(part, best, max(bound, enough), effort)
        complete = complete and all_tried
    if complete and not parts:
        bound = best.arena_bytes
    return replace(best, lower_bound=min(bound, best.arena_bytes))


def _order_by_order(flow: Flow, best: Solution, enough: int, effort: Effort) -> tuple[Solution, bool]:
    """The best solution, and whether nothing smaller is left in any order of the flow; stops where it is
    enough.
    """
    seen: set[frozenset[tuple[int, int]]] = set()
    complete = True
    for order in orders_below(flow, best.arena_bytes - flow.alignment.arena, effort):
        problem = build_problem(flow, order)
        if (signature := _signature(order, problem)) in seen:
            continue
        seen.add(signature)
        limit = best.arena_bytes - flow.alignment.arena
        found = fit_below(problem.items, conflicts_of(problem), limit, effort.share(0.5))
        if found is Verdict.UNDECIDED:
            complete = False
        elif found is not Verdict.IMPOSSIBLE:
            best = _refined(Solution(order, problem, _placement(problem, found), problem.lower_bound), effort)
            complete = complete and best.optimal
            if best.arena_bytes <= enough:
                return best, False
    return best, complete and not effort.spent


def _signature(order: Sequence[int], problem: Problem) -> frozenset[tuple[int, int]]:
    """Which items are live together; scratch goes by the call that it belongs to."""
    items = problem.items
    names = [i if item.scratch_of is None else -1 - order[item.scratch_of] for i, item in enumerate(items)]
    pairs = set()
    for i, one in enumerate(items):
        for j in range(i):
            other = items[j]
            if one.first_use <= other.last_use and other.first_use <= one.last_use:
                pairs.add((names[i], names[j]))
    for near in problem.near:
        pairs.add((-1 - len(items) - near.source, near.target))
    return frozenset(pairs)


def solution_plan(program: Program, solution: Solution) -> Plan:
    """The plan of a program whose calls are already in the solution's order."""
    offsets: dict[str, int] = {}
    problem = solution.problem
    scratch_offsets: list[int | None] = [None] * problem.flow.calls
    allocations: list[Allocation] = []
    for item, offset in zip(problem.items, solution.placement.offsets, strict=True):
        name = item.name
        if item.scratch_of is None:
            offsets[name] = offset
        else:
            scratch_offsets[item.scratch_of] = offset
            name = f"{program.calls[item.scratch_of].name}.scratch"
        allocations.append(
            Allocation(name, item.bytes, offset, item.first_use, item.last_use, item.scratch_of)
        )
    return Plan(
        offsets=offsets,
        scratch_offsets=tuple(scratch_offsets),
        arena_bytes=solution.arena_bytes,
        lower_bound_bytes=solution.lower_bound,
        allocations=tuple(allocations),
        live_bytes=problem.needs[1:-1],
        alignment=problem.flow.alignment,
    )
