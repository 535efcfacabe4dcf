"""What refutes one choice of regions refutes every choice that has the same segments."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qutec.planner import Effort
from qutec.planner.moves import Solver
from qutec.planner.refute import Refuter
from qutec.planner.regions import segments, with_segments
from qutec.planner.schedule import best_order
from tests.planner.brute_force import GRANULE, smallest_arena, with_any_moves
from tests.planner.comparison import GRANULES, partitions
from tests.planner.random_graphs import random_maps


@pytest.mark.parametrize("first", range(0, 24, 6))
def test_no_choice_with_the_segments_of_a_core_is_within_the_limit(first: int) -> None:
    solver = Solver(None, False, GRANULES, {})
    spread = 0
    for seed in range(first, first + 6):
        net, scratch = random_maps(seed)
        order = best_order(solver.flow(net, scratch), Effort.of_seconds(1)).calls
        net = replace(net, calls=tuple(net.calls[i] for i in order))
        scratch = [scratch[i] for i in order]
        need = {}
        for path in partitions(segments(net, scratch), 0, len(net.calls)):
            best = 1 << 30
            for variant in with_any_moves(*with_segments(net, scratch, path)):
                best = smallest_arena(*variant, at_most=best)
            need[path] = best
        refuter = Refuter(net, scratch, solver.flow)
        # Segments are compared by identity, so all paths have to be of the same ones.
        for path, least in need.items():
            limit = least - GRANULE
            core = refuter.core(path, limit, Effort.of_seconds(5))
            assert core is not None, (seed, least)
            also = [other for other in need if core.issubset(other)]
            assert path in also
            assert all(need[other] > limit for other in also), seed
            assert refuter.core(path, least, Effort.of_seconds(5)) is None, (seed, least)
            spread += len(also) - 1
    assert spread > 0
