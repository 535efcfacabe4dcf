"""What calls read and write: tensors in buffers, and the ports that the caller sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Buffer",
    "BufferKind",
    "Int8Array",
    "Int16Array",
    "Int32Array",
    "Pair",
    "Port",
    "Quantization",
    "Shape",
    "StoredArray",
    "Tensor",
    "UInt16Array",
]

Shape: TypeAlias = tuple[int, int, int, int]
"""(N, H, W, C); N is 1 except for the rows of a fully connected layer."""

Pair: TypeAlias = tuple[int, int]
"""(height, width)."""

Int8Array: TypeAlias = npt.NDArray[np.int8]
Int16Array: TypeAlias = npt.NDArray[np.int16]
UInt16Array: TypeAlias = npt.NDArray[np.uint16]
Int32Array: TypeAlias = npt.NDArray[np.int32]
StoredArray: TypeAlias = npt.NDArray[np.signedinteger[Any]]
"""What an output holds: int8, or int32 for uncertainty."""


@dataclass(frozen=True)
class Quantization:
    """Affine int8 quantisation of one tensor: real = scale * (q - zero_point)."""

    scale: float
    zero_point: int


class BufferKind(Enum):
    """Who owns a buffer, which decides its lifetime in the arena."""

    INPUT = "input"
    """Written by the caller before the first call; may be reused once its last reader has run."""
    OUTPUT = "output"
    """Read by the caller after the last call; lives from its first writer to the end."""
    INTERNAL = "internal"
    """Lives from its first writer to its last reader."""
    CONSTANT = "constant"
    """Const data in flash; takes no arena."""
    STREAMED = "streamed"
    """An input that the caller hands in row by row (`InputRows`); takes no arena."""


@dataclass(frozen=True)
class Buffer:
    """A contiguous run of int8 values. `data` is set for constants only."""

    name: str
    bytes: int
    kind: BufferKind
    data: Int8Array | None = None

    @property
    def in_arena(self) -> bool:
        """Whether it takes arena."""
        return self.kind not in (BufferKind.CONSTANT, BufferKind.STREAMED)


@dataclass(frozen=True)
class Tensor:
    """A region of a buffer that a call reads or writes, starting `offset` bytes into it."""

    buffer: str
    offset: int = 0


@dataclass(frozen=True)
class Port:
    """An input or output of the network as the caller sees it.

    `logical_shape` is the shape of the ONNX tensor (batch 1). `order` says where each element of the
    buffer belongs: memory position i holds element `order[i]` of the row-major ONNX tensor. None means
    that memory and ONNX order agree.
    """

    name: str
    tensor: Tensor
    logical_shape: tuple[int, ...]
    quantization: Quantization
    order: Int32Array | None = field(default=None, compare=False)
    dtype: Literal["int8", "int32"] = "int8"
    """How elements are stored; int32 little-endian, with `quantization` as the fixed point."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.logical_shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        """Size in memory."""
        return self.size * np.dtype(self.dtype).itemsize
