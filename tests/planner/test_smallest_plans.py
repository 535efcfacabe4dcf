"""The planner's optimum is that of an exhaustive search, and what it calls proven is."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from qutec.planner import Alignment, Goal, plan_network, plan_program
from qutec.program import Call, Program
from tests.planner.brute_force import smallest_arena
from tests.planner.programs import add, dense, lookup, pool, program

GRAPHS = 150


def random_graph(seed: int) -> tuple[Program, list[int]]:
    """Three to five calls on small maps, with branches, unread results, several outputs and scratch."""
    random = Random(seed)
    sizes = {"x": random.choice((8, 12, 16))}
    calls: list[Call] = []
    for i in range(random.randint(3, 5)):
        name = f"t{i}"
        source = random.choice(list(sizes)[-3:])
        size = sizes[source]
        twins = [other for other in sizes if sizes[other] == size and other != source]
        match random.choice(("lookup", "pool", "pool", "dense", "add")):
            case "add" if twins:
                calls.append(add(source, random.choice(twins), name, size))
            case "lookup":
                calls.append(lookup(source, name, size))
            case "pool":
                calls.append(pool(source, name, size // 4, 4))
            case _:
                size = random.choice((4, 8, 12, 20))
                calls.append(dense(source, name, sizes[source], size))
        sizes[name] = size
    outputs = {f"t{len(calls) - 1}", random.choice(list(sizes)[1:])}
    scratch = [random.choice((0, 0, 0, 6, 8)) for _ in calls]
    return program(calls, sizes, outputs=sorted(outputs)), scratch


@pytest.mark.parametrize("block", range(5))
def test_order_and_places_are_as_small_as_exhaustive_search_can(block: int) -> None:
    for seed in range(block * GRAPHS // 5, (block + 1) * GRAPHS // 5):
        net, scratch = random_graph(seed)
        plan = plan_network(net, scratch, alignment=Alignment(4, 4, 4)).plan
        assert plan.optimal, seed
        assert plan.arena_bytes == smallest_arena(net, scratch), seed


def test_places_in_a_given_order_are_as_small_as_exhaustive_search_can() -> None:
    for seed in range(1000, 1080):
        net, scratch = random_graph(seed)
        plan = plan_program(net, scratch, alignment=Alignment(4, 4, 4))
        assert plan.optimal, seed
        assert plan.arena_bytes == smallest_arena(net, scratch, any_order=False), seed


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


def test_no_more_moves_are_made_than_the_limit_asks_for() -> None:
    def moves(limit: int) -> int:
        planned = plan_network(pools(6), [0] * 6, arena_limit=limit)
        assert planned.plan.arena_bytes <= limit
        return sum(type(call).__name__ == "Move" for call in planned.program.calls)

    assert [moves(limit) for limit in (448, 352, 320, 288)] == [0, 1, 2, 5]


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
