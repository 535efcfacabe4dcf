"""Where a build with Arm's library finds the scratch that is not planned, against a search byte by byte."""

from __future__ import annotations

import numpy as np
import pytest

from qutec.backends.cmsis_nn import prepare, scratch_bytes
from qutec.backends.cmsis_nn.arm_scratch import arm_scratch
from qutec.backends.cmsis_nn.scratch import arm_scratch_bytes
from qutec.planner import Goal, Plan, plan_network
from qutec.program import RowRegion
from qutec.targets import target
from tests.planner.branching import branching_network


def lowest_free(plan: Plan, index: int, size: int, own: int | None) -> int:
    """The lowest multiple of 4 with `size` bytes behind it that nobody uses while call `index` runs."""
    used = np.zeros(plan.arena_bytes + 4 + size, bool)
    for one in plan.allocations:
        if one.first_use <= index <= one.last_use and (own is None or one.scratch_of != own):
            used[one.offset : one.offset + one.bytes] = True
    return next(begin for begin in range(0, len(used), 4) if not used[begin : begin + size].any())


@pytest.mark.parametrize("goal", Goal)
@pytest.mark.parametrize("name", ["cortex-m3", "cortex-m4", "cortex-m55"])
def test_arms_scratch_lies_at_the_lowest_place_that_is_free(name: str, goal: Goal) -> None:
    core = target(name).core
    placed = regions = 0
    for seed in range(6):
        program = prepare(branching_network(seed), core)
        scratch = [scratch_bytes(call, core) for call in program.calls]
        net = plan_network(program, scratch, core=core, goal=goal, seconds=0.2)
        found = arm_scratch(net.program, net.plan, net.scratch, core)
        ends = [net.plan.arena_bytes]
        for index, (call, scratch_of) in enumerate(zip(net.program.calls, found.calls, strict=True)):
            is_region = isinstance(call, RowRegion)
            parts = (
                list(zip(call.calls, call.scratch, strict=True))
                if is_region
                else [(call, net.scratch[index])]
            )
            for (one, planned), more in zip(parts, scratch_of.arm_sizes, strict=True):
                need = arm_scratch_bytes(one, core)
                # Of a region, a layer that takes in rows has a kernel of our own.
                assert more == (need if need > planned else 0) or (is_region and more == 0)
            wanted = max(scratch_of.arm_sizes)
            if wanted:
                own = None if is_region else index
                assert scratch_of.arm_offset == lowest_free(net.plan, index, wanted, own)
                ends.append(scratch_of.arm_offset + wanted)
                placed += 1
                regions += is_region
        assert found.arena_bytes == -(-max(ends) // 16) * 16
    assert name == "cortex-m3" or placed
    assert name != "cortex-m55" or goal is not Goal.SRAM or regions
