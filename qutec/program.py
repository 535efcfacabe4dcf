"""The Program: NHWC buffers and kernel calls with exact integer semantics.

A Program is what a quantised ONNX graph is lowered to and what every backend emits. It is a straight
line: `calls` run in the order given. Every tensor is a region of a named buffer; every number that a
kernel needs (offsets, multipliers, shifts, re-ordered weights) is already in the call.

Arithmetic is that of the TensorFlow Lite int8 specification as CMSIS-NN implements it with double
rounding (see `qutec.reference` for the executable definition). Shapes are NHWC and the batch is 1.

One operator is one dataclass here, one lowering rule, one numpy reference, one emission template and
one test (see CONTRIBUTING.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

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
    "Fill",
    "FullyConnected",
    "Gather",
    "Lookup",
    "MaxPool2D",
    "Mul",
    "Port",
    "Program",
    "Quantization",
    "Shape",
    "Softmax",
    "Tensor",
]

Shape: TypeAlias = tuple[int, int, int, int]
"""(N, H, W, C); N is 1 except for the rows of a fully connected layer."""

Pair: TypeAlias = tuple[int, int]
"""(height, width)."""

Int8Array: TypeAlias = npt.NDArray[np.int8]
Int32Array: TypeAlias = npt.NDArray[np.int32]


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


@dataclass(frozen=True)
class Buffer:
    """A contiguous run of int8 values. `data` is set for constants only."""

    name: str
    bytes: int
    kind: BufferKind
    data: Int8Array | None = None


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

    @property
    def size(self) -> int:
        """Number of elements, which is also the number of bytes."""
        return int(np.prod(self.logical_shape, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Conv2D:
    """`arm_convolve_wrapper_s8`: convolution, grouped where `weights` has fewer channels than the input.

    weights [O, KH, KW, I / groups]; bias, multiplier and shift [O]. Padding is that of the top and the
    left; at the bottom and the right the output shape decides. The accumulator is
    bias + sum (x + input_offset) * w, requantised per channel, plus output_offset, clamped.
    """

    name: str
    input: Tensor
    output: Tensor
    input_shape: Shape
    output_shape: Shape
    weights: Int8Array
    bias: Int32Array
    multiplier: Int32Array
    shift: Int32Array
    stride: Pair
    padding: Pair
    dilation: Pair
    input_offset: int
    output_offset: int
    activation_min: int
    activation_max: int


@dataclass(frozen=True, eq=False)
class DepthwiseConv2D:
    """`arm_depthwise_conv_wrapper_s8`: each input channel gives `channel_multiplier` output channels.

    weights [KH, KW, C * channel_multiplier], output channel c * channel_multiplier + m; bias,
    multiplier and shift [C * channel_multiplier]. Arithmetic as Conv2D.
    """

    name: str
    input: Tensor
    output: Tensor
    input_shape: Shape
    output_shape: Shape
    weights: Int8Array
    bias: Int32Array
    multiplier: Int32Array
    shift: Int32Array
    channel_multiplier: int
    stride: Pair
    padding: Pair
    dilation: Pair
    input_offset: int
    output_offset: int
    activation_min: int
    activation_max: int


@dataclass(frozen=True, eq=False)
class FullyConnected:
    """`arm_fully_connected_s8`: one multiplier for the whole tensor, `rows` input vectors.

    weights [O, I]; bias [O]. The accumulator is bias + sum (x + input_offset) * (w + filter_offset).
    """

    name: str
    input: Tensor
    output: Tensor
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


@dataclass(frozen=True, eq=False)
class AvgPool2D:
    """`arm_avgpool_s8`: mean over the valid pixels of the window, rounded half away from zero."""

    name: str
    input: Tensor
    output: Tensor
    input_shape: Shape
    output_shape: Shape
    kernel: Pair
    stride: Pair
    padding: Pair
    activation_min: int
    activation_max: int


@dataclass(frozen=True, eq=False)
class MaxPool2D:
    """`arm_max_pool_s8`: maximum over the valid pixels of the window."""

    name: str
    input: Tensor
    output: Tensor
    input_shape: Shape
    output_shape: Shape
    kernel: Pair
    stride: Pair
    padding: Pair
    activation_min: int
    activation_max: int


@dataclass(frozen=True, eq=False)
class Add:
    """`arm_elementwise_add_s8` on `outer` blocks of `inner` values (a negative multiplier subtracts).

    Before block i each input pointer has moved i * stride bytes, so a stride of 0 broadcasts.
    Each input is requantised after << left_shift, the sum is requantised to the output.
    """

    name: str
    input_1: Tensor
    input_2: Tensor
    output: Tensor
    outer: int
    inner: int
    stride_1: int
    stride_2: int
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
class Mul:
    """`arm_elementwise_mul_s8` on `outer` blocks of `inner` values, broadcasting as Add does."""

    name: str
    input_1: Tensor
    input_2: Tensor
    output: Tensor
    outer: int
    inner: int
    stride_1: int
    stride_2: int
    input_1_offset: int
    input_2_offset: int
    output_offset: int
    output_multiplier: int
    output_shift: int
    activation_min: int
    activation_max: int


@dataclass(frozen=True, eq=False)
class Softmax:
    """`arm_softmax_s8` over `rows` rows of `row_size` values; output scale 1/256, zero point -128."""

    name: str
    input: Tensor
    output: Tensor
    rows: int
    row_size: int
    multiplier: int
    shift: int
    diff_min: int


@dataclass(frozen=True, eq=False)
class Lookup:
    """`qute_lookup_s8`: output[i] = table[input[i] + 128]. Any pointwise function, or a new scale."""

    name: str
    input: Tensor
    output: Tensor
    count: int
    table: Int8Array


@dataclass(frozen=True, eq=False)
class Concat:
    """`arm_concatenation_s8_x` once for each input: `outer` blocks, input k brings inner[k] bytes."""

    name: str
    inputs: tuple[Tensor, ...]
    output: Tensor
    outer: int
    inner: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Copy:
    """`qute_copy_s8`: four nested loops of byte copies; slices, transposes, padding, broadcasts.

    output[sum i_k * output_strides[k]] = input[sum i_k * input_strides[k]] for i_k < dims[k]. Strides
    are bytes, may be negative or 0 on the input side, and start at the tensor's offset.
    """

    name: str
    input: Tensor
    output: Tensor
    dims: tuple[int, int, int, int]
    input_strides: tuple[int, int, int, int]
    output_strides: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Gather:
    """`qute_gather_s8`: output[i] = input[index[i]]; for re-orderings that four loops cannot express."""

    name: str
    input: Tensor
    output: Tensor
    index: Int32Array


@dataclass(frozen=True, eq=False)
class Fill:
    """`memset`: `count` bytes of `value` (the zero point under a padded map)."""

    name: str
    output: Tensor
    count: int
    value: int


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
    | Fill
)


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
        return (b for b in self.buffers.values() if b.kind is not BufferKind.CONSTANT)


def reads(call: Call) -> tuple[Tensor, ...]:
    """The tensors that a call reads."""
    match call:
        case Concat():
            return call.inputs
        case Add() | Mul():
            return (call.input_1, call.input_2)
        case Fill():
            return ()
        case _:
            return (call.input,)


def writes(call: Call) -> Tensor:
    """The tensor that a call writes."""
    return call.output


def macs(call: Call) -> int:
    """Multiply-accumulates of a call, padding counted as work (as MLPerf Tiny counts)."""
    match call:
        case Conv2D():
            _, h, w, _ = call.output_shape
            return h * w * int(call.weights.size)
        case DepthwiseConv2D():
            _, h, w, _ = call.output_shape
            return h * w * int(call.weights.size)
        case FullyConnected():
            return call.rows * int(call.weights.size)
        case _:
            return 0


def may_write_in_place(call: Call, read: Tensor) -> bool:
    """Whether the output may take the very bytes of `read` (same start) when nobody reads them later.

    Only kernels that read element i before they write element i, and nothing of it afterwards. Both
    Arm's and the bundled kernels keep this for elementwise addition and multiplication and for tables;
    softmax reads its row twice.
    """
    match call:
        case Lookup():
            return True
        case Add() | Mul():
            walks = ((call.input_1, call.stride_1), (call.input_2, call.stride_2))
            same = (stride == call.inner for tensor, stride in walks if tensor == read)
            return call.outer == 1 or all(same)
        case _:
            return False


def constant_arrays(call: Call) -> dict[str, npt.NDArray[np.generic]]:
    """The const data of a call by field name; it goes to flash."""
    names = ("weights", "bias", "multiplier", "shift", "table", "index")
    values = {name: getattr(call, name, None) for name in names}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
