"""Random kernel calls for tests that compare executions: every field is drawn, extremes included."""

from __future__ import annotations

import numpy as np

from qutec.program import (
    Add,
    AvgPool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Int8Array,
    Int32Array,
    MaxPool2D,
    Mul,
    Pair,
    Shape,
    Softmax,
    Tensor,
)

INPUT = Tensor("input")
INPUT_2 = Tensor("input_2")
OUTPUT = Tensor("output")


def int8(rng: np.random.Generator, *shape: int) -> Int8Array:
    """Uniform values, or only the two extremes, or one value everywhere."""
    kind = rng.integers(4)
    if kind == 0:
        return rng.choice(np.array([-128, 127], dtype=np.int8), shape)
    if kind == 1:
        return np.full(shape, rng.integers(-128, 128), dtype=np.int8)
    return rng.integers(-128, 128, shape, dtype=np.int8)


def multiplier(rng: np.random.Generator) -> int:
    choice = rng.integers(6)
    if choice == 0:
        return int(rng.choice([1 << 30, (1 << 31) - 1, 0, 1]))
    return int(rng.integers(1 << 30, 1 << 31))


def activation(rng: np.random.Generator) -> Pair:
    if rng.integers(2):
        return -128, 127
    low, high = sorted(int(value) for value in rng.integers(-128, 128, 2))
    return low, high


def pair(rng: np.random.Generator, low: int, high: int) -> Pair:
    return int(rng.integers(low, high)), int(rng.integers(low, high))


def _channel_parameters(
    rng: np.random.Generator, channels: int, depth: int
) -> tuple[Int32Array, Int32Array, Int32Array]:
    """Bias, multiplier and shift; the output's spread is near the range of int8 unless drawn extreme."""
    usual = -int(np.log2(1 + depth) / 2 + 7)
    bias = rng.integers(-20000, 20000, channels).astype(np.int32)
    shift = np.full(channels, usual) + rng.integers(-3, 4, channels)
    if rng.integers(4) == 0:
        bias = rng.integers(-(1 << 31), 1 << 31, channels).astype(np.int32)
        shift = rng.integers(-31, 8, channels)
    multipliers = np.array([multiplier(rng) for _ in range(channels)], dtype=np.int32)
    return bias, multipliers, shift.astype(np.int32)


def _map_geometry(
    rng: np.random.Generator, kernel: Pair, stride: Pair, dilation: Pair, channels: int
) -> tuple[Shape, Pair, Pair]:
    """Input shape, padding and output size; padding stays under the kernel."""
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = (int(rng.integers(0, kernel[0])), int(rng.integers(0, kernel[1])))
    size = [int(rng.integers(max(1, s - p), s + 6)) for s, p in zip(span, padding, strict=True)]
    output = [
        (n + p + int(rng.integers(0, p + 1)) - s) // step + 1
        for n, p, s, step in zip(size, padding, span, stride, strict=True)
    ]
    return (1, size[0], size[1], channels), padding, (output[0], output[1])


def conv2d(rng: np.random.Generator) -> Conv2D:
    groups = int(rng.choice([1, 1, 2, 3]))
    group_channels = int(rng.integers(1, 7))
    outputs = groups * int(rng.integers(1, 6))
    kernel, stride, dilation = pair(rng, 1, 5), pair(rng, 1, 4), pair(rng, 1, 3)
    if rng.integers(3) == 0:
        kernel = (1, 1)
    if rng.integers(2):
        dilation = (1, 1)
    shape, padding, output = _map_geometry(rng, kernel, stride, dilation, groups * group_channels)
    bias, multipliers, shift = _channel_parameters(rng, outputs, kernel[0] * kernel[1] * group_channels)
    low, high = activation(rng)
    return Conv2D(
        name="conv2d",
        input=INPUT,
        output=OUTPUT,
        input_shape=shape,
        output_shape=(1, *output, outputs),
        weights=int8(rng, outputs, *kernel, group_channels),
        bias=bias,
        multiplier=multipliers,
        shift=shift,
        stride=stride,
        padding=padding,
        dilation=dilation,
        input_offset=int(rng.integers(-127, 129)),
        output_offset=int(rng.integers(-128, 128)),
        activation_min=low,
        activation_max=high,
    )


def depthwise_conv2d(rng: np.random.Generator) -> DepthwiseConv2D:
    channels, channel_multiplier = int(rng.integers(1, 9)), int(rng.choice([1, 1, 2, 3]))
    outputs = channels * channel_multiplier
    kernel, stride, dilation = pair(rng, 1, 5), pair(rng, 1, 4), pair(rng, 1, 3)
    if rng.integers(2):
        kernel, dilation = (3, 3), (1, 1)
    shape, padding, output = _map_geometry(rng, kernel, stride, dilation, channels)
    bias, multipliers, shift = _channel_parameters(rng, outputs, kernel[0] * kernel[1])
    low, high = activation(rng)
    return DepthwiseConv2D(
        name="depthwise_conv2d",
        input=INPUT,
        output=OUTPUT,
        input_shape=shape,
        output_shape=(1, *output, outputs),
        weights=int8(rng, *kernel, outputs),
        bias=bias,
        multiplier=multipliers,
        shift=shift,
        channel_multiplier=channel_multiplier,
        stride=stride,
        padding=padding,
        dilation=dilation,
        input_offset=int(rng.integers(-127, 129)),
        output_offset=int(rng.integers(-128, 128)),
        activation_min=low,
        activation_max=high,
    )


def fully_connected(rng: np.random.Generator) -> FullyConnected:
    depth, outputs, rows = int(rng.integers(1, 40)), int(rng.integers(1, 12)), int(rng.integers(1, 4))
    bias, multipliers, shift = _channel_parameters(rng, outputs, depth)
    low, high = activation(rng)
    return FullyConnected(
        name="fully_connected",
        input=INPUT,
        output=OUTPUT,
        rows=rows,
        weights=int8(rng, outputs, depth),
        bias=bias,
        multiplier=int(multipliers[0]),
        shift=int(shift[0]),
        input_offset=int(rng.integers(-127, 129)),
        filter_offset=int(rng.integers(-127, 129)) * int(rng.integers(2)),
        output_offset=int(rng.integers(-128, 128)),
        activation_min=low,
        activation_max=high,
    )


def avg_pool2d(rng: np.random.Generator) -> AvgPool2D:
    return AvgPool2D("avg_pool2d", INPUT, OUTPUT, *_pool_fields(rng))


def max_pool2d(rng: np.random.Generator) -> MaxPool2D:
    return MaxPool2D("max_pool2d", INPUT, OUTPUT, *_pool_fields(rng))


def _pool_fields(rng: np.random.Generator) -> tuple[Shape, Shape, Pair, Pair, Pair, int, int]:
    kernel, stride = pair(rng, 1, 6), pair(rng, 1, 4)
    shape, padding, output = _map_geometry(rng, kernel, stride, (1, 1), int(rng.integers(1, 9)))
    low, high = activation(rng)
    return shape, (1, *output, shape[3]), kernel, stride, padding, low, high


def _strides(rng: np.random.Generator, inner: int) -> Pair:
    """Of the two inputs: at most one is broadcast."""
    broadcast = rng.integers(3)
    return (0 if broadcast == 1 else inner), (0 if broadcast == 2 else inner)


def add(rng: np.random.Generator) -> Add:
    outer, inner = pair(rng, 1, 9)
    low, high = activation(rng)
    sign = int(rng.choice([1, -1]))
    # Shifts of at most 0 keep every sum inside int32, as add_parameters does; some calls leave it.
    highest = 5 if rng.integers(4) == 0 else 1
    return Add(
        "add",
        INPUT,
        INPUT_2,
        OUTPUT,
        outer,
        inner,
        *_strides(rng, inner),
        input_1_offset=int(rng.integers(-127, 129)),
        input_1_multiplier=multiplier(rng),
        input_1_shift=int(rng.integers(-6, highest)),
        input_2_offset=int(rng.integers(-127, 129)),
        input_2_multiplier=sign * multiplier(rng),
        input_2_shift=int(rng.integers(-6, highest)),
        left_shift=20,
        output_offset=int(rng.integers(-128, 128)),
        output_multiplier=multiplier(rng),
        output_shift=int(rng.integers(-22, 1)),
        activation_min=low,
        activation_max=high,
    )


def mul(rng: np.random.Generator) -> Mul:
    outer, inner = pair(rng, 1, 9)
    low, high = activation(rng)
    sign = int(rng.choice([1, -1]))
    return Mul(
        "mul",
        INPUT,
        INPUT_2,
        OUTPUT,
        outer,
        inner,
        *_strides(rng, inner),
        input_1_offset=int(rng.integers(-127, 129)),
        input_2_offset=int(rng.integers(-127, 129)),
        output_offset=int(rng.integers(-128, 128)),
        output_multiplier=sign * multiplier(rng),
        output_shift=int(rng.integers(-12, 6)),
        activation_min=low,
        activation_max=high,
    )


def softmax(rng: np.random.Generator) -> Softmax:
    """Any shift from 0 to 31; diff_min as TensorFlow Lite sets it, or any other value up to 0."""
    shift = int(rng.integers(0, 32))
    diff_min = -((31 << 26) >> shift)
    if rng.integers(4) == 0:
        diff_min = -int(rng.integers(0, 256))
    return Softmax(
        "softmax",
        INPUT,
        OUTPUT,
        rows=int(rng.integers(1, 4)),
        row_size=int(rng.choice([1, 2, 10, 100, 511])),
        multiplier=max(multiplier(rng), 1),
        shift=shift,
        diff_min=diff_min,
    )
