"""What every kernel call says of itself: what it reads, writes and costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qutec.program.tensors import Tensor

__all__ = ["Indices", "KernelCall", "SingleInputCall", "strided_region"]

Indices: TypeAlias = npt.NDArray[np.int64]
"""Byte numbers, counted from the start of a tensor, in no particular order."""


@dataclass(frozen=True, eq=False)
class KernelCall(ABC):
    """One call of a kernel. Subclasses add what the kernel is given."""

    name: str

    @property
    @abstractmethod
    def reads(self) -> tuple[Tensor, ...]:
        """The tensors that the call reads; two walks over one tensor are two entries."""

    @property
    @abstractmethod
    def writes(self) -> tuple[Tensor, ...]:
        """The tensors that the call writes: one, but for a `RowRegion`."""

    @abstractmethod
    def read_region(self, k: int) -> Indices:
        """Bytes that the call reads of `reads[k]`."""

    @abstractmethod
    def written_region(self, k: int = 0) -> Indices:
        """Bytes that the call writes of `writes[k]`."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding counted as work (as MLPerf Tiny counts)."""
        return 0

    def constants(self) -> dict[str, npt.NDArray[np.generic]]:
        """The const data of the call by field name; it goes to flash."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}


@dataclass(frozen=True, eq=False)
class SingleInputCall(KernelCall):
    """A kernel from one tensor to another."""

    input: Tensor
    output: Tensor

    @property
    def reads(self) -> tuple[Tensor, ...]:
        """The input."""
        return (self.input,)

    @property
    def writes(self) -> tuple[Tensor, ...]:
        """The output."""
        return (self.output,)


def strided_region(dims: Sequence[int], strides: Sequence[int]) -> Indices:
    """The distinct bytes sum i_k * strides[k] for i_k < dims[k]."""
    region = np.zeros(1, dtype=np.int64)
    for dim, stride in zip(dims, strides, strict=True):
        steps = np.arange(dim if stride else min(dim, 1), dtype=np.int64) * stride
        region = (region[:, None] + steps).ravel()
    return region
