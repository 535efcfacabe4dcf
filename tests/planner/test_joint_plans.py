"""Regions, moves, order and placement together are as small as an exhaustive search over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

import pytest

from qutec.planner import Alignment, Effort, Goal, plan_network
from qutec.planner.moves import Solver
from qutec.planner.plan import Scope
from qutec.planner.regions import Segment, segments, with_segments
from qutec.program import Call, MaxPool2D, Program, Tensor
from tests.planner.brute_force import smallest_arena, with_any_moves
from tests.planner.programs import add, dense, lookup, pool, program

GRANULES = Alignment(4, 4, 4)
GRAPHS = 40


def halving(source: str, target: str, rows: int, width: int) -> Call:
    """The maximum of two rows."""
    shape, half = (1, rows, width, 1), (1, rows // 2, width, 1)
    return MaxPool2D(
        f"{target}_half", Tensor(source), Tensor(target), shape, half, (2, 1), (2, 1), (0, 0), -128, 127
    )


def random_maps(seed: int) -> tuple[Program, list[int]]:
    """Three or four calls on maps of four-byte rows, with branches, several outputs and scratch."""
    random = Random(seed)
    rows = {"x": random.choice((3, 4, 6))}
    calls: list[Call] = []
    count = random.randint(3, 4)
    for i in range(count):
        name = f"t{i}"
        source = random.choice(list(rows)[-2:])
        height = rows[source]
        twins = [other for other in rows if rows[other] == height and other != source]
        match random.choice(("lookup", "pool", "pool", "pool", "half", "dense", "add", "add")):
            case "add" if twins:
                calls.append(add(source, random.choice(twins), name, 4 * height))
            case "half" if height % 2 == 0:
                calls.append(halving(source, name, height, 4))
                height //= 2
            case "lookup":
                calls.append(lookup(source, name, 4 * height))
            case "dense" if i == count - 1:
                calls.append(dense(source, name, 4 * height, 4))
                height = 1
            case _:
                calls.append(pool(source, name, height, 4))
        rows[name] = height
    outputs = {f"t{count - 1}"}
    if random.random() < 0.2:
        outputs.add(random.choice(list(rows)[1:]))
    scratch = [random.choice((0, 0, 0, 4)) for _ in calls]
    return program(calls, {n: 4 * h for n, h in rows.items()}, outputs=sorted(outputs)), scratch


def partitions(found: Sequence[Segment], place: int, end: int) -> Iterator[tuple[Segment, ...]]:
    """Every way to cut the calls from `place` on into segments."""
    if place == end:
        yield ()
        return
    for segment in found:
        if segment.first == place:
            for rest in partitions(found, segment.end, end):
                yield (segment, *rest)


def smallest_of_all(net: Program, scratch: Sequence[int]) -> tuple[int, bool]:
    """Bytes of the smallest arena over every choice of regions and moves, and whether it has a region.

    Regions are ranges of the order that the planner begins with, which is part of what is proven.
    """
    first = Solver(None, False, GRANULES, {}).solved(net, scratch, Effort.of_seconds(5))
    order = first.solution.order
    ordered = replace(net, calls=tuple(net.calls[i] for i in order))
    sizes = [scratch[i] for i in order]
    best, has_region = 1 << 30, False
    for path in partitions(segments(ordered, sizes), 0, len(ordered.calls)):
        chosen, needed = with_segments(ordered, sizes, path)
        for moved, moved_scratch in with_any_moves(chosen, needed):
            found = smallest_arena(moved, moved_scratch, at_most=best)
            if found < best:
                best, has_region = found, any(segment.region is not None for segment in path)
    return best, has_region


@pytest.mark.parametrize("block", range(5))
def test_regions_moves_order_and_places_are_as_small_as_exhaustive_search_can(block: int) -> None:
    streamed = 0
    for seed in range(block * GRAPHS // 5, (block + 1) * GRAPHS // 5):
        net, scratch = random_maps(seed)
        planned = plan_network(net, scratch, alignment=GRANULES, goal=Goal.SRAM)
        smallest, has_region = smallest_of_all(net, scratch)
        assert planned.plan.optimal, seed
        assert planned.plan.scope is Scope.ROWS
        assert planned.plan.arena_bytes == smallest, seed
        streamed += has_region
    assert streamed > 0


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
