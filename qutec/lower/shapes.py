"""Small questions that several lowering rules ask of a node: shapes, windows, names, clamps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from qutec.lower.builder import Refused
from qutec.lower.expression import Clamp
from qutec.program import Pair, Quantization, Shape

__all__ = ["Window", "activation_range", "layer_name", "nhwc", "sliding_window", "static_shape"]


@dataclass(frozen=True)
class Window:
    """A sliding window over (height, width); 1-D windows have height 1. Padding: top, left."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: Pair


def layer_name(node: ir.Node) -> str:
    """The name of a node, or of its first output where the exporter gave none."""
    return node.name or node.outputs[0].name or node.op_type


def static_shape(value: ir.Value) -> tuple[int, ...]:
    """The shape of a value, all of it known."""
    if value.shape is None or not value.shape.is_static():
        raise Refused(f"the shape of '{value.name}' is not known")
    return value.shape.numpy()


def nhwc(shape: Sequence[int]) -> Shape:
    """(N, H, W, C) of an ONNX shape (N, C, W) or (N, C, H, W)."""
    if shape[0] != 1:
        raise Refused(f"its batch is {shape[0]}; 1 is supported")
    if len(shape) == 3:
        return (1, 1, shape[2], shape[1])
    return (1, shape[2], shape[3], shape[1])


def sliding_window(node: ir.Node, input_shape: Sequence[int], kernel_shape: Sequence[int]) -> Window:
    """Kernel, stride, dilation and begin padding of a Conv or pool, auto_pad resolved (ONNX Conv)."""
    spatial = list(input_shape[2:])
    kernel = list(kernel_shape)
    rank = len(kernel)
    stride = list(node.attributes.get_ints("strides", [1] * rank))
    dilation = list(node.attributes.get_ints("dilations", [1] * rank))
    begin = list(node.attributes.get_ints("pads", [0] * (2 * rank)))[:rank]
    auto_pad = node.attributes.get_string("auto_pad", "NOTSET")
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        for axis in range(rank):
            output = math.ceil(spatial[axis] / stride[axis])
            reach = dilation[axis] * (kernel[axis] - 1) + 1
            total = max((output - 1) * stride[axis] + reach - spatial[axis], 0)
            begin[axis] = total // 2 if auto_pad == "SAME_UPPER" else (total + 1) // 2
    elif auto_pad == "VALID":
        begin = [0] * rank
    if any(pad < 0 for pad in begin):
        raise Refused("it has negative padding")
    return Window(
        _pair(kernel, "kernel", 1),
        _pair(stride, "stride", 1),
        _pair(dilation, "dilation", 1),
        _pair(begin, "pad", 0),
    )


def activation_range(clamp: Clamp, quantization: Quantization) -> tuple[int, int]:
    """int8 bounds of a fused clamp (TensorFlow Lite CalculateActivationRangeQuantized)."""
    low, high = clamp
    scale, zero_point = quantization.scale, quantization.zero_point
    minimum = -128 if low == -math.inf else max(-128, zero_point + round(low / scale))
    maximum = 127 if high == math.inf else min(127, zero_point + round(high / scale))
    return min(minimum, 127), max(maximum, -128)


def _pair(values: Sequence[int], what: str, filler: int) -> Pair:
    if len(values) == 1:
        return (filler, int(values[0]))
    if len(values) == 2:
        return (int(values[0]), int(values[1]))
    raise Refused(f"its {what} has {len(values)} axes; 1 and 2 are supported")
