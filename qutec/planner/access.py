"""In which order kernels read and write: the fact that overlapping a call's output and input rests on.

One order is stated for each kind of call that holds for every kernel that may be linked: the bundled ones,
in plain C and with the DSP extension, and Arm's CMSIS-NN (as of mid 2026, after v7.0.0) in plain C, with the
DSP extension and with Helium. Where they differ the weakest is stated. docs/architecture.md has the rules as
a contract for whoever writes a kernel; `tests/backends/test_access_order.py` watches every access of the
emulated kernels against it.

What was read in Arm's sources:

- Convolutions gather the columns of two (Helium: four) output pixels before they write these pixels. 1xN
  kernels on Helium read the map itself, four pixels at a time. Grouped ones walk the map once for each group.
- Pointwise convolutions walk all output pixels that they are given once for every two channels (Helium: four
  pixels at a time, all channels). With a stride they are given one output row at a time, else the whole map;
  so the emitter hands a map that overlaps to Arm's library in blocks
  (`qutec.planner.overlap.pointwise_block`).
- Depthwise convolutions go pixel by pixel; on Helium above 124 channels once over the map for each 124.
- Pools go pixel by pixel; the maximum is built up in the output, and clamped there at the end.
- Dense layers read their input vector once for every few outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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
    Lookup,
    MaxPool2D,
    Move,
    Mul,
    RowRegion,
    Softmax,
)
from qutec.program.row_schedule import row_schedule, turns_taken
from qutec.targets import Core

__all__ = ["PIXELS_IN_FLIGHT", "AccessOrder", "Ranges", "access_order", "is_pointwise"]

Ranges = npt.NDArray[np.int64]
"""[steps, 2]: first byte and one past the last, counted from the start of a tensor; empty where they
agree."""

PIXELS_IN_FLIGHT = 4
"""Output pixels (or rows of a dense layer) that a kernel may compute side by side, writing some of their
channels before it has read what the others need."""

_ARM_HELIUM_CHANNELS = 124
"""Channels that Arm's depthwise kernel for Helium takes over the whole map at a time."""


@dataclass(frozen=True, eq=False)
class AccessOrder:
    """What a call reads and writes, step by step.

    In step t it writes `written[t]` of its output and may read `read[k][t]` of input k. Ranges are hulls:
    a kernel touches nothing else in that step, but not always all of it. Steps run in order, but for reads,
    which may come early (then they are harmless) or late: those of step t are done before the writes of step
    t + late + 1 begin. `late` is 0 where a step's reads and writes mingle, and -1 where every step reads
    before it writes.
    """

    written: Ranges
    read: tuple[Ranges, ...]
    late: int

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.written)


def access_order(call: Call, core: Core | None = None, output: int = 0) -> AccessOrder:
    """The order of a call's accesses on a core; None for what holds on every core.

    Written is one of its outputs, by its number. A call whose order is not known is one step: it may read
    anything after it has written anything.
    """
    match call:
        case Conv2D():
            return _convolution(call)
        case DepthwiseConv2D():
            helium = core is None or core.mve
            if helium and call.input_shape[3] > _ARM_HELIUM_CHANNELS:
                return _one_step(call)
            return _map_rows(call, (call.weights.shape[0], call.weights.shape[1]), call.dilation)
        case AvgPool2D() | MaxPool2D():
            return _map_rows(call, call.kernel, (1, 1))
        case FullyConnected():
            outputs, inputs = call.weights.shape
            read = _blocks(call.rows, inputs)
            return AccessOrder(_blocks(call.rows, outputs), (read,), PIXELS_IN_FLIGHT - 1)
        case Softmax():
            rows = _blocks(call.rows, call.row_size)
            return AccessOrder(rows, (rows,), 0)
        case Lookup():
            return _bytes(np.arange(call.count), np.arange(call.count))
        case Gather():
            return _bytes(np.arange(call.index.size), call.index.astype(np.int64))
        case Add() | Mul():
            return _elementwise(call)
        case Move():
            backwards = np.arange(call.count)[::-1]
            return _bytes(backwards, backwards)
        case Copy():
            return _copy(call)
        case Concat():
            return _concat(call)
        case RowRegion():
            return _region(call)[output]
        case _:
            return _one_step(call)


def is_pointwise(call: Conv2D) -> bool:
    """Whether a convolution is a matrix product on the whole map as it lies: 1x1, no padding, stride 1."""
    return (
        call.weights.shape[1:3] == (1, 1)
        and call.padding == (0, 0)
        and call.stride == (1, 1)
        and call.weights.shape[3] == call.input_shape[3]
    )


def _one_step(call: Call) -> AccessOrder:
    read = tuple(_hull(call.read_region(k)) for k in range(len(call.reads)))
    return AccessOrder(_hull(call.written_region()), read, 0)


def _hull(region: npt.NDArray[np.int64]) -> Ranges:
    return np.array([[region.min(), region.max() + 1] if region.size else [0, 0]], dtype=np.int64)


def _blocks(count: int, size: int) -> Ranges:
    """`count` runs of `size` bytes, one behind the other."""
    starts = np.arange(count, dtype=np.int64) * size
    return np.stack([starts, starts + size], axis=1)


def _bytes(written: npt.NDArray[np.int64], *read: npt.NDArray[np.int64]) -> AccessOrder:
    """One byte of each tensor at a time, read before the output's byte is written."""
    return AccessOrder(_single(written), tuple(map(_single, read)), -1)


def _single(positions: npt.NDArray[np.int64]) -> Ranges:
    return np.stack([positions, positions + 1], axis=1)


def _elementwise(call: Add | Mul) -> AccessOrder:
    block, element = np.divmod(np.arange(call.outer * call.inner, dtype=np.int64), max(call.inner, 1))
    first, second = (block * stride + element for stride in (call.stride_1, call.stride_2))
    return _bytes(np.arange(len(block)), first, second)


def _grid(dims: tuple[int, ...], strides: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Positions that nested loops visit, in order."""
    positions = np.zeros(1, dtype=np.int64)
    for dim, stride in zip(dims, strides, strict=True):
        positions = (positions[:, None] + np.arange(dim, dtype=np.int64) * stride).ravel()
    return positions


def _copy(call: Copy) -> AccessOrder:
    """Innermost rows that are contiguous on both sides are one memcpy each."""
    if call.input_strides[3] == 1 and call.output_strides[3] == 1:
        width = call.dims[3]
        read = _grid(call.dims[:3], call.input_strides[:3])
        written = _grid(call.dims[:3], call.output_strides[:3])
        return AccessOrder(_run(written, width), (_run(read, width),), 0)
    return _bytes(_grid(call.dims, call.output_strides), _grid(call.dims, call.input_strides))


def _run(starts: npt.NDArray[np.int64], size: int) -> Ranges:
    return np.stack([starts, starts + size], axis=1)


def _concat(call: Concat) -> AccessOrder:
    """One input after the other, each in rows: a row is one memcpy."""
    row = sum(call.inner)
    starts = np.concatenate([[0], np.cumsum(call.inner)[:-1]]).astype(np.int64)
    block = np.arange(call.outer, dtype=np.int64)
    written = [_run(block * row + start, size) for start, size in zip(starts, call.inner, strict=True)]
    read = []
    for k, size in enumerate(call.inner):
        ranges = np.zeros((len(call.inner) * call.outer, 2), dtype=np.int64)
        ranges[k * call.outer : (k + 1) * call.outer] = _run(block * size, size)
        read.append(ranges)
    return AccessOrder(np.concatenate(written), tuple(read), 0)


def _taps(outputs: int, size: int, kernel: int, stride: int, padding: int, dilation: int) -> Ranges:
    """[outputs, 2]: first input position that each output needs, and one past the last; empty if none."""
    base = np.arange(outputs, dtype=np.int64) * stride - padding
    taps = base[:, None] + np.arange(kernel, dtype=np.int64) * dilation
    inside = (taps >= 0) & (taps < size)
    first = np.where(inside, taps, size).min(axis=1)
    last = np.where(inside, taps, -1).max(axis=1)
    return np.stack([np.minimum(first, last + 1), last + 1], axis=1)


def _map_rows(
    call: Conv2D | DepthwiseConv2D | AvgPool2D | MaxPool2D, kernel: tuple[int, int], dilation: tuple[int, int]
) -> AccessOrder:
    """One output row after the other; while it is written all that it or a later row needs may be read."""
    _, height, width, channels = call.input_shape
    _, out_height, out_width, out_channels = call.output_shape
    rows = _taps(out_height, height, kernel[0], call.stride[0], call.padding[0], dilation[0])
    return AccessOrder(_blocks(out_height, out_width * out_channels), (rows * width * channels,), 0)


def _convolution(call: Conv2D) -> AccessOrder:
    _, kernel_h, kernel_w, depth = (int(n) for n in call.weights.shape)
    _, height, width, channels = call.input_shape
    _, out_height, out_width, out_channels = call.output_shape
    if depth != channels:
        return _one_step(call)
    if (kernel_h, kernel_w) == (1, 1) and call.padding == (0, 0) and call.stride != (1, 1):
        return _map_rows(call, (1, 1), call.dilation)
    rows = _taps(out_height, height, kernel_h, call.stride[0], call.padding[0], call.dilation[0])
    columns = _taps(out_width, width, kernel_w, call.stride[1], call.padding[1], call.dilation[1])
    first = rows[:, None, 0] * width + columns[None, :, 0]
    last = (rows[:, None, 1] - 1) * width + columns[None, :, 1]
    empty = (rows[:, None, 0] >= rows[:, None, 1]) | (columns[None, :, 0] >= columns[None, :, 1])
    last = np.where(empty, first, last)
    read = np.stack([first.ravel(), last.ravel()], axis=1) * channels
    return AccessOrder(_blocks(out_height * out_width, out_channels), (read,), PIXELS_IN_FLIGHT - 1)


@lru_cache(maxsize=512)
def _region(region: RowRegion) -> tuple[AccessOrder, ...]:
    """Turn after turn, for each output: a turn reads its windows, and writes its row where it makes one.

    A passing row that is made in the next row of the output is written there before the call that makes the
    output has its turn.
    """
    schedule = row_schedule(region)
    stages = schedule.stages
    outputs = [tensor.buffer for tensor in region.writes]
    makers = [
        next(n for n, stage in enumerate(stages) if stage.call.output.buffer == name) for name in outputs
    ]
    # For each call the outputs in whose next row it makes its own.
    within: list[list[int]] = [[] for _ in stages]
    for n, stage in enumerate(stages):
        held = schedule.held.get(stage.call.output.buffer)
        if held is not None and held.within in outputs:
            within[n].append(outputs.index(held.within))
    sources = {tensor.buffer: k for k, tensor in enumerate(region.reads)}
    windows = [[w for w in stage.windows if w.buffer in sources] for stage in stages]
    taken = [0] * len(stages)
    turns = list(turns_taken(region, schedule))
    writes = np.zeros((len(outputs), len(turns), 2), dtype=np.int64)
    reads = np.zeros((len(sources), len(turns), 2), dtype=np.int64)
    for step, number in enumerate(turns):
        for k, maker in enumerate(makers):
            if number == maker or k in within[number]:
                stage = stages[maker]
                done = stage.made(taken[maker])
                made = stage.made(taken[maker] + 1) if number == maker else done + 1
                writes[k, step] = done * stage.row_bytes, made * stage.row_bytes
        for window in windows[number]:
            first, end = window.of(taken[number])
            reads[sources[window.buffer], step] = first * window.row_bytes, end * window.row_bytes
        taken[number] += 1
    return tuple(AccessOrder(written, tuple(reads), 0) for written in writes)
