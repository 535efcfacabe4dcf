"""What plan_program promises: lifetimes, sharing in place, scratch, bounds, optimal small programs."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from qutec.planner import Alignment, Effort, Plan, PlanError, plan_program, validate_plan
from qutec.program import Port, Tensor
from tests.planner.programs import add, concat, copy_rows, dense, fill, lookup, program, random_program


def test_dead_buffer_gives_its_place_to_a_later_one() -> None:
    net = program([dense("x", "h", 64, 64), dense("h", "y", 64, 64)], {"x": 64, "h": 64, "y": 64})
    plan = plan_program(net, [0, 0])
    assert plan.arena_bytes == 128
    assert plan.optimal
    assert plan.offsets["x"] == plan.offsets["y"]
    assert plan.live_bytes == (128, 128)
    assert plan.peak_calls == (0, 1)


def test_chain_of_tables_is_planned_in_place() -> None:
    sizes = {"x": 64, "a": 64, "b": 64, "y": 64}
    net = program([lookup("x", "a", 64), lookup("a", "b", 64), lookup("b", "y", 64)], sizes)
    plan = plan_program(net, [0, 0, 0])
    assert plan.arena_bytes == 64
    assert set(plan.offsets.values()) == {0}


def test_residual_add_is_planned_in_place() -> None:
    sizes = {"x": 64, "a": 64, "b": 64, "y": 64}
    net = program([dense("x", "a", 64, 64), dense("a", "b", 64, 64), add("x", "b", "y", 64)], sizes)
    plan = plan_program(net, [0, 0, 0])
    assert plan.offsets["y"] in (plan.offsets["x"], plan.offsets["b"])
    assert plan.arena_bytes == 192
    assert plan.live_bytes == (128, 192, 128)


def test_operand_that_is_read_later_is_not_overwritten() -> None:
    sizes = {"x": 64, "a": 64, "b": 64, "y": 64}
    net = program([dense("x", "a", 64, 64), lookup("a", "b", 64), add("a", "b", "y", 64)], sizes)
    plan = plan_program(net, [0, 0, 0])
    assert plan.offsets["b"] != plan.offsets["a"]
    assert plan.offsets["y"] in (plan.offsets["a"], plan.offsets["b"])


def test_broadcast_operand_is_not_overwritten() -> None:
    net = program([add("x", "row", "y", 8, outer=8)], {"x": 64, "row": 8, "y": 64}, inputs=("x", "row"))
    plan = plan_program(net, [0])
    assert plan.offsets["y"] == plan.offsets["x"]


def test_tensor_added_to_its_own_first_row_is_not_overwritten() -> None:
    """Both operands are the same tensor; one of the two walks repeats the first row."""
    net = program([dense("x", "a", 4, 64), add("a", "a", "y", 8, outer=8)], {"x": 4, "a": 64, "y": 64})
    plan = plan_program(net, [0, 0])
    assert plan.offsets["y"] != plan.offsets["a"]
    assert plan.arena_bytes == 128


def test_doubling_a_tensor_is_planned_in_place() -> None:
    net = program([dense("x", "a", 4, 64), add("a", "a", "y", 64)], {"x": 4, "a": 64, "y": 64})
    assert plan_program(net, [0, 0]).arena_bytes == 80


def test_early_output_is_kept_to_the_end() -> None:
    sizes = {"x": 16, "y0": 16, "a": 16, "b": 16, "y": 16}
    calls = [
        dense("x", "y0", 16, 16),
        dense("x", "a", 16, 16),
        dense("a", "b", 16, 16),
        dense("b", "y", 16, 16),
    ]
    net = program(calls, sizes, outputs=("y0", "y"))
    plan = plan_program(net, [0] * 4)
    assert plan.arena_bytes == 48
    assert all(plan.offsets["y0"] != plan.offsets[name] for name in ("x", "a", "b", "y"))


def test_output_is_not_overwritten_by_a_table_that_reads_it_last() -> None:
    net = program(
        [dense("x", "y0", 16, 16), lookup("y0", "y", 16)], {"x": 16, "y0": 16, "y": 16}, outputs=("y0", "y")
    )
    plan = plan_program(net, [0, 0])
    assert plan.offsets["y"] != plan.offsets["y0"]


def test_internal_buffer_behind_an_output_port_is_kept_to_the_end() -> None:
    net = program([lookup("x", "h", 16), lookup("h", "y", 16)], {"x": 16, "h": 16, "y": 16})
    net = replace(
        net, outputs=(*net.outputs, Port("hidden", Tensor("h"), (16,), net.outputs[0].quantization))
    )
    plan = plan_program(net, [0, 0])
    assert plan.offsets["h"] != plan.offsets["y"]


def test_input_that_nobody_reads_is_intact_before_the_first_call() -> None:
    net = program([dense("x", "y", 16, 16)], {"x": 16, "unused": 32, "y": 16}, inputs=("x", "unused"))
    plan = plan_program(net, [0])
    assert plan.arena_bytes == 64


def test_constants_and_unused_buffers_take_no_arena() -> None:
    sizes = {"x": 16, "bias": 16, "nowhere": 1000, "y": 16}
    net = program([add("x", "bias", "y", 16)], sizes, constants=("bias",))
    plan = plan_program(net, [0])
    assert plan.offsets.keys() == {"x", "y"}
    assert plan.arena_bytes == 16


def test_program_without_calls_passes_its_input_through() -> None:
    plan = plan_program(program([], {"x": 20}, outputs=("x",)), [])
    assert (plan.arena_bytes, plan.lower_bound_bytes, plan.live_bytes) == (32, 32, ())


def test_scratch_lives_during_its_own_call_only() -> None:
    net = program([dense("x", "h", 64, 64), dense("h", "y", 64, 64)], {"x": 64, "h": 64, "y": 64})
    plan = plan_program(net, [100, 0])
    assert plan.arena_bytes == 240  # 228 rounded up to 16
    assert plan.live_bytes == (228, 128)
    assert plan.peak_calls == (0,)
    assert plan.scratch_offsets[1] is None
    scratch = plan.allocations[-1]
    assert (scratch.scratch_of, scratch.first_use, scratch.last_use, scratch.bytes) == (0, 0, 0, 100)


def test_padding_counts_the_same_in_size_and_bound() -> None:
    net = program([dense("x", "h", 5, 7), dense("h", "y", 7, 3)], {"x": 5, "h": 7, "y": 3})
    plan = plan_program(net, [1, 0])
    assert all(offset % 4 == 0 for offset in plan.offsets.values())
    assert plan.live_bytes == (8 + 8 + 4, 8 + 4)
    assert plan.arena_bytes == plan.lower_bound_bytes == 32
    unpadded = plan_program(net, [0, 0], alignment=Alignment(4, 1, 4))
    assert unpadded.arena_bytes == unpadded.lower_bound_bytes == 12


def test_concat_and_padding_in_pieces_are_planned() -> None:
    sizes = {"x": 12, "a": 8, "cat": 20, "pad": 42, "y": 4}
    calls = [
        dense("x", "a", 12, 8),
        concat(("x", "a"), "cat", 4, (3, 2)),
        fill("pad", 42),
        copy_rows("cat", "pad", 4, 5, at=8, pitch=7),
        dense("pad", "y", 42, 4),
    ]
    net = program(calls, sizes)
    plan = plan_program(net, [0] * 5)
    assert plan.arena_bytes == 64
    assert plan.optimal


def test_read_before_write_is_an_error() -> None:
    net = program([lookup("h", "y", 8), lookup("x", "h", 8)], {"x": 8, "h": 8, "y": 8})
    with pytest.raises(PlanError, match=r"call 0 \(y_lookup\) reads h before"):
        plan_program(net, [0, 0])


def test_output_that_nobody_writes_is_an_error() -> None:
    with pytest.raises(PlanError, match="the caller reads y before"):
        plan_program(program([lookup("x", "h", 8)], {"x": 8, "h": 8, "y": 8}), [0])


@pytest.mark.parametrize("scratch", [[0], [0, -4]])
def test_scratch_that_does_not_match_the_calls_is_an_error(scratch: list[int]) -> None:
    net = program([lookup("x", "h", 8), lookup("h", "y", 8)], {"x": 8, "h": 8, "y": 8})
    with pytest.raises(PlanError, match="scratch"):
        plan_program(net, scratch)


@pytest.mark.parametrize("arguments", [(12, 4, 4), (16, 3, 4), (16, 4, 0), (8, 16, 4)])
def test_alignments_that_cannot_hold_are_refused(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="alignment"):
        Alignment(*arguments)


@pytest.mark.parametrize("seed", range(4))
def test_no_offsets_in_a_smaller_arena_pass_the_validator(seed: int) -> None:
    """Independent of lifetimes and first fit: every assignment of offsets is replayed."""
    net = random_program(seed, 3, (4, 8, 12))
    plan = plan_program(net, [0] * 3, alignment=Alignment(4, 4, 4))
    names = list(plan.offsets)
    smaller = plan.arena_bytes - 4
    for offsets in product(*(range(0, smaller - net.buffers[name].bytes + 1, 4) for name in names)):
        other = _with_offsets(plan, dict(zip(names, offsets, strict=True)), smaller)
        with pytest.raises(PlanError):
            validate_plan(net, [0] * 3, other)


def _with_offsets(plan: Plan, offsets: dict[str, int], arena_bytes: int) -> Plan:
    allocations = tuple(replace(a, offset=offsets[a.name]) for a in plan.allocations)
    return replace(
        plan, offsets=offsets, allocations=allocations, arena_bytes=arena_bytes, lower_bound_bytes=0
    )


def test_lower_bound_is_the_most_that_any_call_needs() -> None:
    for seed in range(20):
        net = random_program(seed, 30, (16, 32, 64, 100), reach=4)
        plan = plan_program(net, [8 * (i % 3) for i in range(30)], effort=Effort(2_000))
        assert plan.lower_bound_bytes <= -(-max(plan.live_bytes) // 16) * 16 <= plan.arena_bytes


def test_plans_are_deterministic() -> None:
    net = random_program(3, 60, (16, 20, 64, 100, 256), reach=6)
    scratch = [12 * (i % 4) for i in range(60)]
    assert plan_program(net, scratch) == plan_program(net, scratch)


def test_ten_thousand_buffers_are_planned() -> None:
    net = random_program(1, 10_000, (16, 32, 64, 128), reach=8)
    plan = plan_program(net, [0] * 10_000)
    assert len(plan.offsets) == 10_001
    assert plan.arena_bytes < 2 * plan.lower_bound_bytes
