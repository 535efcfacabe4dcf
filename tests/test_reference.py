"""The reference interpreter against the specification in plain Python integers, one element at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import pytest

from qutec import reference
from qutec.errors import DataError, UnsupportedModelError
from qutec.fixed_point import softmax_parameters
from qutec.program import (
    Add,
    AvgPool2D,
    Buffer,
    BufferKind,
    Call,
    Concat,
    Conv2D,
    Copy,
    DepthwiseConv2D,
    Fill,
    FullyConnected,
    Gather,
    Int8Array,
    Lookup,
    MaxPool2D,
    Mul,
    Pair,
    Port,
    Program,
    Quantization,
    Shape,
    Softmax,
    Tensor,
)
from qutec.reference import Buffers, run_call, run_program, trace_program
from tests import random_calls
from tests.test_fixed_point import exact_requantize

BATCH = 3
UNIT = Quantization(1.0, 0)


def _int32(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def _finish(scaled: int, offset: int, low: int, high: int) -> int:
    return max(low, min(high, _int32(scaled + offset)))


def _positions(
    output: Shape, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, shape: Shape
) -> Iterator[tuple[int, int, list[tuple[int, int, int, int]]]]:
    """(oy, ox, [(ky, kx, y, x) inside of the map]) of every output pixel."""
    for oy in range(output[1]):
        for ox in range(output[2]):
            taps = []
            for ky in range(kernel[0]):
                for kx in range(kernel[1]):
                    y = oy * stride[0] - padding[0] + ky * dilation[0]
                    x = ox * stride[1] - padding[1] + kx * dilation[1]
                    if 0 <= y < shape[1] and 0 <= x < shape[2]:
                        taps.append((ky, kx, y, x))
            yield oy, ox, taps


def scalar_conv2d(call: Conv2D, data: Int8Array) -> Int8Array:
    values = data.reshape(call.input_shape[1:]).tolist()
    weights = call.weights.tolist()
    outputs, *kernel, group_channels = call.weights.shape
    per_group = outputs // (call.input_shape[3] // group_channels)
    result = np.empty(call.output_shape[1:], dtype=np.int8)
    window = (call.output_shape, (kernel[0], kernel[1]), call.stride, call.padding, call.dilation)
    for oy, ox, taps in _positions(*window, call.input_shape):
        for o in range(outputs):
            first = o // per_group * group_channels
            total = int(call.bias[o])
            for ky, kx, y, x in taps:
                for c in range(group_channels):
                    total += (values[y][x][first + c] + call.input_offset) * weights[o][ky][kx][c]
            scaled = exact_requantize(_int32(total), int(call.multiplier[o]), int(call.shift[o]))
            result[oy, ox, o] = _finish(scaled, call.output_offset, call.activation_min, call.activation_max)
    return result


def scalar_depthwise_conv2d(call: DepthwiseConv2D, data: Int8Array) -> Int8Array:
    values = data.reshape(call.input_shape[1:]).tolist()
    weights = call.weights.tolist()
    kernel = (call.weights.shape[0], call.weights.shape[1])
    result = np.empty(call.output_shape[1:], dtype=np.int8)
    window = (call.output_shape, kernel, call.stride, call.padding, call.dilation)
    for oy, ox, taps in _positions(*window, call.input_shape):
        for o in range(call.output_shape[3]):
            total = int(call.bias[o])
            for ky, kx, y, x in taps:
                pixel = values[y][x][o // call.channel_multiplier]
                total += (pixel + call.input_offset) * weights[ky][kx][o]
            scaled = exact_requantize(_int32(total), int(call.multiplier[o]), int(call.shift[o]))
            result[oy, ox, o] = _finish(scaled, call.output_offset, call.activation_min, call.activation_max)
    return result


def scalar_fully_connected(call: FullyConnected, data: Int8Array) -> Int8Array:
    outputs, depth = call.weights.shape
    result = np.empty((call.rows, outputs), dtype=np.int8)
    for row, values in enumerate(data.reshape(call.rows, depth).tolist()):
        for o, weights in enumerate(call.weights.tolist()):
            total = int(call.bias[o])
            for value, weight in zip(values, weights, strict=True):
                total += (value + call.input_offset) * (weight + call.filter_offset)
            scaled = exact_requantize(_int32(total), call.multiplier, call.shift)
            result[row, o] = _finish(scaled, call.output_offset, call.activation_min, call.activation_max)
    return result


def _scalar_pool(
    call: AvgPool2D | MaxPool2D, data: Int8Array, reduce: Callable[[list[int]], int]
) -> Int8Array:
    values = data.reshape(call.input_shape[1:])
    result = np.empty(call.output_shape[1:], dtype=np.int8)
    window = (call.output_shape, call.kernel, call.stride, call.padding, (1, 1))
    for oy, ox, taps in _positions(*window, call.input_shape):
        for c in range(call.output_shape[3]):
            reduced = reduce([int(values[y, x, c]) for _, _, y, x in taps])
            result[oy, ox, c] = max(call.activation_min, min(call.activation_max, reduced))
    return result


def _rounded_mean(values: list[int]) -> int:
    """Ties away from zero."""
    rounded = math.floor(Fraction(abs(sum(values)), len(values)) + Fraction(1, 2))
    return rounded if sum(values) > 0 else -rounded


def scalar_avg_pool2d(call: AvgPool2D, data: Int8Array) -> Int8Array:
    return _scalar_pool(call, data, _rounded_mean)


def scalar_max_pool2d(call: MaxPool2D, data: Int8Array) -> Int8Array:
    return _scalar_pool(call, data, max)


def scalar_add(call: Add, data_1: Int8Array, data_2: Int8Array) -> Int8Array:
    result = np.empty(call.outer * call.inner, dtype=np.int8)
    for i in range(len(result)):
        block, within = divmod(i, call.inner)
        value_1 = (int(data_1[block * call.stride_1 + within]) + call.input_1_offset) << call.left_shift
        value_2 = (int(data_2[block * call.stride_2 + within]) + call.input_2_offset) << call.left_shift
        total = exact_requantize(_int32(value_1), call.input_1_multiplier, call.input_1_shift)
        total += exact_requantize(_int32(value_2), call.input_2_multiplier, call.input_2_shift)
        scaled = exact_requantize(_int32(total), call.output_multiplier, call.output_shift)
        result[i] = _finish(scaled, call.output_offset, call.activation_min, call.activation_max)
    return result


def scalar_mul(call: Mul, data_1: Int8Array, data_2: Int8Array) -> Int8Array:
    result = np.empty(call.outer * call.inner, dtype=np.int8)
    for i in range(len(result)):
        block, within = divmod(i, call.inner)
        value_1 = int(data_1[block * call.stride_1 + within]) + call.input_1_offset
        value_2 = int(data_2[block * call.stride_2 + within]) + call.input_2_offset
        scaled = exact_requantize(value_1 * value_2, call.output_multiplier, call.output_shift)
        result[i] = _finish(scaled, call.output_offset, call.activation_min, call.activation_max)
    return result


def _run_call(call: Call, output_bytes: int, **inputs: Int8Array) -> Int8Array:
    """The output buffer, [BATCH, output_bytes]; whatever the call left alone holds 99."""
    buffers: Buffers = {name: data.copy() for name, data in inputs.items()}
    buffers["output"] = np.full((BATCH, output_bytes), 99, dtype=np.int8)
    run_call(call, buffers)
    for name, data in inputs.items():
        np.testing.assert_array_equal(buffers[name], data, f"input {name} was changed")
    return buffers["output"]


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d", "avg_pool2d", "max_pool2d"])
def test_kernel_on_a_map_follows_the_specification(name: str) -> None:
    rng = np.random.default_rng(11)
    scalar = globals()[f"scalar_{name}"]
    for _ in range(15):
        call = getattr(random_calls, name)(rng)
        data = random_calls.int8(rng, BATCH, int(np.prod(call.input_shape)))
        output = _run_call(call, int(np.prod(call.output_shape)), input=data)
        for sample in range(BATCH):
            np.testing.assert_array_equal(output[sample], scalar(call, data[sample]).ravel(), repr(call))


def test_fully_connected_follows_the_specification() -> None:
    rng = np.random.default_rng(12)
    for _ in range(30):
        call = random_calls.fully_connected(rng)
        outputs, depth = call.weights.shape
        data = random_calls.int8(rng, BATCH, call.rows * depth)
        output = _run_call(call, call.rows * outputs, input=data)
        for sample in range(BATCH):
            expected = scalar_fully_connected(call, data[sample]).ravel()
            np.testing.assert_array_equal(output[sample], expected, repr(call))


@pytest.mark.parametrize("name", ["add", "mul"])
def test_elementwise_call_with_broadcasting_follows_the_specification(name: str) -> None:
    rng = np.random.default_rng(13)
    scalar = globals()[f"scalar_{name}"]
    for _ in range(40):
        call = getattr(random_calls, name)(rng)
        data_1 = random_calls.int8(rng, BATCH, max(1, call.stride_1 * call.outer) + call.inner)
        data_2 = random_calls.int8(rng, BATCH, max(1, call.stride_2 * call.outer) + call.inner)
        output = _run_call(call, call.outer * call.inner, input=data_1, input_2=data_2)
        for sample in range(BATCH):
            expected = scalar(call, data_1[sample], data_2[sample])
            np.testing.assert_array_equal(output[sample], expected, repr(call))


def _constant_layer(bias: int, multiplier: int, shift: int, output_offset: int) -> FullyConnected:
    """127 * (x + 128) + bias, requantised."""
    return FullyConnected(
        name="constant",
        input=Tensor("input"),
        output=Tensor("output"),
        rows=1,
        weights=np.full((1, 1), 127, dtype=np.int8),
        bias=np.full(1, bias, dtype=np.int32),
        multiplier=multiplier,
        shift=shift,
        input_offset=128,
        filter_offset=0,
        output_offset=output_offset,
        activation_min=-128,
        activation_max=127,
    )


def test_accumulator_that_overflows_wraps_around() -> None:
    """2**31 - 1 + 255 * 127 is negative on two's complement."""
    call = _constant_layer((1 << 31) - 1, multiplier=1 << 30, shift=-23, output_offset=0)
    assert _run_call(call, 1, input=np.full((BATCH, 1), 127, dtype=np.int8)).tolist() == [[-128]] * BATCH


def test_output_offset_that_overflows_wraps_around() -> None:
    """2**31 - 2 + 127 is negative on two's complement, and clamped after that."""
    call = _constant_layer((1 << 31) - 1, multiplier=(1 << 31) - 1, shift=0, output_offset=127)
    assert _run_call(call, 1, input=np.full((BATCH, 1), -128, dtype=np.int8)).tolist() == [[-128]] * BATCH


def test_sum_of_an_addition_that_overflows_wraps_around() -> None:
    """Two terms of 255 << 23 sum to -(1 << 24) - 2 on two's complement; half of that is divided by 2**17."""
    term = (128, (1 << 31) - 1, 3)
    call = Add(
        "sum", Tensor("input"), Tensor("input"), Tensor("output"), 1, 1, 1, 1, *term, *term, 20,
        0, 1 << 30, -17, -128, 127,
    )  # fmt: skip
    assert _run_call(call, 1, input=np.full((BATCH, 1), 127, dtype=np.int8)).tolist() == [[-64]] * BATCH


def test_long_dot_products_are_exact() -> None:
    """A sum above 2**24 that differs by 1 needs more than float32."""
    depth = 1000
    weights = np.full((2, depth), 127, dtype=np.int8)
    weights[1, 0] = 126
    data = np.full((BATCH, depth), 127, dtype=np.int8)
    data[:, 0] = -127
    exact = 127 * 255 * (depth - 1)
    call = FullyConnected(
        name="long",
        input=Tensor("input"),
        output=Tensor("output"),
        rows=1,
        weights=weights,
        bias=np.array([-exact - 127, -exact - 127], dtype=np.int32),
        multiplier=1 << 30,
        shift=1,
        input_offset=128,
        filter_offset=0,
        output_offset=0,
        activation_min=-128,
        activation_max=127,
    )
    assert exact > 1 << 24
    assert _run_call(call, 2, input=data).tolist() == [[0, -1]] * BATCH


def test_softmax_is_within_one_step_of_the_real_one() -> None:
    rng = np.random.default_rng(14)
    for scale in (1e-9, 0.003, 0.05, 0.3, 2.0, 30.0):
        for row_size in (1, 2, 10, 300):
            data = random_calls.int8(rng, BATCH, 2 * row_size)
            parameters = softmax_parameters(scale)
            call = Softmax("s", Tensor("input"), Tensor("output"), 2, row_size, *parameters)
            output = _run_call(call, 2 * row_size, input=data).reshape(BATCH, 2, row_size)
            logits = data.reshape(BATCH, 2, row_size) * scale
            exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
            real = exponentials / exponentials.sum(axis=-1, keepdims=True)
            expected = np.minimum(real * 256 - 128, 127)
            np.testing.assert_allclose(output, expected, rtol=0, atol=0.51)


def test_softmax_of_long_flat_rows_gives_probability_zero() -> None:
    call = Softmax("s", Tensor("input"), Tensor("output"), 1, 5000, 1 << 30, 20, -128)
    output = _run_call(call, 5000, input=np.zeros((BATCH, 5000), dtype=np.int8))
    assert np.all(output == -128)


def test_lookup_reads_the_table_at_value_plus_128() -> None:
    table = np.random.default_rng(15).permutation(np.arange(-128, 128)).astype(np.int8)
    data = np.tile(np.arange(-128, 128, dtype=np.int8), (BATCH, 1))
    output = _run_call(Lookup("l", Tensor("input"), Tensor("output"), 256, table), 256, input=data)
    for sample in range(BATCH):
        assert output[sample].tolist() == [int(table[value + 128]) for value in range(-128, 128)]


def test_concatenation_interleaves_blocks() -> None:
    first, second = np.arange(6, dtype=np.int8), np.arange(50, 59, dtype=np.int8)
    call = Concat("c", (Tensor("a"), Tensor("b", 1)), Tensor("output", 2), outer=3, inner=(2, 2))
    output = _run_call(call, 15, a=np.tile(first, (BATCH, 1)), b=np.tile(second, (BATCH, 1)))
    expected = [99, 99, 0, 1, 51, 52, 2, 3, 53, 54, 4, 5, 55, 56, 99]
    assert output.tolist() == [expected] * BATCH


def test_copy_walks_four_strides_of_either_sign() -> None:
    rng = np.random.default_rng(16)
    data = random_calls.int8(rng, BATCH, 40)
    # The last dimension is read backwards, the first is broadcast; the output has gaps.
    call = Copy("c", Tensor("input", 5), Tensor("output", 1), (2, 3, 2, 4), (0, 8, 4, -1), (30, 9, 4, 1))
    output = _run_call(call, 62, input=data)
    expected = np.full((BATCH, 62), 99, dtype=np.int8)
    for i, j, k, m in np.ndindex(2, 3, 2, 4):
        expected[:, 1 + 30 * i + 9 * j + 4 * k + m] = data[:, 5 + 8 * j + 4 * k - m]
    np.testing.assert_array_equal(output, expected)


def test_gather_and_fill_write_only_their_region() -> None:
    data = np.tile(np.arange(10, dtype=np.int8), (BATCH, 1))
    gather = Gather("g", Tensor("input", 2), Tensor("output", 1), np.array([7, 0, 0], dtype=np.int32))
    assert _run_call(gather, 5, input=data).tolist() == [[99, 9, 2, 2, 99]] * BATCH
    fill = Fill("f", Tensor("output", 1), 2, -5)
    assert _run_call(fill, 4).tolist() == [[99, -5, -5, 99]] * BATCH


@pytest.mark.parametrize(
    "call",
    [
        Fill("f", Tensor("output", 3), 2, 0),
        Gather("g", Tensor("input", 1), Tensor("output"), np.array([3], dtype=np.int32)),
        Gather("g", Tensor("input", 1), Tensor("output"), np.array([-1], dtype=np.int32)),
        Copy("c", Tensor("input"), Tensor("output"), (1, 1, 1, 2), (0, 0, 0, -1), (0, 0, 0, 1)),
        Copy("c", Tensor("input"), Tensor("output"), (1, 1, 2, 2), (0, 0, 3, 1), (0, 0, 2, 1)),
        Lookup("l", Tensor("input", 1), Tensor("output"), 4, np.zeros(256, dtype=np.int8)),
    ],
)
def test_call_that_leaves_its_buffer_is_refused(call: Call) -> None:
    with pytest.raises(IndexError):
        _run_call(call, 4, input=np.zeros((BATCH, 4), dtype=np.int8))


@pytest.mark.parametrize("kind", [AvgPool2D, MaxPool2D])
def test_pooling_window_without_a_pixel_is_refused(kind: type[AvgPool2D] | type[MaxPool2D]) -> None:
    window = ((1, 2, 2, 1), (1, 3, 1, 1), (1, 1), (1, 1), (0, 0), -128, 127)
    call = kind("pool", Tensor("input"), Tensor("output"), *window)
    with pytest.raises(UnsupportedModelError, match="pool: a pooling window covers no input"):
        _run_call(call, 3, input=np.zeros((BATCH, 4), dtype=np.int8))


def _transposing_program() -> Program:
    """[1, 2, 3] in, kept as [3, 2] in memory; out: x + a constant, [1, 2, 3], and a copy of x."""
    order = np.arange(6, dtype=np.int32).reshape(2, 3).T.ravel().astype(np.int32)
    constant = np.arange(10, 16, dtype=np.int8)
    buffers = [
        Buffer("x", 6, BufferKind.INPUT),
        Buffer("constant", 6, BufferKind.CONSTANT, constant),
        Buffer("y", 8, BufferKind.OUTPUT),
        Buffer("z", 6, BufferKind.OUTPUT),
    ]
    # Scale 1/2, 1/2, and 2 restored: an exact sum.
    half = (1 << 30, 0)
    total = Add(
        "sum", Tensor("x"), Tensor("constant"), Tensor("y", 1), 1, 6, 6, 6, 0, *half, 0, *half, 20,
        0, 1 << 30, -18, -128, 127,
    )  # fmt: skip
    copy = Gather("copy", Tensor("x"), Tensor("z"), np.arange(6, dtype=np.int32))
    ports = (Port("y", Tensor("y", 1), (1, 2, 3), UNIT, order), Port("z", Tensor("z"), (1, 6), UNIT))
    return Program(
        name="transposing",
        buffers={buffer.name: buffer for buffer in buffers},
        calls=(total, copy),
        inputs=(Port("x", Tensor("x"), (1, 2, 3), UNIT, order),),
        outputs=ports,
    )


def test_ports_are_in_onnx_order_and_memory_is_not() -> None:
    data = np.arange(12, dtype=np.int8).reshape(2, 1, 2, 3)
    y, z = run_program(_transposing_program(), [data])
    memory = data.transpose(0, 1, 3, 2)
    assert y.shape == (2, 1, 2, 3)
    np.testing.assert_array_equal(z, memory.reshape(2, 1, 6))
    np.testing.assert_array_equal(y.transpose(0, 1, 3, 2).ravel(), memory.ravel() + np.tile(range(10, 16), 2))


def test_trace_yields_every_call_with_what_it_wrote() -> None:
    data = np.arange(12, dtype=np.int8).reshape(2, 6)
    program = _transposing_program()
    trace = list(trace_program(program, [data]))
    assert [call for call, _ in trace] == list(program.calls)
    y, z = run_program(program, [data])
    np.testing.assert_array_equal(trace[0][1], y.transpose(0, 1, 3, 2).reshape(2, 6))
    np.testing.assert_array_equal(trace[1][1], z.reshape(2, 6))


def test_result_does_not_depend_on_how_the_batch_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_calls.int8(np.random.default_rng(17), 23, 6)
    program = _transposing_program()
    whole = run_program(program, [data])
    monkeypatch.setattr(reference, "_BUFFER_BYTES", 100)
    monkeypatch.setattr(reference, "_SCRATCH_BYTES", 500)
    for first, second in zip(whole, run_program(program, [data]), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("shape", [(0, 6), (1, 6)])
def test_batch_of_none_or_one_is_run(shape: tuple[int, int]) -> None:
    y, z = run_program(_transposing_program(), [np.zeros(shape, dtype=np.int8)])
    assert y.shape == (shape[0], 1, 2, 3)
    assert z.shape == (shape[0], 1, 6)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "has 1 inputs, but 0"),
        ([np.zeros((2, 6), dtype=np.uint8)], "must be int8"),
        ([np.zeros((2, 7), dtype=np.int8)], "6 values a sample"),
        ([np.int8(1)], "6 values a sample"),
    ],
)
def test_inputs_that_do_not_match_the_ports_are_refused(inputs: list[Int8Array], message: str) -> None:
    with pytest.raises(DataError, match=message):
        run_program(_transposing_program(), [np.asarray(values) for values in inputs])


def test_unwritten_memory_is_visible() -> None:
    program = _transposing_program()
    buffers = reference.load_inputs(program, [np.zeros((1, 6), dtype=np.int8)])
    assert np.all(buffers["y"] == reference.UNWRITTEN)
