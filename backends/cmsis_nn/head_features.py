"""Kernels of pooled head features: which one a call takes, and its parameters in C."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from qutec.backends.cmsis_nn.const_data import ConstData
from qutec.backends.cmsis_nn.expressions import braces
from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.program import HeadFeatures

__all__ = [
    "feature_kernel",
    "feature_params",
    "feature_row_kernels",
    "feature_row_params",
    "feature_tile_bytes",
    "takes_scratch",
]

_LANES = 4
_MAX_RUN = 128
"""Sums of four channels in the halves of words hold so many values of 9 bits."""
_INT16_MAX = 32767
_TILE_COLUMN_BYTES = 32
"""Of a tile of kernels/qute_head_relu_3x3_s8x4.c."""
_TILE_PLACES = 16


def feature_kernel(call: HeadFeatures, kernels: KernelSet = KernelSet.FAST) -> str:
    """The C function for a call; its file has the same name."""
    kind = "relu" if call.relu else "sums"
    if kernels is KernelSet.SMALL:
        return f"qute_head_{kind}_s8"
    if _is_3x3(call):
        return "qute_head_relu_3x3_s8x4"
    _, columns = map_axes(call)
    short = max(lines for _, lines in columns.lines()) <= _MAX_RUN
    in_lanes = call.input_shape[3] >= _LANES and (call.relu or short)
    return f"qute_head_{kind}_s8x4" if in_lanes else f"qute_head_{kind}_s8"


def takes_scratch(kernel: str) -> bool:
    """Whether a kernel of whole maps has parameters for scratch."""
    return "3x3" in kernel


def feature_row_kernels(call: HeadFeatures) -> tuple[str, str]:
    """The C functions for a call that takes in row after row: for a row, and for the end."""
    kind = "relu" if call.relu else "sums"
    if _is_3x3(call):
        return "qute_head_relu_3x3_row_s8x4", "qute_head_end_s8x4"
    _, columns = row_axes(call)
    short = max(lines for _, lines in columns.lines()) <= _MAX_RUN
    lanes = "s8x4" if call.input_shape[3] >= _LANES and (call.relu or short) else "s8"
    return f"qute_head_{kind}_row_{lanes}", f"qute_head_end_{lanes}"


def feature_tile_bytes(call: HeadFeatures) -> int:
    """Bytes of scratch that are of use to the kernel of a whole map; 0 where none are.

    A line of outputs is divided evenly into tiles, of about `_TILE_PLACES` outputs.
    """
    if not _is_3x3(call):
        return 0
    _, columns = map_axes(call)
    tiles = -(-columns.outputs // _TILE_PLACES)
    places = -(-columns.outputs // tiles)
    return _TILE_COLUMN_BYTES * (places + 2)


def _is_3x3(call: HeadFeatures) -> bool:
    """Whether the 3x3 kernels with an activation do: each window meets the map."""
    return (
        call.relu
        and call.input_shape[3] >= _LANES
        and all(
            (axis.taps, axis.stride) == (3, 1)
            and axis.padding < axis.taps
            and axis.outputs - axis.padding <= axis.size
            for axis in row_axes(call)
        )
    )


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution; steps are bytes from one line of the map, or tap, to the next."""

    size: int
    taps: int
    outputs: int
    stride: int
    padding: int
    input_step: int
    weight_step: int

    def lines(self) -> list[tuple[int, int]]:
        """(first, count) of the lines that each tap meets, `stride` apart.

        At a stride of 1 neither end moves by more than one line from tap to tap, also where there is none.
        """
        met = []
        for tap in range(self.taps):
            base = tap - self.padding
            begin = min(max(-(base // self.stride), 0), self.outputs)
            end = min(max(-((base - self.size) // self.stride), begin), self.outputs)
            first = min(max(base + begin * self.stride, 0), self.size)
            met.append((first, end - begin))
        return met

    def classes(self) -> list[LineClass]:
        """The lines that some tap meets, by the taps that meet them."""
        found: dict[tuple[int, ...], list[int]] = {}
        for line in range(self.size):
            met = tuple(
                tap
                for tap, (first, count) in enumerate(self.lines())
                if line in range(first, first + count * self.stride, self.stride)
            )
            if met:
                found.setdefault(met, []).append(line)
        assert all(b - a == self.stride for lines in found.values() for a, b in pairwise(lines))
        return [LineClass(lines[0], len(lines), met) for met, lines in found.items()]


@dataclass(frozen=True)
class LineClass:
    """Lines of an axis, `stride` apart, that the same taps meet, which are `stride` apart as well."""

    first: int
    count: int
    taps: tuple[int, ...]

    def parts(self, stride: int, most: int) -> list[LineClass]:
        """The same lines in classes of up to `most`."""
        return [
            LineClass(self.first + done * stride, min(most, self.count - done), self.taps)
            for done in range(0, self.count, most)
        ]


def row_axes(call: HeadFeatures) -> tuple[Axis, Axis]:
    """The axis from row to row, and that along rows."""
    _, height, width, channels = call.input_shape
    kernel_height, kernel_width = call.weights.shape[1:3]
    rows, columns = (
        Axis(size, taps, outputs, stride, padding, line * channels, line_of_taps * channels)
        for size, taps, line, line_of_taps, outputs, stride, padding in zip(
            (height, width),
            (kernel_height, kernel_width),
            (width, 1),
            (kernel_width, 1),
            call.output_pixels,
            call.stride,
            call.padding,
            strict=True,
        )
    )
    return rows, columns


def map_axes(call: HeadFeatures) -> tuple[Axis, Axis]:
    """The outer and the inner axis of kernels of whole maps: the inner one has more outputs."""
    rows, columns = row_axes(call)
    return (columns, rows) if rows.outputs > columns.outputs else (rows, columns)


def feature_params(index: int, call: HeadFeatures, const_data: ConstData, kernel: str) -> str:
    """The name of the parameters of a call of `kernel`, which takes a whole map."""
    axes = map_axes(call)
    if call.relu:
        return _relu_params(str(index), call, axes, const_data, kernel)
    return _sums_params(str(index), call, axes, const_data, kernel)


def feature_row_params(stem: str, call: HeadFeatures, const_data: ConstData, kernel: str) -> str:
    """The same for `kernel`, which takes in rows."""
    if call.relu:
        return _relu_params(stem, call, row_axes(call), const_data, kernel)
    return _sums_row_params(stem, call, const_data)


def _relu_params(
    stem: str, call: HeadFeatures, axes: tuple[Axis, Axis], const_data: ConstData, kernel: str
) -> str:
    weights = call.weights
    if "3x3" in kernel:
        # [heads][channels][inner][outer]: the kernels widen all nine weights of a channel from three words.
        outer_first = axes[0].weight_step > axes[1].weight_step
        weights = weights.transpose((0, 3, 2, 1) if outer_first else (0, 3, 1, 2))
        axes = replace(axes[0], weight_step=1), replace(axes[1], weight_step=3)
    bias = const_data.array(f"bias_{stem}", _present(call.bias))
    fields = (
        _shared(stem, call, const_data.array(f"weights_{stem}", weights), const_data),
        *(braces(astuple(axis)) for axis in axes),
        call.bias_shift,
        bias,
    )
    return const_data.struct("qute_head_relu_params", f"head_params_{stem}", braces(fields))


def _sums_params(
    stem: str, call: HeadFeatures, axes: tuple[Axis, Axis], const_data: ConstData, kernel: str
) -> str:
    outer, inner = axes
    columns = inner.lines()
    classes = outer.classes()
    if kernel.endswith("s8x4"):
        most = max(_MAX_RUN // max(1, *(count for _, count in columns)), 1)
        classes = [part for whole in classes for part in whole.parts(outer.stride, most)]
    rows = [braces((braces((c.first, c.count)), c.taps[0], len(c.taps))) for c in classes]
    # An array of none is no C, and a map that no tap meets has no class.
    rows = rows or [braces((braces((0, 0)), 0, 1))]
    name = const_data.struct("qute_head_line_class", f"head_classes_{stem}", braces(rows), len(rows))
    fields = (
        _shared(stem, call, const_data.array(f"weights_{stem}", call.weights), const_data),
        *(braces((axis.taps, axis.stride, axis.input_step, axis.weight_step)) for axis in axes),
        len(classes),
        name,
        _lines(f"head_columns_{stem}", columns, const_data),
    )
    return const_data.struct("qute_head_sums_params", f"head_params_{stem}", braces(fields))


def _sums_row_params(stem: str, call: HeadFeatures, const_data: ConstData) -> str:
    rows, columns = row_axes(call)
    row_classes, pixel_classes = rows.classes(), columns.classes()
    class_of = np.full(rows.size, -1, np.int16)
    for number, lines in enumerate(row_classes):
        class_of[lines.first : lines.first + lines.count * rows.stride : rows.stride] = number
    weights = np.array(
        [
            [call.weights[:, a.taps][:, :, b.taps].sum((1, 2), dtype=np.int64) for b in pixel_classes]
            for a in row_classes
        ]
    ).reshape(len(row_classes), len(pixel_classes), call.heads, call.input_shape[3])
    # Sums of very many weights come in several parts, each with the same pixels.
    parts = -(-int(np.abs(weights).max(initial=1)) // _INT16_MAX)
    weights = np.concatenate(
        [weights * (part + 1) // parts - weights * part // parts for part in range(parts)], axis=1
    )
    pixels = [(lines.first, lines.count) for lines in pixel_classes] * parts
    fields = (
        _shared(stem, call, "NULL", const_data),
        columns.stride,
        len(pixels),
        _lines(f"head_pixels_{stem}", pixels, const_data),
        const_data.array(f"row_classes_{stem}", class_of),
        const_data.array(f"weights_{stem}", weights.astype(np.int16)),
    )
    return const_data.struct("qute_head_sums_row_params", f"head_params_{stem}", braces(fields))


def _shared(stem: str, call: HeadFeatures, weights: str, const_data: ConstData) -> str:
    multiplier = const_data.array(f"multiplier_{stem}", call.multiplier)
    return braces((call.heads, call.input_shape[3], call.input_offset, call.shift, weights, multiplier))


def _lines(stem: str, lines: list[tuple[int, int]], const_data: ConstData) -> str:
    return const_data.struct("qute_head_lines", stem, braces(map(braces, lines)), len(lines))


def _present(bias: npt.NDArray[np.int16] | None) -> npt.NDArray[np.int16]:
    assert bias is not None
    return bias
