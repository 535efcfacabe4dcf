"""From a program to a validated plan."""

from __future__ import annotations

from collections.abc import Sequence

from qutec.planner.first_fit import SearchLimits, Solution, solve
from qutec.planner.plan import Alignment, Allocation, Plan
from qutec.planner.problem import Problem, build_problem, live_bytes, lower_bound
from qutec.planner.validate import validate_plan
from qutec.program import Program

__all__ = ["plan_program"]


def plan_program(
    program: Program,
    scratch: Sequence[int],
    *,
    alignment: int = 16,
    buffer_alignment: int = 4,
    scratch_alignment: int = 4,
    limits: SearchLimits | None = None,
) -> Plan:
    """Place every buffer and the scratch of every call of a program, run in the order given, in one arena.

    Whole buffers are placed, each at one offset for its whole life; an output takes the place of an input
    where `may_write_in_place` allows, the sizes agree and nobody needs the input afterwards.
    `Plan.lower_bound_bytes` is that of this problem: plans that let parts of buffers overlap, or that hold
    only some rows of them, can be below it.

    Args:
        program: its calls are neither changed nor re-ordered.
        scratch: bytes of kernel scratch of each call, 0 for none.
        alignment: bytes, of the arena's base; the arena's size is rounded up to it.
        buffer_alignment: bytes, of each buffer's offset.
        scratch_alignment: bytes, of each scratch area's offset.
        limits: how long to search when the lower bound is not met at once.

    Raises:
        PlanError: the program has no valid plan, for example because a call reads what nobody wrote.
        ValueError: an alignment is not a power of two, or the arena's is below another.
    """
    problem = build_problem(program, scratch, Alignment(alignment, buffer_alignment, scratch_alignment))
    plan = _plan(problem, solve(problem, limits))
    validate_plan(program, scratch, plan)
    return plan


def _plan(problem: Problem, solution: Solution) -> Plan:
    offsets: dict[str, int] = {}
    scratch_offsets: list[int | None] = [None] * problem.calls
    allocations: list[Allocation] = []
    for item, offset in zip(problem.items, solution.offsets, strict=True):
        if item.scratch_of is None:
            offsets[item.name] = offset
        else:
            scratch_offsets[item.scratch_of] = offset
        allocations.append(
            Allocation(item.name, item.bytes, offset, item.first_use, item.last_use, item.scratch_of)
        )
    live = live_bytes(problem, solution.blocks)[1:-1]
    return Plan(
        offsets=offsets,
        scratch_offsets=tuple(scratch_offsets),
        arena_bytes=problem.arena_bytes(solution.peak),
        lower_bound_bytes=lower_bound(problem),
        allocations=tuple(allocations),
        live_bytes=tuple(int(n) for n in live),
        alignment=problem.alignment,
    )
