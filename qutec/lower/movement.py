"""Lowering of operators that move elements: reshapes and transposes cost nothing, the rest copies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qutec.lower.builder import Builder, Refused, quantize_array
from qutec.lower.constants import Constant, constant, integers, real
from qutec.lower.expression import Context, Expression, Pending, Pointwise
from qutec.lower.shapes import layer_name, static_shape
from qutec.lower.view import View, channels_last_order, row_major
from qutec.program import Concat, Fill, Quantization

__all__ = ["cast", "concat", "identity", "pad", "padded", "reshape", "slice_", "split", "transpose"]


def identity(context: Context, node: ir.Node) -> Expression:
    """Identity and Dropout: nothing happens."""
    return context.expression(node.inputs[0])


def cast(context: Context, node: ir.Node) -> Expression:
    """Cast between float types does nothing; 8-bit data as float is data of scale 1."""
    source = _given(node.inputs[0])
    if not ir.DataType(node.attributes.get_int("to", 1)).is_floating_point():
        raise Refused("it makes integers of data")
    if source.dtype in (ir.DataType.INT8, ir.DataType.UINT8):
        zero_point = -128 if source.dtype == ir.DataType.UINT8 else 0
        return context.told(context.raw(source), Quantization(1.0, zero_point))
    if source.dtype is not None and not source.dtype.is_floating_point():
        raise Refused(f"its data is {source.dtype.name}")
    return context.expression(source)


def reshape(context: Context, node: ir.Node) -> Expression:
    """Reshape, Flatten, Squeeze, Unsqueeze: the same row-major elements under another shape."""
    shape = static_shape(node.outputs[0])
    return _moved(context, node.inputs[0], lambda view: view.reshaped(shape), shape)


def transpose(context: Context, node: ir.Node) -> Expression:
    """Transpose: only the order is rewritten."""
    shape = static_shape(node.outputs[0])
    permutation = node.attributes.get_ints("perm", list(reversed(range(len(shape)))))
    return _moved(context, node.inputs[0], lambda view: view.transposed(permutation), shape)


def slice_(context: Context, node: ir.Node) -> Expression:
    """Slice with constant bounds and any steps."""
    source_shape = static_shape(_given(node.inputs[0]))
    starts, ends = integers(node.inputs[1], "starts"), integers(node.inputs[2], "ends")
    axes = list(range(len(starts)))
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = [axis % len(source_shape) for axis in integers(node.inputs[3], "axes")]
    steps = [1] * len(starts)
    if len(node.inputs) > 4 and node.inputs[4] is not None:
        steps = integers(node.inputs[4], "steps")
    indices = [np.arange(length) for length in source_shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        indices[axis] = np.arange(source_shape[axis])[_onnx_slice(start, end, step, source_shape[axis])]
    return _selected(context, node, node.inputs[0], indices, layer_name(node))


def split(context: Context, node: ir.Node) -> list[Expression]:
    """Split: one slice for each output."""
    source_shape = static_shape(_given(node.inputs[0]))
    axis = node.attributes.get_int("axis", 0) % len(source_shape)
    results: list[Expression] = []
    start = 0
    for number, output in enumerate(node.outputs):
        length = static_shape(output)[axis]
        indices = [np.arange(n) for n in source_shape]
        indices[axis] = np.arange(start, start + length)
        results.append(_selected(context, node, node.inputs[0], indices, f"{layer_name(node)}/{number}"))
        start += length
    return results


def pad(context: Context, node: ir.Node) -> Expression:
    """Pad: constant mode fills with the code of the value; reflect, edge and wrap gather."""
    x = context.view(node.inputs[0])
    rank = len(x.shape)
    pads = integers(node.inputs[1], "pads")
    axes = list(range(rank))
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = [axis % rank for axis in integers(node.inputs[3], "axes")]
    begin, end = [0] * rank, [0] * rank
    for position, axis in enumerate(axes):
        begin[axis], end[axis] = pads[position], pads[len(axes) + position]
    if begin[0] or end[0]:
        raise Refused("it pads the batch")
    mode = node.attributes.get_string("mode", "constant")
    name = layer_name(node)
    if min(begin + end) < 0:
        if mode != "constant":
            raise Refused(f"it has negative padding in mode {mode}")
        kept = [np.arange(max(-b, 0), n - max(-e, 0)) for b, n, e in zip(begin, x.shape, end, strict=True)]
        if not all(len(index) for index in kept):
            raise Refused("it crops all of its data away")
        x = _taken(context.builder, x, kept, name + "/crop")
        begin, end = [max(b, 0) for b in begin], [max(e, 0) for e in end]
    if mode == "constant":
        value = 0.0
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            known = constant(node.inputs[2])
            if known is None:
                raise Refused("its value is not a constant")
            value = float(real(known).reshape(-1)[0]) if real(known).size else 0.0
        return padded(context.builder, x, begin, end, value, name) if any(begin + end) else x
    rules = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode not in rules:
        raise Refused(f"its mode is {mode}")
    indices = [np.arange(length) for length in x.shape]
    for axis in range(rank):
        indices[axis] = np.pad(indices[axis], (begin[axis], end[axis]), mode=rules[mode])  # type: ignore[call-overload]
    return _taken(context.builder, x, indices, name)


def concat(context: Context, node: ir.Node) -> Expression:
    """Concat of data and constants; inputs at another scale go through a table first.

    The call waits for the parameters of the output. Constants lie in flash at those.
    """
    shape = static_shape(node.outputs[0])
    axis = node.attributes.get_int("axis", 0) % len(shape)
    known = [constant(value) for value in node.inputs]
    views = [
        context.view(value) if fixed is None else fixed
        for value, fixed in zip(node.inputs, known, strict=True)
    ]
    name = layer_name(node)

    def emit(quantization: Quantization, clamp: tuple[float, float]) -> View:
        if clamp != (-math.inf, math.inf):
            raise Refused("an activation follows the concatenation without quantisation between them")
        builder = context.builder
        same = [
            builder.requantized(view, quantization, f"{name}/scale_{number}")
            if isinstance(view, View)
            else _constant_view(builder, view, quantization, f"{name}/constant_{number}")
            for number, view in enumerate(views)
        ]
        return _concatenated(builder, same, axis, shape, quantization, node.outputs[0].name or name, name)

    # Where every input has the same parameters, a graph that gives the output none still says them.
    told = {view.quantization if isinstance(view, View) else None for view in views}
    shared = told.pop() if len(told) == 1 else None
    return Pending(shape, emit, quantization=shared)


def padded(
    builder: Builder, x: View, begin: Sequence[int], end: Sequence[int], value: float, name: str
) -> View:
    """`x` inside a larger tensor that holds the code of `value` everywhere else."""
    shape = tuple(b + n + e for b, n, e in zip(begin, x.shape, end, strict=True))
    order = _map_order(shape)
    x = builder.ordered(x, _map_order(x.shape), name + "/order")
    target = builder.output_view(name, shape, x.quantization, order)
    code = int(quantize_array(np.array([value]), x.quantization)[0])
    builder.add(Fill(name + "/fill", target.tensor, target.size, code))
    inside = np.zeros(shape, bool)
    inside[tuple(slice(b, b + n) for b, n in zip(begin, x.shape, strict=True))] = True
    written = np.flatnonzero(inside.reshape(-1)[order])
    builder.moved(name, x.tensor, np.arange(x.size), target.tensor, written)
    return target


def _concatenated(
    builder: Builder,
    views: list[View],
    axis: int,
    shape: tuple[int, ...],
    quantization: Quantization,
    output_name: str,
    name: str,
) -> View:
    """Blocks one after the other where memory allows it, else interleaved channels-last."""
    if len(shape) <= 2 or axis == 0:
        # Flat features: whole blocks in whatever order each has; a dense layer re-orders its weights.
        views = [builder.settled(view) for view in views]
        return _joined(builder, views, axis, shape, quantization, output_name, name)
    memory_axes = [0, *range(2, len(shape)), 1] if len(shape) in (3, 4) else list(range(len(shape)))
    position = memory_axes.index(axis)
    orders = [
        np.ascontiguousarray(row_major(view.size).reshape(view.shape).transpose(memory_axes)).reshape(-1)
        for view in views
    ]
    views = [builder.ordered(v, o, name + "/order") for v, o in zip(views, orders, strict=True)]
    order = np.ascontiguousarray(row_major(math.prod(shape)).reshape(shape).transpose(memory_axes)).reshape(
        -1
    )
    outer = math.prod(shape[a] for a in memory_axes[:position])
    target = builder.output_view(output_name, shape, quantization, order)
    inner = tuple(view.size // outer for view in views)
    builder.add(Concat(name, tuple(view.tensor for view in views), target.tensor, outer, inner))
    return target


def _constant_view(builder: Builder, known: Constant, quantization: Quantization, name: str) -> View:
    """A constant in flash, laid out as a map is."""
    values = real(known)
    order = _map_order(values.shape)
    codes = quantize_array(values.reshape(-1)[order], quantization)
    return View(builder.constant(name, codes), values.shape, order, quantization)


def _map_order(shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """Channels last where there is a map, else row-major."""
    return channels_last_order(shape) if len(shape) in (3, 4) else row_major(math.prod(shape))


def _joined(
    builder: Builder,
    views: list[View],
    axis: int,
    shape: tuple[int, ...],
    quantization: Quantization,
    output_name: str,
    name: str,
) -> View:
    elements = row_major(math.prod(shape)).reshape(shape)
    start, orders = 0, []
    for view in views:
        length = view.shape[axis]
        block = np.take(elements, range(start, start + length), axis=axis).reshape(-1)
        orders.append(block[view.order])
        start += length
    target = builder.output_view(output_name, shape, quantization, np.concatenate(orders).astype(np.int32))
    sizes = tuple(view.size for view in views)
    builder.add(Concat(name, tuple(view.tensor for view in views), target.tensor, 1, sizes))
    return target


def _selected(
    context: Context, node: ir.Node, value: ir.Value | None, indices: list[npt.NDArray[np.int64]], name: str
) -> Expression:
    shape = tuple(len(index) for index in indices)
    return _moved(context, value, lambda view: _taken(context.builder, view, indices, name), shape)


def _taken(builder: Builder, view: View, indices: list[npt.NDArray[np.int64]], name: str) -> View:
    """The elements at the outer product of `indices`, in the memory sequence that they already have."""
    view = builder.settled(view)
    shape = tuple(len(index) for index in indices)
    chosen = row_major(view.size).reshape(view.shape)[np.ix_(*indices)].reshape(-1)
    position = np.empty(view.size, np.int64)
    position[view.order] = np.arange(view.size)
    wanted = position[chosen]
    if len(shape) in (3, 4) and np.array_equal(view.order, channels_last_order(view.shape)):
        order = channels_last_order(shape)
    elif np.array_equal(view.order, row_major(view.size)):
        order = row_major(wanted.size)
    else:
        order = np.argsort(wanted, kind="stable").astype(np.int32)
    return builder.picked(view, wanted[order], shape, order, name)


def _moved(
    context: Context, value: ir.Value | None, move: Callable[[View], View], shape: tuple[int, ...]
) -> Expression:
    known = context.expression(value)
    if isinstance(known, Pending):
        return known.then(move, shape)
    if isinstance(known, Pointwise):
        return Pointwise(move(known.base), known.function)
    return move(known)


def _onnx_slice(start: int, end: int, step: int, length: int) -> slice:
    """A Python slice with ONNX's clamping (INT_MIN as end of a negative step runs to the front)."""
    if step < 0:
        first = min(start if start >= 0 else start + length, length - 1)
        last = end if end >= 0 else end + length
        return slice(first, None if last < 0 else last, step)
    return slice(start, end, step)


def _given(value: ir.Value | None) -> ir.Value:
    if value is None:
        raise Refused("an input is missing")
    return value
