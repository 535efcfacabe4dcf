"""An input that is handed in row by row: the call that takes its rows, in front of all others.

    x (in the arena) -> first layers      becomes      x.streamed (nowhere) -> InputRows -> x -> first layers

`x` is then a buffer like any other. The planner puts `InputRows` into a region with the layers that read it
(`qutec.planner.regions`), where only the rows that these still need are held.
"""

from __future__ import annotations

from dataclasses import replace

from qutec.errors import UnsupportedModelError
from qutec.program import (
    AvgPool2D,
    Buffer,
    BufferKind,
    Call,
    Conv2D,
    DepthwiseConv2D,
    InputRows,
    MaxPool2D,
    Port,
    Program,
    Tensor,
)
from qutec.program.row_schedule import row_stages

__all__ = ["no_rows", "with_input_rows"]

_Window = Conv2D | DepthwiseConv2D | AvgPool2D | MaxPool2D


def with_input_rows(program: Program) -> Program:
    """The program with its input handed in by rows.

    Raises:
        UnsupportedModelError: there is not exactly one input, or it is no map of rows; says what it is.
    """
    if len(program.inputs) != 1:
        names = ", ".join(f"'{port.name}'" for port in program.inputs)
        raise UnsupportedModelError(
            f"--stream-input hands in the rows of one input; the network has {len(program.inputs)} ({names})"
        )
    (port,) = program.inputs
    name = port.tensor.buffer
    rows, row_bytes = _rows_of(program, port)
    streamed = f"{name}.streamed"
    while streamed in program.buffers:
        streamed += "_"
    size = program.buffers[name].bytes
    buffers = {
        streamed: Buffer(streamed, size, BufferKind.STREAMED),
        **program.buffers,
        name: Buffer(name, size, BufferKind.INTERNAL),
    }
    taken = InputRows(f"rows of {port.name}", Tensor(streamed), Tensor(name), rows, row_bytes)
    inputs = (replace(port, tensor=Tensor(streamed)),)
    return replace(program, buffers=buffers, calls=(taken, *program.calls), inputs=inputs)


def no_rows(program: Program) -> UnsupportedModelError:
    """Why no region can begin with the `InputRows` of a program."""
    taken = program.calls[0]
    assert isinstance(taken, InputRows)
    readers = [call for call in program.calls[1:] if taken.output in call.reads]
    unfit = [_described(call) for call in readers if row_stages([taken, call]) is None]
    if unfit:
        reason = f"{' and '.join(unfit)}, which reads the input, cannot run row by row"
    elif len(readers) > 1:
        reason = f"{', '.join(call.name for call in readers)} all read the input, and cannot share its rows"
    else:
        reason = f"what comes after {_described(readers[0])} keeps its rows from being used up one by one"
    return UnsupportedModelError(f"--stream-input: {reason}")


def _rows_of(program: Program, port: Port) -> tuple[int, int]:
    """How many rows the input has, and bytes of a row, by the first layer that slides a window over it."""
    readers = [call for call in program.calls if port.tensor.buffer in {t.buffer for t in call.reads}]
    size = program.buffers[port.tensor.buffer].bytes
    alike = {port.tensor.buffer}
    for call in program.calls:
        sources = {tensor.buffer for tensor in call.reads}
        if isinstance(call, _Window) and sources <= alike:
            _, rows, width, channels = call.input_shape
            if rows == 1:
                raise UnsupportedModelError(
                    f"--stream-input: the input '{port.name}' is a map of one row of {size:,} bytes (layers in "
                    "one dimension run along a row), so handing in rows would save nothing"
                )
            return rows, width * channels
        if sources & alike and row_stages([_as_rows(size, port.tensor, call), call]) is not None:
            alike.add(call.writes.buffer)
    found = " and ".join(map(_described, readers)) or "no layer"
    raise UnsupportedModelError(
        f"--stream-input: the input '{port.name}' is no map whose rows could be handed in: no convolution or "
        f"pool slides over it, {found} reads it"
    )


def _as_rows(size: int, tensor: Tensor, call: Call) -> InputRows:
    """Elementwise calls take any rows; here the whole as one."""
    source = next((t for t in call.reads), tensor)
    return InputRows("", source, source, 1, size)


def _described(call: Call) -> str:
    return f"{call.name} ({type(call).__name__})"
