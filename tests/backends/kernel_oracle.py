"""Brute-force arithmetic of the kernels in Python integers and int64 arrays: the oracle of the kernel tests.

Written from the TensorFlow Lite int8 specification and gemmlowp's fixed-point definitions, apart from
`qutec.reference`, so that the two and the kernels check each other. Slow on purpose.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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
    Lookup,
    MaxPool2D,
    Move,
    Mul,
    Softmax,
)

Int64Array = npt.NDArray[np.int64]


def _wrap(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def _doubling_high(a: int, b: int) -> int:
    return _wrap((a * b + 2**30) >> 31)


def _divide_by_pot(value: int, exponent: int) -> int:
    quotient, remainder = divmod(abs(value), 1 << exponent)
    rounded = quotient + 1 if 2 * remainder >= 1 << exponent else quotient
    return rounded if value >= 0 else -rounded


def requantize(value: int, multiplier: int, shift: int) -> int:
    if shift >= 0:
        return _doubling_high(_wrap(value << shift), multiplier)
    return _divide_by_pot(_doubling_high(value, multiplier), -shift)


def _to_int8(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def _output(call: Conv2D | DepthwiseConv2D, sums: Int64Array) -> Int8Array:
    """Requantises sums [H, W, O] by channel."""
    flat = sums.reshape(-1, sums.shape[-1])
    result = np.empty(flat.shape, np.int8)
    for pixel, channel in np.ndindex(*flat.shape):
        multiplier, shift = int(call.multiplier[channel]), int(call.shift[channel])
        value = requantize(_wrap(int(flat[pixel, channel])), multiplier, shift)
        result[pixel, channel] = _to_int8(
            _wrap(value + call.output_offset), call.activation_min, call.activation_max
        )
    return result.ravel()


def _window(
    call: Conv2D | DepthwiseConv2D | AvgPool2D | MaxPool2D,
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    out: tuple[int, int],
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The (tap, pixel) pairs of an output pixel that lie inside the input."""
    pairs = []
    for ky, kx in np.ndindex(*kernel):
        y = out[0] * call.stride[0] - call.padding[0] + ky * dilation[0]
        x = out[1] * call.stride[1] - call.padding[1] + kx * dilation[1]
        if 0 <= y < call.input_shape[1] and 0 <= x < call.input_shape[2]:
            pairs.append(((ky, kx), (y, x)))
    return pairs


def _conv(call: Conv2D, data: Int8Array) -> Int8Array:
    out_channels, kernel_h, kernel_w, depth = call.weights.shape
    x = data.reshape(call.input_shape).astype(np.int64)[0] + call.input_offset
    groups = x.shape[2] // depth
    per_group = out_channels // groups
    sums = np.zeros((*call.output_shape[1:3], out_channels), np.int64) + call.bias
    for out in np.ndindex(*call.output_shape[1:3]):
        for tap, pixel in _window(call, (kernel_h, kernel_w), call.dilation, out):
            for g in range(groups):
                w = call.weights[g * per_group : (g + 1) * per_group, tap[0], tap[1]].astype(np.int64)
                sums[out][g * per_group : (g + 1) * per_group] += w @ x[pixel][g * depth : (g + 1) * depth]
    return _output(call, sums)


def _depthwise(call: DepthwiseConv2D, data: Int8Array) -> Int8Array:
    x = data.reshape(call.input_shape).astype(np.int64)[0] + call.input_offset
    repeated = np.repeat(x, call.channel_multiplier, axis=2)
    sums = np.zeros((*call.output_shape[1:3], call.weights.shape[2]), np.int64) + call.bias
    for out in np.ndindex(*call.output_shape[1:3]):
        for tap, pixel in _window(call, call.weights.shape[:2], call.dilation, out):
            sums[out] += repeated[pixel] * call.weights[tap]
    return _output(call, sums)


def _fully_connected(call: FullyConnected, data: Int8Array) -> Int8Array:
    x = data.reshape(call.rows, -1).astype(np.int64) + call.input_offset
    sums = x @ (call.weights.astype(np.int64) + call.filter_offset).T + call.bias
    values = [
        _to_int8(
            requantize(_wrap(int(s)), call.multiplier, call.shift) + call.output_offset,
            call.activation_min,
            call.activation_max,
        )
        for s in sums.ravel()
    ]
    return np.array(values, np.int8)


def _pool(call: AvgPool2D | MaxPool2D, data: Int8Array) -> Int8Array:
    x = data.reshape(call.input_shape)[0]
    result = np.empty(call.output_shape[1:], np.int8)
    for y, col in np.ndindex(*call.output_shape[1:3]):
        pixels = [pixel for _, pixel in _window(call, call.kernel, (1, 1), (y, col))]
        for c in range(x.shape[2]):
            values = [int(x[pixel][c]) for pixel in pixels]
            if isinstance(call, MaxPool2D):
                value = max(values)
            else:
                total, count = sum(values), len(values)
                value = (abs(total) + count // 2) // count * (1 if total > 0 else -1)
            result[y, col, c] = _to_int8(value, call.activation_min, call.activation_max)
    return result.ravel()


def _exp_of_negative(x: int) -> int:
    """exp(x / 2^26) * 2^31 for x <= 0 (gemmlowp exp_on_negative_values with 5 integer bits)."""
    if x == 0:
        return 2**31 - 1
    quarter = 2**24
    remainder = x % quarter - quarter
    a = remainder * 32 + 2**28
    a2 = _doubling_high(a, a)
    a3 = _doubling_high(a2, a)
    a4 = _doubling_high(a2, a2)
    tail = _divide_by_pot(_doubling_high(_divide_by_pot(a4, 2) + a3, 715827883) + a2, 1)
    result = 1895147668 + _doubling_high(1895147668, a + tail)
    quarters = (remainder - x) // quarter
    for bit, factor in enumerate((1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)):
        if quarters & (1 << bit):
            result = _doubling_high(result, factor)
    return result


def _saturate(value: int) -> int:
    return max(-(2**31), min(2**31 - 1, value))


def _softmax(call: Softmax, data: Int8Array) -> Int8Array:
    result = np.empty((call.rows, call.row_size), np.int8)
    for row, values in enumerate(data.reshape(call.rows, -1).astype(int)):
        differences = [int(v) - int(values.max()) for v in values]
        exps = [
            _exp_of_negative(_doubling_high(_wrap(d << call.shift), call.multiplier))
            if d >= call.diff_min
            else None
            for d in differences
        ]
        total = sum(_divide_by_pot(e, 12) for e in exps if e is not None)
        headroom = 32 - total.bit_length()
        half = (total << headroom) // 2
        x = 1515870810 + _doubling_high(half, -1010580540)
        for _ in range(3):
            x += _saturate(_doubling_high(x, 2**29 - _doubling_high(half, x)) * 4)
        scale = _saturate(2 * x)
        for column, e in enumerate(exps):
            p = 0 if e is None else _divide_by_pot(_doubling_high(scale, e), 35 - headroom)
            result[row, column] = _to_int8(p - 128, -128, 127)
    return result.ravel()


def _elementwise(call: Add | Mul, data: Int8Array, second: Int8Array) -> Int8Array:
    values = []
    for block in range(call.outer):
        for i in range(call.inner):
            a = int(data[block * call.stride_1 + i]) + call.input_1_offset
            b = int(second[block * call.stride_2 + i]) + call.input_2_offset
            if isinstance(call, Mul):
                raw = a * b
            else:
                raw = requantize(_wrap(a << call.left_shift), call.input_1_multiplier, call.input_1_shift)
                raw += requantize(_wrap(b << call.left_shift), call.input_2_multiplier, call.input_2_shift)
            value = requantize(_wrap(raw), call.output_multiplier, call.output_shift)
            values.append(
                _to_int8(_wrap(value + call.output_offset), call.activation_min, call.activation_max)
            )
    return np.array(values, np.int8)


def _copy(call: Copy, data: Int8Array, output: Int8Array) -> Int8Array:
    for index in np.ndindex(*call.dims):
        source = call.input.offset + sum(i * s for i, s in zip(index, call.input_strides, strict=True))
        target = call.output.offset + sum(i * s for i, s in zip(index, call.output_strides, strict=True))
        output[target] = data[source]
    return output


def run(call: Call, data: Int8Array, second: Int8Array, blank: Int8Array) -> Int8Array:
    """The bytes that `call` writes over `blank`, given its input and its second input where it has one."""
    match call:
        case Conv2D():
            return _conv(call, data)
        case DepthwiseConv2D():
            return _depthwise(call, data)
        case FullyConnected():
            return _fully_connected(call, data)
        case AvgPool2D() | MaxPool2D():
            return _pool(call, data)
        case Softmax():
            return _softmax(call, data)
        case Add() | Mul():
            return _elementwise(call, data, second)
        case Lookup():
            return np.asarray(call.table[data.astype(int) + 128], np.int8)
        case Concat():
            rows = [part.reshape(call.outer, -1) for part in (data, second)]
            return np.concatenate(rows, axis=1).ravel()
        case Copy():
            return _copy(call, data, blank)
        case Gather():
            return data[call.index]
        case Move():
            return data.copy()
        case _:
            raise TypeError(f"no oracle for {type(call).__name__}")
