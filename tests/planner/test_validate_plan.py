"""The validator finds every fault that is planted in a correct plan, and accepts what kernels allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from qutec.planner import Plan, PlanError, plan_program, validate_plan
from qutec.planner.effort import Effort
from qutec.planner.first_fit import improve
from qutec.planner.flow import Sharing, build_flow
from qutec.planner.problem import build_problem
from qutec.program import Copy, Program, Tensor
from tests.planner.programs import (
    add,
    concat,
    copy_rows,
    dense,
    fill,
    gather,
    lookup,
    pool,
    program,
    random_program,
)


def moved(plan: Plan, scratch: dict[int, int] | None = None, /, **offsets: int) -> Plan:
    """The plan with other offsets of some buffers and scratch areas, its report made to agree."""
    scratch = scratch or {}
    allocations = tuple(
        replace(a, offset=offsets.get(a.name, a.offset))
        if a.scratch_of is None
        else replace(a, offset=scratch.get(a.scratch_of, a.offset))
        for a in plan.allocations
    )
    return replace(
        plan,
        offsets={**plan.offsets, **offsets},
        scratch_offsets=tuple(scratch.get(i, offset) for i, offset in enumerate(plan.scratch_offsets)),
        allocations=allocations,
        arena_bytes=plan.arena_bytes + 1024,
    )


RESIDUAL_SCRATCH = [24, 40, 0, 0]


@pytest.fixture
def residual() -> Program:
    """x -> a -> b, y = a + b twice over: `a` lives across the call that makes `b`."""
    sizes = {"x": 64, "a": 64, "b": 64, "c": 64, "y": 32}
    calls = [
        dense("x", "a", 64, 64),
        dense("a", "b", 64, 64),
        add("a", "b", "c", 64),
        dense("c", "y", 64, 32),
    ]
    return program(calls, sizes)


@pytest.fixture
def apart(residual: Program) -> Plan:
    """Every buffer and scratch area at a place of its own: correct, whatever the lifetimes."""
    plan = moved(plan_program(residual, RESIDUAL_SCRATCH), {0: 512, 1: 576}, x=0, a=64, b=128, c=192, y=256)
    validate_plan(residual, RESIDUAL_SCRATCH, plan)
    return plan


@pytest.fixture
def branch(residual: Program) -> Program:
    """The residual network with one more call that only reads the input, while `a` waits."""
    calls = (residual.calls[0], dense("x", "d", 64, 8), *residual.calls[1:])
    return program(calls, {**{b.name: b.bytes for b in residual.buffers.values()}, "d": 8})


def test_buffer_overwritten_before_its_last_read_is_found(branch: Program) -> None:
    plan = plan_program(branch, [0] * 5)
    bad = moved(plan, d=plan.offsets["a"] + 16)
    with pytest.raises(
        PlanError, match=r"call 2 \(b_dense\) reads byte 16 of a .* d written by call 1 \(d_dense\)"
    ):
        validate_plan(branch, [0] * 5, bad)


def test_output_over_an_input_that_the_kernel_still_reads_is_found(residual: Program, apart: Plan) -> None:
    with pytest.raises(PlanError, match=r"call 0 \(a_dense\) writes a over x.*at arena byte"):
        validate_plan(residual, RESIDUAL_SCRATCH, moved(apart, a=0))


def test_elementwise_output_on_the_same_start_is_accepted(residual: Program, apart: Plan) -> None:
    validate_plan(residual, RESIDUAL_SCRATCH, moved(apart, c=64))
    validate_plan(residual, RESIDUAL_SCRATCH, moved(apart, c=128))


def test_elementwise_output_somewhat_below_an_input_is_accepted(residual: Program, apart: Plan) -> None:
    """Every byte is read before the one that lands on it is written."""
    validate_plan(residual, RESIDUAL_SCRATCH, moved(apart, x=640, c=60))


@pytest.mark.parametrize("offset", [68, 124, 132])
def test_elementwise_output_above_an_input_is_found(residual: Program, apart: Plan, offset: int) -> None:
    with pytest.raises(PlanError, match=r"call 2 \(c_add\) writes c over"):
        validate_plan(residual, RESIDUAL_SCRATCH, moved(apart, c=offset))


@pytest.mark.parametrize("offset", [0, 20, 60, 64, 100, 124])
def test_scratch_on_what_its_call_uses_is_found(residual: Program, apart: Plan, offset: int) -> None:
    with pytest.raises(PlanError, match=r"call 0 \(a_dense\): scratch at bytes"):
        validate_plan(residual, RESIDUAL_SCRATCH, moved(apart, {0: offset}))


def test_scratch_on_a_buffer_that_is_read_later_is_found(branch: Program) -> None:
    scratch = [0, 16, 0, 0, 0]
    plan = plan_program(branch, scratch)
    bad = moved(plan, {1: plan.offsets["a"]}, d=plan.arena_bytes, x=plan.arena_bytes + 8)
    with pytest.raises(
        PlanError, match=r"call 2 \(b_dense\) reads byte 0 of a .* scratch of call 1 \(d_dense\)"
    ):
        validate_plan(branch, scratch, bad)


def test_lifetime_that_was_cut_short_is_found(branch: Program) -> None:
    """A planner that forgets the second reader of `a` gives its place away too early."""
    problem = build_problem(build_flow(branch, [0] * 5, sharing=Sharing.NONE), range(5))
    items = tuple(replace(item, last_use=0) if item.name == "a" else item for item in problem.items)
    solution = improve(replace(problem, items=items), Effort(1000))
    places = {item.name: offset for item, offset in zip(items, solution.offsets, strict=True)}
    with pytest.raises(PlanError, match=r"reads byte \d+ of a|over a, which it still reads"):
        validate_plan(branch, [0] * 5, moved(plan_program(branch, [0] * 5), **places))


def test_missing_scratch_is_found(residual: Program, apart: Plan) -> None:
    bad = replace(apart, scratch_offsets=(None, *apart.scratch_offsets[1:]))
    with pytest.raises(PlanError, match=r"scratch of call 0 \(a_dense\) needs 24 bytes and has no place"):
        validate_plan(residual, RESIDUAL_SCRATCH, bad)


def test_scratch_that_grew_after_planning_is_found(residual: Program) -> None:
    plan = plan_program(residual, [0, 0, 0, 0])
    with pytest.raises(PlanError, match="scratch of call 3"):
        validate_plan(residual, [0, 0, 0, 8], plan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: moved(p, a=4096), r"buffer a at bytes 4096 to 4160 is outside the arena"),
        (lambda p: moved(p, a=-4), "buffer a at bytes -4"),
        (lambda p: moved(p, a=66), "buffer a at byte 66 is not aligned to 4"),
        (lambda p: moved(p, {1: 602}), r"scratch of call 1 \(b_dense\) at byte 602 is not aligned"),
        (lambda p: replace(p, arena_bytes=p.arena_bytes + 4), "no multiple of 16"),
        (lambda p: replace(p, arena_bytes=304), r"scratch of call 0 .* outside the arena of 304 bytes"),
        (lambda p: replace(p, lower_bound_bytes=p.arena_bytes + 16), "below the bound"),
        (lambda p: replace(p, offsets={**p.offsets, "a": 320}), "disagree: a"),
        (lambda p: replace(p, allocations=p.allocations[1:]), "disagree: x"),
        (lambda p: replace(p, allocations=(*p.allocations, p.allocations[0])), "disagree"),
        (lambda p: replace(p, offsets={**p.offsets, "ghost": 0}), "places ghost"),
        (lambda p: replace(p, scratch_offsets=p.scratch_offsets[1:]), "3 scratch offsets"),
        (lambda p: replace(p, live_bytes=()), "live bytes for 0 of 4 calls"),
    ],
)
def test_malformed_plan_is_found(
    residual: Program, apart: Plan, change: Callable[[Plan], Plan], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        validate_plan(residual, RESIDUAL_SCRATCH, change(apart))


def test_buffer_without_a_place_is_found(residual: Program, apart: Plan) -> None:
    offsets = {name: offset for name, offset in apart.offsets.items() if name != "b"}
    bad = replace(apart, offsets=offsets, allocations=tuple(a for a in apart.allocations if a.name != "b"))
    with pytest.raises(PlanError, match=r"call 1 \(b_dense\) uses b, which has no place"):
        validate_plan(residual, RESIDUAL_SCRATCH, bad)


def test_two_inputs_on_one_place_are_found() -> None:
    net = program([add("x", "z", "y", 16)], {"x": 16, "z": 16, "y": 16}, inputs=("x", "z"))
    plan = plan_program(net, [0])
    with pytest.raises(PlanError, match=r"the caller's input reads byte 0 of x at arena byte 0"):
        validate_plan(net, [0], moved(plan, x=0, z=0, y=32))


def test_output_overwritten_by_a_later_call_is_found() -> None:
    calls = [dense("x", "y0", 16, 16), dense("x", "h", 16, 16), dense("h", "y", 16, 16)]
    net = program(calls, {"x": 16, "y0": 16, "h": 16, "y": 16}, outputs=("y0", "y"))
    plan = plan_program(net, [0, 0, 0])
    with pytest.raises(PlanError, match=r"output y0 reads byte 0 of y0 .* h written by call 1"):
        validate_plan(net, [0, 0, 0], moved(plan, x=0, y0=32, h=32, y=64))


def test_byte_that_nobody_wrote_is_found() -> None:
    """The padding below the copied rows is not filled."""
    calls = [copy_rows("x", "pad", 4, 5, at=7, pitch=7), dense("pad", "y", 42, 4)]
    net = program(calls, {"x": 20, "pad": 42, "y": 4})
    with pytest.raises(PlanError, match=r"call 1 \(y_dense\) reads byte 0 of pad, which nobody wrote"):
        plan_program(net, [0, 0])
    filled = program([fill("pad", 42), *calls], {"x": 20, "pad": 42, "y": 4})
    plan_program(filled, [0, 0, 0])


def test_only_the_bytes_that_are_read_must_have_been_written() -> None:
    """Every second row of a buffer is written, and exactly those are gathered."""
    index = [row * 8 + column for row in range(0, 4, 2) for column in range(8)]
    calls = [copy_rows("x", "h", 2, 8, at=0, pitch=16), gather("h", "y", index)]
    net = program(calls, {"x": 16, "h": 32, "y": 16})
    plan = plan_program(net, [0, 0])
    wrong = program([calls[0], gather("h", "y", [*index[:-1], 8])], {"x": 16, "h": 32, "y": 16})
    with pytest.raises(PlanError, match="reads byte 8 of h, which nobody wrote"):
        validate_plan(wrong, [0, 0], plan)


def test_region_outside_its_buffer_is_found() -> None:
    net = program([lookup("x", "y", 9)], {"x": 8, "y": 9})
    with pytest.raises(PlanError, match=r"call 0 \(y_lookup\) uses bytes 0 to 8 of x, which has 8"):
        plan_program(net, [0])
    backwards = Copy("flip", Tensor("x", 6), Tensor("y"), (1, 1, 1, 8), (0, 0, 0, -1), (0, 0, 0, 1))
    with pytest.raises(PlanError, match="uses bytes -1 to 6 of x"):
        plan_program(program([backwards], {"x": 8, "y": 8}), [0])
    whole = replace(backwards, input=Tensor("x", 7))
    plan_program(program([whole], {"x": 8, "y": 8}), [0])


def test_concat_over_one_of_its_inputs_is_found() -> None:
    net = program([concat(("x", "z"), "y", 2, (4, 4))], {"x": 8, "z": 8, "y": 16}, inputs=("x", "z"))
    plan = plan_program(net, [0])
    with pytest.raises(PlanError, match=r"call 0 \(y_concat\) writes y over x"):
        validate_plan(net, [0], moved(plan, x=0, z=32, y=0))


def test_repeating_walk_over_the_overwritten_operand_is_found() -> None:
    """a + first row of a, written over a: the first row is gone when the second block needs it."""
    net = program([dense("x", "a", 4, 64), add("a", "a", "y", 8, outer=8)], {"x": 4, "a": 64, "y": 64})
    plan = plan_program(net, [0, 0])
    with pytest.raises(PlanError, match=r"call 1 \(y_add\) writes y over a"):
        validate_plan(net, [0, 0], moved(plan, x=128, a=0, y=0))


def test_constant_operands_are_not_in_the_arena() -> None:
    net = program([add("x", "bias", "y", 16)], {"x": 16, "bias": 16, "y": 16}, constants=("bias",))
    validate_plan(net, [0], plan_program(net, [0]))
    with pytest.raises(PlanError, match="writes bias, which is not in the arena"):
        plan_program(
            program([lookup("x", "bias", 16)], {"x": 16, "bias": 16}, constants=("bias",), outputs=()), [0]
        )


@pytest.mark.parametrize("seed", range(8))
def test_any_two_live_buffers_that_are_made_to_overlap_are_found(seed: int) -> None:
    """For every pair whose lifetimes share more than the call that passes one to the other."""
    net = random_program(seed, 12, (12, 16, 40), reach=4)
    scratch = [8 * (i % 2) for i in range(12)]
    plan = plan_program(net, scratch)
    buffers = [a for a in plan.allocations if a.scratch_of is None]
    pairs = [
        (a, b) for a in buffers for b in buffers if a.first_use < b.first_use < a.last_use and a.last_use < 12
    ]
    assert pairs
    for a, b in pairs:
        end = plan.arena_bytes
        apart = moved(plan, **{a.name: end, b.name: end + a.bytes - 4})
        with pytest.raises(PlanError):
            validate_plan(net, scratch, apart)


@pytest.mark.parametrize("rows", [3, 6, 11])
def test_output_one_granule_nearer_than_the_kernel_allows_is_found(rows: int) -> None:
    """While a row is written the row above it is still read: two rows are the least distance."""
    net = program([pool("x", "y", rows, 8)], {"x": 8 * rows, "y": 8 * rows})
    plan = plan_program(net, [0])
    assert plan.arena_bytes == -(-8 * (rows + 2) // 16) * 16
    validate_plan(net, [0], moved(plan, x=16, y=0))
    for distance in (12, 8, 0):
        with pytest.raises(PlanError, match=r"writes y over x, .* at arena byte \d+: written in step \d+"):
            validate_plan(net, [0], moved(plan, x=distance, y=0))
    with pytest.raises(PlanError, match="writes y over x"):
        validate_plan(net, [0], moved(plan, x=0, y=8 * rows - 4))
