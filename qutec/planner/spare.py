"""Scratch from what an arena has free: of use to a kernel, but not worth a larger arena."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qutec.planner.network import PlannedNetwork
from qutec.planner.plan import Allocation, Plan
from qutec.planner.validate import validate_plan
from qutec.targets import Core

__all__ = ["with_spare_scratch"]


def with_spare_scratch(planned: PlannedNetwork, useful: Sequence[int], core: Core | None) -> PlannedNetwork:
    """The same plan with `useful[i]` bytes of scratch for every call i for which the arena has them free.

    Nothing else changes; calls for which it has not, or to which no more is of use, keep what they have.
    `live_bytes` stay what the calls cannot do without. The result is validated.
    """
    plan = planned.plan
    scratch, offsets = list(planned.scratch), list(plan.scratch_offsets)
    grown: list[Allocation] = []
    for call, size in enumerate(useful):
        if size > scratch[call] and (offset := _free(plan, call, size)) is not None:
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


def _free(plan: Plan, call: int, size: int) -> int | None:
    """Where `size` bytes belong to nobody, or to the call's own scratch, while it runs; None for nowhere."""
    alignment = plan.alignment.scratch
    start = 0
    for allocation in plan.live_at(call):
        if allocation.scratch_of == call:
            continue
        if allocation.offset - start >= size:
            return start
        end = max(start, allocation.offset + allocation.bytes)
        start = -(-end // alignment) * alignment
    return start if plan.arena_bytes - start >= size else None
