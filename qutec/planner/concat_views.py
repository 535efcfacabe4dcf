"""Concatenations without a call: what is joined is written where it will be read.

    a = f(x)   b = g(x)   y = concat(a, b)
becomes
    y[0:] = f(x)   y[len(a):] = g(x)

That is possible where the joined tensors lie one after the other in memory. Whole buffers become parts of the
result, which then is live from the first of them on. That may need more memory than the copy, so the planner
tries both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from qutec.planner.retarget import retargeted
from qutec.program import (
    Add,
    AvgPool2D,
    BufferKind,
    Call,
    Concat,
    Conv2D,
    Copy,
    DepthwiseConv2D,
    Fill,
    FullyConnected,
    Gather,
    Lookup,
    MaxPool2D,
    Move,
    Mul,
    Program,
    Softmax,
    Tensor,
)

__all__ = ["with_concat_views"]

_INT8_CALLS = (
    Add,
    AvgPool2D,
    Concat,
    Conv2D,
    Copy,
    DepthwiseConv2D,
    Fill,
    FullyConnected,
    Gather,
    Lookup,
    MaxPool2D,
    Move,
    Mul,
    Softmax,
)
"""Calls that see bytes only, so that a tensor may begin at any address."""


def with_concat_views(program: Program, scratch: Sequence[int]) -> tuple[Program, tuple[int, ...]]:
    """The program without the concatenations that need no call, and the scratch of its calls.

    The same object where there are none.
    """
    for number, call in enumerate(program.calls):
        if isinstance(call, Concat) and (places := _places(program, call)):
            buffers = {name: buffer for name, buffer in program.buffers.items() if name not in places}
            others = (*program.calls[:number], *program.calls[number + 1 :])
            calls = tuple(_moved(other, places) for other in others)
            joined = replace(program, buffers=buffers, calls=calls)
            # A joined tensor may be the result of another concatenation.
            return with_concat_views(joined, (*scratch[:number], *scratch[number + 1 :]))
    return program, tuple(scratch)


def _places(program: Program, concat: Concat) -> dict[str, Tensor]:
    """The place of each joined buffer in the result; nothing where one of them cannot have it."""
    if concat.outer != 1:
        return {}
    starts = accumulate(concat.inner, initial=concat.output.offset)
    places = {
        tensor.buffer: Tensor(concat.output.buffer, start)
        for tensor, start in zip(concat.inputs, starts, strict=False)
    }
    whole = all(
        tensor.offset == 0 and program.buffers[tensor.buffer].bytes == size
        for tensor, size in zip(concat.inputs, concat.inner, strict=True)
    )
    if len(places) < len(concat.inputs) or not whole:
        return {}
    if any(program.buffers[name].kind is not BufferKind.INTERNAL for name in places):
        return {}
    if {port.tensor.buffer for port in program.outputs} & set(places):
        return {}
    for call in program.calls:
        touched = {tensor.buffer for tensor in (*call.reads, *call.writes)}
        if touched & set(places) and not isinstance(call, _INT8_CALLS):
            return {}
    return places


def _moved(call: Call, places: Mapping[str, Tensor]) -> Call:
    def moved(_: Call, tensor: Tensor) -> Tensor:
        place = places.get(tensor.buffer)
        return tensor if place is None else Tensor(place.buffer, place.offset + tensor.offset)

    touched = {tensor.buffer for tensor in (*call.reads, *call.writes)}
    return retargeted(call, moved) if touched & set(places) else call
