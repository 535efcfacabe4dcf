"""Kernel calls on two tensors element by element."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qutec.program.kernel_call import Indices, KernelCall, strided_region
from qutec.program.tensors import Tensor

__all__ = ["Add", "Mul"]


@dataclass(frozen=True, eq=False)
class _Elementwise(KernelCall):
    """A kernel on two tensors, block by block."""

    input_1: Tensor
    input_2: Tensor
    output: Tensor
    outer: int
    inner: int
    stride_1: int
    stride_2: int

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """Both inputs."""
        return (self.input_1, self.input_2)

    @property
    def writes(self) -> tuple[Tensor, ...]:
        """The output."""
        return (self.output,)

    def read_region(self, k: int) -> Indices:
        """The blocks of input k; a stride of 0 reads one block again and again."""
        return strided_region((self.outer, self.inner), (self.stride_2 if k else self.stride_1, 1))

    def written_region(self, k: int = 0) -> Indices:
        """All blocks."""
        return np.arange(self.outer * self.inner)


@dataclass(frozen=True, eq=False)
class Add(_Elementwise):
    """`arm_elementwise_add_s8` on `outer` blocks of `inner` values (a negative multiplier subtracts).

    Before block i each input pointer has moved i * stride bytes, so a stride of 0 broadcasts.
    Each input is requantised after << left_shift, the sum is requantised to the output.
    """

    input_1_offset: int
    input_1_multiplier: int
    input_1_shift: int
    input_2_offset: int
    input_2_multiplier: int
    input_2_shift: int
    left_shift: int
    output_offset: int
    output_multiplier: int
    output_shift: int
    activation_min: int
    activation_max: int


@dataclass(frozen=True, eq=False)
class Mul(_Elementwise):
    """`arm_elementwise_mul_s8` on `outer` blocks of `inner` values, broadcasting as Add does."""

    input_1_offset: int
    input_2_offset: int
    output_offset: int
    output_multiplier: int
    output_shift: int
    activation_min: int
    activation_max: int
