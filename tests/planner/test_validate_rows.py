"""The replay of a region's rows passes what the planner lays out, and finds what is planted in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qutec.planner import PlanError, plan_network, validate_plan
from qutec.planner.regions import row_region
from qutec.planner.validate_rows import validate_rows
from qutec.program import Program, RowRegion
from qutec.program.row_layout import RowLayout, row_layout
from tests.planner.branching import branching_network
from tests.planner.generated import CORE, longest_region, scratch_of
from tests.planner.segmentation import with_regions


def whole_region(program: Program) -> RowRegion:
    found = row_region(program, scratch_of(program), 0, longest_region(program))
    assert found is not None
    return found[0]


REGIONS = [whole_region(branching_network(seed)) for seed in (0, 2, 4)]


@pytest.mark.parametrize("seed", range(30, 60))
def test_what_is_laid_out_passes(seed: int) -> None:
    region = whole_region(branching_network(seed))
    validate_rows(region, row_layout(region))


@pytest.mark.parametrize("seed", range(60, 80))
def test_rows_lie_on_an_input_as_far_as_they_can_and_no_further(seed: int) -> None:
    region = whole_region(branching_network(seed))
    layout = row_layout(region)
    (source,) = region.reads
    distance = -(-layout.distance[source.buffer] // 4) * 4
    assert distance <= layout.bytes
    places, top = {}, layout.bytes + 8_192
    for stage in layout.schedule.stages:
        if stage.call.output.buffer in region.outputs:
            places[stage.call.output.buffer] = top
            top += stage.rows * stage.row_bytes
    for above in (distance, distance + 4, layout.bytes):
        validate_rows(region, layout, {**places, source.buffer: above})
    if distance >= layout.distance[source.buffer] > 0:
        with pytest.raises(PlanError, match="overwritten"):
            validate_rows(region, layout, {**places, source.buffer: distance - 4})


def test_an_input_that_is_kept_lies_apart() -> None:
    program = branching_network(60)
    streamed, sizes = with_regions(program, scratch_of(program), [(0, longest_region(program))])
    shared = plan_network(streamed, sizes, core=CORE)
    kept = plan_network(streamed, sizes, core=CORE, keep_input=True)
    assert shared.plan.arena_bytes < kept.plan.arena_bytes
    (name,) = (port.tensor.buffer for port in program.inputs)
    where = kept.plan.offsets[name]
    ends = where + program.buffers[name].bytes
    for number, place in enumerate(kept.plan.scratch_offsets):
        assert place is None or place + kept.scratch[number] <= where or place >= ends


Plant = Callable[[RowLayout, np.random.Generator], RowLayout]


def a_row_too_few(layout: RowLayout, rng: np.random.Generator) -> RowLayout:
    held = layout.schedule.held
    name = rng.choice([name for name, rows in held.items() if rows.rows > 1])
    fewer = {**held, name: replace(held[name], rows=held[name].rows - 1)}
    return replace(layout, schedule=replace(layout.schedule, held=fewer))


def two_maps_in_one_place(layout: RowLayout, rng: np.random.Generator) -> RowLayout:
    """Of maps that are both held from round to round."""
    held = layout.schedule.held
    one, other = rng.choice([name for name in layout.rows if not held[name].passing], 2, replace=False)
    return replace(layout, rows={**layout.rows, one: layout.rows[other]})


def scratch_on_rows(layout: RowLayout, rng: np.random.Generator) -> RowLayout:
    held = layout.schedule.held
    name = rng.choice([name for name in layout.rows if not held[name].passing])
    scratch = list(layout.scratch)
    number = rng.choice([n for n, (_, size) in enumerate(scratch) if size])
    scratch[number] = (layout.rows[name], scratch[number][1])
    return replace(layout, scratch=tuple(scratch))


def sums_on_rows(layout: RowLayout, rng: np.random.Generator) -> RowLayout:
    held = layout.schedule.held
    sums = list(layout.sums)
    found = [n for n, place in enumerate(sums) if place is not None]
    if not found:
        pytest.skip("nothing takes in rows")
    name = rng.choice([name for name in layout.rows if not held[name].passing])
    sums[found[0]] = layout.rows[name]
    return replace(layout, sums=tuple(sums))


def a_round_too_few(layout: RowLayout, rng: np.random.Generator) -> RowLayout:
    return replace(layout, schedule=replace(layout.schedule, rounds=layout.schedule.rounds - 1))


def too_little_scratch(layout: RowLayout, rng: np.random.Generator) -> RowLayout:
    return replace(layout, bytes=layout.bytes - 4)


@pytest.mark.parametrize("number", range(len(REGIONS)))
@pytest.mark.parametrize(
    "plant",
    [
        a_row_too_few,
        two_maps_in_one_place,
        scratch_on_rows,
        sums_on_rows,
        a_round_too_few,
        too_little_scratch,
    ],
)
def test_planted_faults_are_found(number: int, plant: Plant) -> None:
    region = REGIONS[number]
    layout = row_layout(region)
    rng = np.random.default_rng(number)
    for _ in range(5):
        with pytest.raises(PlanError, match=r"reads|scratch|overwritten|never comes|writes over|no place"):
            validate_rows(region, plant(layout, rng))


def test_a_row_in_place_of_one_that_is_still_read_is_found() -> None:
    """Made in place of a map whose oldest row then goes before its last reader has had it."""
    region = REGIONS[0]
    layout = row_layout(region)
    held = layout.schedule.held
    found = 0
    for name, rows in held.items():
        for other, others in held.items():
            if name == other or rows.within is not None or others.within is not None:
                continue
            changed = {**held, name: replace(rows, within=other)}
            try:
                validate_rows(region, replace(layout, schedule=replace(layout.schedule, held=changed)))
            except PlanError:
                found += 1
    assert found


def test_outputs_of_a_region_that_overlap_each_other_or_its_input_are_found() -> None:
    program = branching_network(2)
    streamed, sizes = with_regions(program, scratch_of(program), [(0, longest_region(program))])
    net = plan_network(streamed, sizes, core=CORE)
    region = next(call for call in net.program.calls if isinstance(call, RowRegion))
    names = [tensor.buffer for tensor in region.writes]
    assert len(names) > 1
    for one, other in [(names[0], names[1]), (names[1], region.reads[0].buffer)]:
        offsets = {**net.plan.offsets, one: net.plan.offsets[other]}
        moved = [
            replace(item, offset=offsets[item.name]) if item.scratch_of is None else item
            for item in net.plan.allocations
        ]
        plan = replace(net.plan, offsets=offsets, allocations=tuple(moved))
        with pytest.raises(PlanError, match=r"over|reads byte|is there|scratch"):
            validate_plan(net.program, net.scratch, plan, CORE)
