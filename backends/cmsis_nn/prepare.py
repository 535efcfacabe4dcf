"""Rewrites of a Program that the target's library asks for, before it is planned.

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
    if not core.mve:
        return program
    return replace(program, calls=tuple(_without_kernel_sums(call) for call in program.calls))


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
