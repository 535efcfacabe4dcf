"""The Program: NHWC buffers and kernel calls with exact integer semantics.

A Program is what a quantised ONNX graph is lowered to and what every backend emits. It is a straight
line: `calls` run in the order given, to the end or to the first `ExitCheck` that is sure enough.
Every tensor is a region of a named buffer; every number that a kernel needs (offsets, multipliers, shifts,
re-ordered weights) is already in the call.

Arithmetic is that of the TensorFlow Lite int8 specification as CMSIS-NN implements it with double
rounding (see `qutec.reference` for the executable definition). Shapes are NHWC and the batch is 1.

One operator is one dataclass here, one lowering rule, one numpy reference, one emission template and
one test (see CONTRIBUTING.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from qutec.program.elementwise_calls import Add, Mul
from qutec.program.flat_calls import Concat, Copy, Fill, FullyConnected, Gather, Lookup, Move, Softmax
from qutec.program.head_calls import (
    ExitCheck,
    HeadFeatures,
    HeadLogits,
    HeadUncertainty,
    feature_bound,
    logit_bound,
)
from qutec.program.input_calls import InputRows
from qutec.program.kernel_call import Indices, KernelCall
from qutec.program.row_region import RowRegion
from qutec.program.tensors import (
    Buffer,
    BufferKind,
    Int8Array,
    Int16Array,
    Int32Array,
    Pair,
    Port,
    Quantization,
    Shape,
    StoredArray,
    Tensor,
    UInt16Array,
)
from qutec.program.window_calls import AvgPool2D, Conv2D, DepthwiseConv2D, MaxPool2D

__all__ = [
    "Add",
    "AvgPool2D",
    "Buffer",
    "BufferKind",
    "Call",
    "Concat",
    "Conv2D",
    "Copy",
    "DepthwiseConv2D",
    "ExitCheck",
    "Fill",
    "FullyConnected",
    "Gather",
    "HeadFeatures",
    "HeadLogits",
    "HeadUncertainty",
    "Indices",
    "InputRows",
    "Int8Array",
    "Int16Array",
    "Int32Array",
    "KernelCall",
    "Lookup",
    "MaxPool2D",
    "Move",
    "Mul",
    "Pair",
    "Port",
    "Program",
    "Quantization",
    "RowRegion",
    "Shape",
    "Softmax",
    "StoredArray",
    "Tensor",
    "UInt16Array",
    "feature_bound",
    "logit_bound",
]

Call: TypeAlias = (
    Conv2D
    | DepthwiseConv2D
    | FullyConnected
    | AvgPool2D
    | MaxPool2D
    | Add
    | Mul
    | Softmax
    | Lookup
    | Concat
    | Copy
    | Gather
    | Move
    | Fill
    | HeadFeatures
    | HeadLogits
    | HeadUncertainty
    | ExitCheck
    | InputRows
    | RowRegion
)
"""Every kind of call there is; `match` over it is checked for completeness."""


@dataclass(frozen=True)
class Program:
    """A lowered network: buffers by name, calls in order, ports in the order of the ONNX graph."""

    name: str
    buffers: dict[str, Buffer]
    calls: tuple[Call, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def arena_buffers(self) -> Iterator[Buffer]:
        """The buffers that take arena, in the order in which they were made."""
        return (b for b in self.buffers.values() if b.in_arena)

    @property
    def input_rows(self) -> InputRows | None:
        """The call that takes in the network's input row by row; None where the input is in the arena."""
        inside = (one for call in self.calls if isinstance(call, RowRegion) for one in call.calls)
        return next((call for call in (*self.calls, *inside) if isinstance(call, InputRows)), None)
