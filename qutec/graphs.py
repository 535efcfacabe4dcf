"""Questions about onnx_ir graphs that several analyses ask: shapes, constants, ancestors, MACs."""

from __future__ import annotations

import math
from collections.abc import Iterable

import onnx_ir as ir

__all__ = ["ancestors", "data_inputs", "dims", "is_constant", "macs_of", "node_macs"]


def dims(value: ir.Value) -> tuple[int | None, ...] | None:
    """The ONNX shape with None for what is symbolic; None where not even the rank is known."""
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in value.shape)


def is_constant(value: ir.Value) -> bool:
    """An initializer, or one behind a DequantizeLinear."""
    producer = value.producer()
    if producer is not None and producer.op_type == "DequantizeLinear" and producer.inputs[0] is not None:
        return producer.inputs[0].const_value is not None
    return value.const_value is not None


def data_inputs(node: ir.Node) -> list[ir.Value]:
    """What a node reads, without left-out inputs and constants."""
    return [value for value in node.inputs if value is not None and not is_constant(value)]


def ancestors(values: Iterable[ir.Value]) -> set[ir.Node]:
    """Every node that the values depend on, their producers included."""
    seen: set[ir.Node] = set()
    pending = [value.producer() for value in values]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        pending.extend(item.producer() for item in node.inputs if item is not None)
    return seen


def macs_of(nodes: Iterable[ir.Node]) -> int:
    """MACs of one inference over some nodes."""
    return sum(node_macs(node) for node in nodes)


def node_macs(node: ir.Node) -> int:
    """Multiply-accumulates of Conv, Gemm and MatMul, padding counted as work; 0 for all others.

    Conv: output elements x weights per output channel. Gemm, MatMul: output elements x inner dimension.
    A symbolic leading dimension, the batch, counts as 1; with other unknown dimensions the result is 0.
    """
    if node.domain != "" or node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.inputs) < 2:
        return 0
    left, right = node.inputs[0], node.inputs[1]
    if left is None or right is None:
        return 0
    output, weights, data = dims(node.outputs[0]), dims(right), dims(left)
    if output is None or weights is None or data is None or not data:
        return 0
    if node.op_type == "Conv":
        return _product(output) * math.prod(dim or 0 for dim in weights[1:])
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transA", 0) != 0
    return _product(output) * (data[0 if transposed else -1] or 0)


def _product(shape: tuple[int | None, ...]) -> int:
    if not shape:
        return 1
    leading = 1 if shape[0] is None else shape[0]
    return leading * math.prod(dim or 0 for dim in shape[1:])
