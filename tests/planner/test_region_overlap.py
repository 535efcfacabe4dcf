"""The outputs of a region lie over rows of its input that no later turn reads, and not nearer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qutec.backends.cmsis_nn import prepare
from qutec.load import load
from qutec.lower import lower
from qutec.planner import Goal, PlanError, PlannedNetwork, plan_network, safe_overlap, validate_plan
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


def two_outputs(seed: int) -> Program:
    """Two maps of one trunk, both larger than what is left of the input when they begin."""
    rng = np.random.default_rng(seed)
    net = Network(int(rng.integers(3, 6)), int(rng.integers(12, 20)), int(rng.integers(4, 9)))
    x = net.block(net.x, int(rng.integers(3, 6)), stride=int(rng.integers(1, 3)))
    net.output(x)
    net.output(net.separable(x, int(rng.integers(3, 6))))
    model = load(net.proto().SerializeToString()).model
    return prepare(lower(quantize(model, "random"), "net"), CORE)


def with_output_near(net: PlannedNetwork, number: int, distance: int) -> PlannedNetwork:
    """One region's plan with an output so far below its input; all else lies above both, apart."""
    (region,) = net.program.calls
    source, target = region.reads[0].buffer, region.writes[number].buffer
    offsets = {target: 0, source: distance}
    top = max(offset + net.program.buffers[name].bytes for name, offset in offsets.items())
    for name in net.plan.offsets:
        if name not in offsets:
            offsets[name] = top = -(-top // 16) * 16
            top += net.program.buffers[name].bytes
    scratch_at = -(-top // 16) * 16
    allocations = tuple(
        replace(a, offset=scratch_at if a.scratch_of is not None else offsets[a.name])
        for a in net.plan.allocations
    )
    plan = replace(
        net.plan,
        offsets=offsets,
        scratch_offsets=(scratch_at,),
        allocations=allocations,
        arena_bytes=-(-(scratch_at + net.scratch[0]) // 16) * 16,
    )
    return replace(net, plan=plan)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("make", "number"), [(body, 0), (two_outputs, 0), (two_outputs, 1)])
def test_bytes_are_right_at_exactly_the_distance_that_is_called_safe(
    make: Callable[[int], Program], number: int, seed: int, tmp_path: Path
) -> None:
    require("cc")
    program = make(seed)
    net = plan_network(*one_region(program), core=CORE, goal=Goal.SPEED)
    (region,) = net.program.calls
    assert isinstance(region, RowRegion)
    (safe,) = safe_overlap(region, CORE, number)
    below = -(-max(safe.below, 0) // 4) * 4
    near = with_output_near(net, number, below)
    validate_plan(near.program, near.scratch, near.plan, CORE)
    inputs = inputs_of(program)
    expected = run_program(program, inputs)
    for i, row in enumerate(host_outputs(near, inputs, tmp_path)):
        for whole, flat in zip(expected, row, strict=True):
            np.testing.assert_array_equal(whole[i].ravel(), flat)
    if 0 < below - 4 < safe.below:
        nearer = with_output_near(net, number, below - 4)
        with pytest.raises(PlanError, match=r"which it still reads|was overwritten|rows that it reads"):
            validate_plan(nearer.program, nearer.scratch, nearer.plan, CORE)


def test_each_of_several_outputs_may_lie_over_the_input() -> None:
    saved = 0
    for seed in range(6):
        calls, scratch = one_region(two_outputs(seed))
        plan = plan_network(calls, scratch, core=CORE).plan
        (region,) = calls.calls
        places = {t.buffer: plan.offsets[t.buffer] for t in (*region.reads, *region.writes)}
        ends = {name: places[name] + calls.buffers[name].bytes for name in places}
        (source,) = region.reads
        for output in region.writes:
            common = min(ends[source.buffer], ends[output.buffer])
            saved += max(common - max(places[source.buffer], places[output.buffer]), 0)
    assert saved > 0
