"""A chain of layers that runs row by row, so that of each map only some rows exist at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from qutec.program.elementwise_calls import Add, Mul
from qutec.program.flat_calls import Lookup
from qutec.program.input_calls import InputRows
from qutec.program.kernel_call import Indices, KernelCall
from qutec.program.tensors import Tensor
from qutec.program.window_calls import AvgPool2D, Conv2D, DepthwiseConv2D, MaxPool2D

__all__ = ["RowCall", "RowRegion", "RowWindow", "is_global_pool"]

RowCall = InputRows | Conv2D | DepthwiseConv2D | AvgPool2D | MaxPool2D | Add | Mul | Lookup
"""Calls that a region can hold."""


@dataclass(frozen=True)
class RowWindow:
    """The rows of one buffer that a call reads for one row of its output."""

    buffer: str
    rows: int
    """Of the whole map."""
    row_bytes: int
    extent: int
    """Rows from the first tap to the last."""
    stride: int
    padding: int
    """Rows above the map."""

    def of(self, row: int) -> tuple[int, int]:
        """First row and one past the last, inside the map, for output row `row`."""
        first = row * self.stride - self.padding
        return max(first, 0), min(first + self.extent, self.rows)


def is_global_pool(call: KernelCall) -> bool:
    """Whether the call averages a whole map to one pixel: it can take in row after row."""
    return isinstance(call, AvgPool2D) and (
        call.output_shape[1:3] == (1, 1) and call.kernel == call.input_shape[1:3] and call.padding == (0, 0)
    )


@dataclass(frozen=True, eq=False)
class RowRegion(KernelCall):
    """`calls` in the order of the data, run depth first: each computes a row as soon as it can.

    The calls are those of the whole maps, and the result is theirs to the bit; buffers between them belong
    to the region, which holds only the rows that are still needed (`qutec.program.row_schedule`). Nothing is
    computed twice. The last call writes the region's output: a map, or one pixel where it is a global
    average pool. Rows are NHWC rows of one map with N = 1.
    """

    calls: tuple[RowCall, ...]
    scratch: tuple[int, ...]
    """Bytes of kernel scratch of each call."""
    turns: tuple[int, ...] = ()
    """In which order the calls take turns, by their numbers; that of the data where it is empty."""

    @cached_property
    def _inner(self) -> frozenset[str]:
        return frozenset(call.output.buffer for call in self.calls[:-1])

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """What the calls read besides each other's results, each tensor once."""
        found = (tensor for call in self.calls for tensor in call.reads if tensor.buffer not in self._inner)
        return tuple(dict.fromkeys(found))

    @property
    def writes(self) -> Tensor:
        """The output of the last call."""
        return self.calls[-1].output

    @property
    def order(self) -> tuple[int, ...]:
        """Numbers of the calls in the order of their turns."""
        return self.turns or tuple(range(len(self.calls)))

    @property
    def inner_buffers(self) -> tuple[str, ...]:
        """Buffers between the calls, in the order of the calls."""
        return tuple(call.output.buffer for call in self.calls[:-1])

    def read_region(self, k: int) -> Indices:
        """What any of the calls reads of it."""
        tensor = self.reads[k]
        regions = [
            call.read_region(position)
            for call in self.calls
            for position, read in enumerate(call.reads)
            if read == tensor
        ]
        return np.unique(np.concatenate(regions))

    def written_region(self) -> Indices:
        """What the last call writes."""
        return self.calls[-1].written_region()

    @property
    def macs(self) -> int:
        """Of all calls."""
        return sum(call.macs for call in self.calls)

    def constants(self) -> dict[str, npt.NDArray[np.generic]]:
        """The const data of all calls, the names with the number of the call."""
        return {
            f"{name}_{number}": array
            for number, call in enumerate(self.calls)
            for name, array in call.constants().items()
        }
