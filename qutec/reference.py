"""The numpy reference interpreter: the executable definition of `Program`.

TensorFlow Lite int8 semantics as CMSIS-NN implements them with double rounding (its default); the
arithmetic of each kernel is in `qutec.reference_kernels`. A batch is run at once: every buffer is a
[batch, bytes] int8 array, row i belongs to sample i.

A call reads all of its input before it writes: where an arena plan lets input and output overlap, it is for
the plan to prove that this makes no difference. Bytes that nobody has written hold `UNWRITTEN`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias, TypeVar, assert_never

import numpy as np
import numpy.typing as npt

from qutec import reference_heads as heads
from qutec import reference_kernels as kernels
from qutec.errors import DataError
from qutec.program import (
    Add,
    AvgPool2D,
    Buffer,
    BufferKind,
    Call,
    Concat,
    Conv2D,
    Copy,
    DepthwiseConv2D,
    ExitCheck,
    Fill,
    FullyConnected,
    Gather,
    HeadFeatures,
    HeadLogits,
    HeadUncertainty,
    InputRows,
    Lookup,
    MaxPool2D,
    Move,
    Mul,
    Program,
    RowRegion,
    Shape,
    Softmax,
    StoredArray,
    Tensor,
)

__all__ = [
    "UNWRITTEN",
    "Buffers",
    "load_inputs",
    "output_values",
    "read_outputs",
    "run_call",
    "run_program",
    "trace_program",
]

Int8Array: TypeAlias = npt.NDArray[np.int8]

Buffers: TypeAlias = dict[str, Int8Array]
"""Memory by buffer name, [batch, bytes]; rows of a constant are one array, read-only."""

_Number = TypeVar("_Number", bound=np.generic)

UNWRITTEN = -86
"""0xAA: what a buffer holds before its first writer."""

_BUFFER_BYTES = 128 << 20
"""Samples are run in groups whose buffers stay under this."""
_SCRATCH_BYTES = 16 << 20
"""A call works on as many samples at a time as this holds intermediate values of; more misses the cache."""


def run_program(program: Program, inputs: Sequence[Int8Array]) -> tuple[StoredArray, ...]:
    """Outputs of `program`, each [batch, *logical_shape] in ONNX element order, for a batch of inputs.

    Input k is [batch, ...] with the elements of port k in ONNX order in any shape. Memory stays under
    about 300 MB above inputs and outputs, whatever the batch.

    Raises DataError where inputs are not int8, do not match the ports, or differ in their batch.
    """
    batch = _batch_size(program, inputs)
    per_sample = sum(buffer.bytes for buffer in program.arena_buffers())
    step = max(1, _BUFFER_BYTES // max(1, per_sample))
    parts: list[tuple[StoredArray, ...]] = []
    for start in range(0, max(batch, 1), step):
        buffers = load_inputs(program, [values[start : start + step] for values in inputs])
        parts.append(_run_to_the_exits(program, buffers))
    return tuple(np.concatenate(port) for port in zip(*parts, strict=True))


def _run_to_the_exits(program: Program, buffers: Buffers) -> tuple[StoredArray, ...]:
    """Outputs of a batch; samples leave it at the exit that is sure enough of them."""
    batch = max((len(values) for values in buffers.values()), default=0)
    left = np.arange(batch)
    finished: list[tuple[npt.NDArray[np.intp], tuple[StoredArray, ...]]] = []
    for call in program.calls:
        run_call(call, buffers)
        if not isinstance(call, ExitCheck) or call.threshold is None:
            continue
        confidence = _wide_array(buffers, call.input, (1,), np.dtype("<i4"))[:, 0]
        stops = confidence >= call.threshold
        if stops.any():
            outputs = read_outputs(program, buffers)
            finished.append((left[stops], tuple(values[stops] for values in outputs)))
            left, buffers = left[~stops], {name: rows[~stops] for name, rows in buffers.items()}
    finished.append((left, read_outputs(program, buffers)))
    order = np.argsort(np.concatenate([rows for rows, _ in finished]))
    outputs_of_all = zip(*(outputs for _, outputs in finished), strict=True)
    return tuple(np.concatenate(values)[order] for values in outputs_of_all)


def trace_program(program: Program, inputs: Sequence[Int8Array]) -> Iterator[tuple[Call, Int8Array]]:
    """Runs the calls one by one and yields each with the values it wrote, [batch, count], memory order.

    The values of several outputs follow each other.

    The whole batch is run at once, and to the end: no `ExitCheck` stops it. Inputs and errors are those of
    `run_program`. For a `Copy` the values are in the order of its loops, without the bytes between them.
    """
    buffers = load_inputs(program, inputs)
    for call in program.calls:
        run_call(call, buffers)
        written = [values.reshape(len(values), -1) for values in output_values(call, buffers)]
        yield call, np.concatenate(written, axis=1)


def load_inputs(program: Program, inputs: Sequence[Int8Array]) -> Buffers:
    """Buffers of `program` for a batch, inputs and constants filled in. Errors as `run_program`."""
    batch = _batch_size(program, inputs)
    buffers = {name: _allocate(buffer, batch) for name, buffer in program.buffers.items()}
    for port, values in zip(program.inputs, inputs, strict=True):
        flat = values.reshape(batch, port.size)
        memory = _view(buffers, port.tensor, (port.size,), (1,))
        memory[...] = flat if port.order is None else flat[:, port.order]
    return buffers


def read_outputs(program: Program, buffers: Buffers) -> tuple[StoredArray, ...]:
    """What the output ports hold, each [batch, *logical_shape] in ONNX element order."""
    outputs: list[StoredArray] = []
    for port in program.outputs:
        memory = _view(buffers, port.tensor, (port.bytes,), (1,))
        memory = np.ascontiguousarray(memory).view(np.dtype(port.dtype).newbyteorder("<"))
        values = np.empty(memory.shape, dtype=port.dtype)
        values[:, slice(None) if port.order is None else port.order] = memory
        outputs.append(values.reshape(len(memory), *port.logical_shape))
    return tuple(outputs)


def run_call(call: Call, buffers: Buffers) -> None:
    """Executes one call on `buffers`, in place.

    Raises UnsupportedModelError where a pooling window covers no input at all, and IndexError where the
    call reaches out of a buffer.
    """
    if isinstance(call, RowRegion):
        _run_region(call, buffers)
        return
    names = {tensor.buffer for tensor in (*call.reads, *call.writes)}
    batch = len(buffers[call.writes[0].buffer])
    step = max(1, _SCRATCH_BYTES // max(1, _scratch_bytes(call)))
    for start in range(0, batch, step):
        rows = {name: buffers[name][start : start + step] for name in names}
        values = _evaluate(call, rows)
        (target,) = output_values(call, rows)
        target[...] = values.reshape(target.shape)


def output_values(call: Call, buffers: Buffers) -> tuple[Int8Array, ...]:
    """Views of the values that `call` writes to each output, [batch, count]; [batch, *dims] for a `Copy`."""
    if isinstance(call, Copy):
        return (_view(buffers, call.output, call.dims, call.output_strides),)
    return tuple(
        _view(buffers, tensor, (call.written_region(k).size,), (1,)) for k, tensor in enumerate(call.writes)
    )


def _evaluate(call: Call, buffers: Buffers) -> Int8Array:
    """What `call` writes, [batch, ...] in memory order."""
    match call:
        case Conv2D():
            return kernels.conv2d(call, _map(buffers, call.input, call.input_shape))
        case DepthwiseConv2D():
            return kernels.depthwise_conv2d(call, _map(buffers, call.input, call.input_shape))
        case FullyConnected():
            shape = (call.rows, call.weights.shape[1])
            return kernels.fully_connected(call, _array(buffers, call.input, shape))
        case AvgPool2D():
            return kernels.avg_pool2d(call, _map(buffers, call.input, call.input_shape))
        case MaxPool2D():
            return kernels.max_pool2d(call, _map(buffers, call.input, call.input_shape))
        case Add():
            return kernels.add(call, *_operands(call, buffers))
        case Mul():
            return kernels.mul(call, *_operands(call, buffers))
        case Softmax():
            return kernels.softmax(call, _array(buffers, call.input, (call.rows, call.row_size)))
        case Lookup():
            return kernels.lookup(call.table, _array(buffers, call.input, (call.count,)))
        case Concat():
            parts = zip(call.inputs, call.inner, strict=True)
            blocks = [_array(buffers, tensor, (call.outer, inner)) for tensor, inner in parts]
            return np.concatenate(blocks, axis=-1)
        case Copy():
            return _view(buffers, call.input, call.dims, call.input_strides).copy()
        case Gather():
            reach = _array(buffers, call.input, (int(call.index.max()) + 1,))
            if call.index.min() < 0:
                raise IndexError(f"{call.name} gathers from a negative index")
            return reach[:, call.index]
        case Move():
            return _array(buffers, call.input, (call.count,)).copy()
        case Fill():
            batch = len(buffers[call.output.buffer])
            return np.full((batch, call.count), call.value, dtype=np.int8)
        case HeadFeatures():
            return _bytes(heads.head_features(call, _map(buffers, call.input, call.input_shape)))
        case HeadLogits():
            shape = (call.heads, call.inputs)
            if call.input_bits == 8:
                return _bytes(heads.head_logits(call, _array(buffers, call.input, shape)))
            return _bytes(heads.head_logits(call, _wide_array(buffers, call.input, shape, np.dtype("<i2"))))
        case HeadUncertainty():
            shape = (call.heads, call.classes)
            logits = _wide_array(buffers, call.input, shape, np.dtype("<i4"))
            return _bytes(heads.head_uncertainty(call, logits))
        case ExitCheck():
            batch = len(buffers[call.output.buffer])
            return _bytes(np.full((batch, 1), call.number, dtype=np.int32))
        case InputRows():
            return _array(buffers, call.input, (call.rows * call.row_bytes,)).copy()
        case RowRegion():
            raise AssertionError("a region runs its calls, which write for themselves")
        case _:
            assert_never(call)


def _run_region(region: RowRegion, buffers: Buffers) -> None:
    """The calls on whole maps, one after the other: what running them by rows has to equal."""
    batch = len(buffers[region.writes[0].buffer])
    inner = {
        call.output.buffer: np.full((batch, call.written_region().size), UNWRITTEN, dtype=np.int8)
        for call in region.calls
        if call.output.buffer not in region.outputs
    }
    memory = {**buffers, **inner}
    for call in region.calls:
        run_call(call, memory)


def _scratch_bytes(call: Call) -> int:
    """About what one sample takes in intermediate values: windows in floats, accumulators in int64."""
    accumulators = 40 * call.written_region().size
    match call:
        case Conv2D():
            _, height, width, channels = call.output_shape
            return accumulators + 8 * height * width * int(call.weights.size) // channels
        case DepthwiseConv2D() | AvgPool2D() | MaxPool2D():
            return accumulators + 4 * int(np.prod(call.input_shape))
        case FullyConnected():
            return accumulators + 8 * call.rows * int(call.weights.shape[1])
        case _:
            return accumulators


def _batch_size(program: Program, inputs: Sequence[Int8Array]) -> int:
    if len(inputs) != len(program.inputs):
        raise DataError(f"{program.name} has {len(program.inputs)} inputs, but {len(inputs)} were given")
    batch = len(inputs[0]) if inputs and inputs[0].ndim else 1
    for port, values in zip(program.inputs, inputs, strict=True):
        if values.dtype != np.int8:
            raise DataError(f"input {port.name} must be int8, not {values.dtype}")
        if values.ndim == 0 or len(values) != batch or values.size != batch * port.size:
            raise DataError(
                f"input {port.name} has shape {values.shape}; expected [batch, ...] with {port.size} values "
                f"a sample, and the same batch ({batch}) for every input"
            )
    return batch


def _allocate(buffer: Buffer, batch: int) -> Int8Array:
    if buffer.kind is BufferKind.CONSTANT:
        if buffer.data is None:
            raise ValueError(f"constant buffer {buffer.name} has no data")
        return np.broadcast_to(buffer.data.reshape(-1), (batch, buffer.bytes))
    return np.full((batch, buffer.bytes), UNWRITTEN, dtype=np.int8)


def _view(buffers: Buffers, tensor: Tensor, dims: Sequence[int], strides: Sequence[int]) -> Int8Array:
    """[batch, *dims] of a tensor, strides in bytes; checks that it stays inside the buffer."""
    memory = buffers[tensor.buffer]
    spans = [(dim - 1) * stride for dim, stride in zip(dims, strides, strict=True)]
    first = tensor.offset + sum(min(span, 0) for span in spans)
    last = tensor.offset + sum(max(span, 0) for span in spans)
    if first < 0 or last >= memory.shape[1]:
        raise IndexError(
            f"bytes {first} to {last} are outside of buffer {tensor.buffer} of {memory.shape[1]} bytes"
        )
    return np.lib.stride_tricks.as_strided(
        memory[:, tensor.offset :], (len(memory), *dims), (memory.strides[0], *strides)
    )


def _array(buffers: Buffers, tensor: Tensor, shape: tuple[int, ...]) -> Int8Array:
    """[batch, *shape]: a contiguous tensor."""
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    return _view(buffers, tensor, shape, strides)


def _wide_array(
    buffers: Buffers, tensor: Tensor, shape: tuple[int, ...], dtype: np.dtype[_Number]
) -> npt.NDArray[_Number]:
    """[batch, *shape]: a contiguous tensor of values wider than a byte."""
    memory = np.ascontiguousarray(_array(buffers, tensor, (math.prod(shape) * dtype.itemsize,)))
    return memory.view(dtype).reshape(len(memory), *shape)


def _bytes(values: npt.NDArray[np.int16] | npt.NDArray[np.int32]) -> Int8Array:
    """[batch, bytes] of values [batch, ...], little-endian."""
    flat = np.ascontiguousarray(values.reshape(len(values), -1))
    return flat.astype(flat.dtype.newbyteorder("<")).view(np.int8)


def _map(buffers: Buffers, tensor: Tensor, shape: Shape) -> Int8Array:
    """[batch, H, W, C]; a map has N = 1."""
    return _array(buffers, tensor, shape[1:])


def _operands(call: Add | Mul, buffers: Buffers) -> tuple[Int8Array, Int8Array]:
    """The inputs of an elementwise call, both [batch, outer, inner]."""
    dims = (call.outer, call.inner)
    return (
        _view(buffers, call.input_1, dims, (call.stride_1, 1)),
        _view(buffers, call.input_2, dims, (call.stride_2, 1)),
    )
