"""How the calls of QUTE heads are written in C."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from typing import TypeAlias

from qutec.backends.cmsis_nn.const_data import ConstData
from qutec.program import ExitCheck, HeadFeatures, HeadLogits, HeadUncertainty, Tensor

__all__ = ["feature_kernel", "feature_params", "feature_row_kernels", "row_axes", "wide", "write_head_call"]

Address: TypeAlias = Callable[[Tensor], str]
"""Writes the C expression of a tensor's first byte, of type int8_t *."""


_LANES = 4
_MAX_RUN = 128


def write_head_call(
    index: int,
    call: HeadFeatures | HeadLogits | HeadUncertainty | ExitCheck,
    address: Address,
    const_data: ConstData,
) -> str:
    """The statements of call `index`; they return an arm_cmsis_nn_status.

    Wide data is in the arena, never in an array of bytes in flash: the planner aligns what it places.
    """
    match call:
        case HeadFeatures():
            statement = _features(index, call, address, const_data)
        case HeadLogits():
            statement = _logits(index, call, address, const_data)
        case HeadUncertainty():
            statement = _uncertainty(call, address)
        case _:
            statement = f"*{wide(address(call.output), 32)} = {call.number};"
    return f"{statement}\nreturn ARM_CMSIS_NN_SUCCESS;"


def feature_kernel(call: HeadFeatures) -> str:
    """The C function for a call; its file has the same name."""
    channels = call.input_shape[3]
    rows, columns = _axes(call)
    if call.relu and all((axis.taps, axis.stride) == (3, 1) for axis in (rows, columns)):
        return "qute_head_relu_3x3_s8"
    kind = "relu" if call.relu else "sums"
    # Sums of four channels in the halves of words hold so many values of 9 bits.
    short = max(lines for axis in (rows, columns) for _, lines in axis.lines()) <= _MAX_RUN
    return f"qute_head_{kind}_s8x4" if channels >= _LANES and (call.relu or short) else f"qute_head_{kind}_s8"


def feature_row_kernels(call: HeadFeatures) -> tuple[str, str]:
    """The C functions for a call that takes in row after row: for a row, and for the end."""
    rows, columns = row_axes(call)
    short = max(rows.taps, *(lines for _, lines in columns.lines())) <= _MAX_RUN
    lanes = "s8x4" if call.input_shape[3] >= _LANES and (call.relu or short) else "s8"
    return f"qute_head_{'relu' if call.relu else 'sums'}_row_{lanes}", f"qute_head_end_{lanes}"


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


def _axes(call: HeadFeatures) -> tuple[Axis, Axis]:
    """The outer and the inner axis: the inner one has more outputs."""
    rows, columns = row_axes(call)
    return (columns, rows) if rows.outputs > columns.outputs else (rows, columns)


def _features(index: int, call: HeadFeatures, address: Address, const_data: ConstData) -> str:
    params = feature_params(str(index), call, _axes(call), const_data)
    return f"{feature_kernel(call)}(&{params}, {address(call.input)}, {wide(address(call.output), 16)});"


def feature_params(stem: str, call: HeadFeatures, axes: tuple[Axis, Axis], const_data: ConstData) -> str:
    """The name of the parameters of a call, with these as the outer and the inner axis."""
    weights = const_data.array(f"weights_{stem}", call.weights)
    multiplier = const_data.array(f"multiplier_{stem}", call.multiplier)
    shared = (call.heads, call.input_shape[3], call.input_offset, call.shift, weights, multiplier)
    fields = [_braced(shared)]
    for name, axis in zip(("outer", "inner"), axes, strict=True):
        if call.relu:
            fields.append(_braced(astuple(axis)))
        else:
            lines = const_data.struct(
                "qute_head_lines",
                f"head_{name}_lines_{stem}",
                _braced(map(_braced, axis.lines())),
                axis.taps,
            )
            fields.append(_braced((axis.taps, axis.stride, axis.input_step, axis.weight_step, lines)))
    if call.bias is not None:
        fields += [str(call.bias_shift), const_data.array(f"bias_{stem}", call.bias)]
    c_type = f"qute_head_{'relu' if call.relu else 'sums'}_params"
    return const_data.struct(c_type, f"head_params_{stem}", _braced(fields))


def _logits(index: int, call: HeadLogits, address: Address, const_data: ConstData) -> str:
    names = (
        const_data.array(f"weights_{index}", call.weights),
        const_data.array(f"bias_{index}", call.bias),
        const_data.array(f"multiplier_{index}", call.multiplier),
    )
    sizes = (call.heads, call.classes, call.inputs, call.input_offset, call.limit, call.left_shift)
    params = const_data.struct("qute_head_logits_params", f"head_params_{index}", _braced((*sizes, *names)))
    source = address(call.input)
    if call.input_bits == 16:
        source = wide(source, 16, const=True)
    return f"qute_head_logits_s{call.input_bits}(&{params}, {source}, {wide(address(call.output), 32)});"


def _uncertainty(call: HeadUncertainty, address: Address) -> str:
    source, target = wide(address(call.input), 32, const=True), wide(address(call.output), 32)
    sizes = f"{call.heads}, {call.classes}, {call.abstain_below}"
    return f"qute_head_uncertainty_s32({source}, {sizes}, {target});"


def _braced(fields: Iterable[object]) -> str:
    """An initialiser of a struct."""
    return f"{{{', '.join(map(str, fields))}}}"


def wide(address: str, bits: int, *, const: bool = False) -> str:
    """A pointer to int8_t as one to wider values."""
    qualifier = "const " if const else ""
    return f"({qualifier}int{bits}_t *)({qualifier}void *)({address})"
