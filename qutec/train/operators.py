"""ONNX operators in torch: one function for each, by name in `OPERATORS`.

A function takes the node, its operands (None where an optional one is left out) and the call, and gives the
first output, or all of them as a tuple (Split). Integer tensors are shapes and indices: they stay in host
memory, so that reading them does not wait for a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from qutec.train import shapes
from qutec.train.call import Call, Operands, Operator, given, optional
from qutec.train.window import average_pool, convolution, max_pool

__all__ = ["OPERATORS", "unsupported_use"]

_Unary: TypeAlias = Callable[[Tensor], Tensor]
_Binary: TypeAlias = Callable[[Tensor, Tensor], Tensor]

_ONE_AXIS_SOFTMAX_OPSET = 13
"""Before it, Softmax flattened its input to two axes at `axis`, which was 1 by default."""


def unsupported_use(node: ir.Node) -> str:
    """Why a node of a supported operator cannot be trained, or an empty string."""
    used = [value for value in node.outputs[1:] if value.uses() or value.is_graph_output()]
    if used and node.op_type != "Split":
        return "only the first output is supported"
    attributes = node.attributes
    if node.op_type == "BatchNormalization":
        if attributes.get_int("spatial", 1) != 1:
            return "statistics for each pixel"
        if attributes.get_int("training_mode", 0):
            return "training_mode is set; export for inference"
    if node.op_type == "Pad" and attributes.get_string("mode", "constant") not in shapes.PAD_MODES:
        return f"mode {attributes.get_string('mode', 'constant')}"
    if node.op_type == "Cast" and attributes.get_int("to", 0) not in shapes.CAST_TYPES:
        return "a type other than float, bool, int32 and int64"
    return ""


def _unary(function: _Unary) -> Operator:
    return lambda node, operands, call: function(given(operands[0]))


def _binary(function: _Binary) -> Operator:
    def run(node: ir.Node, operands: Operands, call: Call) -> Tensor:
        a, b = given(operands[0]), given(operands[1])
        if a.device != b.device:  # a shape that was cast to float meets data
            a, b = (t.to(a.device if a.device.type != "cpu" else b.device) for t in (a, b))
        return function(a, b)

    return run


def _variadic(function: _Binary) -> Operator:
    def run(node: ir.Node, operands: Operands, call: Call) -> Tensor:
        result = given(operands[0])
        for operand in operands[1:]:
            result = function(result, given(operand))
        return result

    return run


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b, rounding_mode=None if a.is_floating_point() else "trunc")


def _conv(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    return convolution(node, given(operands[0]), given(operands[1]), optional(operands, 2))


def _max_pool(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    return max_pool(node, given(operands[0]))


def _average_pool(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    return average_pool(node, given(operands[0]))


def _global_average_pool(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    x = given(operands[0])
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def _global_max_pool(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    x = given(operands[0])
    return x.amax(dim=tuple(range(2, x.ndim)), keepdim=True)


def _gemm(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    a, b, c = given(operands[0]), given(operands[1]), optional(operands, 2)
    attributes = node.attributes
    a = a.t() if attributes.get_int("transA", 0) else a
    b = b.t() if attributes.get_int("transB", 0) else b
    alpha, beta = attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0)
    product = a @ b if alpha == 1.0 else alpha * (a @ b)
    if c is None:
        return product
    return product + (c if beta == 1.0 else beta * c)


def _batch_normalization(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    x, scale, bias, mean, variance = (given(operand) for operand in operands[:5])
    attributes = node.attributes
    # ONNX weighs the old statistics with momentum, torch the new ones.
    momentum = 1.0 - attributes.get_float("momentum", 0.9)
    epsilon = attributes.get_float("epsilon", 1e-5)
    return functional.batch_norm(x, mean, variance, scale, bias, call.training, momentum, epsilon)


def _clip(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    x = given(operands[0])
    low, high = optional(operands, 1), optional(operands, 2)
    if "min" in node.attributes:
        low = torch.tensor(node.attributes.get_float("min", -math.inf), dtype=x.dtype, device=x.device)
    if "max" in node.attributes:
        high = torch.tensor(node.attributes.get_float("max", math.inf), dtype=x.dtype, device=x.device)
    if low is not None:
        x = torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def _leaky_relu(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    return functional.leaky_relu(given(operands[0]), node.attributes.get_float("alpha", 0.01))


def _prelu(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    x, slope = given(operands[0]), given(operands[1])
    return torch.where(x < 0, slope * x, x)


def _hard_sigmoid(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
    return (alpha * given(operands[0]) + beta).clamp(0.0, 1.0)


def _gelu(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    return functional.gelu(given(operands[0]), approximate=node.attributes.get_string("approximate", "none"))


def _elu(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    return functional.elu(given(operands[0]), node.attributes.get_float("alpha", 1.0))


def _celu(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    return functional.celu(given(operands[0]), node.attributes.get_float("alpha", 1.0))


def _selu(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    alpha = node.attributes.get_float("alpha", 1.6732632423543772)
    gamma = node.attributes.get_float("gamma", 1.0507009873554805)
    return gamma * functional.elu(given(operands[0]), alpha)


def _softmax(function: Callable[[Tensor, int], Tensor]) -> Operator:
    def run(node: ir.Node, operands: Operands, call: Call) -> Tensor:
        x = given(operands[0])
        if call.opset >= _ONE_AXIS_SOFTMAX_OPSET:
            return function(x, node.attributes.get_int("axis", -1))
        axis = node.attributes.get_int("axis", 1) % x.ndim
        return function(x.flatten(axis), axis).reshape(x.shape)

    return run


def _dropout(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    ratio_operand = optional(operands, 1)
    default = node.attributes.get_float("ratio", 0.5)
    ratio = default if ratio_operand is None else float(ratio_operand.item())
    return functional.dropout(given(operands[0]), ratio, call.training)


def _reduction(function: Callable[[Tensor, tuple[int, ...], bool], Tensor]) -> Operator:
    def run(node: ir.Node, operands: Operands, call: Call) -> Tensor:
        x = given(operands[0])
        axes = shapes.integers(node, operands, "axes", 1)
        if not axes:
            if node.attributes.get_int("noop_with_empty_axes", 0):
                return x
            axes = tuple(range(x.ndim))
        return function(x, axes, bool(node.attributes.get_int("keepdims", 1)))

    return run


def _product(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(dim=axis, keepdim=keepdims)
    return x


OPERATORS: dict[str, Operator] = {
    "Abs": _unary(torch.abs),
    "Add": _binary(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Cast": shapes.cast,
    "Ceil": _unary(torch.ceil),
    "Celu": _celu,
    "Clip": _clip,
    "Concat": shapes.concat,
    "ConstantOfShape": shapes.constant_of_shape,
    "Conv": _conv,
    "Div": _binary(_divide),
    "Dropout": _dropout,
    "Elu": _elu,
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Expand": shapes.expand,
    "Flatten": shapes.flatten,
    "Floor": _unary(torch.floor),
    "Gather": shapes.gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _unary(functional.hardswish),
    "Identity": _unary(lambda x: x),
    "LeakyRelu": _leaky_relu,
    "Log": _unary(torch.log),
    "LogSoftmax": _softmax(lambda x, axis: functional.log_softmax(x, dim=axis)),
    "MatMul": _binary(torch.matmul),
    "Max": _variadic(torch.maximum),
    "MaxPool": _max_pool,
    "Min": _variadic(torch.minimum),
    "Mish": _unary(functional.mish),
    "Mul": _binary(torch.mul),
    "Neg": _unary(torch.neg),
    "PRelu": _prelu,
    "Pad": shapes.pad,
    "Pow": _binary(torch.pow),
    "ReduceMax": _reduction(lambda x, axes, keepdims: x.amax(dim=axes, keepdim=keepdims)),
    "ReduceMean": _reduction(lambda x, axes, keepdims: x.mean(dim=axes, keepdim=keepdims)),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(lambda x, axes, keepdims: x.sum(dim=axes, keepdim=keepdims)),
    "Relu": _unary(torch.relu),
    "Reshape": shapes.reshape,
    "Selu": _selu,
    "Shape": shapes.shape,
    "Sigmoid": _unary(torch.sigmoid),
    "Size": shapes.size,
    "Slice": shapes.slice_,
    "Softmax": _softmax(lambda x, axis: functional.softmax(x, dim=axis)),
    "Softplus": _unary(functional.softplus),
    "Softsign": _unary(functional.softsign),
    "Split": shapes.split,
    "Sqrt": _unary(torch.sqrt),
    "Squeeze": shapes.squeeze,
    "Sub": _binary(torch.sub),
    "Tanh": _unary(torch.tanh),
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.unsqueeze,
}
"""Operator of the standard domain -> its function. Constant is no operator here but a constant."""
