"""The arithmetic of each kernel of a `Program` on numpy arrays; `qutec.reference` runs them on buffers.

Every kernel takes int8 arrays with the batch first, NHWC where there is a map, and returns int8. All
accumulators are int32 and wrap around on two's complement. Dot products are float matrix products (BLAS) in
a precision in which every partial sum is exact, so that the order of summation does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from qutec.errors import UnsupportedModelError
from qutec.fixed_point import (
    exp_on_negative_values,
    one_over_one_plus_x,
    requantize,
    rounding_divide_by_power_of_two,
    saturating_high_multiply,
    wrap_int32,
)
from qutec.program import (
    Add,
    AvgPool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mul,
    Pair,
    Softmax,
)

__all__ = [
    "add",
    "avg_pool2d",
    "conv2d",
    "depthwise_conv2d",
    "fully_connected",
    "lookup",
    "max_pool2d",
    "mul",
    "softmax",
]

Int8Array: TypeAlias = npt.NDArray[np.int8]
Int32Array: TypeAlias = npt.NDArray[np.int32]
Int64Array: TypeAlias = npt.NDArray[np.int64]
FloatArray: TypeAlias = npt.NDArray[np.floating]
FloatType: TypeAlias = np.dtype[np.floating]

_Number = TypeVar("_Number", bound=np.generic)

_SOFTMAX_SUM_SHIFT = 12
"""Exponentials in Q0.31 are summed as Q12.19."""


def conv2d(call: Conv2D, values: Int8Array) -> Int8Array:
    """values [batch, H, W, C] -> [batch, OH, OW, O], as im2col and one matrix product a group."""
    outputs, kernel_y, kernel_x, group_channels = call.weights.shape
    groups = values.shape[3] // group_channels
    window = _Window((kernel_y, kernel_x), call.stride, call.padding, call.dilation, call.output_shape[1:3])
    weights = call.weights.reshape(groups, outputs // groups, -1)
    dtype = _exact_float_type(weights.reshape(outputs, -1).astype(np.int64), call.input_offset)
    padded = np.zeros((len(values), *window.span, values.shape[3]), dtype=dtype)
    _place(values, padded, window)[...] += call.input_offset
    taps = _taps(padded, window)
    total = np.empty((len(values), *window.output, groups, outputs // groups), dtype=np.int32)
    for group in range(groups):
        channels = slice(group * group_channels, (group + 1) * group_channels)
        columns = taps[..., channels].reshape(-1, weights.shape[2])
        products = columns @ weights[group].astype(dtype).T
        total[..., group, :] = _to_int32(products).reshape(*total.shape[:3], -1)
    result = _finish_channels(total.reshape(-1, outputs), call)
    return result.reshape(len(values), *window.output, outputs)


def depthwise_conv2d(call: DepthwiseConv2D, values: Int8Array) -> Int8Array:
    """values [batch, H, W, C] -> [batch, OH, OW, C * channel_multiplier], one product a tap."""
    kernel_y, kernel_x, outputs = call.weights.shape
    window = _Window((kernel_y, kernel_x), call.stride, call.padding, call.dilation, call.output_shape[1:3])
    padded = np.zeros((len(values), *window.span, values.shape[3]), dtype=np.int32)
    _place(values, padded, window)[...] += call.input_offset
    taps = _taps(padded, window)
    weights = call.weights.astype(np.int32).reshape(kernel_y, kernel_x, -1, call.channel_multiplier)
    total = np.zeros((*taps.shape[:3], *weights.shape[2:]), dtype=np.int32)
    product = np.empty_like(total)
    for y, x in np.ndindex(kernel_y, kernel_x):
        total += np.multiply(taps[:, :, :, y, x, :, None], weights[y, x], out=product)
    result = _finish_channels(total.reshape(-1, outputs), call)
    return result.reshape(len(values), *window.output, outputs)


def fully_connected(call: FullyConnected, values: Int8Array) -> Int8Array:
    """values [batch, rows, I] -> [batch, rows, O]."""
    weights = call.weights.astype(np.int64) + call.filter_offset
    dtype = _exact_float_type(weights, call.input_offset)
    inputs = values.reshape(-1, values.shape[-1]).astype(dtype) + call.input_offset
    total = _to_int32(inputs @ weights.astype(dtype).T)
    total += call.bias
    scaled = requantize(total.astype(np.int64), call.multiplier, call.shift)
    result = _offset_and_clamp(scaled, call.output_offset, (call.activation_min, call.activation_max))
    return result.reshape(*values.shape[:-1], len(weights))


def avg_pool2d(call: AvgPool2D, values: Int8Array) -> Int8Array:
    """values [batch, H, W, C] -> [batch, OH, OW, C]: mean of the valid pixels, ties away from zero."""
    window = _Window(call.kernel, call.stride, call.padding, (1, 1), call.output_shape[1:3])
    counts = _pooled_pixels(window, values, call.name)
    padded = np.zeros((len(values), *window.span, values.shape[3]), dtype=np.int32)
    _place(values, padded, window)
    taps = _taps(padded, window)
    total = np.zeros((*taps.shape[:3], values.shape[3]), dtype=np.int32)
    for y, x in np.ndindex(*call.kernel):
        total += taps[:, :, :, y, x]
    mean: Int32Array = np.sign(total) * ((np.abs(total) + counts // 2) // counts)
    return np.clip(mean, call.activation_min, call.activation_max).astype(np.int8)


def max_pool2d(call: MaxPool2D, values: Int8Array) -> Int8Array:
    """values [batch, H, W, C] -> [batch, OH, OW, C]: maximum of the valid pixels."""
    window = _Window(call.kernel, call.stride, call.padding, (1, 1), call.output_shape[1:3])
    _pooled_pixels(window, values, call.name)
    padded = np.full((len(values), *window.span, values.shape[3]), -128, dtype=np.int8)
    _place(values, padded, window)
    taps = _taps(padded, window)
    largest = np.full((*taps.shape[:3], values.shape[3]), -128, dtype=np.int8)
    for y, x in np.ndindex(*call.kernel):
        np.maximum(largest, taps[:, :, :, y, x], out=largest)
    return np.clip(largest, call.activation_min, call.activation_max).astype(np.int8)


def add(call: Add, values_1: Int8Array, values_2: Int8Array) -> Int8Array:
    """Inputs of one shape -> sum of that shape; each input is shifted left, then requantised."""
    scaled_1 = (values_1.astype(np.int64) + call.input_1_offset) << call.left_shift
    scaled_2 = (values_2.astype(np.int64) + call.input_2_offset) << call.left_shift
    total = requantize(wrap_int32(scaled_1), call.input_1_multiplier, call.input_1_shift)
    total += requantize(wrap_int32(scaled_2), call.input_2_multiplier, call.input_2_shift)
    scaled = requantize(wrap_int32(total), call.output_multiplier, call.output_shift)
    return _offset_and_clamp(scaled, call.output_offset, (call.activation_min, call.activation_max))


def mul(call: Mul, values_1: Int8Array, values_2: Int8Array) -> Int8Array:
    """Inputs of one shape -> product of that shape."""
    product = (values_1.astype(np.int64) + call.input_1_offset) * (
        values_2.astype(np.int64) + call.input_2_offset
    )
    scaled = requantize(product, call.output_multiplier, call.output_shift)
    return _offset_and_clamp(scaled, call.output_offset, (call.activation_min, call.activation_max))


def softmax(call: Softmax, values: Int8Array) -> Int8Array:
    """values [batch, rows, row_size] -> probabilities p as round(256 p) - 128, of the same shape.

    Where the exponentials of a row sum to 512 or more (in units of the largest), arm_softmax_s8 shifts a
    32-bit number by more than 31, which C leaves undefined; rows of up to 511 values cannot get there.
    The quotient defined here is the true one, which rounds to probability 0.
    """
    # There are only 256 distances to the maximum of a row.
    distance = -np.arange(256, dtype=np.int64)
    argument = wrap_int32(distance << call.shift)
    exponential = exp_on_negative_values(saturating_high_multiply(argument, np.int64(call.multiplier)))
    exponential[distance < call.diff_min] = 0
    terms = rounding_divide_by_power_of_two(exponential, np.int64(_SOFTMAX_SUM_SHIFT))

    wide = values.astype(np.int16)
    below = wide.max(axis=-1, keepdims=True) - wide
    total = wrap_int32(terms[below].sum(axis=-1, keepdims=True))
    headroom = _leading_zeros(total)
    normalised = np.where(total > 0, total << headroom, 0) + (-1 << 31)
    scale = one_over_one_plus_x(wrap_int32(normalised))
    product = saturating_high_multiply(scale, exponential[below])
    bits_over_unit = _SOFTMAX_SUM_SHIFT - headroom + 23
    probability = rounding_divide_by_power_of_two(product, bits_over_unit) - 128
    return np.clip(probability, -128, 127).astype(np.int8)


def lookup(table: Int8Array, values: Int8Array) -> Int8Array:
    """table[value + 128] for each value; table [256]."""
    return table[values.astype(np.intp) + 128]


@dataclass(frozen=True)
class _Window:
    """Where a kernel looks as it moves over a map; all pairs are (height, width)."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    output: Pair

    @property
    def span(self) -> Pair:
        """Pixels from the first to the last that any position covers, padding included."""
        height, width = (
            (output - 1) * stride + (kernel - 1) * dilation + 1
            for output, stride, kernel, dilation in zip(
                self.output, self.stride, self.kernel, self.dilation, strict=True
            )
        )
        return height, width

    def valid_counts(self, height: int, width: int) -> Int32Array:
        """[OH, OW]: pixels of a height x width map under each position, padding left out."""
        axes: list[Int32Array] = []
        for axis, size in enumerate((height, width)):
            start = np.arange(self.output[axis]) * self.stride[axis] - self.padding[axis]
            taps = start[:, None] + np.arange(self.kernel[axis]) * self.dilation[axis]
            axes.append(((taps >= 0) & (taps < size)).sum(axis=1, dtype=np.int32))
        return np.multiply.outer(axes[0], axes[1])


def _place(values: Int8Array, padded: npt.NDArray[_Number], window: _Window) -> npt.NDArray[_Number]:
    """Puts a map [batch, H, W, C] into the padded one, less what no position covers; returns that region."""
    top, left = window.padding
    inside = padded[:, top : top + values.shape[1], left : left + values.shape[2]]
    inside[...] = values[:, : inside.shape[1], : inside.shape[2]]
    return inside


def _taps(padded: npt.NDArray[_Number], window: _Window) -> npt.NDArray[_Number]:
    """[batch, OH, OW, KH, KW, C]: what each position covers, as a view of a padded map."""
    batch, row, column, channel = padded.strides
    (stride_y, stride_x), (dilation_y, dilation_x) = window.stride, window.dilation
    return np.lib.stride_tricks.as_strided(
        padded,
        (len(padded), *window.output, *window.kernel, padded.shape[3]),
        (batch, row * stride_y, column * stride_x, row * dilation_y, column * dilation_x, channel),
    )


def _pooled_pixels(window: _Window, values: Int8Array, name: str) -> Int32Array:
    """`valid_counts` as [OH, OW, 1]; a window without a pixel has no mean and no maximum."""
    counts = window.valid_counts(*values.shape[1:3])
    if not counts.all():
        raise UnsupportedModelError(f"{name}: a pooling window covers no input at all")
    return counts[:, :, None]


def _exact_float_type(weights: Int64Array, input_offset: int) -> FloatType:
    """The float type in which dot products of weights [O, K] with int8 values plus offset are exact."""
    largest = max(abs(input_offset - 128), abs(input_offset + 127))
    bound = largest * int(np.abs(weights).sum(axis=1).max(initial=0))
    if bound >= 1 << 53:
        raise UnsupportedModelError("a dot product is too long for the reference interpreter")
    return np.dtype(np.float32 if bound <= 1 << 24 else np.float64)


def _to_int32(products: FloatArray) -> Int32Array:
    return products.astype(np.int64).astype(np.int32)


def _finish_channels(total: Int32Array, call: Conv2D | DepthwiseConv2D) -> Int8Array:
    """int32 dot products [pixels, O] -> outputs: bias, requantisation per channel, offset, clamp."""
    total += call.bias
    scaled = requantize(total.astype(np.int64), call.multiplier, call.shift)
    return _offset_and_clamp(scaled, call.output_offset, (call.activation_min, call.activation_max))


def _offset_and_clamp(scaled: Int64Array, offset: int, activation: Pair) -> Int8Array:
    values = scaled.astype(np.int32)
    values += np.int32(offset)
    return np.clip(values, *activation, out=values).astype(np.int8)


def _leading_zeros(value: Int64Array) -> Int64Array:
    """Leading zero bits of int32 values: 0 of a negative one, 32 of 0."""
    _, bits = np.frexp(value.astype(np.float64))
    return np.where(value < 0, 0, 32 - bits).astype(np.int64)
