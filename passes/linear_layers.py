"""Layers that are linear in their input, as folding passes read and rewrite them.

    Gemm(x, W, b)     MatMul(x, W)     Conv(x, W, b)     and each followed by Add of a constant

With factors and offsets for outputs (r, t) or inputs (s, d) of  y = W x + b :
    r y + t      = (r W) x + (r b + t)
    W (s x + d)  = (W s) x + (b + W d)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qutec.lower.constants import QuantizedConstant, constant
from qutec.lower.layer_constants import along_axis
from qutec.passes.head_layers import HeadWriter

__all__ = [
    "AVERAGE_POOLS",
    "SHAPE_OPS",
    "LinearLayer",
    "linear_layer",
    "read_once",
    "replace_value",
    "scaled_inputs",
    "scaled_outputs",
    "write_layer",
]

FloatArray = npt.NDArray[np.float64]

SHAPE_OPS = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that keep all elements and their order."""

AVERAGE_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class LinearLayer:
    """A Gemm, MatMul or Conv with constant float weights, and the Add of a constant behind it, if any.

    `weights` have outputs first: [L, C] for dense layers, [L, C / group, *kernel] for Conv. `bias` [L] is the
    whole of it. Gemm's alpha and beta are applied in both.
    """

    node: ir.Node
    add: ir.Node | None
    weights: FloatArray
    bias: FloatArray

    @property
    def output(self) -> ir.Value:
        """The value that the layer ends in."""
        return (self.add or self.node).outputs[0]

    @property
    def fits(self) -> bool:
        """Whether float32 holds all constants."""
        return all(np.abs(a).max(initial=0.0) <= _LARGEST for a in (self.weights, self.bias))


def read_once(value: ir.Value) -> bool:
    """Whether exactly one node reads a value, and the graph does not return it."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def replace_value(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Let every reader of `old` read `new`; where the graph returns `old`, `new` takes its name and place.

    Requires that the graph does not return `new`.
    """
    was_output = old.is_graph_output()
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if was_output:
        name, old.name = old.name, HeadWriter(graph).unique_name(f"{old.name}_before")
        new.name = name


def linear_layer(value: ir.Value) -> LinearLayer | None:
    """The layer that ends in `value`; None where it is no such layer, or others read what is inside."""
    node = value.producer()
    if node is not None and node.op_type == "Add" and node.domain == "":
        offsets = [constant(operand) for operand in node.inputs]
        data = [v for v, known in zip(node.inputs, offsets, strict=True) if known is None]
        known = next((c for c in offsets if c is not None), None)
        if len(data) != 1 or data[0] is None or known is None or not read_once(data[0]):
            return None
        layer = _bare_layer(data[0].producer())
        rank = len(value.shape or ())
        if layer is None or isinstance(known, QuantizedConstant) or rank != len(data[0].shape or ()):
            return None
        shape = (1,) * rank
        axis = 1 if layer.node.op_type == "Conv" else rank - 1
        along = along_axis(known, (*shape[:axis], len(layer.bias), *shape[axis + 1 :]), axis)
        if along is None or isinstance(along, QuantizedConstant) or along.size not in (1, len(layer.bias)):
            return None
        return LinearLayer(layer.node, node, layer.weights, layer.bias + along.astype(np.float64))
    return _bare_layer(node)


def scaled_outputs(layer: LinearLayer, factor: FloatArray, offset: FloatArray | float = 0.0) -> LinearLayer:
    """The layer that answers factor * y + offset; both [L] or [1]."""
    rows = np.broadcast_to(factor, layer.bias.shape)
    weights = layer.weights * rows.reshape(-1, *[1] * (layer.weights.ndim - 1))
    return replace(layer, weights=weights, bias=layer.bias * rows + offset)


def scaled_inputs(layer: LinearLayer, factor: FloatArray, offset: FloatArray) -> LinearLayer:
    """The dense layer that takes x where it took factor * x + offset; both [C]."""
    return replace(layer, weights=layer.weights * factor, bias=layer.bias + layer.weights @ offset)


def write_layer(graph: ir.Graph, layer: LinearLayer) -> ir.Value:
    """Put weights and bias of the layer into its nodes; returns the value it now ends in.

    Its constants may be shared with other layers, so they are replaced, not changed. A MatMul that gets a
    bias is followed by an Add from then on.
    """
    node, writer = layer.node, HeadWriter(graph)
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0
    swapped = node.op_type != "Conv" and not transposed
    weights = layer.weights.T if swapped else layer.weights
    node.replace_input_with(1, _constant(writer, node, "weights", weights))
    node.attributes.pop("alpha", None)
    node.attributes.pop("beta", None)
    if layer.add is not None:
        _write_add(writer, layer, layer.add)
        return layer.output
    if node.op_type == "MatMul":
        return _biased(graph, writer, node, layer.bias) if layer.bias.any() else layer.output
    if len(node.inputs) > 2 or layer.bias.any():
        node.resize_inputs(3)
        node.replace_input_with(2, _constant(writer, node, "bias", layer.bias))
    return layer.output


def _bare_layer(node: ir.Node | None) -> LinearLayer | None:
    if node is None or node.domain != "" or node.op_type not in ("Conv", "Gemm", "MatMul"):
        return None
    weights = constant(node.inputs[1])
    if weights is None or isinstance(weights, QuantizedConstant) or constant(node.inputs[0]) is not None:
        return None
    rows = weights.astype(np.float64)
    beta = 1.0
    if node.op_type != "Conv":
        if rows.ndim != 2 or node.attributes.get_int("transA", 0) != 0:
            return None
        rows = rows if node.attributes.get_int("transB", 0) else rows.T
        rows = rows * node.attributes.get_float("alpha", 1.0)
        beta = node.attributes.get_float("beta", 1.0)
    bias = np.zeros(len(rows))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        known = constant(node.inputs[2])
        if known is None or isinstance(known, QuantizedConstant):
            return None
        along = along_axis(known, (1, len(rows)), 1)
        if along is None or isinstance(along, QuantizedConstant):
            return None
        bias = bias + along.astype(np.float64) * beta
    return LinearLayer(node, None, rows, bias)


def _write_add(writer: HeadWriter, layer: LinearLayer, add: ir.Node) -> None:
    """The whole bias goes to the Add; none stays in the layer."""
    if len(layer.node.inputs) > 2:
        layer.node.resize_inputs(2)
    trailing = len(add.outputs[0].shape or ()) - 2 if layer.node.op_type == "Conv" else 0
    position = 0 if constant(add.inputs[0]) is not None else 1
    bias = layer.bias.reshape(-1, *[1] * trailing)
    add.replace_input_with(position, _constant(writer, add, "bias", bias))


def _biased(graph: ir.Graph, writer: HeadWriter, node: ir.Node, bias: FloatArray) -> ir.Value:
    """Add of a bias behind a MatMul that had none."""
    product = node.outputs[0]
    add = ir.node("Add", [product, _constant(writer, node, "bias", bias)])
    result = add.outputs[0]
    name = writer.unique_name(f"{product.name}_biased")
    add.name, result.name, result.shape, result.type = name, name, product.shape, product.type
    graph.insert_after(node, add)
    replace_value(graph, product, result)
    add.replace_input_with(0, product)
    return result


def _constant(writer: HeadWriter, node: ir.Node, what: str, data: FloatArray) -> ir.Value:
    stem = node.name or node.outputs[0].name or node.op_type
    return writer.initializer(f"{stem}_{what}", np.ascontiguousarray(data, np.float32))
