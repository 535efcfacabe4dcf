"""Lowering: from a quantised (QDQ) ONNX graph to a Program.

The walk is one pass over the nodes in order. Every rule returns what its node computes as an
expression (see `qutec.lower.expression`); kernel calls appear when a QuantizeLinear, or a reader that
needs finished data, says with which parameters a result is stored. Reasons why nodes cannot be lowered
are collected and raised together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import onnx_ir as ir

from qutec.errors import UnsupportedModelError
from qutec.heads import is_head_node
from qutec.lower.builder import Builder, Refused
from qutec.lower.constants import constant, quantization_of
from qutec.lower.elementwise import binary, unary
from qutec.lower.expression import Context, Expression, OpenQuantization, Pending, Pointwise
from qutec.lower.heads import dynamic_exit, qute_head, uncertainty
from qutec.lower.linear import batch_normalization, conv, gemm, matmul
from qutec.lower.movement import cast, concat, identity, pad, reshape, slice_, split, transpose
from qutec.lower.pointwise import BINARY, UNARY
from qutec.lower.pool import (
    average_pool,
    global_average_pool,
    global_max_pool,
    max_pool,
    reduce_mean,
    softmax,
)
from qutec.lower.shapes import layer_name, static_shape
from qutec.lower.view import View
from qutec.program import Program, Quantization

__all__ = ["LOWERED_OPS", "lower"]

Rule: TypeAlias = Callable[[Context, ir.Node], Expression | list[Expression]]


def lower(model: ir.Model, name: str) -> Program:
    """The Program of a quantised model (batch 1, static shapes, as `qutec.load` and `quantize` leave it).

    Raises UnsupportedModelError with one line for each node that cannot be lowered.
    """
    context = Context(Builder())
    refusals: list[str] = []
    lost: set[ir.Value] = set()
    _network_inputs(context, model.graph)
    for node in model.graph:
        try:
            if all(constant(output) is not None for output in node.outputs):
                continue
            if any(value in lost for value in node.inputs if value is not None):
                lost.update(node.outputs)
                continue
            _lower_node(context, node)
        except Refused as refusal:
            refusals.append(f"{refusal.origin or _described(node)}: {refusal}")
            lost.update(node.outputs)
    for output in model.graph.outputs:
        if output in lost:
            continue
        try:
            _network_output(context, output)
        except Refused as refusal:
            place = refusal.origin or f"output '{output.name}'"
            refusals.append(f"{place}: {refusal}")
    if not refusals:
        refusals = _input_parameters(context, model.graph)
    if refusals:
        raise UnsupportedModelError("cannot be compiled:\n" + "\n".join(f"  {line}" for line in refusals))
    return context.builder.program(name)


def _network_inputs(context: Context, graph: ir.Graph) -> None:
    for value in graph.inputs:
        if value.name in graph.initializers:
            continue
        assert value.name is not None
        context.expressions[value] = context.builder.network_input(
            value.name, static_shape(value), OpenQuantization(float("nan"), 0, value.name)
        )


def _input_parameters(context: Context, graph: ir.Graph) -> list[str]:
    """Write the parameters that Q and DQ nodes told into the network inputs."""
    missing = []
    unused = {value.name for value in graph.inputs if not value.uses() and not value.is_graph_output()}
    for number, (name, view) in enumerate(context.builder.inputs):
        if name in unused:
            context.builder.inputs[number] = (name, context.told(view, Quantization(1.0, 0)))
        elif name in context.input_quantization:
            told = context.told(view, context.input_quantization[name])
            context.builder.inputs[number] = (name, told)
        else:
            missing.append(f"input '{name}': nothing gives it quantisation parameters")
    return missing


def _lower_node(context: Context, node: ir.Node) -> None:
    if is_head_node(node):
        rule = next(rule for prefix, rule in _HEAD_RULES.items() if node.op_type.startswith(prefix))
        context.results.update(zip(node.outputs, rule(context, node), strict=False))
        return
    if node.op_type not in _RULES:
        raise Refused("there is no kernel for this operator")
    result = _RULES[node.op_type](context, node)
    results = result if isinstance(result, list) else [result]
    for output, expression in zip(node.outputs, results, strict=False):
        if isinstance(expression, Pending | Pointwise) and not expression.origin:
            expression = replace(expression, origin=_described(node))
        context.expressions[output] = expression


def _described(node: ir.Node) -> str:
    return f"{node.op_type} '{layer_name(node)}'"


def _network_output(context: Context, output: ir.Value) -> None:
    if output in context.results:
        result = context.results[output]
        context.builder.result(output.name or "output", static_shape(output), result.tensor, result.scale)
        return
    known = context.expression(output)
    if isinstance(known, Pointwise) or (isinstance(known, Pending) and known.quantization is None):
        raise Refused("it has no quantisation parameters")
    name = output.name or "output"
    view = context.view(output) if isinstance(known, Pending) else known
    assert isinstance(view, View)
    if isinstance(view.quantization, OpenQuantization):
        view = context.told(
            view, context.input_quantization.get(view.quantization.input_name, view.quantization)
        )
    context.builder.outputs.append((name, view.reshaped(static_shape(output))))


def _quantize(context: Context, node: ir.Node) -> Expression:
    name = node.inputs[0].name if node.inputs[0] is not None else None
    known = context.expression(node.inputs[0])
    return context.realized(known, quantization_of(node), name or layer_name(node))


def _dequantize(context: Context, node: ir.Node) -> Expression:
    return context.told(context.raw(node.inputs[0]), quantization_of(node))


_HEAD_RULES = {"QuteHead": qute_head, "Uncertainty": uncertainty, "DynamicExit": dynamic_exit}

_RULES: dict[str, Rule] = {
    **dict.fromkeys(UNARY, unary),
    **dict.fromkeys(BINARY, binary),
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Cast": cast,
    "Concat": concat,
    "Conv": conv,
    "DequantizeLinear": _dequantize,
    "Dropout": identity,
    "Flatten": reshape,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "Identity": identity,
    "MatMul": matmul,
    "MaxPool": max_pool,
    "Pad": pad,
    "QuantizeLinear": _quantize,
    "ReduceMean": reduce_mean,
    "Reshape": reshape,
    "Slice": slice_,
    "Softmax": softmax,
    "Split": split,
    "Squeeze": reshape,
    "Transpose": transpose,
    "Unsqueeze": reshape,
}

LOWERED_OPS = frozenset(_RULES) | {"Constant"}
"""Operators that have a lowering rule (attributes may still be refused)."""
