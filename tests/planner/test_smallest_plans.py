"""The planner's optimum is that of an exhaustive search, and what it calls proven is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest

from qutec.planner import Alignment, Goal, PinError, plan_network, plan_program
from qutec.program import Program
from tests.planner.brute_force import joined_in_place, smallest_arena
from tests.planner.comparison import Comparison, moves, overlap, whole_buffers
from tests.planner.programs import add, concat, dense, lookup, pool, program
from tests.planner.random_graphs import random_graph

GRAPHS = 40


@pytest.mark.parametrize("compare", [whole_buffers, overlap, moves])
def test_order_places_and_moves_are_as_small_as_exhaustive_search_can(
    compare: Callable[[int], Comparison],
) -> None:
    found = {seed: compare(seed) for seed in range(GRAPHS)}
    assert not [seed for seed, comparison in found.items() if not comparison.agreed]
    assert any("concatenations" in comparison.features for comparison in found.values())


def test_places_in_a_given_order_are_as_small_as_exhaustive_search_can() -> None:
    for seed in range(1000, 1080):
        net, scratch = random_graph(seed)
        plan = plan_program(net, scratch, alignment=Alignment(4, 4, 4))
        assert plan.optimal, seed
        assert plan.arena_bytes == smallest_arena(net, scratch, any_order=False), seed


def test_pinned_buffers_stay_and_the_rest_is_as_small_as_exhaustive_search_can() -> None:
    tried = 0
    for seed in range(2000, 2060):
        net, scratch = random_graph(seed)
        random = Random(seed)
        ports = [port.tensor.buffer for port in (*net.inputs, *net.outputs)]
        pinned = {random.choice(ports): 4 * random.randrange(12)}
        plan = plan_network(net, scratch, alignment=Alignment(4, 4, 4), pinned=pinned).plan
        assert all(plan.offsets[name] == offset for name, offset in pinned.items()), seed
        assert plan.optimal, seed
        variants = (net, scratch), joined_in_place(net, scratch)
        assert plan.arena_bytes == min(smallest_arena(*v, pinned=pinned) for v in variants), seed
        tried += plan.arena_bytes > plan_network(net, scratch, alignment=Alignment(4, 4, 4)).plan.arena_bytes
    assert tried > 5  # pins that cost nothing would prove nothing


@pytest.mark.parametrize("goal", list(Goal))
def test_pinned_input_stays_whatever_the_goal(goal: Goal) -> None:
    net = pools(4)
    plan = plan_network(net, [0] * 4, goal=goal, pinned={"x": 128}).plan
    assert plan.offsets["x"] == 128


def test_buffers_pinned_onto_each_other_are_an_error() -> None:
    net = program([add("x", "z", "y", 16)], {"x": 16, "z": 16, "y": 16}, inputs=("x", "z"))
    with pytest.raises(PinError, match=r"pinned to \d\) and .* need the same place"):
        plan_network(net, [0], pinned={"x": 0, "z": 8})
    assert plan_network(net, [0], pinned={"x": 0, "z": 16}).plan.arena_bytes == 32


@pytest.mark.parametrize("pinned", [{"t0": 0}, {"nothing": 0}, {"x": -4}, {"x": 2}])
def test_impossible_pins_are_refused(pinned: dict[str, int]) -> None:
    net = program([lookup("x", "t0", 8), lookup("t0", "y", 8)], {"x": 8, "t0": 8, "y": 8})
    with pytest.raises(PinError, match="cannot be pinned"):
        plan_network(net, [0, 0], pinned=pinned)


def test_moves_never_need_more_than_none() -> None:
    saved = 0
    for seed in range(2000, 2060):
        net, scratch = random_graph(seed)
        without = plan_network(net, scratch).plan.arena_bytes
        smallest = plan_network(net, scratch, goal=Goal.SRAM).plan
        assert smallest.lower_bound_bytes <= smallest.arena_bytes <= without
        saved += without - smallest.arena_bytes
    assert saved > 0


def pools(count: int) -> Program:
    """A chain of pools on maps of one size: every output drifts two rows below its input."""
    names = ["x", *(f"t{i}" for i in range(count - 1)), "y"]
    calls = [pool(a, b, 16, 16) for a, b in pairwise(names)]
    return program(calls, dict.fromkeys(names, 256))


def test_chain_drifts_to_the_start_of_the_arena_unless_it_is_moved() -> None:
    net = pools(6)
    assert plan_network(net, [0] * 6).plan.arena_bytes == 256 + 6 * 32
    smallest = plan_network(net, [0] * 6, goal=Goal.SRAM)
    assert smallest.plan.arena_bytes == 256 + 32
    assert smallest.plan.optimal


def test_a_buffer_that_only_ends_under_its_reader_is_moved_as_well() -> None:
    """The concatenation writes over what it has copied: its first input has to lie high, and is made low."""
    calls = [pool("x", "t", 3, 4), pool("t", "u", 3, 4), concat(("u", "x"), "y", 3, (4, 4))]
    net = program(calls, {"x": 12, "t": 12, "u": 12, "y": 24})
    smallest = plan_network(net, [4, 4, 0], alignment=Alignment(4, 4, 4), goal=Goal.SRAM)
    assert smallest.plan.arena_bytes == 36
    assert plan_network(net, [4, 4, 0], alignment=Alignment(4, 4, 4)).plan.arena_bytes == 40


def test_no_more_moves_are_made_than_the_limit_asks_for() -> None:
    def moves_within(limit: int) -> int:
        planned = plan_network(pools(6), [0] * 6, arena_limit=limit)
        assert planned.plan.arena_bytes <= limit
        return sum(type(call).__name__ == "Move" for call in planned.program.calls)

    assert [moves_within(limit) for limit in (448, 352, 320, 288)] == [0, 1, 2, 5]


def test_input_is_kept_where_the_caller_wants_it() -> None:
    net = pools(2)
    kept = plan_network(net, [0, 0], keep_input=True)
    assert kept.plan.arena_bytes > plan_network(net, [0, 0]).plan.arena_bytes
    x = next(a for a in kept.plan.allocations if a.name == "x")
    assert x.last_use == 2
    assert all(
        a.offset + a.bytes <= x.offset or x.offset + x.bytes <= a.offset
        for a in kept.plan.allocations
        if a.name != "x"
    )


def test_order_of_branches_is_chosen() -> None:
    """Two branches that are wide in the middle; the narrow one of each pair should be reduced first."""
    sizes = {"x": 16, "a": 256, "b": 256, "a1": 16, "b1": 16, "y": 16}
    calls = [
        dense("x", "a", 16, 256),
        dense("x", "b", 16, 256),
        dense("a", "a1", 256, 16),
        dense("b", "b1", 256, 16),
        add("a1", "b1", "y", 16),
    ]
    planned = plan_network(program(calls, sizes), [0] * 5)
    assert [call.writes[0].buffer for call in planned.program.calls] in (
        ["a", "a1", "b", "b1", "y"],
        ["b", "b1", "a", "a1", "y"],
    )
    assert planned.plan.arena_bytes == 256 + 2 * 16
    assert planned.plan.optimal
    assert plan_program(program(calls, sizes), [0] * 5).arena_bytes == 512 + 16


@pytest.mark.parametrize("goal", list(Goal))
def test_same_network_gives_the_same_plan(goal: Goal) -> None:
    net, scratch = random_graph(7)
    assert plan_network(net, scratch, goal=goal).plan == plan_network(net, scratch, goal=goal).plan
