"""Lowering of what multiplies by weights: Conv, Gemm, MatMul, BatchNormalization, channel constants.

All of it ends in Conv2D, DepthwiseConv2D or FullyConnected calls with an int32 accumulator
    acc = bias + sum (x - x_zero) * w,    out = acc * (x_scale * w_scale / out_scale) + out_zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qutec.fixed_point import quantize_multiplier, quantize_multipliers
from qutec.lower.builder import Refused
from qutec.lower.constants import Constant, QuantizedConstant, constant, real
from qutec.lower.expression import Clamp, Context, DenseLayer, Expression, Pending
from qutec.lower.layer_constants import (
    along_axis,
    bias_of,
    broadcast,
    channel_bias,
    matrix,
    scaled,
    swapped,
    weights_of,
)
from qutec.lower.shapes import activation_range, layer_name, nhwc, sliding_window, static_shape
from qutec.lower.view import View, channels_last_order, moved_axis_order, row_major
from qutec.program import Call, Conv2D, DepthwiseConv2D, FullyConnected, Int8Array, Int32Array, Quantization
from qutec.quantization import quantize_bias, symmetric_per_channel

__all__ = ["batch_normalization", "channel_affine", "conv", "gemm", "matmul"]

FloatArray = npt.NDArray[np.float64]

_SAME_SCALE = 1e-5
"""An int32 bias whose own scale agrees this well with x_scale * w_scale is taken as it is."""


class _Requantized(TypedDict):
    """The fields that convolutions and depthwise convolutions share."""

    bias: Int32Array
    multiplier: Int32Array
    shift: Int32Array
    input_offset: int
    output_offset: int
    activation_min: int
    activation_max: int


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer with weights before its output parameters are known. Weights have channels first."""

    name: str
    x: View
    order: Int32Array | None
    """Memory order that the kernel reads; None takes any, and `call` sees the one there is."""
    weights: Constant
    bias: Constant | None
    output_name: str
    output_shape: tuple[int, ...]
    output_order: Int32Array
    channel_axis: int
    call: Callable[[_Ready], Call]
    is_dense: bool = False
    """Whether this is one row of a dense layer, whose sum a head can read wider than int8."""


@dataclass(frozen=True, eq=False)
class _Ready:
    """All that is needed to write down the call."""

    name: str
    source: View
    target: View
    weights: Int8Array
    scale: FloatArray
    bias: FloatArray | Int32Array
    filter_offset: int
    quantization: Quantization
    clamp: Clamp

    def requantized(self) -> _Requantized:
        """Per-channel constants; the effective scale is computed in double from float32 scales."""
        source = self.source.quantization
        channels = self.weights.shape[0]
        real_scale = np.broadcast_to(source.scale * self.scale / self.quantization.scale, (channels,))
        multiplier, shift = quantize_multipliers(real_scale)
        low, high = activation_range(self.clamp, self.quantization)
        return {
            "bias": self.integer_bias(),
            "multiplier": multiplier,
            "shift": shift,
            "input_offset": -source.zero_point,
            "output_offset": self.quantization.zero_point,
            "activation_min": low,
            "activation_max": high,
        }

    def integer_bias(self) -> Int32Array:
        """int32 bias at x_scale * w_scale."""
        if self.bias.dtype == np.int32:
            return self.bias.astype(np.int32)
        scale = self.source.quantization.scale * self.scale
        return quantize_bias(self.bias.astype(np.float64), np.broadcast_to(scale, self.bias.shape))


def conv(context: Context, node: ir.Node) -> Expression:
    """Conv, 1-D or 2-D; a group for each input channel becomes a depthwise convolution."""
    x = context.view(node.inputs[0])
    weights = weights_of(node)
    output_shape = static_shape(node.outputs[0])
    if len(x.shape) not in (3, 4):
        raise Refused(f"it convolves over {len(x.shape) - 2} axes; 1 and 2 are supported")
    window = sliding_window(node, x.shape, weights.shape[2:])
    shape_in, shape_out = nhwc(x.shape), nhwc(output_shape)
    channels = x.shape[1]
    depthwise = node.attributes.get_int("group", 1) == channels and channels > 1

    def call(ready: _Ready) -> Call:
        kernel = ready.weights.reshape(*ready.weights.shape[:2], *window.kernel)
        if depthwise:
            return DepthwiseConv2D(
                ready.name,
                ready.source.tensor,
                ready.target.tensor,
                shape_in,
                shape_out,
                np.ascontiguousarray(kernel[:, 0].transpose(1, 2, 0)),
                channel_multiplier=kernel.shape[0] // channels,
                stride=window.stride,
                padding=window.padding,
                dilation=window.dilation,
                **ready.requantized(),
            )
        return Conv2D(
            ready.name,
            ready.source.tensor,
            ready.target.tensor,
            shape_in,
            shape_out,
            np.ascontiguousarray(kernel.transpose(0, 2, 3, 1)),
            stride=window.stride,
            padding=window.padding,
            dilation=window.dilation,
            **ready.requantized(),
        )

    return _pending(
        context,
        _Layer(
            name=layer_name(node),
            x=x,
            order=channels_last_order(x.shape),
            weights=weights,
            bias=bias_of(node),
            output_name=node.outputs[0].name or layer_name(node),
            output_shape=output_shape,
            output_order=channels_last_order(output_shape),
            channel_axis=1,
            call=call,
        ),
    )


def gemm(context: Context, node: ir.Node) -> Expression:
    """Gemm with constant weights: alpha * x @ B + beta * C."""
    if node.attributes.get_int("transA", 0):
        raise Refused("transA is set")
    weights = weights_of(node)
    if not node.attributes.get_int("transB", 0):
        weights = swapped(weights)
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    bias = bias_of(node)
    x = context.view(node.inputs[0])
    if bias is not None and beta != 1.0:
        bias = real(bias) * beta
    return _dense(context, node, x, scaled(weights, alpha), channel_bias(bias, weights.shape[0]))


def matmul(context: Context, node: ir.Node) -> Expression:
    """MatMul of data with constant weights; leading axes of the data are rows."""
    weights = weights_of(node)
    if len(weights.shape) < 2 or math.prod(weights.shape[:-2]) != 1:
        raise Refused("its weights are not one matrix")
    x = context.view(node.inputs[0])
    return _dense(context, node, x, swapped(matrix(weights)), None)


def batch_normalization(context: Context, node: ir.Node) -> Expression:
    """BatchNormalization that nothing folded: a scale and an offset for each channel."""
    known = [constant(value) for value in node.inputs[1:5]]
    if any(value is None for value in known):
        raise Refused("its parameters are not constants")
    scale, offset, mean, variance = (real(value) for value in known if value is not None)
    factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    x = context.view(node.inputs[0])
    output_name = node.outputs[0].name or layer_name(node)
    return channel_affine(context, layer_name(node), output_name, x, 1, factor, offset - mean * factor)


def channel_affine(
    context: Context,
    name: str,
    output_name: str,
    x: View,
    axis: int,
    factor: FloatArray,
    offset: FloatArray,
) -> Pending:
    """factor[c] * x + offset[c] along `axis`, as a 1x1 depthwise convolution."""
    channels = x.shape[axis]
    pixels = x.size // channels
    order = moved_axis_order(x.shape, axis)
    shape = (1, 1, pixels, channels)

    def call(ready: _Ready) -> Call:
        return DepthwiseConv2D(
            ready.name,
            ready.source.tensor,
            ready.target.tensor,
            shape,
            shape,
            ready.weights.reshape(1, 1, channels),
            channel_multiplier=1,
            stride=(1, 1),
            padding=(0, 0),
            dilation=(1, 1),
            **ready.requantized(),
        )

    weights = np.broadcast_to(factor, (channels,)).reshape(channels, 1)
    bias = np.broadcast_to(offset, (channels,)).astype(np.float64)
    return _pending(context, _Layer(name, x, order, weights, bias, output_name, x.shape, order, axis, call))


def _dense(context: Context, node: ir.Node, x: View, weights: Constant, bias: Constant | None) -> Expression:
    """x @ weights.T + bias, weights [O, I]; per-channel scales need a pointwise convolution."""
    outputs, inputs = weights.shape
    output_shape = static_shape(node.outputs[0])
    rows = x.size // inputs

    def call(ready: _Ready) -> Call:
        values = ready.weights if rows > 1 else ready.weights[:, ready.source.order]
        values = np.ascontiguousarray(values)
        if ready.scale.size == 1:
            return _fully_connected(ready, rows, values)
        return Conv2D(
            ready.name,
            ready.source.tensor,
            ready.target.tensor,
            (1, 1, rows, inputs),
            (1, 1, rows, outputs),
            values.reshape(outputs, 1, 1, inputs),
            stride=(1, 1),
            padding=(0, 0),
            dilation=(1, 1),
            **ready.requantized(),
        )

    return _pending(
        context,
        _Layer(
            name=layer_name(node),
            x=x,
            order=row_major(x.size) if rows > 1 else None,
            weights=weights,
            bias=bias,
            output_name=node.outputs[0].name or layer_name(node),
            output_shape=output_shape,
            output_order=row_major(rows * outputs),
            channel_axis=len(output_shape) - 1,
            call=call,
            is_dense=rows == 1,
        ),
    )


def _fully_connected(ready: _Ready, rows: int, values: Int8Array) -> FullyConnected:
    source, scale = ready.source.quantization, ready.quantization.scale
    # TensorFlow Lite multiplies the two float32 scales in float32 here, and only here.
    product = float(np.float32(source.scale) * np.float32(ready.scale.reshape(-1)[0]))
    multiplier, shift = quantize_multiplier(product / scale)
    low, high = activation_range(ready.clamp, ready.quantization)
    return FullyConnected(
        ready.name,
        ready.source.tensor,
        ready.target.tensor,
        rows,
        values,
        ready.integer_bias(),
        multiplier,
        shift,
        input_offset=-source.zero_point,
        filter_offset=ready.filter_offset,
        output_offset=ready.quantization.zero_point,
        activation_min=low,
        activation_max=high,
    )


def _pending(context: Context, layer: _Layer) -> Pending:
    def emit(quantization: Quantization, clamp: Clamp) -> View:
        builder = context.builder
        if layer.order is None:
            source = builder.settled(layer.x)
        else:
            source = builder.ordered(layer.x, layer.order, layer.name + "/order")
        weights, scale, zero_point = _integer_weights(layer, source.quantization.scale)
        bias = _bias(layer, weights.shape[0], source.quantization.scale * scale)
        if zero_point:
            weights = weights.astype(np.int8)
        target = builder.output_view(layer.output_name, layer.output_shape, quantization, layer.output_order)
        ready = _Ready(layer.name, source, target, weights, scale, bias, -zero_point, quantization, clamp)
        call = layer.call(ready)
        if zero_point and not isinstance(call, FullyConnected):
            raise Refused("its weights have a zero point; the kernel wants symmetric weights")
        builder.add(call)
        return target

    def biased(offset: Constant) -> Pending | None:
        channels = layer.output_shape[layer.channel_axis]
        along = along_axis(offset, layer.output_shape, layer.channel_axis)
        if layer.bias is not None or along is None:
            return None
        return _pending(context, replace(layer, bias=broadcast(along, channels)))

    return Pending(layer.output_shape, emit, biased=biased, dense=_dense_layer(layer))


def _dense_layer(layer: _Layer) -> DenseLayer | None:
    if not layer.is_dense:
        return None
    bias = np.zeros(layer.weights.shape[0]) if layer.bias is None else real(layer.bias).reshape(-1)
    return DenseLayer(layer.name, layer.x, layer.weights, np.asarray(bias, np.float64))


def _integer_weights(layer: _Layer, input_scale: float) -> tuple[Int8Array, FloatArray, int]:
    """(int8 weights, scale [1 or O], zero point) of a layer; float weights are quantised here."""
    weights = layer.weights
    if not isinstance(weights, QuantizedConstant):
        bias = real(layer.bias) if layer.bias is not None else None
        values, scale = symmetric_per_channel(np.asarray(weights, np.float64), 0, bias, input_scale)
        return values, scale.astype(np.float64), 0
    if weights.axis not in (None, 0):
        raise Refused(f"its weights are quantised along axis {weights.axis}, not the output channels")
    zero_points = np.unique(weights.zero_point)
    if zero_points.size > 1 or (weights.axis == 0 and zero_points[0] != 0):
        raise Refused("its weights have zero points; the kernel wants symmetric weights")
    if weights.values.min() < -128 or weights.values.max() > 127:
        raise Refused("its weights are not 8-bit")
    return weights.values.astype(np.int8), weights.scale.reshape(-1), int(zero_points[0])


def _bias(layer: _Layer, channels: int, scale: FloatArray) -> FloatArray | Int32Array:
    """The bias as real numbers, or as the very integers of the file where their scale is the right one."""
    if layer.bias is None:
        return np.zeros(channels, np.int32)
    if not isinstance(layer.bias, QuantizedConstant):
        return np.broadcast_to(real(layer.bias).reshape(-1), (channels,))
    given = np.broadcast_to(layer.bias.scale.reshape(-1), (channels,))
    same = np.abs(given / np.broadcast_to(scale, (channels,)) - 1.0).max() < _SAME_SCALE
    if same and not layer.bias.zero_point.any():
        return layer.bias.values.reshape(-1).astype(np.int32)
    return layer.bias.real().reshape(-1)
