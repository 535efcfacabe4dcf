"""Equal spacing against brute force."""

from __future__ import annotations

import itertools

import onnx_ir as ir
from hypothesis import given
from hypothesis import strategies as st

from qutec.passes.spaced_exits import assign, spaced_targets, spread
from qutec.passes.trunk import Place

_POSITIONS = st.lists(st.integers(0, 60), max_size=7).map(sorted)


@given(wants=_POSITIONS, extra=_POSITIONS)
def test_assignment_is_the_best_of_all(wants: list[int], extra: list[int]) -> None:
    spots = sorted([*extra, *(want // 2 for want in wants)])
    chosen = assign(wants, spots)
    assert all(a < b for a, b in itertools.pairwise(chosen))

    def cost(indices: tuple[int, ...]) -> float:
        return sum(abs(want - spots[index]) for want, index in zip(wants, indices, strict=True))

    best = min(map(cost, itertools.combinations(range(len(spots)), len(wants))))
    assert cost(tuple(chosen)) == best


def test_targets_divide_the_trunk() -> None:
    assert spaced_targets(120, 3) == [30, 60, 90]


def _places(*inner: bool) -> list[Place]:
    return [Place(ir.Value(name=f"p{i}"), 10 * (i + 1), flag) for i, flag in enumerate(inner)]


def _names(places: list[Place]) -> list[str | None]:
    return [place.value.name for place in places]


def test_block_boundaries_come_first_then_inner_places_then_sharing() -> None:
    places = _places(False, True, False, False)
    assert spread(places, spaced_targets(40, 2), set()) == ([places[0], places[2]], "")
    chosen, message = spread(places, spaced_targets(40, 3), set())
    assert _names(chosen) == ["p0", "p1", "p2"]
    assert "inside a separable block" in message
    chosen, message = spread(places, spaced_targets(40, 6), set())
    assert _names(chosen) == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert "too few places (3) for 6" in message


def test_taken_places_are_left_out_while_there_are_others() -> None:
    places = _places(False, False, False)
    assert _names(spread(places, [10.0], {places[0].value})[0]) == ["p1"]
    assert _names(spread(places, [10.0], {place.value for place in places})[0]) == ["p0"]


def test_the_end_serves_when_it_is_the_only_place() -> None:
    places = _places(False)
    assert _names(spread(places, [2.0, 3.0], set())[0]) == ["p0", "p0"]
