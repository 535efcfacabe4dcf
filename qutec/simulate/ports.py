"""Inputs and outputs as consecutive bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qutec.errors import UsageError
from qutec.simulate.project import EmittedProject

__all__ = ["Int8Array", "join_inputs", "split_outputs"]

Int8Array: TypeAlias = npt.NDArray[np.int8]


def join_inputs(project: EmittedProject, inputs: Sequence[Int8Array]) -> bytes:
    """The inputs of one sample as consecutive bytes. Raises UsageError for a wrong number, type or size."""
    sizes = project.input_bytes
    if len(inputs) != len(sizes):
        raise UsageError(f"the network has {len(sizes)} inputs, got {len(inputs)}")
    for index, (array, size) in enumerate(zip(inputs, sizes, strict=True)):
        if array.dtype != np.int8 or array.size != size:
            raise UsageError(
                f"input {index} must be {size} int8 values, not {array.size} {array.dtype} values"
            )
    return b"".join(np.ascontiguousarray(array).tobytes() for array in inputs)


def split_outputs(project: EmittedProject, contents: bytes) -> tuple[Int8Array, ...]:
    """Flat int8 arrays, one per output, from consecutive bytes."""
    ends = np.cumsum(project.output_bytes)
    flat = np.frombuffer(contents, dtype=np.int8)
    return tuple(part.copy() for part in np.split(flat, ends[:-1]))
