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
from qutec.program.row_stages import row_stages

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
    name = port.tensor.buffer
    size = program.buffers[name].bytes
    alike = {name}
    for call in program.calls:
        sources = {tensor.buffer for tensor in call.reads}
        if isinstance(call, _Window) and sources <= alike:
            _, rows, width, channels = call.input_shape
            if rows == 1:
                break
            return rows, width * channels
        if sources & alike and row_stages([_as_one_row(size, call), call]) is not None:
            alike |= {tensor.buffer for tensor in call.writes}
    shape = " x ".join(map(str, port.logical_shape))
    readers = [_described(call) for call in program.calls if name in {t.buffer for t in call.reads}]
    raise UnsupportedModelError(
        "--stream-input needs an input that is a map of several rows, with convolutions or pools over it; "
        f"'{port.name}' ({shape}) is read by {' and '.join(readers) or 'no layer'}"
    )


def _as_one_row(size: int, call: Call) -> InputRows:
    """What an elementwise call reads as a single row: it takes rows of any size."""
    source = call.reads[0]
    return InputRows("", source, source, 1, size)


def _described(call: Call) -> str:
    return f"{call.name} ({type(call).__name__})"
