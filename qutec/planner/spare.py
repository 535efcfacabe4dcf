"""Scratch from what an arena has free: of use to a kernel, but not worth a larger arena."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qutec.planner.network import PlannedNetwork
from qutec.planner.plan import Allocation, PlanError
from qutec.planner.validate import validate_plan
from qutec.program import Call, RowRegion
from qutec.program.row_layout import row_layout
from qutec.targets import Core

__all__ = ["with_spare_row_scratch", "with_spare_scratch"]


def with_spare_scratch(planned: PlannedNetwork, useful: Sequence[int], core: Core | None) -> PlannedNetwork:
    """The same plan with `useful[i]` bytes of scratch for every call i for which the arena has them free.

    Nothing else changes; calls for which it has not, or to which no more is of use, keep what they have.
    `live_bytes` stay what the calls cannot do without. The result is validated.
    """
    plan = planned.plan
    scratch, offsets = list(planned.scratch), list(plan.scratch_offsets)
    grown: list[Allocation] = []
    for call, size in enumerate(useful):
        if size <= scratch[call]:
            continue
        offset = plan.free_offset(call, size, over=call)
        if offset + size <= plan.arena_bytes:
            scratch[call], offsets[call] = size, offset
            name = f"{planned.program.calls[call].name}.scratch"
            grown.append(Allocation(name, size, offset, call, call, call))
    if not grown:
        return planned
    replaced = {allocation.scratch_of for allocation in grown}
    kept = [a for a in plan.allocations if a.scratch_of is None or a.scratch_of not in replaced]
    allocations = sorted([*kept, *grown], key=lambda a: -1 if a.scratch_of is None else a.scratch_of)
    plan = replace(plan, scratch_offsets=tuple(offsets), allocations=tuple(allocations))
    validate_plan(planned.program, scratch, plan, core)
    return replace(planned, scratch=tuple(scratch), plan=plan)


def with_spare_row_scratch(
    planned: PlannedNetwork, useful: Callable[[Call], int], core: Core | None
) -> PlannedNetwork:
    """The same plan with up to `useful(call)` bytes of scratch for the layers of its regions.

    A region lays out its rows and its kernels' scratch by itself, and layers have their scratch in turn:
    where one needs much, the others may have as much for nothing. Buffers stay where they are; more scratch
    that does not leave them alone is not given, which the validator decides.
    """
    for index, region in enumerate(planned.program.calls):
        if not isinstance(region, RowRegion):
            continue
        wanted = [max(size, useful(call)) for size, call in zip(region.scratch, region.calls, strict=True)]
        whole = _with_row_scratch(planned, index, wanted, core)
        if whole is not None:
            planned = whole
            continue
        kept = list(region.scratch)
        for number in sorted(range(len(kept)), key=lambda n: wanted[n] - kept[n]):
            trial = [*kept[:number], wanted[number], *kept[number + 1 :]]
            if trial != kept and (grown := _with_row_scratch(planned, index, trial, core)) is not None:
                planned, kept = grown, trial
    return planned


def _with_row_scratch(
    planned: PlannedNetwork, index: int, sizes: Sequence[int], core: Core | None
) -> PlannedNetwork | None:
    """The plan with these bytes of scratch for the layers of region `index`; None where it is not valid."""
    region = planned.program.calls[index]
    assert isinstance(region, RowRegion)
    region = replace(region, scratch=tuple(sizes))
    size = row_layout(region).bytes
    plan = planned.plan
    offset = plan.scratch_offsets[index]
    if offset is None or offset + size > plan.arena_bytes:
        return None
    calls = (*planned.program.calls[:index], region, *planned.program.calls[index + 1 :])
    program = replace(planned.program, calls=calls)
    scratch = (*planned.scratch[:index], size, *planned.scratch[index + 1 :])
    allocations = tuple(replace(a, bytes=size) if a.scratch_of == index else a for a in plan.allocations)
    plan = replace(plan, allocations=allocations)
    try:
        validate_plan(program, scratch, plan, core)
    except PlanError:
        return None
    return replace(planned, program=program, scratch=scratch, plan=plan)
