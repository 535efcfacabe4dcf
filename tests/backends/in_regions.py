"""Programs whose calls run row by row, each in a region of its own, beside the reference of whole maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from qutec.program import Call, Int8Array, Program, RowRegion
from qutec.program.row_stages import row_stages
from tests.backends.emitted import program_of
from tests.random_calls import int8

__all__ = ["in_regions", "inputs_of", "whole_maps"]

_SAMPLES = 2


def in_regions(calls: Sequence[Call], scratch: Callable[[Call], int]) -> Program:
    """Those of the calls that can run row by row, with their kernels' scratch."""
    program = program_of([call for call in calls if row_stages((call,)) is not None])
    regions = (
        RowRegion(call.name, (call,), (scratch(call),), frozenset({call.output.buffer}))  # type: ignore[arg-type]
        for call in program.calls
    )
    return replace(program, calls=tuple(regions))


def whole_maps(program: Program) -> Program:
    """The same without the regions."""
    return replace(program, calls=tuple(c.calls[0] for c in program.calls if isinstance(c, RowRegion)))


def inputs_of(program: Program, seed: int) -> list[list[Int8Array]]:
    """A few random samples, each with all inputs."""
    rng = np.random.default_rng(seed)
    return [[int8(rng, port.size) for port in program.inputs] for _ in range(_SAMPLES)]
