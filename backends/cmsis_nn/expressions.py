"""C expressions that calls of whole layers and calls of single rows have in common."""

from __future__ import annotations

from collections.abc import Iterable

from qutec.backends.cmsis_nn.text import c_int
from qutec.program import Add, AvgPool2D, Conv2D, DepthwiseConv2D, FullyConnected, MaxPool2D, Mul, Pair

__all__ = ["activation", "add_call", "braces", "mul_call", "plus", "tile", "window"]


def plus(base: str, offset: int) -> str:
    """`base` + `offset`, without the sum where there is nothing to add."""
    return f"{base} + {offset}" if offset else base


def braces(values: Iterable[object]) -> str:
    """An initializer of a struct or an array."""
    return "{" + ", ".join(map(str, values)) + "}"


def tile(pair: Pair) -> str:
    """A cmsis_nn_tile, which has the width first."""
    return f"{{{pair[1]}, {pair[0]}}}"


def window(call: Conv2D | DepthwiseConv2D) -> str:
    """Stride, padding and dilation."""
    return f"{tile(call.stride)}, {tile(call.padding)}, {tile(call.dilation)}"


def activation(call: Conv2D | DepthwiseConv2D | FullyConnected | AvgPool2D | MaxPool2D) -> str:
    """A cmsis_nn_activation."""
    return f"{{{call.activation_min}, {call.activation_max}}}"


def add_call(call: Add, first: str, second: str, output: str, count: int) -> list[str]:
    """Lines of one addition of `count` elements at these addresses, without what ends a statement."""
    return [
        f"arm_elementwise_add_s8({first}, {second},",
        f"    {call.input_1_offset}, {c_int(call.input_1_multiplier)}, {call.input_1_shift},",
        f"    {call.input_2_offset}, {c_int(call.input_2_multiplier)}, {call.input_2_shift},",
        f"    {call.left_shift}, {output},",
        f"    {call.output_offset}, {c_int(call.output_multiplier)}, {call.output_shift},",
        f"    {call.activation_min}, {call.activation_max}, {count})",
    ]


def mul_call(call: Mul, first: str, second: str, output: str, count: int) -> list[str]:
    """The same for a product."""
    return [
        f"arm_elementwise_mul_s8({first}, {second},",
        f"    {call.input_1_offset}, {call.input_2_offset}, {output},",
        f"    {call.output_offset}, {c_int(call.output_multiplier)}, {call.output_shift},",
        f"    {call.activation_min}, {call.activation_max}, {count})",
    ]
