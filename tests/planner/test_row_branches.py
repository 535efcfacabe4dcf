"""Regions with branches, several outputs, slices, windows and heads answer as their layers do."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from qutec.planner import Goal, PlannedNetwork, plan_network, validate_plan
from qutec.program import HeadFeatures, Program, RowRegion
from qutec.program.row_layout import row_layout
from qutec.reference import run_program
from tests.end_to_end.compiled import require
from tests.passes.exit_networks import Network
from tests.planner.branching import branching_network, network_of, with_heads
from tests.planner.generated import (
    CORE,
    emulated_outputs,
    host_outputs,
    inputs_of,
    longest_region,
    scratch_of,
)
from tests.planner.segmentation import smallest_regions, with_regions


def in_one_region(program: Program) -> PlannedNetwork:
    """The network with the longest region that there is from its first call on."""
    streamed, sizes = with_regions(program, scratch_of(program), [(0, longest_region(program))])
    return plan_network(streamed, sizes, core=CORE, goal=Goal.SPEED)


def the_region(net: PlannedNetwork) -> RowRegion:
    return next(call for call in net.program.calls if isinstance(call, RowRegion))


def assert_answers(
    program: Program, net: PlannedNetwork, inputs: list[np.ndarray], got: list[list[np.ndarray]]
) -> None:
    """The region in the reference, and the generated C, against the layers one after the other."""
    expected = run_program(program, inputs)
    for whole, rows in zip(expected, run_program(net.program, inputs), strict=True):
        np.testing.assert_array_equal(whole, rows)
    for i, row in enumerate(got):
        for whole, flat in zip(expected, row, strict=True):
            np.testing.assert_array_equal(whole[i].ravel(), flat)


@pytest.mark.parametrize("seed", range(10))
def test_branches_that_leave_the_trunk_run_with_it(seed: int, tmp_path: Path) -> None:
    require("cc")
    program = branching_network(seed)
    net = in_one_region(program)
    assert len(the_region(net).calls) > len(program.calls) // 2
    inputs = inputs_of(program)
    assert_answers(program, net, inputs, host_outputs(net, inputs, tmp_path))


@pytest.mark.parametrize("seed", range(10, 14))
def test_chosen_regions_of_networks_with_branches_answer_and_fit(seed: int, tmp_path: Path) -> None:
    require("cc")
    program = branching_network(seed)
    scratch = scratch_of(program)
    found = smallest_regions(program, scratch)
    streamed, sizes = with_regions(program, scratch, found.regions)
    net = plan_network(streamed, sizes, core=CORE)
    validate_plan(net.program, net.scratch, net.plan, CORE)
    assert net.plan.arena_bytes <= found.peak + 64
    inputs = inputs_of(program)
    assert_answers(program, net, inputs, host_outputs(net, inputs, tmp_path))


@pytest.mark.emulated
@pytest.mark.parametrize("seed", [3, 6])
def test_branches_answer_on_the_emulated_core(seed: int, tmp_path: Path) -> None:
    require("unicorn", "zig")
    program = branching_network(seed)
    net = in_one_region(program)
    inputs = inputs_of(program)
    assert_answers(program, net, inputs, emulated_outputs(net, inputs, tmp_path))


def test_branches_answer_with_arms_library(tmp_path: Path) -> None:
    require("cc")
    root = os.environ.get("CMSIS_NN_PATH")
    if not root:
        pytest.skip("CMSIS_NN_PATH is not set")
    program = branching_network(1)
    net = in_one_region(program)
    inputs = inputs_of(program)
    assert_answers(program, net, inputs, host_outputs(net, inputs, tmp_path, Path(root)))


def headed(seed: int) -> Program:
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(5, 12, 2))
    channels = int(rng.integers(3, 11))
    return with_heads(
        network_of(lambda net: net.block(net.separable(net.x, 8), channels), 2, height, width), seed
    )


@pytest.mark.parametrize("seed", range(8))
def test_heads_take_in_row_after_row(seed: int, tmp_path: Path) -> None:
    """The map that the heads read is never there as a whole."""
    require("cc")
    program = headed(seed)
    net = in_one_region(program)
    region = the_region(net)
    assert isinstance(region.calls[-1], HeadFeatures)
    assert region.calls[-1].input.buffer not in net.program.buffers
    inputs = inputs_of(program)
    assert_answers(program, net, inputs, host_outputs(net, inputs, tmp_path))


@pytest.mark.emulated
@pytest.mark.parametrize("seed", [8, 9])
def test_heads_by_rows_answer_on_the_emulated_core(seed: int, tmp_path: Path) -> None:
    require("unicorn", "zig")
    program = headed(seed)
    net = in_one_region(program)
    inputs = inputs_of(program)
    assert_answers(program, net, inputs, emulated_outputs(net, inputs, tmp_path))


def twins(net: Network) -> str:
    """A sum of two maps whose rows are both used up at once: only one can be made in the sum's place."""
    x = net.block(net.x, 6)
    return net.op("Relu", [net.op("Add", [net.conv(x, 6, kernel=1), net.conv(x, 6, kernel=1)])])


def tables(net: Network) -> str:
    """Tables in a row, then a sum: all of them are made where the sum is."""
    x = net.block(net.x, 6)
    y = net.op("Tanh", [net.op("Sigmoid", [net.conv(x, 6, kernel=1)])])
    return net.op("Relu", [net.op("Add", [x, net.op("Sigmoid", [y])])])


@pytest.mark.parametrize("build", [twins, tables])
def test_rows_in_place_of_others_keep_out_of_each_others_way(build, tmp_path: Path) -> None:
    require("cc")
    program = network_of(build, 3, 9, 7)
    net = in_one_region(program)
    inputs = inputs_of(program)
    assert any(held.within for held in row_layout(the_region(net)).schedule.held.values())
    assert_answers(program, net, inputs, host_outputs(net, inputs, tmp_path))
