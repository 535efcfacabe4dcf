"""The encoding of kernel calls that kernel_runner.c reads, with the outputs of the oracle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.backends.cmsis_nn.scratch import scratch_bytes, useful_scratch_bytes
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
from qutec.targets import Core
from tests.backends.kernel_cases import Case
from tests.backends.kernel_oracle import run

_BLANK = 0x33
"""What kernel_runner.c fills an output with before the call."""


def _bytes(values: Int8Array) -> list[int]:
    raw = values.astype(np.int8).tobytes()
    words = np.frombuffer(raw + bytes(-len(raw) % 4), np.int32)
    return [len(raw), *words.tolist()]


def _words(values: npt.NDArray[np.int32] | list[int]) -> list[int]:
    return [len(values), *(int(v) for v in values)]


def _params(call: Call) -> tuple[int, list[int]]:
    """The operation code of kernel_runner.c and the parameters that follow the operands."""
    match call:
        case Conv2D():
            outputs, kh, kw, depth = call.weights.shape
            shapes = [*call.input_shape, outputs, kh, kw, depth, *call.output_shape]
            return 1, [*shapes, *call.stride, *call.padding, *call.dilation, *_offsets(call), 0]
        case DepthwiseConv2D():
            kh, kw, outputs = call.weights.shape
            shapes = [*call.input_shape, 1, kh, kw, outputs, *call.output_shape]
            offsets = _offsets(call)
            geometry = [*shapes, *call.stride, *call.padding, *call.dilation]
            return 2, [*geometry, *offsets, call.channel_multiplier]
        case FullyConnected():
            outputs, depth = call.weights.shape
            limits = [call.output_offset, call.activation_min, call.activation_max]
            return 3, [call.rows, depth, outputs, call.input_offset, call.filter_offset, *limits]
        case AvgPool2D() | MaxPool2D():
            shapes = [*call.input_shape, 1, *call.kernel, call.input_shape[3], *call.output_shape]
            limits = [call.activation_min, call.activation_max]
            return 4 + isinstance(call, MaxPool2D), [*shapes, *call.stride, *call.padding, *limits]
        case Softmax():
            return 6, [call.rows, call.row_size, call.multiplier, call.shift, call.diff_min]
        case Add():
            first = [call.input_1_offset, call.input_1_multiplier, call.input_1_shift]
            second = [call.input_2_offset, call.input_2_multiplier, call.input_2_shift, call.left_shift]
            return 7, [*first, *second, *_output_stage(call)]
        case Mul():
            return 8, [call.input_1_offset, call.input_2_offset, *_output_stage(call)]
        case Concat():
            return 9, [call.inner[0], call.outer, sum(call.inner)]
        case Lookup():
            return 10, [call.count]
        case Copy():
            strides = [*call.input_strides, *call.output_strides]
            return 11, [call.input.offset, call.output.offset, *call.dims, *strides]
        case Gather():
            return 12, [len(call.index)]
        case Move():
            return 14, [call.count]
        case _:
            raise TypeError(f"no encoding for {type(call).__name__}")


def _offsets(call: Conv2D | DepthwiseConv2D) -> list[int]:
    return [call.input_offset, call.output_offset, call.activation_min, call.activation_max]


def _output_stage(call: Add | Mul) -> list[int]:
    stage = [call.output_offset, call.output_multiplier, call.output_shift]
    return [*stage, call.activation_min, call.activation_max, call.inner]


def _channel_data(call: Call) -> tuple[list[int], list[int], list[int]]:
    """Bias, multiplier and shift words; a gather brings its uint16 indices as multipliers."""
    match call:
        case Conv2D() | DepthwiseConv2D():
            return call.bias.tolist(), call.multiplier.tolist(), call.shift.tolist()
        case FullyConnected():
            return call.bias.tolist(), [call.multiplier], [call.shift]
        case Gather():
            index = call.index.astype(np.uint16)
            return [], np.resize(index, len(index) + len(index) % 2).view(np.int32).tolist(), []
        case _:
            return [], [], []


def encode(cases: list[Case], core: Core, scratch: Callable[[Call, Core], int] = scratch_bytes) -> list[int]:
    """The words of `case_words`, with the oracle's outputs and the scratch that there is on `core`."""
    words: list[int] = []
    for number, case in enumerate(cases):
        operation, params = _params(case.call)
        blank = np.full(case.output_bytes, _BLANK, np.int8)
        expected = run(case.call, case.data, case.second, blank)
        # With all that is of use, and without, for each alignment.
        useful = useful_scratch_bytes(case.call, core, KernelSet.FAST) if number // 4 % 2 else 0
        words += [operation, scratch(case.call, core), useful, case.alias, number % 4]
        words += [*_bytes(case.data), *_bytes(case.second)]
        for values in _channel_data(case.call):
            words += _words(values)
        words += [*_bytes(expected), *params]
    return [*words, 0]
