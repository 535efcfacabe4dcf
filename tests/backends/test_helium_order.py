"""Kernels of cores with Helium keep the order that the planner relies on.

Unicorn has no such core, so accesses are not watched, as they are in test_access_order.py: each call runs in
QEMU with its output at exactly the distance that `safe_overlap` gives from an input of random bytes, below it
and above it. A read of a byte that was overwritten gives another output than the reference's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qutec.planner import safe_overlap
from qutec.program import Call, Lookup, Tensor
from qutec.targets import target
from tests import random_calls
from tests.backends.access_traces import Distance, renamed, run_near
from tests.backends.kernel_cases import WIDE, draw_cases
from tests.backends.test_access_order import calls, depthwise_3x3, pointwise
from tests.end_to_end.compiled import require

CORE = target("cortex-m55").core


def wide_calls() -> list[Call]:
    """Of all kinds whose order is stated; many have more pixels and channels than are computed at once."""
    rng = np.random.default_rng(55)
    made: list[Call] = [*calls(), *(case.call for case in draw_cases(WIDE, 8, 55))]
    made += [
        pointwise(rng, inputs, outputs, 5, 7) for inputs, outputs in ((33, 33), (16, 48), (40, 17), (64, 64))
    ]
    made += [pointwise(rng, 24, 40, 6, 7, stride=(2, 2)), pointwise(rng, 20, 20, 1, 1)]
    made += [depthwise_3x3(rng, channels, stride) for channels in (16, 35) for stride in ((1, 1), (2, 2))]
    made += [random_calls.conv2d(rng) for _ in range(8)]
    return renamed(made)


def near_and_apart(direction: str) -> tuple[list[Call], list[Distance | None]]:
    made: list[Call] = []
    distances: list[Distance | None] = []
    for call in wide_calls():
        for k, safe in enumerate(safe_overlap(call, CORE)):
            made.append(call)
            distances.append(Distance(k, safe.below if direction == "below" else -safe.above))
    return renamed(made), distances


@pytest.mark.emulated
@pytest.mark.parametrize("direction", ["below", "above"])
def test_output_at_the_safe_distance_is_the_reference(direction: str, tmp_path: Path) -> None:
    require("gcc", "qemu")
    made, distances = near_and_apart(direction)
    right = run_near(made, distances, CORE, tmp_path)
    wrong = [call for call, is_right in zip(made, right, strict=True) if not is_right]
    assert not wrong, wrong[0]
    assert len(made) > 80


@pytest.mark.emulated
def test_output_much_nearer_is_noticed(tmp_path: Path) -> None:
    """The comparison is able to fail."""
    require("gcc", "qemu")
    rng = np.random.default_rng(3)
    table = rng.permutation(np.arange(-128, 128)).astype(np.int8)
    exact: list[Call] = [
        depthwise_3x3(rng, 16, (1, 1)),
        depthwise_3x3(rng, 32, (1, 1)),
        Lookup("lookup", Tensor("x"), Tensor("y"), 70, table),
    ]
    distances: list[Distance | None] = [Distance(0, 0), Distance(0, 0), Distance(0, -20)]
    assert not any(run_near(renamed(exact), distances, CORE, tmp_path))
