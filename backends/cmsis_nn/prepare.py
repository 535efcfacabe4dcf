"""Rewrites of a Program that the target's kernels ask for, before it is planned.

Where no window leaves its input, sum (x + offset) w = sum x w + offset sum w, and the last term is known: it
goes into the bias, and the kernel is given an offset of 0, which costs less in a dense layer. Any library
computes the same bytes from it, bundled or Arm's.

On Helium, Arm's fully connected kernel reads a buffer of kernel sums whose meaning changed between
versions. A pointwise convolution over the rows has the same arithmetic and needs no such buffer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qutec.errors import UnsupportedModelError
from qutec.program import Call, Conv2D, FullyConnected, Program
from qutec.targets import Core

__all__ = ["prepare"]


def prepare(program: Program, core: Core) -> Program:
    """The program with the calls that `core` is given. Raises UnsupportedModelError."""
    calls = program.calls
    if core.mve:
        calls = tuple(_without_kernel_sums(call) for call in calls)
    return replace(program, calls=tuple(_without_input_offset(call) for call in calls))


def _without_input_offset(call: Call) -> Call:
    if not _has_constant_offset_term(call):
        return call
    assert isinstance(call, Conv2D | FullyConnected)
    sums = call.weights.reshape(len(call.weights), -1).sum(axis=1, dtype=np.int64)
    bias = call.bias + call.input_offset * sums
    limits = np.iinfo(np.int32)
    if bias.min() < limits.min or bias.max() > limits.max:
        return call
    return replace(call, bias=bias.astype(np.int32), input_offset=0)


def _has_constant_offset_term(call: Call) -> bool:
    """Whether every output meets all of its weights, with inputs that have an offset."""
    match call:
        case FullyConnected():
            return call.filter_offset == 0 and call.input_offset != 0
        case Conv2D():
            inside = all(
                (call.output_shape[1 + axis] - 1) * call.stride[axis]
                + (call.weights.shape[1 + axis] - 1) * call.dilation[axis]
                < call.input_shape[1 + axis]
                for axis in range(2)
            )
            return inside and call.padding == (0, 0) and call.input_offset != 0
        case _:
            return False


def _without_kernel_sums(call: Call) -> Call:
    if not isinstance(call, FullyConnected):
        return call
    if call.filter_offset:
        raise UnsupportedModelError(
            f"cannot be compiled:\n  layer '{call.name}': its weights have a zero point, "
            "which Helium kernels do not take; quantise the weights symmetrically"
        )
    outputs, inputs = call.weights.shape
    return Conv2D(
        call.name,
        call.input,
        call.output,
        (1, 1, call.rows, inputs),
        (1, 1, call.rows, outputs),
        call.weights.reshape(outputs, 1, 1, inputs),
        call.bias,
        np.full(outputs, call.multiplier, np.int32),
        np.full(outputs, call.shift, np.int32),
        (1, 1),
        (0, 0),
        (1, 1),
        call.input_offset,
        call.output_offset,
        call.activation_min,
        call.activation_max,
    )
