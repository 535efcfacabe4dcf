"""The output of a region lies over rows of its input that no later turn reads, and not nearer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qutec.backends.cmsis_nn import prepare
from qutec.load import load
from qutec.lower import lower
from qutec.planner import Goal, PlanError, plan_network, safe_overlap, validate_plan
from qutec.planner.regions import segments, with_segments
from qutec.program import Program, RowRegion
from qutec.quantize import quantize
from qutec.reference import run_program
from tests.end_to_end.compiled import require
from tests.passes.exit_networks import Network
from tests.planner.test_regions import CORE, host_outputs, inputs_of, scratch_of, shortcut


def body(seed: int) -> Program:
    """Convolutions, a residual block and a pool that keep the map large: the region is all of it."""
    rng = np.random.default_rng(seed)
    net = Network(int(rng.integers(2, 5)), int(rng.integers(12, 20)), int(rng.integers(4, 9)))
    x = net.block(net.x, int(rng.integers(3, 6)), stride=int(rng.integers(1, 3)))
    if rng.integers(0, 2):
        x = shortcut(net, x, int(rng.integers(3, 6)), 1)
    x = net.separable(x, int(rng.integers(3, 9)))
    net.output(x)
    model = load(net.proto().SerializeToString()).model
    return prepare(lower(quantize(model, "random"), "net"), CORE)


def one_region(program: Program) -> tuple[Program, tuple[int, ...]]:
    """All calls as one region where they can be, else the longest."""
    scratch = scratch_of(program)
    found = [s for s in segments(program, scratch) if s.region is not None]
    longest = max(found, key=lambda s: s.end - s.first)
    return with_segments(program, scratch, [longest])


@pytest.mark.parametrize("seed", range(6))
def test_bytes_are_right_at_exactly_the_distance_that_is_called_safe(seed: int, tmp_path: Path) -> None:
    require("cc")
    program = body(seed)
    net = plan_network(*one_region(program), core=CORE, goal=Goal.SPEED)
    index, region = next((i, c) for i, c in enumerate(net.program.calls) if isinstance(c, RowRegion))
    source, target = region.reads[0].buffer, region.writes[0].buffer
    (safe,) = safe_overlap(region, CORE)
    sizes = {name: net.program.buffers[name].bytes for name in (source, target)}
    # As near as allowed, whatever the planner chose; scratch lies above both.
    below = -(-max(safe.below, 0) // 4) * 4
    top = max(below + sizes[source], sizes[target])
    offsets = {**net.plan.offsets, target: 0, source: below}
    scratch_at = list(net.plan.scratch_offsets)
    scratch_at[index] = -(-top // 4) * 4
    allocations = tuple(
        replace(a, offset=scratch_at[index])
        if a.scratch_of == index
        else replace(a, offset=offsets[a.name])
        if a.scratch_of is None
        else a
        for a in net.plan.allocations
    )
    arena = -(-(scratch_at[index] + net.scratch[index]) // 16) * 16
    near = replace(
        net.plan,
        offsets=offsets,
        scratch_offsets=tuple(scratch_at),
        allocations=allocations,
        arena_bytes=max(arena, net.plan.arena_bytes),
    )
    assert len(net.program.calls) == 1
    validate_plan(net.program, net.scratch, near, CORE)
    inputs = inputs_of(program)
    expected = run_program(program, inputs)
    for i, row in enumerate(host_outputs(replace(net, plan=near), inputs, tmp_path)):
        for whole, flat in zip(expected, row, strict=True):
            np.testing.assert_array_equal(whole[i].ravel(), flat)
    if safe.below > 0:
        nearer = replace(near, offsets={**offsets, source: below - 4})
        nearer = replace(
            nearer,
            allocations=tuple(
                replace(a, offset=below - 4) if a.name == source else a for a in nearer.allocations
            ),
        )
        if below - 4 < safe.below:
            with pytest.raises(PlanError, match=r"which it still reads|was overwritten"):
                validate_plan(net.program, net.scratch, nearer, CORE)
