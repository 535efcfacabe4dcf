"""Which bytes of its tensors a call reads and writes, exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qutec.program import (
    Add,
    AvgPool2D,
    Call,
    Concat,
    Conv2D,
    Copy,
    DepthwiseConv2D,
    Fill,
    FullyConnected,
    Gather,
    Lookup,
    MaxPool2D,
    Mul,
    Softmax,
    Tensor,
)

__all__ = ["Indices", "inputs", "read_region", "written_region"]

Indices: TypeAlias = npt.NDArray[np.int64]
"""Byte numbers, counted from the start of a tensor, in no particular order."""


def inputs(call: Call) -> Iterator[tuple[int, Tensor]]:
    """The tensors that a call reads, numbered: two walks over one tensor are two inputs."""
    match call:
        case Concat():
            yield from enumerate(call.inputs)
        case Add() | Mul():
            yield from enumerate((call.input_1, call.input_2))
        case Fill():
            return
        case _:
            yield 0, call.input


def read_region(call: Call, k: int) -> Indices:
    """Bytes that a call reads of its input k, counted from the start of the tensor."""
    match call:
        case Conv2D() | DepthwiseConv2D() | AvgPool2D() | MaxPool2D():
            return np.arange(int(np.prod(call.input_shape)))
        case FullyConnected():
            return np.arange(call.rows * call.weights.shape[1])
        case Add() | Mul():
            return _strided((call.outer, call.inner), (call.stride_2 if k else call.stride_1, 1))
        case Softmax():
            return np.arange(call.rows * call.row_size)
        case Lookup():
            return np.arange(call.count)
        case Concat():
            return np.arange(call.outer * call.inner[k])
        case Copy():
            return _strided(call.dims, call.input_strides)
        case Gather():
            return call.index.astype(np.int64)
        case Fill():
            return np.arange(0)


def written_region(call: Call) -> Indices:
    """Bytes that a call writes, counted from the start of its output tensor."""
    match call:
        case Conv2D() | DepthwiseConv2D() | AvgPool2D() | MaxPool2D():
            return np.arange(int(np.prod(call.output_shape)))
        case FullyConnected():
            return np.arange(call.rows * call.weights.shape[0])
        case Add() | Mul():
            return np.arange(call.outer * call.inner)
        case Softmax():
            return np.arange(call.rows * call.row_size)
        case Lookup() | Fill():
            return np.arange(call.count)
        case Concat():
            return np.arange(call.outer * sum(call.inner))
        case Copy():
            return _strided(call.dims, call.output_strides)
        case Gather():
            return np.arange(call.index.size)


def _strided(dims: Sequence[int], strides: Sequence[int]) -> Indices:
    """The distinct bytes sum i_k * strides[k] for i_k < dims[k]."""
    region = np.zeros(1, dtype=np.int64)
    for dim, stride in zip(dims, strides, strict=True):
        steps = np.arange(dim if stride else min(dim, 1), dtype=np.int64) * stride
        region = (region[:, None] + steps).ravel()
    return region
