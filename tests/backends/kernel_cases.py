"""Random kernel calls with their operands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from qutec.program import (
    Add,
    AvgPool2D,
    Call,
    Concat,
    Conv2D,
    Copy,
    DepthwiseConv2D,
    FullyConnected,
    Gather,
    Int8Array,
    Int32Array,
    Lookup,
    MaxPool2D,
    Move,
    Mul,
    Shape,
    Softmax,
    Tensor,
)

_INPUT, _SECOND, _OUTPUT = Tensor("input"), Tensor("second"), Tensor("output")


@dataclass(frozen=True)
class Case:
    """A call, its operands, and which operand the output aliases (0 none, 1 the first, 2 the second)."""

    call: Call
    data: Int8Array
    second: Int8Array = field(default_factory=lambda: np.empty(0, np.int8))
    output_bytes: int = 0
    alias: int = 0


class Draw:
    """The random choices of one case; extremes come up often."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def integer(self, low: int, high: int) -> int:
        """Uniform, both ends included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, percent: int) -> bool:
        return self.integer(1, 100) <= percent

    def int8s(self, *shape: int) -> Int8Array:
        if self.chance(15):
            return self.rng.choice(np.array([-128, 127], np.int8), shape)
        return self.rng.integers(-128, 128, shape, dtype=np.int8)

    def multiplier(self) -> int:
        if self.chance(20):
            return int(self.rng.choice([2**31 - 1, 2**30, 1, 2**31 - 2**16]))
        return self.integer(2**30, 2**31 - 1)

    def shift(self) -> int:
        if self.chance(15):
            return int(self.rng.choice([0, 1, 7, -1, -22, -23, -28, -31]))
        return self.integer(-12, -3)

    def multipliers(self, count: int) -> Int32Array:
        values = np.array([self.multiplier() for _ in range(count)], np.int32)
        # No network has a negative one, but the arithmetic allows it.
        return values * self.rng.choice(np.array([-1, 1], np.int32), count) if self.chance(8) else values

    def shifts(self, count: int) -> Int32Array:
        return np.array([self.shift() for _ in range(count)], np.int32)

    def biases(self, count: int) -> Int32Array:
        limit = self.rng.choice([2**29, 2**31 - 2**26]) if self.chance(15) else 20000
        return self.rng.integers(-limit, limit, count, dtype=np.int32)

    def activation(self) -> tuple[int, int]:
        if self.chance(50):
            return -128, 127
        low = self.integer(-128, 126)
        return low, self.integer(low + 1, 127)

    def geometry(self, kernel: int, stride: int, dilation: int) -> tuple[int, int, int]:
        """Input size, padding before and output size along one axis; never an empty output."""
        extent = (kernel - 1) * dilation + 1
        before, after = self.integer(0, extent - 1), self.integer(0, extent - 1)
        if self.chance(40):
            before = after = min(1, extent - 1)
        size = max(1, extent - before - after) + self.integer(0, 5)
        return size, before, (size + before + after - extent) // stride + 1


@dataclass(frozen=True)
class _Map:
    input_shape: Shape
    output_shape: Shape
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


def _map(draw: Draw, kernel: tuple[int, int], channels: int, out_channels: int, *, dilated: bool) -> _Map:
    stride = (draw.integer(1, 3), draw.integer(1, 3)) if draw.chance(50) else (1, 1)
    dilation = (draw.integer(1, 3), draw.integer(1, 3)) if dilated and draw.chance(25) else (1, 1)
    h, pad_h, out_h = draw.geometry(kernel[0], stride[0], dilation[0])
    w, pad_w, out_w = draw.geometry(kernel[1], stride[1], dilation[1])
    return _Map(
        (1, h, w, channels), (1, out_h, out_w, out_channels), kernel, stride, (pad_h, pad_w), dilation
    )


def conv(draw: Draw) -> Case:
    pointwise = draw.chance(35)
    kernel = (1, 1) if pointwise else (draw.integer(1, 4), draw.integer(1, 5))
    groups = 1 if pointwise or draw.chance(70) else draw.integer(2, 4)
    depth, outputs = draw.integer(1, 18), draw.integer(1, 7)
    if pointwise and draw.chance(30):
        depth = draw.integer(19, 150)
    m = _map(draw, kernel, depth * groups, outputs * groups, dilated=not pointwise)
    return _convolution(draw, m, groups)


def conv_of_three_columns(draw: Draw) -> Case:
    """Words of channels and stride 1, which have a kernel of their own; rows of any length."""
    kernel = (draw.integer(1, 4), 3)
    dilation = draw.integer(1, 2)
    h, pad_h, out_h = draw.geometry(kernel[0], 1, dilation)
    pad_w = draw.integer(0, 2)
    w = draw.integer(3, 13)
    out_w = w + pad_w + draw.integer(0, 2) - 2
    depth, outputs = 4 * draw.integer(1, 10), draw.integer(1, 7)
    m = _Map((1, h, w, depth), (1, out_h, out_w, outputs), kernel, (1, 1), (pad_h, pad_w), (dilation, 1))
    return _convolution(draw, m, 1)


def _convolution(draw: Draw, m: _Map, groups: int) -> Case:
    depth, outputs = m.input_shape[3] // groups, m.output_shape[3]
    low, high = draw.activation()
    call = Conv2D(
        "conv",
        _INPUT,
        _OUTPUT,
        m.input_shape,
        m.output_shape,
        draw.int8s(outputs, *m.kernel, depth),
        draw.biases(outputs),
        draw.multipliers(outputs),
        draw.shifts(outputs),
        m.stride,
        m.padding,
        m.dilation,
        draw.integer(-127, 128),
        draw.integer(-128, 127),
        low,
        high,
    )
    return Case(call, draw.int8s(int(np.prod(m.input_shape))), call.weights)


def depthwise(draw: Draw) -> Case:
    kernel = (3, 3) if draw.chance(50) else (draw.integer(1, 4), draw.integer(1, 5))
    ch_mult = 1 if draw.chance(60) else draw.integer(2, 5)
    channels = draw.integer(1, 11)
    outputs = channels * ch_mult
    m = _map(draw, kernel, channels, outputs, dilated=True)
    low, high = draw.activation()
    call = DepthwiseConv2D(
        "depthwise",
        _INPUT,
        _OUTPUT,
        m.input_shape,
        m.output_shape,
        draw.int8s(*kernel, outputs),
        draw.biases(outputs),
        draw.multipliers(outputs),
        draw.shifts(outputs),
        ch_mult,
        m.stride,
        m.padding,
        m.dilation,
        draw.integer(-127, 128),
        draw.integer(-128, 127),
        low,
        high,
    )
    return Case(call, draw.int8s(int(np.prod(m.input_shape))), call.weights)


def wide_conv(draw: Draw) -> Case:
    """More channels than a block of a vector kernel has, windows of more than one vector, few pixels."""
    pointwise = draw.chance(40)
    kernel = (1, 1) if pointwise else (draw.integer(1, 3), draw.integer(1, 3))
    groups = 1 if pointwise or draw.chance(85) else 2
    depth, outputs = draw.integer(1, 70 if pointwise else 20), draw.integer(1, 40 // groups)
    m = _map(draw, kernel, depth * groups, outputs * groups, dilated=not pointwise)
    low, high = draw.activation()
    call = Conv2D(
        *("conv", _INPUT, _OUTPUT, m.input_shape, m.output_shape),
        draw.int8s(outputs * groups, *kernel, depth),
        draw.biases(outputs * groups),
        draw.multipliers(outputs * groups),
        draw.shifts(outputs * groups)
        if draw.chance(50)
        else np.full(outputs * groups, draw.integer(-31, -1), np.int32),
        *(m.stride, m.padding, m.dilation),
        *(0 if draw.chance(30) else draw.integer(-127, 128), draw.integer(-128, 127), low, high),
    )
    return Case(call, draw.int8s(int(np.prod(m.input_shape))), call.weights)


def wide_depthwise(draw: Draw) -> Case:
    """More channels than a vector has, often without a weight of -128, as compilers quantise."""
    kernel = (3, 3) if draw.chance(60) else (draw.integer(1, 4), draw.integer(1, 4))
    channels = draw.integer(12, 50)
    m = _map(draw, kernel, channels, channels, dilated=True)
    low, high = draw.activation()
    weights = draw.int8s(*kernel, channels)
    call = DepthwiseConv2D(
        *("depthwise", _INPUT, _OUTPUT, m.input_shape, m.output_shape),
        np.maximum(weights, np.int8(-127)) if draw.chance(60) else weights,
        draw.biases(channels),
        draw.multipliers(channels),
        draw.shifts(channels) if draw.chance(40) else np.full(channels, draw.integer(-12, -1), np.int32),
        *(1, m.stride, m.padding, m.dilation),
        *(draw.integer(-127, 128), draw.integer(-128, 127), low, high),
    )
    return Case(call, draw.int8s(int(np.prod(m.input_shape))), call.weights)


def wide_pool(draw: Draw) -> Case:
    return _pool(draw, (draw.integer(1, 4), draw.integer(1, 4)), draw.integer(7, 40))


def fully_connected(draw: Draw) -> Case:
    """Often without an input offset, as compiled, and of whole words of depth: these have their own loops."""
    rows, depth, outputs = draw.integer(1, 3), draw.integer(1, 90), draw.integer(1, 11)
    if draw.chance(50):
        depth = 4 * draw.integer(1, 90)
    input_offset = 0 if draw.chance(60) else draw.integer(-127, 128)
    low, high = draw.activation()
    call = FullyConnected(
        "fc",
        _INPUT,
        _OUTPUT,
        rows,
        draw.int8s(outputs, depth),
        draw.biases(outputs),
        draw.multiplier(),
        draw.shift(),
        input_offset,
        draw.integer(-127, 128) if draw.chance(15) else 0,
        draw.integer(-128, 127),
        low,
        high,
    )
    return Case(call, draw.int8s(rows * depth), call.weights)


def pool(draw: Draw) -> Case:
    kernel = (draw.integer(1, 4), draw.integer(1, 4))
    if draw.chance(15):
        kernel = (draw.integer(9, 20), draw.integer(9, 20))
    return _pool(draw, kernel, draw.integer(1, 10))


def _pool(draw: Draw, kernel: tuple[int, int], channels: int) -> Case:
    m = _map(draw, kernel, channels, channels, dilated=False)
    low, high = draw.activation()
    kind = AvgPool2D if draw.chance(60) else MaxPool2D
    call = kind(
        "pool", _INPUT, _OUTPUT, m.input_shape, m.output_shape, m.kernel, m.stride, m.padding, low, high
    )
    return Case(call, draw.int8s(int(np.prod(m.input_shape))))


def softmax(draw: Draw) -> Case:
    return _softmax(draw, draw.integer(1, 3), draw.integer(1, 40))


def wide_softmax(draw: Draw) -> Case:
    """Rows of which the kernels do not keep all exponentials."""
    return _softmax(draw, draw.integer(1, 2), draw.integer(20, 500))


def _softmax(draw: Draw, rows: int, size: int) -> Case:
    """Multiplier and shift as TensorFlow Lite derives them from a scale between 2^-10 and 1."""
    real = 2.0 ** draw.rng.uniform(-10, 0) * 2**26
    mantissa, exponent = np.frexp(real)
    multiplier, shift = min(2**31 - 1, round(float(mantissa) * 2**31)), int(exponent)
    diff_min = -int(np.floor(31 * 2.0**26 / 2.0**shift))
    call = Softmax("softmax", _INPUT, _OUTPUT, rows, size, multiplier, shift, diff_min)
    data = draw.int8s(rows * size)
    return Case(call, np.full_like(data, draw.integer(-128, 127)) if draw.chance(10) else data)


def add(draw: Draw) -> Case:
    """Often, as in TensorFlow Lite, the input of the larger scale is scaled by exactly one half."""
    count = draw.integer(1, 70)
    low, high = draw.activation()
    sign = -1 if draw.chance(25) else 1
    call = Add(
        name="add",
        input_1=_INPUT,
        input_2=_SECOND,
        output=_OUTPUT,
        outer=1,
        inner=count,
        stride_1=count,
        stride_2=count,
        input_1_offset=draw.integer(-127, 128),
        input_1_multiplier=1 << 30 if (halved := draw.chance(50)) else draw.multiplier(),
        input_1_shift=0 if halved else draw.integer(-8, 0),
        input_2_offset=draw.integer(-127, 128),
        input_2_multiplier=sign * draw.multiplier(),
        input_2_shift=draw.integer(-8, 0),
        left_shift=20,
        output_offset=draw.integer(-128, 127),
        output_multiplier=draw.multiplier() * (-1 if draw.chance(10) else 1),
        output_shift=draw.integer(-24, -12),
        activation_min=low,
        activation_max=high,
    )
    return Case(call, draw.int8s(count), draw.int8s(count), alias=draw.integer(0, 2))


def add_with_any_shift(draw: Draw) -> Case:
    """Arm's DSP kernel is wrong for left shifts below 16, and the sum may leave 30 bits; ours follows C."""
    base = add(draw)
    assert isinstance(base.call, Add)
    fields = vars(base.call) | {
        "left_shift": draw.integer(0, 22),
        "input_1_shift": draw.integer(-31, 3),
        "input_2_shift": draw.integer(-31, 3),
        "output_shift": draw.integer(-31, 4),
    }
    return Case(Add(**fields), base.data, base.second, alias=base.alias)


def additions_of_all_pairs() -> list[Case]:
    """Both inputs over all of int8, for each form that the scales of a sum can take."""
    values = np.arange(-128, 128).astype(np.int8)
    first, second = np.repeat(values, 256), np.tile(values, 256)
    half, odd, larger = (1 << 30, 0), (1518500253, -2), (2**31 - 1, 0)
    scales = (
        (half, odd),
        (odd, half),
        (half, half),
        (odd, larger),
        (half, (-odd[0], odd[1])),
        ((-half[0], 0), (-larger[0], -8)),
    )
    return [
        Case(
            Add(
                *("add", _INPUT, _SECOND, _OUTPUT, 1, first.size, first.size, first.size),
                *(-11 - number, *scale_1, 128 - number, *scale_2, 20),
                *(7 * number - 20, 1700000001, -20 - number // 3, -128, 127 - 40 * (number == 1)),
            ),
            first,
            second,
        )
        for number, (scale_1, scale_2) in enumerate(scales)
    ]


def mul(draw: Draw) -> Case:
    count = draw.integer(1, 70)
    low, high = draw.activation()
    call = Mul(
        "mul",
        _INPUT,
        _SECOND,
        _OUTPUT,
        1,
        count,
        count,
        count,
        draw.integer(-127, 128),
        draw.integer(-127, 128),
        draw.integer(-128, 127),
        draw.multiplier(),
        draw.shift(),
        low,
        high,
    )
    return Case(call, draw.int8s(count), draw.int8s(count), alias=draw.integer(0, 2))


def concat(draw: Draw) -> Case:
    outer, inner = draw.integer(1, 9), (draw.integer(1, 20), draw.integer(1, 20))
    call = Concat("concat", (_INPUT, _SECOND), _OUTPUT, outer, inner)
    return Case(call, draw.int8s(outer * inner[0]), draw.int8s(outer * inner[1]))


def lookup(draw: Draw) -> Case:
    count, table = draw.integer(1, 80), draw.int8s(256)
    call = Lookup("lookup", _INPUT, _OUTPUT, count, table)
    return Case(call, draw.int8s(count), table, alias=draw.integer(0, 1))


def gather(draw: Draw) -> Case:
    size, count = draw.integer(1, 80), draw.integer(1, 80)
    index = draw.rng.integers(0, size, count, dtype=np.int32)
    return Case(Gather("gather", _INPUT, _OUTPUT, index), draw.int8s(size))


def move(draw: Draw) -> Case:
    size = draw.integer(1, 120)
    return Case(Move("move", _INPUT, _OUTPUT, size), draw.int8s(size))


def _four(values: list[int]) -> tuple[int, int, int, int]:
    return values[0], values[1], values[2], values[3]


def copy(draw: Draw) -> Case:
    """A strided, perhaps mirrored, perhaps repeated view into a permuted view of an output with holes."""
    dims = _four([draw.integer(1, 5) for _ in range(4)])
    order = draw.rng.permutation(4) if draw.chance(60) else np.arange(4)
    input_strides, output_strides = [0] * 4, [0] * 4
    step = 1
    for axis in reversed(range(4)):
        output_strides[axis] = step
        step *= dims[axis] + draw.integer(0, 1)
    output_bytes = step
    step, start = 1, 0
    for axis in reversed(order):
        repeat, mirror = draw.chance(15), draw.chance(20)
        input_strides[axis] = 0 if repeat else -step if mirror else step
        start += step * (dims[axis] - 1) if mirror and not repeat else 0
        step *= 1 if repeat else dims[axis]
    strides = _four(input_strides), _four(output_strides)
    call = Copy("copy", Tensor("input", start), _OUTPUT, dims, *strides)
    return Case(call, draw.int8s(step), output_bytes=output_bytes)


SHARED: tuple[Callable[[Draw], Case], ...] = (
    conv,
    conv,
    conv_of_three_columns,
    depthwise,
    depthwise,
    fully_connected,
    pool,
    softmax,
    add,
    mul,
    concat,
)
"""Makers of calls that Arm's library has too."""

OWN: tuple[Callable[[Draw], Case], ...] = (*SHARED, add_with_any_shift, lookup, gather, copy, move)


WIDE: tuple[Callable[[Draw], Case], ...] = (
    wide_conv,
    wide_conv,
    wide_depthwise,
    wide_depthwise,
    wide_pool,
    wide_softmax,
)
"""Makers of calls that take more than one round of vector kernels."""


def wrong_in_arm(call: Call) -> bool:
    """Whether Arm's library (after v7.0.0, mid 2026) computes this call wrongly.

    Its 3x3 depthwise kernel takes the middle column of every window to be inside the map, which is false
    where the right padding is 2 or more.
    """
    return (
        isinstance(call, DepthwiseConv2D)
        and call.weights.shape[:2] == (3, 3)
        and call.channel_multiplier == 1
        and call.dilation == (1, 1)
        and max(call.padding) <= 1
        and (call.output_shape[2] - 1) * call.stride[1] - call.padding[1] + 1 >= call.input_shape[2]
    )


def draw_cases(makers: Iterable[Callable[[Draw], Case]], rounds: int, seed: int) -> list[Case]:
    return [m(Draw(seed * 1_000_003 + i * 101 + k)) for i in range(rounds) for k, m in enumerate(makers)]
