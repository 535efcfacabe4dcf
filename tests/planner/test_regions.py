"""Layers that run row by row answer as they do one after the other, in less memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qutec.backends.cmsis_nn import prepare
from qutec.load import load
from qutec.lower import lower
from qutec.planner import Goal, plan_network, validate_plan
from qutec.program import Add, AvgPool2D, Program, RowRegion
from qutec.program.row_layout import best_turns, row_layout
from qutec.program.row_schedule import row_schedule
from qutec.quantize import quantize
from qutec.reference import run_program
from tests.end_to_end.compiled import require
from tests.passes.exit_networks import Network
from tests.planner.generated import CORE, host_outputs, inputs_of, scratch_of
from tests.planner.segmentation import smallest_regions, with_regions


def random_network(seed: int) -> Program:
    """Blocks, separable and residual layers of random sizes and strides, then pool, dense and softmax."""
    rng = np.random.default_rng(seed)
    net = Network(int(rng.integers(1, 5)), int(rng.integers(9, 18)), int(rng.integers(5, 12)))
    x = net.block(net.x, int(rng.integers(2, 8)))
    for _ in range(int(rng.integers(2, 5))):
        kind = rng.integers(0, 6)
        channels = int(rng.integers(2, 9))
        if kind == 0:
            x = net.block(x, channels, stride=int(rng.integers(1, 3)))
        elif kind == 1:
            x = net.separable(x, channels)
        elif kind == 2:
            x = net.residual(x)
        elif kind == 3:
            x = shortcut(net, x, channels, int(rng.integers(1, 3)))
        elif kind == 4:
            x = net.op("Relu", [net.conv(x, channels, kernel=int(rng.integers(1, 6)))])
        else:
            x = net.op("MaxPool", [x], kernel_shape=[2, 2], strides=[1, 1], pads=[0, 0, 1, 1])
    net.head(x, "out")
    model = load(net.proto().SerializeToString()).model
    return prepare(lower(quantize(model, "random"), "net"), CORE)


def shortcut(net: Network, x: str, channels: int, stride: int) -> str:
    """A residual block whose shortcut is a convolution, so that its rows wait for the longer branch."""
    short = net.conv(x, channels, kernel=1, stride=stride)
    long = net.conv(net.block(x, channels, stride=stride), channels)
    return net.op("Relu", [net.op("Add", [short, long])])


@pytest.mark.parametrize("seed", range(8))
def test_generated_loops_over_rows_answer_as_whole_layers(seed: int, tmp_path: Path) -> None:
    require("cc")
    program = random_network(seed)
    scratch = scratch_of(program)
    chosen = smallest_regions(program, scratch).regions
    assert chosen
    streamed, sizes = with_regions(program, scratch, chosen)
    net = plan_network(streamed, sizes, core=CORE, goal=Goal.SPEED)
    inputs = inputs_of(program)
    expected = run_program(program, inputs)
    for whole, rows in zip(expected, run_program(net.program, inputs), strict=True):
        np.testing.assert_array_equal(whole, rows)
    for i, row in enumerate(host_outputs(net, inputs, tmp_path)):
        for whole, flat in zip(expected, row, strict=True):
            np.testing.assert_array_equal(whole[i].ravel(), flat)


@pytest.mark.parametrize("seed", range(8, 20))
def test_rows_take_less_memory_than_whole_maps_and_the_plan_is_valid(seed: int) -> None:
    program = random_network(seed)
    scratch = scratch_of(program)
    whole = plan_network(program, scratch, core=CORE, goal=Goal.SRAM)
    found = smallest_regions(program, scratch)
    streamed, sizes = with_regions(program, scratch, found.regions)
    net = plan_network(streamed, sizes, core=CORE)
    validate_plan(net.program, net.scratch, net.plan, CORE)
    # Aligning the arena and its buffers may add what a sum of bytes does not count.
    assert net.plan.arena_bytes <= found.peak + 64
    assert whole.plan.arena_bytes <= plan_network(program, scratch, core=CORE).plan.arena_bytes


def the_region(program: Program) -> RowRegion:
    scratch = scratch_of(program)
    streamed, _ = with_regions(program, scratch, smallest_regions(program, scratch).regions)
    return next(call for call in streamed.calls if isinstance(call, RowRegion))


@pytest.mark.parametrize("seed", range(20, 32))
def test_no_row_is_computed_twice_and_none_is_dropped_too_early(seed: int) -> None:
    """Plays the loop of `qute_rows.h` with the numbers of rows instead of their bytes."""
    region = the_region(random_network(seed))
    schedule = row_schedule(region)
    made_by = {stage.call.output.buffer: n for n, stage in enumerate(schedule.stages)}
    turns = [0] * len(schedule.stages)
    held: dict[str, list[int]] = {name: [] for name in made_by}
    for _ in range(schedule.rounds):
        for number in region.order:
            stage = schedule.stages[number]
            if turns[number] == stage.turns:
                continue
            windows = [(w.buffer, w.of(turns[number])) for w in stage.windows if w.buffer in made_by]
            if any(
                schedule.stages[made_by[name]].made(turns[made_by[name]]) < end for name, (_, end) in windows
            ):
                continue
            for name, (begin, end) in windows:
                assert set(range(begin, end)) <= set(held[name]), (stage.call.name, turns[number])
            name = stage.call.output.buffer
            row = stage.made(turns[number])
            turns[number] += 1
            if stage.made(turns[number]) > row:
                kept = schedule.held[name].rows if name in schedule.held else stage.rows
                held[name] = [*held[name], row][-kept:]
    assert turns == [stage.turns for stage in schedule.stages]
    for stage in schedule.stages:
        if stage.call.output.buffer in region.outputs:
            assert held[stage.call.output.buffer] == list(range(stage.rows))


def test_a_shortcut_waits_its_turn_where_that_holds_fewer_rows() -> None:
    net = Network(3, 16, 16)
    x = shortcut(net, net.block(net.x, 8), 16, 1)
    net.head(x, "out")
    program = prepare(lower(quantize(load(net.proto().SerializeToString()).model, "random"), "net"), CORE)
    region = the_region(program)
    assert any(isinstance(call, Add) for call in region.calls)
    assert any(isinstance(call, AvgPool2D) for call in region.calls)
    plain = replace(region, turns=())
    assert row_layout(best_turns(plain)).bytes < row_layout(plain).bytes
