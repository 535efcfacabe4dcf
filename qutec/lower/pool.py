"""Lowering of pools, means over axes and softmax."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from qutec.fixed_point import softmax_parameters
from qutec.lower.builder import Refused
from qutec.lower.constants import integers
from qutec.lower.expression import Clamp, Context, Expression, Pending
from qutec.lower.movement import padded
from qutec.lower.shapes import Window, activation_range, layer_name, nhwc, sliding_window, static_shape
from qutec.lower.view import View, channels_last_order, moved_axis_order, row_major
from qutec.program import AvgPool2D, MaxPool2D, Quantization, Softmax
from qutec.quantization import SOFTMAX_OUTPUT

__all__ = ["average_pool", "global_average_pool", "global_max_pool", "max_pool", "reduce_mean", "softmax"]


def max_pool(context: Context, node: ir.Node) -> Expression:
    """MaxPool, 1-D or 2-D."""
    if len(node.outputs) > 1 and node.outputs[1].uses():
        raise Refused("its second output, the indices, is used")
    return _pool(context, node, MaxPool2D)


def average_pool(context: Context, node: ir.Node) -> Expression:
    """AveragePool, 1-D or 2-D; with count_include_pad the zeros are written out first."""
    return _pool(context, node, AvgPool2D)


def global_average_pool(context: Context, node: ir.Node) -> Expression:
    """GlobalAveragePool."""
    x = context.view(node.inputs[0])
    return _over_axes(context, node, x, tuple(range(2, len(x.shape))), AvgPool2D)


def global_max_pool(context: Context, node: ir.Node) -> Expression:
    """GlobalMaxPool."""
    x = context.view(node.inputs[0])
    return _over_axes(context, node, x, tuple(range(2, len(x.shape))), MaxPool2D)


def reduce_mean(context: Context, node: ir.Node) -> Expression:
    """ReduceMean over any axes but the batch, with or without keepdims."""
    x = context.view(node.inputs[0])
    rank = len(x.shape)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        axes = integers(node.inputs[1], "axes")
    else:
        axes = list(node.attributes.get_ints("axes", []))
    if not axes and not node.attributes.get_int("noop_with_empty_axes", 0):
        axes = list(range(1, rank))
    chosen = tuple(sorted(axis % rank for axis in axes))
    if any(axis == 0 and x.shape[0] != 1 for axis in chosen):
        raise Refused("it reduces the batch")
    return _over_axes(context, node, x, tuple(axis for axis in chosen if axis != 0), AvgPool2D)


def softmax(context: Context, node: ir.Node) -> Expression:
    """Softmax over any one axis, which is brought to the end of memory."""
    x = context.view(node.inputs[0])
    axis = node.attributes.get_int("axis", -1) % len(x.shape)
    name = layer_name(node)

    def emit(quantization: Quantization, clamp: Clamp) -> View:
        order = moved_axis_order(x.shape, axis)
        source = context.builder.ordered(x, order, name + "/order")
        row_size = x.shape[axis]
        multiplier, shift, diff_min = softmax_parameters(source.quantization.scale)
        target = context.builder.output_view(node.outputs[0].name or name, x.shape, SOFTMAX_OUTPUT, order)
        rows = x.size // row_size
        context.builder.add(
            Softmax(name, source.tensor, target.tensor, rows, row_size, multiplier, shift, diff_min)
        )
        return context.builder.requantized(target, quantization, name + "/scale")

    return Pending(x.shape, emit, quantization=SOFTMAX_OUTPUT)


def _pool(context: Context, node: ir.Node, kind: type[AvgPool2D] | type[MaxPool2D]) -> Expression:
    x = context.view(node.inputs[0])
    if len(x.shape) not in (3, 4):
        raise Refused(f"it pools over {len(x.shape) - 2} axes; 1 and 2 are supported")
    window = sliding_window(node, x.shape, node.attributes.get_ints("kernel_shape", []))
    if window.dilation != (1, 1):
        raise Refused("its window is dilated")
    output_shape = static_shape(node.outputs[0])
    name = layer_name(node)
    include_pad = kind is AvgPool2D and bool(node.attributes.get_int("count_include_pad", 0))
    shape_in, shape_out = nhwc(x.shape), nhwc(output_shape)
    reach = [(shape_out[a] - 1) * window.stride[a - 1] + window.kernel[a - 1] for a in (1, 2)]
    overhang = any(reach[i] - window.padding[i] > shape_in[i + 1] for i in (0, 1))
    needs_zeros = include_pad and (window.padding != (0, 0) or overhang)
    if needs_zeros and node.attributes.get_int("ceil_mode", 0) != 0:
        raise Refused("it has count_include_pad together with ceil_mode")

    def emit(quantization: Quantization, clamp: Clamp) -> View:
        source, used, shape = x, window, shape_in
        if needs_zeros:
            rank = len(x.shape) - 2
            begin = [*window.padding][-rank:]
            end = [reach[i] - window.padding[i] - shape_in[i + 1] for i in (0, 1)][-rank:]
            source = padded(context.builder, x, [0, 0, *begin], [0, 0, *(max(e, 0) for e in end)], 0.0, name)
            used = Window(window.kernel, window.stride, window.dilation, (0, 0))
            shape = nhwc(source.shape)
        source = context.builder.ordered(source, channels_last_order(source.shape), name + "/nhwc")
        own = source.quantization
        target = context.builder.output_view(
            node.outputs[0].name or name, output_shape, own, channels_last_order(output_shape)
        )
        low, high = activation_range(clamp, own)
        context.builder.add(
            kind(
                name, source.tensor, target.tensor, shape, shape_out,
                used.kernel, used.stride, used.padding, low, high,
            )
        )  # fmt: skip
        return context.builder.requantized(target, quantization, name + "/scale")

    return Pending(output_shape, emit, quantization=_kept(x, kind))


def _kept(x: View, kind: type[AvgPool2D] | type[MaxPool2D]) -> Quantization | None:
    """Parameters where the graph gives none: a maximum is one of its inputs, also on 8-bit data."""
    return x.quantization if kind is MaxPool2D else None


def _over_axes(
    context: Context, node: ir.Node, x: View, axes: tuple[int, ...], kind: type[AvgPool2D] | type[MaxPool2D]
) -> Expression:
    """A pool whose window is the whole of `axes`; the axes that stay lie innermost."""
    output_shape = static_shape(node.outputs[0])
    if not axes:
        return x.reshaped(output_shape)
    name = layer_name(node)
    kept = [axis for axis in range(len(x.shape)) if axis not in axes]
    elements = row_major(x.size).reshape(x.shape)
    order = np.ascontiguousarray(elements.transpose(*axes, *kept)).reshape(-1)
    channels = math.prod(x.shape[axis] for axis in kept)
    height = x.shape[axes[0]] if len(axes) == 2 else 1
    width = x.size // channels // height

    def emit(quantization: Quantization, clamp: Clamp) -> View:
        source = context.builder.ordered(x, order, name + "/order")
        own = source.quantization
        target = context.builder.output_view(
            node.outputs[0].name or name, output_shape, own, row_major(channels)
        )
        low, high = activation_range(clamp, own)
        context.builder.add(
            kind(
                name, source.tensor, target.tensor, (1, height, width, channels), (1, 1, 1, channels),
                (height, width), (height, width), (0, 0), low, high,
            )
        )  # fmt: skip
        return context.builder.requantized(target, quantization, name + "/scale")

    return Pending(output_shape, emit, quantization=_kept(x, kind))
