"""How far a call's output may reach into an input that dies with the call.

Let d = address of the input tensor - address of the output tensor. While step s is written, the reads of the
steps from s - late on may still come (`qutec.planner.access`). Let p(s) be the first byte of the input that
one of them reads and q(s) one past the last; step s writes the bytes w0(s) to w1(s) of the output. Nothing is
lost if for every s the output's bytes end where those reads begin, w1(s) <= d + p(s), or begin where they
end, w0(s) >= d + q(s). The first for all s is d >= below, the second is -d >= above, with

    below = max over s of w1(s) - p(s)        above = max over s of q(s) - w0(s)

Both are the smallest such distances, given the order. Tensors that do not share a byte satisfy one of the
two, so nothing is lost by asking for them always.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from qutec.planner.access import AccessOrder, access_order, is_pointwise
from qutec.program import Call, Conv2D
from qutec.targets import Core

__all__ = ["Overlap", "pointwise_block", "safe_overlap"]


@dataclass(frozen=True)
class Overlap:
    """Safe distances in bytes between one input tensor of a call and its output tensor.

    The output may start `below` or more bytes before the input, or `above` or more bytes after it. 0 means
    the same address; a negative number that it may start a little on the other side.
    """

    below: int
    above: int


@lru_cache(maxsize=8192)
def safe_overlap(call: Call, core: Core | None = None, output: int = 0) -> tuple[Overlap, ...]:
    """For each of `call.reads`: where an output may be on a core (None: on any), if nobody reads it
    later.

    Of a region's outputs each by itself: they do not share a byte with each other, and so what one of them
    leaves of an input the others do.
    """
    order = access_order(call, core, output)
    return tuple(_distances(order, k) for k in range(len(order.read)))


def _distances(order: AccessOrder, k: int) -> Overlap:
    written, read = order.written, order.read[k]
    reads, writes = read[:, 0] < read[:, 1], written[:, 0] < written[:, 1]
    if not reads.any() or not writes.any():
        return Overlap(_NONE, _NONE)
    # The earliest and the latest byte that this step or a later one reads; `far` stands for none at all.
    far = int(max(written.max(), read.max())) - _NONE
    first = np.minimum.accumulate(np.where(reads, read[:, 0], far)[::-1])[::-1]
    last = np.maximum.accumulate(np.where(reads, read[:, 1], -far)[::-1])[::-1]
    steps = writes.nonzero()[0]
    pending = np.maximum(steps - order.late, 0)
    open_steps = pending < order.steps
    steps, pending = steps[open_steps], pending[open_steps]
    below = int((written[steps, 1] - first[pending]).max(initial=_NONE))
    above = int((last[pending] - written[steps, 0]).max(initial=_NONE))
    return Overlap(max(below, _NONE), max(above, _NONE))


_NONE = -(1 << 40)
"""A distance that never restrains: further below zero than any buffer is large."""


def pointwise_block(call: Conv2D, distance: int) -> int:
    """Pixels to hand to Arm's pointwise kernel in one go, all of them where the tensors do not overlap.

    `distance` is the address of the input less that of the output. The kernel reads all pixels that it is
    given after it has written some channels of the last one, so block b of P pixels is safe if it ends before
    its own input begins: min((b + 1) P, n) * outputs <= distance + b P * inputs. At least `PIXELS_IN_FLIGHT`
    for any distance that `safe_overlap` allows.

    Raises:
        ValueError: the call is not pointwise, or not even one pixel at a time is safe.
    """
    if not is_pointwise(call):
        raise ValueError(f"{call.name} is no pointwise convolution of stride 1")
    pixels = call.input_shape[1] * call.input_shape[2]
    inputs, outputs = call.input_shape[3], call.output_shape[3]
    if distance <= -pixels * inputs:
        return pixels
    for block in range(pixels, 0, -1):
        last = (pixels - 1) // block
        # Linear in b up to the last block but one, so the extremes are at the ends.
        if all(
            min((b + 1) * block, pixels) * outputs <= distance + b * block * inputs
            for b in {0, max(last - 1, 0), last}
        ):
            return block
    raise ValueError(f"{call.name}: the output is {distance} bytes below the input, which is too near")
