"""Where Arm's kernels find the scratch that the bundled ones do without.

A plan is made for the bundled kernels, which need less. A build with Arm's library has the same buffers at
the same offsets; a kernel that wants more scratch than is planned for its call gets it at the lowest offset
where nothing lies that is live while it runs, which may be beyond the end of the plan's arena. So the arena
of that build is larger, by what is missing and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qutec.backends.cmsis_nn.call_scratch import CallScratch
from qutec.backends.cmsis_nn.scratch import arm_scratch_bytes
from qutec.planner import Plan
from qutec.program import Call, Program, RowRegion
from qutec.program.row_layout import row_layout
from qutec.targets import Core

__all__ = ["ArmScratch", "arm_scratch"]

_ANY = (Core("plain"), Core("dsp", dsp=True), Core("helium", dsp=True, mve=True))


@dataclass(frozen=True)
class ArmScratch:
    """What a build with Arm's library has besides, and in place of, the scratch of the plan."""

    calls: tuple[CallScratch, ...]
    """Of each call."""
    arena_bytes: int
    """Of that build: that of the plan, or more."""


def arm_scratch(program: Program, plan: Plan, scratch: Sequence[int], core: Core | None) -> ArmScratch:
    """Places for what Arm's kernels want, on `core` or (None) on any; `scratch` has the planned bytes."""
    calls = []
    end = plan.arena_bytes
    for index, (call, planned) in enumerate(zip(program.calls, scratch, strict=True)):
        sizes = _wanted(call, planned, core)
        wanted = max(sizes)
        # What a region holds is in its scratch; that of a kernel is the kernel's either way.
        over = None if isinstance(call, RowRegion) else index
        offset = plan.free_offset(index, wanted, over=over) if wanted else None
        calls.append(CallScratch(plan.scratch_offsets[index], planned, offset, sizes))
        end = max(end, (offset or 0) + wanted)
    return ArmScratch(tuple(calls), _aligned(end, plan.alignment.arena))


def _wanted(call: Call, planned: int, core: Core | None) -> tuple[int, ...]:
    """Bytes of a place of their own, for each layer of a region: 0 where the planned scratch is enough."""
    if not isinstance(call, RowRegion):
        return (_more(call, planned, core),)
    stages = row_layout(call).schedule.stages
    # Rows are taken into sums by kernels of our own.
    return tuple(
        0 if stage.sums_bytes else _more(stage.call, size, core)
        for stage, size in zip(stages, call.scratch, strict=True)
    )


def _more(call: Call, planned: int, core: Core | None) -> int:
    """What Arm's kernel asks for on `core` or (None) on any, where that is more than is planned; else 0."""
    need = max(arm_scratch_bytes(call, one) for one in (_ANY if core is None else (core,)))
    return need if need > planned else 0


def _aligned(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment
