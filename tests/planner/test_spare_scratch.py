"""Scratch from what an arena has free, against every place that there is."""

from __future__ import annotations

import numpy as np
import pytest

from qutec.planner import PlannedNetwork, plan_network, validate_plan, with_spare_scratch
from tests.planner.programs import random_program


def _planned(seed: int) -> tuple[PlannedNetwork, list[int]]:
    rng = np.random.default_rng(seed)
    program = random_program(seed, 8, (16, 40, 64, 96))
    scratch = [int(size) for size in rng.choice([0, 12, 60], len(program.calls))]
    planned = plan_network(program, scratch)
    return planned, [int(size) for size in rng.integers(0, planned.plan.arena_bytes, len(program.calls))]


def _has_room(planned: PlannedNetwork, call: int, size: int) -> bool:
    """Whether any aligned place in the arena is nobody's but the call's own scratch."""
    plan = planned.plan
    taken = np.zeros(plan.arena_bytes, bool)
    for one in plan.allocations:
        if one.first_use <= call <= one.last_use and one.scratch_of != call:
            taken[one.offset : one.offset + one.bytes] = True
    starts = range(0, plan.arena_bytes - size + 1, plan.alignment.scratch)
    return any(not taken[start : start + size].any() for start in starts)


@pytest.mark.parametrize("seed", range(30))
def test_calls_have_what_is_of_use_to_them_where_there_is_room(seed: int) -> None:
    planned, useful = _planned(seed)
    filled = with_spare_scratch(planned, useful, None)
    assert filled.plan.arena_bytes == planned.plan.arena_bytes
    assert filled.plan.offsets == planned.plan.offsets
    validate_plan(filled.program, filled.scratch, filled.plan)
    for call, (had, has, size) in enumerate(zip(planned.scratch, filled.scratch, useful, strict=True)):
        has_room = size > had and _has_room(planned, call, size)
        assert has == (size if has_room else had)
