"""What every operator function takes: the node, its operands and how it is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import onnx_ir as ir
from torch import Tensor

__all__ = ["Call", "Operands", "Operator", "given", "optional"]

Operands: TypeAlias = Sequence[Tensor | None]


@dataclass(frozen=True)
class Call:
    """How a node is run.

    `batch` is set only where the graph fixes its batch size and the node's data depend on the input: the
    size the graph says, and the size there is.
    """

    opset: int
    training: bool
    batch: tuple[int, int] | None = None


Operator: TypeAlias = Callable[[ir.Node, Operands, Call], Tensor | tuple[Tensor, ...]]
"""Gives the first output of a node, or all of them as a tuple (Split)."""


def given(operand: Tensor | None) -> Tensor:
    """An operand that the operator requires."""
    if operand is None:
        raise ValueError("a required input is missing")
    return operand


def optional(operands: Operands, index: int) -> Tensor | None:
    """An operand that may be left out."""
    return operands[index] if index < len(operands) else None
