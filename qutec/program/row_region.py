"""Layers that run row by row, so that of each map only some rows exist at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from qutec.program.elementwise_calls import Add, Mul
from qutec.program.flat_calls import Concat, Copy, Lookup
from qutec.program.head_calls import HeadFeatures
from qutec.program.input_calls import InputRows
from qutec.program.kernel_call import Indices, KernelCall
from qutec.program.tensors import Tensor
from qutec.program.window_calls import AvgPool2D, Conv2D, DepthwiseConv2D, MaxPool2D

__all__ = ["RowCall", "RowRegion", "RowWindow"]

RowCall = (
    InputRows
    | Conv2D
    | DepthwiseConv2D
    | AvgPool2D
    | MaxPool2D
    | Add
    | Mul
    | Lookup
    | Copy
    | Concat
    | HeadFeatures
)
"""Calls that a region can hold."""


@dataclass(frozen=True)
class RowWindow:
    """The rows of one buffer that a call reads in one of its turns."""

    buffer: str
    rows: int
    """Of the whole map."""
    row_bytes: int
    extent: int
    """Rows from the first tap to the last."""
    stride: int
    padding: int
    """Rows above the map."""

    def of(self, turn: int) -> tuple[int, int]:
        """First row and one past the last, inside the map, for turn `turn` of the call."""
        first = turn * self.stride - self.padding
        return max(first, 0), min(first + self.extent, self.rows)


@dataclass(frozen=True, eq=False)
class RowRegion(KernelCall):
    """`calls` in the order of the data, run depth first: each computes a row as soon as it can.

    The calls are those of the whole maps, and the result is theirs to the bit. Buffers that are not among
    the outputs belong to the region, which holds only the rows that are still needed
    (`qutec.program.row_schedule`). Nothing is computed twice. Rows are NHWC rows of one map with N = 1; what
    a global pool or the heads make is one row.
    """

    calls: tuple[RowCall, ...]
    scratch: tuple[int, ...]
    """Bytes of kernel scratch of each call."""
    outputs: frozenset[str]
    """The buffers that somebody reads when the region is done; calls of the region may read them as well."""
    turns: tuple[int, ...] = ()
    """In which order the calls take turns, by their numbers; that of the data where it is empty."""

    @cached_property
    def reads(self) -> tuple[Tensor, ...]:
        """The buffers that the calls read besides each other's results."""
        made = {call.output.buffer for call in self.calls}
        found = (tensor.buffer for call in self.calls for tensor in call.reads if tensor.buffer not in made)
        return tuple(Tensor(name) for name in dict.fromkeys(found))

    @property
    def writes(self) -> tuple[Tensor, ...]:
        """The outputs, in the order of the calls."""
        return tuple(call.output for call in self._last_calls)

    @cached_property
    def _last_calls(self) -> tuple[RowCall, ...]:
        return tuple(call for call in self.calls if call.output.buffer in self.outputs)

    @property
    def order(self) -> tuple[int, ...]:
        """Numbers of the calls in the order of their turns."""
        return self.turns or tuple(range(len(self.calls)))

    @property
    def inner_buffers(self) -> tuple[str, ...]:
        """Buffers that belong to the region, in the order of the calls."""
        return tuple(call.output.buffer for call in self.calls if call.output.buffer not in self.outputs)

    def read_region(self, k: int) -> Indices:
        """What any of the calls reads of it."""
        name = self.reads[k].buffer
        regions = [
            call.read_region(position) + read.offset
            for call in self.calls
            for position, read in enumerate(call.reads)
            if read.buffer == name
        ]
        return np.unique(np.concatenate(regions))

    def written_region(self, k: int = 0) -> Indices:
        """What the call that makes it writes."""
        return self._last_calls[k].written_region()

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
