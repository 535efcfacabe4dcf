"""Concatenations that need no call: who writes the parts writes into the result."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from qutec.planner import Alignment, Goal, plan_network
from qutec.planner.concat_views import with_concat_views
from qutec.program import Call, Concat, Int8Array, Program, Tensor
from qutec.reference import run_program
from tests.planner.programs import add, concat, dense, lookup, program


def kinds(net: Program) -> list[str]:
    return [type(call).__name__ for call in net.calls]


def answers(net: Program, seed: int = 3) -> list[Int8Array]:
    generator = np.random.default_rng(seed)
    inputs = [generator.integers(-128, 128, (4, port.size)).astype(np.int8) for port in net.inputs]
    return [np.asarray(output) for output in run_program(net, inputs)]


def two_branches() -> Program:
    sizes = {"x": 16, "a": 12, "b": 8, "y": 20, "z": 4}
    calls = [
        dense("x", "a", 16, 12),
        dense("x", "b", 16, 8),
        concat(("a", "b"), "y", 1, (12, 8)),
        dense("y", "z", 20, 4),
    ]
    return program(calls, sizes, outputs=("z",))


def test_branches_write_their_parts_of_the_result() -> None:
    net = two_branches()
    viewed, scratch = with_concat_views(net, [0, 0, 0, 0])
    assert kinds(viewed) == ["FullyConnected"] * 3
    assert [call.writes for call in viewed.calls] == [(Tensor("y"),), (Tensor("y", 12),), (Tensor("z"),)]
    assert set(viewed.buffers) == {"x", "y", "z"}
    assert scratch == (0, 0, 0)
    np.testing.assert_array_equal(answers(viewed), answers(net))


def test_calls_that_touch_other_bytes_of_the_result_keep_no_order() -> None:
    """Who reads one part may run after who writes the other: then it may work in place."""
    sizes = {"x": 16, "a": 20, "b": 12, "joined": 32, "c": 20, "y": 20}
    calls = [
        dense("x", "a", 16, 20),
        lookup("a", "c", 20),
        dense("a", "b", 20, 12),
        concat(("a", "b"), "joined", 1, (20, 12)),
        lookup("c", "y", 20),
    ]
    plan = plan_network(program(calls, sizes), [0, 8, 0, 8, 0], alignment=Alignment(4, 4, 4)).plan
    assert plan.arena_bytes == 40


def test_concatenation_of_concatenations_is_one_buffer() -> None:
    sizes = {"x": 8, "a": 8, "b": 8, "ab": 16, "c": 4, "y": 20, "z": 4}
    calls = [
        lookup("x", "a", 8),
        lookup("a", "b", 8),
        concat(("a", "b"), "ab", 1, (8, 8)),
        dense("ab", "c", 16, 4),
        concat(("ab", "c"), "y", 1, (16, 4)),
        dense("y", "z", 20, 4),
    ]
    net = program(calls, sizes, outputs=("z",))
    viewed, _ = with_concat_views(net, [0] * 6)
    assert set(viewed.buffers) == {"x", "y", "z"}
    np.testing.assert_array_equal(answers(viewed), answers(net))


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [(("x", "a"), (16, 12)), (("a", "a"), (12, 12)), (("k", "a"), (4, 12)), (("o", "a"), (4, 12))],
    ids=["an input", "one part twice", "a constant", "an output"],
)
def test_what_must_stay_where_it_is_is_copied(parts: tuple[str, str], sizes: tuple[int, int]) -> None:
    total = sum(sizes)
    buffers = {"x": 16, "a": 12, "k": 4, "o": 4, "y": total, "z": 4}
    calls = [
        dense("x", "a", 16, 12),
        dense("x", "o", 16, 4),
        concat(parts, "y", 1, sizes),
        dense("y", "z", total, 4),
    ]
    net = program(calls, buffers, outputs=("o", "z"), constants=("k",))
    assert with_concat_views(net, [0] * 4)[0] is net


def test_interleaved_channels_are_copied() -> None:
    sizes = {"x": 16, "a": 16, "b": 16, "y": 32}
    calls: list[Call] = [lookup("x", "a", 16), lookup("x", "b", 16)]
    calls.append(Concat("y", (Tensor("a"), Tensor("b")), Tensor("y"), 4, (4, 4)))
    net = program(calls, sizes)
    assert with_concat_views(net, [0] * 3)[0] is net


def test_plan_takes_the_view_where_it_needs_no_more() -> None:
    planned = plan_network(two_branches(), [0] * 4)
    assert "Concat" not in kinds(planned.program)
    assert planned.plan.arena_bytes == 48  # x and y; z takes the place of x


@pytest.mark.parametrize("goal", list(Goal))
def test_plan_copies_where_the_result_would_lie_about_for_long(goal: Goal) -> None:
    """The first part is made early, the second much later, behind another peak."""
    sizes = {"x": 8, "u": 256, "a": 4, "s": 8, "w": 256, "v": 8, "b": 240, "y": 244, "z": 4}
    calls = [
        dense("x", "u", 8, 256),
        dense("u", "a", 256, 4),
        dense("u", "s", 256, 8),
        dense("s", "w", 8, 256),
        dense("w", "v", 256, 8),
        dense("v", "b", 8, 240),
        concat(("a", "b"), "y", 1, (4, 240)),
        dense("y", "z", 244, 4),
    ]
    net = program(calls, sizes, outputs=("z",))
    planned = plan_network(net, [0] * 8, goal=goal)
    viewed, scratch = with_concat_views(net, [0] * 8)
    assert "Concat" in kinds(planned.program)
    assert planned.plan.arena_bytes < plan_network(viewed, scratch, goal=goal).plan.arena_bytes


def random_net(seed: int) -> Program:
    """Tables, dense layers, sums and concatenations of whole buffers, in any mixture."""
    random = Random(seed)
    sizes = {"x": 8}
    calls: list[Call] = []
    for i in range(9):
        name, source = f"t{i}", random.choice(list(sizes)[-4:])
        twins = [other for other in sizes if sizes[other] == sizes[source]]
        match random.randrange(5):
            case 0:
                calls.append(lookup(source, name, sizes[source]))
                sizes[name] = sizes[source]
            case 1:
                calls.append(add(source, random.choice(twins), name, sizes[source]))
                sizes[name] = sizes[source]
            case 2:
                sizes[name] = random.choice((3, 4, 8, 12))
                calls.append(dense(source, name, sizes[source], sizes[name]))
            case _:
                parts = random.sample(list(sizes), k=min(len(sizes), random.randint(2, 3)))
                calls.append(concat(parts, name, 1, [sizes[part] for part in parts]))
                sizes[name] = sum(sizes[part] for part in parts)
    return program(calls, sizes, outputs=("t8",))


@pytest.mark.parametrize("block", range(4))
def test_programs_with_views_compute_the_same(block: int) -> None:
    fewer = 0
    for seed in range(30 * block, 30 * block + 30):
        net = random_net(seed)
        planned = plan_network(net, [0] * 9, goal=Goal.SRAM if seed % 2 else Goal.SPEED, seconds=0.5)
        fewer += kinds(planned.program).count("Concat") < kinds(net).count("Concat")
        np.testing.assert_array_equal(answers(planned.program), answers(net), err_msg=str(seed))
    assert fewer > 5
