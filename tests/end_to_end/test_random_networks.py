"""Networks that nobody thought of, from ONNX to the emulated core, within exactly the SRAM of the report.

`python -m benchmarks.random_networks` does the same for any number of them, on four cores.
"""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks._random_graphs import random_network
from benchmarks.random_networks import GOALS, check
from tests.end_to_end.compiled import require

pytestmark = pytest.mark.emulated


@pytest.mark.parametrize(
    ("seed", "core", "goal"),
    [(seed, ("cortex-m4", "cortex-m0plus")[seed % 3 == 2], GOALS[seed % len(GOALS)]) for seed in range(12)],
)
def test_every_execution_of_a_random_network_is_equal(seed: int, core: str, goal: dict[str, Any]) -> None:
    require("zig", "unicorn")
    check(random_network(seed), seed, goal, core=core)
