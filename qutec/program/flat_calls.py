"""Kernel calls on flat runs of bytes: dense layers, softmax, tables, and moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qutec.program.kernel_call import Indices, KernelCall, SingleInputCall, strided_region
from qutec.program.tensors import Int8Array, Int32Array, Tensor

__all__ = ["Concat", "Copy", "Fill", "FullyConnected", "Gather", "Lookup", "Move", "Softmax"]


@dataclass(frozen=True, eq=False)
class FullyConnected(SingleInputCall):
    """`arm_fully_connected_s8`: one multiplier for the whole tensor, `rows` input vectors.

    weights [O, I]; bias [O]. The accumulator is bias + sum (x + input_offset) * (w + filter_offset).
    """

    rows: int
    weights: Int8Array
    bias: Int32Array
    multiplier: int
    shift: int
    input_offset: int
    filter_offset: int
    output_offset: int
    activation_min: int
    activation_max: int

    def read_region(self, k: int) -> Indices:
        """`rows` input vectors."""
        return np.arange(self.rows * self.weights.shape[1])

    def written_region(self, k: int = 0) -> Indices:
        """`rows` output vectors."""
        return np.arange(self.rows * self.weights.shape[0])

    @property
    def macs(self) -> int:
        """One for each weight and row."""
        return self.rows * int(self.weights.size)


@dataclass(frozen=True, eq=False)
class Softmax(SingleInputCall):
    """`arm_softmax_s8` over `rows` rows of `row_size` values; output scale 1/256, zero point -128."""

    rows: int
    row_size: int
    multiplier: int
    shift: int
    diff_min: int

    def read_region(self, k: int) -> Indices:
        """All that is read is one run."""
        return np.arange(self.rows * self.row_size)

    def written_region(self, k: int = 0) -> Indices:
        """All that is written is one run."""
        return np.arange(self.rows * self.row_size)


@dataclass(frozen=True, eq=False)
class Lookup(SingleInputCall):
    """`qute_lookup_s8`: output[i] = table[input[i] + 128]. Any pointwise function, or a new scale."""

    count: int
    table: Int8Array

    def read_region(self, k: int) -> Indices:
        """All that is read is one run."""
        return np.arange(self.count)

    def written_region(self, k: int = 0) -> Indices:
        """All that is written is one run."""
        return np.arange(self.count)


@dataclass(frozen=True, eq=False)
class Concat(KernelCall):
    """`arm_concatenation_s8_x` once for each input: `outer` blocks, input k brings inner[k] bytes."""

    inputs: tuple[Tensor, ...]
    output: Tensor
    outer: int
    inner: tuple[int, ...]

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """All inputs."""
        return self.inputs

    @property
    def writes(self) -> tuple[Tensor, ...]:
        """The output."""
        return (self.output,)

    def read_region(self, k: int) -> Indices:
        """All that is read is one run."""
        return np.arange(self.outer * self.inner[k])

    def written_region(self, k: int = 0) -> Indices:
        """All that is written is one run."""
        return np.arange(self.outer * sum(self.inner))


@dataclass(frozen=True, eq=False)
class Copy(SingleInputCall):
    """`qute_copy_s8`: four nested loops of byte copies; slices, transposes, padding, broadcasts.

    output[sum i_k * output_strides[k]] = input[sum i_k * input_strides[k]] for i_k < dims[k]. Strides
    are bytes, may be negative or 0 on the input side, and start at the tensor's offset.
    """

    dims: tuple[int, int, int, int]
    input_strides: tuple[int, int, int, int]
    output_strides: tuple[int, int, int, int]

    def read_region(self, k: int) -> Indices:
        """What the loops visit."""
        return strided_region(self.dims, self.input_strides)

    def written_region(self, k: int = 0) -> Indices:
        """What the loops visit."""
        return strided_region(self.dims, self.output_strides)


@dataclass(frozen=True, eq=False)
class Gather(SingleInputCall):
    """`qute_gather_s8`: output[i] = input[index[i]]; for re-orderings that four loops cannot express."""

    index: Int32Array

    def read_region(self, k: int) -> Indices:
        """The bytes that the index names."""
        return self.index.astype(np.int64)

    def written_region(self, k: int = 0) -> Indices:
        """All that is written is one run."""
        return np.arange(self.index.size)


@dataclass(frozen=True, eq=False)
class Move(SingleInputCall):
    """`qute_move_s8`: `count` bytes, the last first, so that the output may begin behind the input's start.

    The planner inserts it where outputs that were placed below their inputs have reached the arena's end.
    """

    count: int

    def read_region(self, k: int) -> Indices:
        """All that is read is one run."""
        return np.arange(self.count)

    def written_region(self, k: int = 0) -> Indices:
        """All that is written is one run."""
        return np.arange(self.count)


@dataclass(frozen=True, eq=False)
class Fill(KernelCall):
    """`memset`: `count` bytes of `value` (the zero point under a padded map)."""

    output: Tensor
    count: int
    value: int

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """Nothing."""
        return ()

    @property
    def writes(self) -> tuple[Tensor, ...]:
        """The output."""
        return (self.output,)

    def read_region(self, k: int) -> Indices:
        """Nothing."""
        return np.arange(0)

    def written_region(self, k: int = 0) -> Indices:
        """All that is written is one run."""
        return np.arange(self.count)
