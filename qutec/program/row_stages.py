"""How each call of a region works row by row: what it reads in a turn, and what it has made after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qutec.program.elementwise_calls import Add, Mul
from qutec.program.flat_calls import Concat, Copy, Lookup
from qutec.program.head_calls import HeadFeatures
from qutec.program.kernel_call import KernelCall
from qutec.program.row_region import RowCall, RowWindow
from qutec.program.window_calls import AvgPool2D, Conv2D, DepthwiseConv2D, MaxPool2D

__all__ = ["RowStage", "row_stages", "single_row"]

_FEATURE_LANES = 4
"""Channels that the kernels of heads may take at a time: their sums are padded to as many."""

_Rows = tuple[int, int]
"""Rows of a map, and bytes of each."""


@dataclass(frozen=True, eq=False)
class RowStage:
    """One call of a region, by rows.

    Most calls make a row of their output in every turn. Some take in rows: they add them to sums, and make a
    row of their output in the last of the turns that it needs.
    """

    call: RowCall
    windows: tuple[RowWindow, ...]
    """What it reads in each turn, in the order of `call.reads`."""
    turns: int
    """How often it has its turn."""
    rows: int
    """Rows of its output."""
    row_bytes: int
    """Of its output."""
    sums_bytes: int = 0
    """Of the int32 sums that a call which takes in rows keeps from turn to turn; 0 for all others."""
    first_turns: int = 1
    """Turns that the first row takes."""
    turns_each: int = 1
    """Turns from one row to the next."""

    def made(self, turns: int) -> int:
        """Rows that are there after as many turns."""
        if turns < self.first_turns:
            return 0
        return min(self.rows, (turns - self.first_turns) // self.turns_each + 1)


def row_stages(calls: Sequence[KernelCall]) -> tuple[RowStage, ...] | None:
    """The calls by rows, None where one of them cannot run so.

    Such calls are convolutions, pools and heads on maps, and elementwise calls, slices and concatenations of
    channels on maps whose rows are known by what makes or reads them.
    """
    geometry: dict[str, _Rows] = {}
    stages: list[RowStage] = []
    for call in calls:
        stage = row_stage(call, geometry)
        if stage is None:
            return None
        stages.append(stage)
    return tuple(stages)


def row_stage(call: KernelCall, geometry: dict[str, _Rows]) -> RowStage | None:
    """The call by rows, None where it cannot run so; learns the rows of the maps that it reads and makes."""
    stage = _stage(call, geometry)
    if stage is None:
        return None
    for window in stage.windows:
        if window.rows < 1 or any(begin >= end for begin, end in map(window.of, range(stage.turns))):
            return None
        if geometry.get(window.buffer, (window.rows, window.row_bytes)) != (window.rows, window.row_bytes):
            return None
    for window in stage.windows:
        geometry[window.buffer] = (window.rows, window.row_bytes)
    geometry[stage.call.output.buffer] = (stage.rows, stage.row_bytes)
    return stage


def _stage(call: KernelCall, geometry: dict[str, _Rows]) -> RowStage | None:
    if any(t.offset for t in call.writes) or any(t.offset for t in call.reads if not isinstance(call, Copy)):
        return None
    match call:
        case Conv2D() | DepthwiseConv2D():
            taps = call.weights.shape[1 if isinstance(call, Conv2D) else 0]
            return _window_stage(call, (int(taps) - 1) * call.dilation[0] + 1)
        case AvgPool2D() if _sums_are_smaller(call):
            return _summing_pool(call)
        case AvgPool2D() | MaxPool2D():
            return _window_stage(call, call.kernel[0])
        case HeadFeatures():
            return _features_stage(call)
        case Add() | Mul():
            whole = call.outer == 1 or call.stride_1 == call.stride_2 == call.inner
            known = geometry.get(call.input_1.buffer) or geometry.get(call.input_2.buffer)
            return _elementwise_stage(call, known, call.outer * call.inner) if whole else None
        case Lookup():
            return _elementwise_stage(call, geometry.get(call.input.buffer), call.count)
        case Copy():
            return _copy_stage(call, geometry.get(call.input.buffer))
        case Concat():
            return _concat_stage(call, geometry)
        case _:
            return None


def _window_stage(call: Conv2D | DepthwiseConv2D | AvgPool2D | MaxPool2D, extent: int) -> RowStage:
    _, height, width, channels = call.input_shape
    _, out_height, out_width, out_channels = call.output_shape
    window = RowWindow(call.input.buffer, height, width * channels, extent, call.stride[0], call.padding[0])
    return RowStage(call, (window,), out_height, out_height, out_width * out_channels)


def _sums_are_smaller(call: AvgPool2D) -> bool:
    """Whether int32 sums of a row of windows take less than the rows of the windows; none may overlap."""
    (kernel_h, kernel_w), (stride_h, stride_w) = call.kernel, call.stride
    _, height, width, _ = call.input_shape
    _, out_height, out_width, _ = call.output_shape
    if call.padding != (0, 0) or kernel_h == 1 or (out_height > 1 and stride_h < kernel_h):
        return False
    if (out_height - 1) * stride_h + kernel_h > height or (out_width - 1) * stride_w + kernel_w > width:
        return False
    return 4 * out_width < kernel_h * width


def _summing_pool(call: AvgPool2D) -> RowStage:
    _, height, width, channels = call.input_shape
    _, out_height, out_width, _ = call.output_shape
    window = RowWindow(call.input.buffer, height, width * channels, 1, 1, 0)
    turns = (out_height - 1) * call.stride[0] + call.kernel[0]
    row = out_width * channels
    return RowStage(call, (window,), turns, out_height, row, 4 * row, call.kernel[0], call.stride[0])


def _features_stage(call: HeadFeatures) -> RowStage:
    """Linear heads take in row after row of the map, rectified ones the window of a row of their own."""
    _, height, width, channels = call.input_shape
    values = int(call.multiplier.size)
    sums = call.heads * -(-channels // _FEATURE_LANES) * _FEATURE_LANES
    turns, extent, stride, padding = height, 1, 1, 0
    if call.relu:
        turns, extent = call.output_pixels[0], int(call.weights.shape[1])
        stride, padding = call.stride[0], call.padding[0]
    window = RowWindow(call.input.buffer, height, width * channels, extent, stride, padding)
    return RowStage(call, (window,), turns, 1, 2 * values, 4 * sums, turns)


def _elementwise_stage(call: Add | Mul | Lookup, known: _Rows | None, count: int) -> RowStage | None:
    if known is None or known[0] * known[1] != count:
        return None
    rows, row_bytes = known
    windows = tuple(RowWindow(tensor.buffer, rows, row_bytes, 1, 1, 0) for tensor in call.reads)
    return RowStage(call, windows, rows, rows, row_bytes)


def _copy_stage(call: Copy, known: _Rows | None) -> RowStage | None:
    """A copy within rows, the same in each: a slice of the channels or columns, or a flip."""
    if known is None or (row := single_row(call, known[0])) is None:
        return None
    rows, row_bytes = known
    read, written = row.read_region(0) + call.input.offset, row.written_region()
    size = written.size
    # What every row reads and writes has to be that of the first, moved by a row.
    steps_read, steps_written = call.read_region(0), call.written_region()
    first = np.arange(rows)[:, None]
    moved_read = (row.read_region(0)[None, :] + first * row_bytes).ravel()
    moved_written = (written[None, :] + first * size).ravel()
    if (
        not np.array_equal(steps_read, moved_read)
        or not np.array_equal(steps_written, moved_written)
        or not np.array_equal(np.sort(written), np.arange(size))
        or read.min() < 0
        or read.max() >= row_bytes
    ):
        return None
    window = RowWindow(call.input.buffer, rows, row_bytes, 1, 1, 0)
    return RowStage(call, (window,), rows, rows, size)


def single_row(call: Copy, rows: int) -> Copy | None:
    """The loops of the first of `rows` rows; None where the outer loops do not end between rows."""
    dims = list(call.dims)
    left = rows
    for axis, size in enumerate(dims):
        if left % size == 0:
            dims[axis], left = 1, left // size
        elif size % left == 0:
            dims[axis], left = size // left, 1
        if left == 1:
            return replace(call, dims=(dims[0], dims[1], dims[2], dims[3]))
        if dims[axis] != 1:
            return None
    return None


def _concat_stage(call: Concat, geometry: dict[str, _Rows]) -> RowStage | None:
    """Pixel by pixel: the channels of one map behind those of another."""
    known = next((geometry[t.buffer] for t in call.inputs if t.buffer in geometry), None)
    if known is None or call.outer % known[0]:
        return None
    rows = known[0]
    pixels = call.outer // rows
    windows = tuple(
        RowWindow(tensor.buffer, rows, pixels * inner, 1, 1, 0)
        for tensor, inner in zip(call.inputs, call.inner, strict=True)
    )
    return RowStage(call, windows, rows, rows, pixels * sum(call.inner))
