"""Lowering of operators that work element by element: activations, and Add, Sub, Mul with broadcasting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qutec.fixed_point import add_parameters, quantize_multiplier
from qutec.lower.builder import Builder, Refused, quantize_array
from qutec.lower.constants import Constant, constant, real
from qutec.lower.expression import Clamp, Context, Expression, Pending, Pointwise
from qutec.lower.linear import channel_affine
from qutec.lower.pointwise import BINARY, Function, clamp_bounds, unary_function
from qutec.lower.shapes import activation_range, layer_name, static_shape
from qutec.lower.view import View, channels_last_order, row_major
from qutec.program import Add, Mul, Quantization
from qutec.quantization import activation_parameters

__all__ = ["binary", "unary"]

FloatArray = npt.NDArray[np.float64]

_SHORTEST_BLOCK = 16


def unary(context: Context, node: ir.Node) -> Expression:
    """A pointwise operator of one tensor: fused into the kernel before it, or a table."""
    known = context.expression(node.inputs[0])
    bounds = clamp_bounds(node)
    if isinstance(known, Pending) and bounds is not None:
        return known.clamped(bounds)
    base, before = _pointwise(context, node.inputs[0])
    function = unary_function(node)
    return Pointwise(base, _composed(before, function))


def binary(context: Context, node: ir.Node) -> Expression:
    """Add, Sub, Mul and their like: with a constant, of one tensor with itself, or of two tensors."""
    left, right = node.inputs[0], node.inputs[1]
    left_constant, right_constant = constant(left), constant(right)
    if right_constant is not None:
        return _with_constant(context, node, left, right_constant, constant_first=False)
    if left_constant is not None:
        return _with_constant(context, node, right, left_constant, constant_first=True)
    return _of_two(context, node, left, right)


def _identity(x: FloatArray) -> FloatArray:
    return x


def _composed(first: Function, second: Function) -> Function:
    return lambda x: second(first(x))


def _pointwise(context: Context, value: ir.Value | None) -> tuple[View, Function]:
    """The view that a value depends on element by element, and how."""
    known = context.expression(value)
    if isinstance(known, Pointwise):
        return known.base, known.function
    return context.view(value), _identity


def _with_constant(
    context: Context, node: ir.Node, value: ir.Value | None, operand: Constant, *, constant_first: bool
) -> Expression:
    known = context.expression(value)
    if isinstance(known, Pending) and known.biased is not None and node.op_type == "Add":
        biased = known.biased(operand)
        if biased is not None:
            return biased
    shape = static_shape(node.outputs[0])
    number = real(operand)
    compute = BINARY[node.op_type]
    if number.size == 1:
        scalar = number.reshape(-1)[0]
        base, before = _pointwise(context, value)
        if constant_first:
            after: Function = lambda x: compute(np.asarray(scalar), x)  # noqa: E731
        else:
            after = lambda x: compute(x, np.asarray(scalar))  # noqa: E731
        result = Pointwise(base, _composed(before, after))
        return result if base.shape == shape else replace(result, base=base.reshaped(shape))
    x = context.view(value)
    if math.prod(shape) != x.size:
        number = np.broadcast_to(number, shape)
        return _with_tensor_constant(context, node, x, number, constant_first=constant_first)
    x = x.reshaped(shape)
    axis = _single_axis(number, shape)
    if axis is not None:
        vector = number.reshape(-1)
        terms = {
            "Add": (np.ones_like(vector), vector),
            "Sub": (-np.ones_like(vector), vector) if constant_first else (np.ones_like(vector), -vector),
            "Mul": (vector, np.zeros_like(vector)),
        }
        if node.op_type == "Div" and not constant_first:
            terms["Div"] = (1.0 / vector, np.zeros_like(vector))
        if node.op_type in terms:
            output_name = node.outputs[0].name or layer_name(node)
            return channel_affine(context, layer_name(node), output_name, x, axis, *terms[node.op_type])
    return _with_tensor_constant(
        context, node, x, np.broadcast_to(number, shape), constant_first=constant_first
    )


def _with_tensor_constant(
    context: Context, node: ir.Node, x: View, number: FloatArray, *, constant_first: bool
) -> Expression:
    """A constant that differs from element to element lies in flash as int8 with its own scale.

    `number` has the shape of the result; it is laid out as the data is, unless the data is broadcast.
    """
    kind = node.op_type
    if kind == "Div" and not constant_first:
        kind, number = "Mul", 1.0 / number
    if kind == "Sub" and not constant_first:
        kind, number = "Add", -number
    if kind not in ("Add", "Sub", "Mul"):
        raise Refused("its constant is not one number")
    quantization = activation_parameters(float(number.min()), float(number.max()))
    x = context.builder.settled(x)
    spread = x.size != number.size
    order = channels_last_order(number.shape) if spread and number.ndim in (3, 4) else row_major(number.size)
    order = order if spread else x.order
    data = quantize_array(number.reshape(-1)[order], quantization)
    tensor = context.builder.constant(layer_name(node) + "/constant", data)
    other = View(tensor, number.shape, order, quantization)
    return (
        _kernel(context, node, kind, other, x) if constant_first else _kernel(context, node, kind, x, other)
    )


def _of_two(context: Context, node: ir.Node, left: ir.Value | None, right: ir.Value | None) -> Expression:
    known = context.expression(left), context.expression(right)
    if any(isinstance(e, Pointwise) for e in known) or left is right:
        first, f = _pointwise(context, left)
        second, g = _pointwise(context, right)
        if first is second or (
            first.tensor == second.tensor
            and first.quantization == second.quantization
            and np.array_equal(first.memory_order(), second.memory_order())
        ):
            compute = BINARY[node.op_type]
            return Pointwise(first, lambda x: compute(f(x), g(x)))
    if node.op_type not in ("Add", "Sub", "Mul"):
        raise Refused("both of its inputs are data; a constant is supported")
    return _kernel(context, node, node.op_type, context.view(left), context.view(right))


def _kernel(context: Context, node: ir.Node, kind: str, first: View, second: View) -> Pending:
    shape = static_shape(node.outputs[0])
    name = layer_name(node)

    def emit(quantization: Quantization, clamp: Clamp) -> View:
        builder = context.builder
        a, b, order = _same_order(builder, first, second, shape, name)
        target = builder.output_view(node.outputs[0].name or name, shape, quantization, order)
        a, b, outer, inner, stride_1, stride_2 = _blocks(builder, a, b, shape, order, name)
        low, high = activation_range(clamp, quantization)
        p, q = a.quantization, b.quantization
        if kind == "Mul":
            multiplier, shift = quantize_multiplier(p.scale * q.scale / quantization.scale)
            builder.add(
                Mul(
                    name, a.tensor, b.tensor, target.tensor, outer, inner, stride_1, stride_2,
                    -p.zero_point, -q.zero_point, quantization.zero_point, multiplier, shift, low, high,
                )
            )  # fmt: skip
            return target
        terms = add_parameters(p.scale, q.scale, quantization.scale)
        sign = -1 if kind == "Sub" else 1
        builder.add(
            Add(
                name, a.tensor, b.tensor, target.tensor, outer, inner, stride_1, stride_2,
                -p.zero_point, terms.input_1_multiplier, terms.input_1_shift,
                -q.zero_point, sign * terms.input_2_multiplier, terms.input_2_shift,
                terms.left_shift, quantization.zero_point, terms.output_multiplier, terms.output_shift,
                low, high,
            )
        )  # fmt: skip
        return target

    return Pending(shape, emit)


def _same_order(
    builder: Builder, first: View, second: View, shape: tuple[int, ...], name: str
) -> tuple[View, View, npt.NDArray[np.int32]]:
    """Both inputs with the memory order of the one that has the output's size."""
    size = math.prod(shape)
    if first.size == size and (second.size != size or first.free is None):
        first = builder.settled(first)
        order = first.order
        second = (
            builder.ordered(second.reshaped(shape), order, name + "/order") if second.size == size else second
        )
    elif second.size == size:
        second = builder.settled(second)
        order = second.order
        first = (
            builder.ordered(first.reshaped(shape), order, name + "/order") if first.size == size else first
        )
    else:
        order = row_major(size)
    return builder.settled(first), builder.settled(second), order


def _blocks(
    builder: Builder,
    first: View,
    second: View,
    shape: tuple[int, ...],
    order: npt.NDArray[np.int32],
    name: str,
) -> tuple[View, View, int, int, int, int]:
    """(a, b, outer, inner, stride_1, stride_2): broadcasting as blocks that are read again and again.

    What does not repeat as it lies is copied out, but only up to the first block.
    """
    size = math.prod(shape)
    sources = [_positions(view, shape, order) for view in (first, second)]
    spread = [source for view, source in zip((first, second), sources, strict=True) if view.size < size]
    inner = _block_size(spread, size)
    views, strides = [], []
    for view, source in zip((first, second), sources, strict=True):
        full = view.size == size
        block = source[:inner]
        views.append(
            view if full else builder.picked(view, block, (inner,), row_major(inner), name + "/broadcast")
        )
        strides.append(inner if full else 0)
    return views[0], views[1], size // inner, inner, strides[0], strides[1]


def _block_size(sources: Sequence[npt.NDArray[np.int64]], size: int) -> int:
    """The shortest block after which every source repeats; `size` where one does not.

    A block that would have to be copied out has at least `_SHORTEST_BLOCK` values where that divides the
    tensor: the kernel is called once for each block.
    """
    for inner in range(1, size if sources else 1):
        if size % inner:
            continue
        blocks = [source[:inner] for source in sources]
        if all(
            (source.reshape(-1, inner) == block).all() for source, block in zip(sources, blocks, strict=True)
        ):
            lies_so = all((np.diff(block) == 1).all() for block in blocks) and inner > 1
            if lies_so or inner >= _SHORTEST_BLOCK:
                return inner
    return size


def _positions(view: View, shape: tuple[int, ...], order: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Memory position in `view` of what each memory position of the broadcast result reads."""
    position = np.empty(view.size, np.int64)
    position[view.order] = np.arange(view.size)
    broadcast = np.broadcast_to(position.reshape(view.shape), shape).reshape(-1)
    return np.ascontiguousarray(broadcast[order])


def _single_axis(number: FloatArray, shape: tuple[int, ...]) -> int | None:
    """The one axis along which a broadcast constant varies, None if there are more."""
    aligned = (1,) * (len(shape) - number.ndim) + number.shape
    axes = [axis for axis, length in enumerate(aligned) if length > 1]
    return axes[0] if len(axes) == 1 else None
