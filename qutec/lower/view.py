"""Views: int8 tensors in a buffer together with the order in which their elements lie there.

ONNX tensors are row-major over logical axes (NCHW, mostly); kernels want NHWC. A view keeps, for every
memory position, the row-major index of the ONNX element that lies there (`order`). With it a reshape or
a transpose never moves a byte, and whether a kernel can read a view as it is becomes one comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from qutec.program import Int32Array, Quantization, Tensor

__all__ = [
    "FreeOrder",
    "View",
    "affine_loops",
    "channels_last_order",
    "moved_axis_order",
    "row_major",
]

Shape = tuple[int, ...]


class FreeOrder:
    """The memory order of a network input, open until the first kernel says which one it wants."""

    def __init__(self) -> None:
        self.order: Int32Array | None = None


@dataclass(frozen=True, eq=False)
class View:
    """An int8 tensor of ONNX shape `shape`; memory position i holds element `order[i]`.

    While `free` is set the memory order is that of a network input, and `order` maps the elements of
    the input to those of this view instead; `Builder.ordered` settles it.
    """

    tensor: Tensor
    shape: Shape
    order: Int32Array
    quantization: Quantization
    free: FreeOrder | None = None

    @property
    def size(self) -> int:
        """Number of elements, which is also the number of bytes."""
        return math.prod(self.shape)

    def memory_order(self) -> Int32Array:
        """Element of this view at each memory position; settles a free input as row-major."""
        if self.free is None:
            return self.order
        if self.free.order is None:
            self.free.order = row_major(self.size)
        return self.order[self.free.order]

    def reshaped(self, shape: Shape) -> View:
        """The same elements in row-major ONNX order under another shape."""
        return replace(self, shape=shape)

    def transposed(self, permutation: Sequence[int]) -> View:
        """ONNX Transpose: axis i of the result is axis permutation[i] of this view."""
        old = row_major(self.size).reshape(self.shape).transpose(permutation)
        new_index = np.empty(self.size, np.int32)
        new_index[old.reshape(-1)] = row_major(self.size)
        return replace(self, shape=old.shape, order=new_index[self.order])


def row_major(size: int) -> Int32Array:
    """The order of a tensor whose memory is row-major."""
    return np.arange(size, dtype=np.int32)


def channels_last_order(shape: Shape) -> Int32Array:
    """NHWC (or NWC) order of a tensor of ONNX shape (N, C, *spatial)."""
    return moved_axis_order(shape, 1)


def moved_axis_order(shape: Shape, axis: int) -> Int32Array:
    """The order in which `axis` runs fastest and the others keep their sequence."""
    elements = row_major(math.prod(shape)).reshape(shape)
    return np.ascontiguousarray(np.moveaxis(elements, axis, -1)).reshape(-1)


def affine_loops(
    positions: npt.NDArray[np.int64], depth: int = 4
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]] | None:
    """Nested loops that visit `positions` in sequence, or None where `depth` loops are not enough.

    positions [n, k]: k addresses that move together. Returns (dims, strides) with the outermost loop
    first, both of length `depth`; strides[j] has one entry for each of the k addresses, and
    positions[i] = positions[0] + sum_j index_j * strides[j].
    """
    dims: list[int] = []
    strides: list[tuple[int, ...]] = []
    width = positions.shape[1]
    current = positions
    while len(current) > 1:
        if len(dims) == depth:
            return None
        steps = np.diff(current, axis=0)
        breaks = np.flatnonzero((steps != steps[0]).any(axis=1))
        run = int(breaks[0]) + 1 if len(breaks) else len(current)
        if len(current) % run:
            return None
        blocks = current.reshape(-1, run, width)
        if ((blocks - blocks[:, :1]) != (blocks[0] - blocks[0, :1])).any():
            return None
        dims.append(run)
        strides.append(tuple(int(step) for step in steps[0]))
        current = blocks[:, 0]
    while len(dims) < depth:
        dims.append(1)
        strides.append((0,) * width)
    return tuple(reversed(dims)), tuple(reversed(strides))
