"""Verification names what differs, where, and by how much; and finds the first layer that does."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from qutec.errors import VerificationError
from qutec.program import Int8Array
from qutec.verify import (
    Difference,
    compare_arrays,
    compare_layers,
    require_equal_layers,
    verify_outputs,
)

NAMES = ("early", "final")


def _outputs() -> tuple[Int8Array, Int8Array]:
    return np.arange(6, dtype=np.int8).reshape(2, 3), np.arange(8, dtype=np.int8).reshape(2, 2, 2)


def test_equal_executions_pass() -> None:
    verify_outputs(NAMES, _outputs(), {"host": _outputs, "emulated": _outputs})


def test_difference_names_execution_output_index_values_and_count() -> None:
    def wrong() -> tuple[Int8Array, Int8Array]:
        early, final = _outputs()
        final[1, 0, 1] = -128
        final[1, 1, 1] = 0
        return early, final

    with pytest.raises(VerificationError) as raised:
        verify_outputs(NAMES, _outputs(), {"host": _outputs, "emulated": wrong})
    assert str(raised.value) == (
        "emulated: output final: 2 of 8 values differ, first at [1, 0, 1]: -128 instead of 5"
    )


def test_every_execution_and_output_that_differs_has_its_line() -> None:
    def shifted() -> tuple[Int8Array, ...]:
        return tuple(output + np.int8(1) for output in _outputs())

    def short() -> tuple[Int8Array, ...]:
        return _outputs()[:1]

    def flat() -> tuple[Int8Array, ...]:
        return tuple(output.ravel() for output in _outputs())

    with pytest.raises(VerificationError) as raised:
        verify_outputs(NAMES, _outputs(), {"shifted": shifted, "short": short, "flat": flat})
    assert str(raised.value).splitlines() == [
        "shifted: output early: 6 of 6 values differ, first at [0, 0]: 1 instead of 0",
        "shifted: output final: 8 of 8 values differ, first at [0, 0, 0]: 1 instead of 0",
        "short: 1 outputs instead of 2",
        "flat: output early: shape (6,) instead of (2, 3)",
        "flat: output final: shape (8,) instead of (2, 2, 2)",
    ]


def test_equal_numbers_of_another_type_are_a_difference() -> None:
    def wide() -> tuple[Int8Array, ...]:
        return tuple(output.astype(np.int16) for output in _outputs())

    with pytest.raises(VerificationError, match="type int16 instead of int8"):
        verify_outputs(NAMES, _outputs(), {"wide": wide})


def test_arrays_are_compared_in_row_major_order() -> None:
    early, _ = _outputs()
    other = early.copy()
    other[0, 2] = 9
    other[1, 0] = 9
    assert compare_arrays(early, early.copy()) is None
    assert compare_arrays(early, other) == Difference((0, 2), expected=2, actual=9, count=2, size=6)
    with pytest.raises(ValueError, match="shapes differ"):
        compare_arrays(early, other.T)


def _trace(**changed: int) -> Iterator[tuple[str, Int8Array]]:
    for name in ("conv", "add", "softmax"):
        yield name, np.full(4, changed.get(name, 0), dtype=np.int8)


def test_equal_traces_have_no_difference() -> None:
    assert compare_layers(_trace(), _trace()) is None
    require_equal_layers(_trace(), _trace())


def test_first_layer_that_differs_is_named_and_later_ones_are_not_run() -> None:
    actual = _trace(add=7, softmax=1)
    with pytest.raises(VerificationError) as raised:
        require_equal_layers(_trace(), actual)
    assert str(raised.value) == "layer 1 (add): 4 of 4 values differ, first at [0]: 7 instead of 0"
    assert next(actual)[0] == "softmax"


@pytest.mark.parametrize("lacking", ["expected", "compared"])
def test_layer_that_one_trace_lacks_is_named(lacking: str) -> None:
    full, short = list(_trace()), list(_trace())[:2]
    difference = compare_layers(short, full) if lacking == "expected" else compare_layers(full, short)
    assert str(difference) == f"layer 2 (softmax): missing in the {lacking} trace"


def test_layers_in_another_order_are_a_difference() -> None:
    expected, actual = list(_trace()), list(_trace())
    actual[0], actual[1] = actual[1], actual[0]
    assert str(compare_layers(expected, actual)) == "layer 0 (conv): the compared trace has add here"
