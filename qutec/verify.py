"""Comparison of executions of one program, which must agree in every byte.

`verify_outputs` compares what executions return; `compare_layers` finds, in two traces of single layers, the
first layer where they part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeAlias

import numpy as np

from qutec.errors import VerificationError
from qutec.program import StoredArray

__all__ = [
    "Difference",
    "Execution",
    "LayerDifference",
    "compare_arrays",
    "compare_layers",
    "require_equal_layers",
    "verify_outputs",
]


Execution: TypeAlias = Callable[[], Sequence[StoredArray]]
"""Runs the program on the inputs that the reference had; outputs in the order of the program's ports."""

LayerTrace: TypeAlias = Iterable[tuple[str, StoredArray]]
"""(layer name, what it wrote), in the order of execution."""


@dataclass(frozen=True)
class Difference:
    """Where an array first differs from what was expected, in row-major order, and in how many places."""

    index: tuple[int, ...]
    expected: int
    actual: int
    count: int
    size: int

    def __str__(self) -> str:
        place = ", ".join(map(str, self.index))
        return (
            f"{self.count} of {self.size} values differ, first at [{place}]: "
            f"{self.actual} instead of {self.expected}"
        )


@dataclass(frozen=True)
class LayerDifference:
    """The first layer in which two traces part: its position, its name, and how."""

    position: int
    layer: str
    reason: str

    def __str__(self) -> str:
        return f"layer {self.position} ({self.layer}): {self.reason}"


def verify_outputs(
    names: Sequence[str], reference: Sequence[StoredArray], executions: Mapping[str, Execution]
) -> None:
    """Runs every execution and compares its outputs with `reference`, both in the order of `names`.

    Raises VerificationError with one line for each output of each execution that differs; an execution that
    fails raises its own error.
    """
    if len(names) != len(reference):
        raise ValueError(f"{len(names)} output names for {len(reference)} reference outputs")
    problems: list[str] = []
    for execution, run in executions.items():
        outputs = run()
        if len(outputs) != len(reference):
            problems.append(f"{execution}: {len(outputs)} outputs instead of {len(reference)}")
            continue
        for name, expected, actual in zip(names, reference, outputs, strict=True):
            reason = _mismatch(expected, actual)
            if reason is not None:
                problems.append(f"{execution}: output {name}: {reason}")
    if problems:
        raise VerificationError("\n".join(problems))


def compare_arrays(expected: StoredArray, actual: StoredArray) -> Difference | None:
    """How two arrays of one shape and type differ; None where they are equal. ValueError on other shapes."""
    if expected.shape != actual.shape:
        raise ValueError(f"shapes differ: {actual.shape} instead of {expected.shape}")
    places = np.flatnonzero(expected != actual)
    if places.size == 0:
        return None
    index = tuple(int(axis) for axis in np.unravel_index(places[0], expected.shape))
    return Difference(
        index=index,
        expected=int(expected[index]),
        actual=int(actual[index]),
        count=int(places.size),
        size=int(expected.size),
    )


def compare_layers(expected: LayerTrace, actual: LayerTrace) -> LayerDifference | None:
    """The first layer whose name, shape or values differ between two traces, or that one of them lacks.

    Reads both traces no further than that layer. None where they are equal.
    """
    for position, (one, other) in enumerate(zip_longest(expected, actual)):
        if one is None or other is None:
            name = (one or other)[0]
            missing = "expected" if one is None else "compared"
            return LayerDifference(position, name, f"missing in the {missing} trace")
        if one[0] != other[0]:
            return LayerDifference(position, one[0], f"the compared trace has {other[0]} here")
        reason = _mismatch(one[1], other[1])
        if reason is not None:
            return LayerDifference(position, one[0], reason)
    return None


def require_equal_layers(expected: LayerTrace, actual: LayerTrace) -> None:
    """Raises VerificationError naming the first layer that differs (see `compare_layers`)."""
    difference = compare_layers(expected, actual)
    if difference is not None:
        raise VerificationError(str(difference))


def _mismatch(expected: StoredArray, actual: StoredArray) -> str | None:
    """What sets two arrays apart; a value that is no int8 never equals one that is."""
    if actual.dtype != expected.dtype:
        return f"type {actual.dtype} instead of {expected.dtype}"
    if actual.shape != expected.shape:
        return f"shape {actual.shape} instead of {expected.shape}"
    difference = compare_arrays(expected, actual)
    return None if difference is None else str(difference)
