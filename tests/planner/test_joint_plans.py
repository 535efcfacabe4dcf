"""Regions, moves, order and placement together are as small as an exhaustive search over all of them."""

from __future__ import annotations

import pytest

from qutec.planner import Goal, plan_network
from qutec.planner.plan import Scope
from tests.planner.comparison import GRANULES, regions
from tests.planner.random_graphs import random_maps

GRAPHS = 40


@pytest.mark.parametrize("block", range(5))
def test_regions_moves_order_and_places_are_as_small_as_exhaustive_search_can(block: int) -> None:
    seeds = range(block * GRAPHS // 5, (block + 1) * GRAPHS // 5)
    found = {seed: regions(seed) for seed in seeds}
    assert not [seed for seed, comparison in found.items() if not comparison.agreed]
    assert any("regions" in comparison.features for comparison in found.values())


def test_a_limit_that_some_plan_meets_is_met() -> None:
    streamed = 0
    for seed in range(500, 540):
        net, scratch = random_maps(seed)
        limit = plan_network(net, scratch, alignment=GRANULES, goal=Goal.SRAM).plan.arena_bytes
        planned = plan_network(net, scratch, alignment=GRANULES, arena_limit=limit)
        assert planned.plan.arena_bytes <= limit, seed
        streamed += planned.plan.scope is Scope.GIVEN_ROWS
    assert streamed > 0


def test_no_rows_are_taken_where_the_limit_needs_none() -> None:
    for seed in range(540, 560):
        net, scratch = random_maps(seed)
        roomy = plan_network(net, scratch, alignment=GRANULES)
        planned = plan_network(net, scratch, alignment=GRANULES, arena_limit=roomy.plan.arena_bytes)
        assert planned.plan == roomy.plan
