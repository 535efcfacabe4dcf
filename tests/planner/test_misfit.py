"""explain_misfit names what is missing, which calls and buffers need it, and a size that fits."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from qutec.planner import explain_misfit, plan_program
from tests.planner.programs import add, dense, lookup, program

CALLS = [
    dense("x", "a", 64, 100),
    dense("a", "b", 100, 100),
    add("a", "b", "c", 100),
    dense("c", "y", 100, 8),
]
NET = program(CALLS, {"x": 64, "a": 100, "b": 100, "c": 100, "y": 8})
SCRATCH = [0, 60, 0, 0]


def test_misfit_names_the_peak_and_the_size_that_fits() -> None:
    plan = plan_program(NET, SCRATCH)
    text = explain_misfit(NET, plan, 180).splitlines()
    assert text[0] == "The arena needs 272 bytes, but 180 are available: 92 too many."
    assert text[1:4] == [
        "2 of 4 calls need more than there is:",
        "  call 1 (b_dense, FullyConnected): 260 bytes live",
        "  call 2 (c_add, Add): 200 bytes live",
    ]
    assert "Live at call 1 (b_dense, FullyConnected), where the peak is:" in text
    assert "        100 bytes  a (from call 0, needed later)" in text
    assert "        100 bytes  b (written here)" in text
    assert "         60 bytes  b_dense.scratch (kernel scratch)" in text
    assert text[-1].startswith("An arena of 272 bytes would fit.")
    assert "proven" in text[-1]


def test_size_that_the_text_names_fits() -> None:
    plan = plan_program(NET, SCRATCH)
    assert "fits into 272 bytes" in explain_misfit(NET, plan, 272)
    assert "272 bytes would fit" in explain_misfit(NET, plan, 271)


def test_buffers_in_one_place_are_said_to_be() -> None:
    net = program([lookup("x", "h", 64), dense("h", "y", 64, 8)], {"x": 64, "h": 64, "y": 8})
    plan = plan_program(net, [32, 0])
    text = explain_misfit(net, plan, 64)
    assert "h (written here, over x)" in text
    assert "x (from the caller, last used here)" in text


def test_many_calls_over_the_limit_are_counted_not_listed() -> None:
    names = ["x", *(f"t{i}" for i in range(11)), "y"]
    calls = [dense(a, b, 40, 40) for a, b in pairwise(names)]
    net = program(calls, dict.fromkeys(names, 40))
    text = explain_misfit(net, plan_program(net, [0] * 12), 60)
    assert "12 of 12 calls need more than there is:" in text
    assert "  and 7 more" in text


def test_fragmented_plan_is_not_called_proven() -> None:
    plan = plan_program(NET, SCRATCH)
    wasteful = replace(plan, arena_bytes=plan.arena_bytes + 64)
    text = explain_misfit(NET, wasteful, 272)
    assert "Each call alone would fit" in text
    assert "At least 272 bytes are needed" in text
    assert "may find a placement that fits" in text
    assert "proven" not in text
