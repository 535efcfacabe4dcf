"""How one output ends: softmax, logits of a dense layer, pooled class maps, or not as a classifier.

... -> pool -> flatten -> dense (+ bias) -> [/ temperature] -> [softmax] -> [reshape] -> output
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from qutec.graphs import data_inputs, dims, is_constant

__all__ = ["ACTIVATIONS", "Ending", "activation_of", "class_count", "ending"]

ACTIVATIONS = frozenset({"LogSoftmax", "Sigmoid", "Softmax"})
"""What turns logits into an answer."""

_TRANSPARENT = frozenset(
    {
        "Cast",
        "DequantizeLinear",
        "Dropout",
        "Flatten",
        "Identity",
        "QuantizeLinear",
        "Reshape",
        "Sigmoid",
        "Squeeze",
    }
)
"""Operators that keep the order of the classes."""

_AFTER_ACTIVATION = _TRANSPARENT - ACTIVATIONS | {"Unsqueeze"}
_ARITHMETIC = frozenset({"Add", "Div", "Mul", "Sub"})
_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMean"})
_BEFORE_POOL = frozenset({"BatchNormalization", "Clip", "DequantizeLinear", "QuantizeLinear", "Relu"})
_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


@dataclass(frozen=True)
class Ending:
    """The last layers before an output.

    `kind` is softmax; dense, when the output are the logits of a layer with weights; pooled, when it
    is the pool of a convolution's maps, which may be class scores or features; or other.
    """

    kind: Literal["softmax", "dense", "pooled", "other"]
    softmax: ir.Node | None = None
    dense: ir.Node | None = None
    """The layer that makes the classes: Gemm, MatMul or Conv; None where it is not recognised."""
    sigmoid: bool = False


def class_count(value: ir.Value) -> int | None:
    """Classes of an output [batch, classes], with dimensions of 1 allowed between and after; else None."""
    shape = dims(value)
    if shape is None or len(shape) < 2 or shape[0] not in (1, None) or None in shape[1:]:
        return None
    if value.dtype is not None and value.dtype not in _FLOATS | {ir.DataType.INT8, ir.DataType.UINT8}:
        return None
    sizes = [dim for dim in shape[1:] if dim is not None and dim != 1]
    if len(sizes) > 1:
        return None
    return sizes[0] if sizes else 1


def activation_of(output: ir.Value) -> tuple[ir.Node | None, ir.Value]:
    """(softmax or sigmoid of a classifier, the logits that it reads); (None, output) where it has none.

    What follows may change the shape, or store the answer in 8 bits.
    """
    node = output.producer()
    while node is not None and node.op_type in _AFTER_ACTIVATION and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is not None and node.op_type in ACTIVATIONS and node.inputs[0] is not None:
        return node, node.inputs[0]
    return None, output


def ending(value: ir.Value) -> Ending:
    """Walk back from an output to the layer that makes the classes."""
    node, softmax, sigmoid = value.producer(), None, False
    while node is not None:
        if _is_dense(node):
            return Ending("softmax" if softmax else "dense", softmax, node, sigmoid)
        if node.op_type in _POOLS:
            dense = _before_pool(node)
            if softmax is None:
                return Ending("pooled" if dense else "other", None, dense, sigmoid)
            return Ending("softmax", softmax, dense, sigmoid)
        operands = data_inputs(node)
        is_softmax = node.op_type in ("Softmax", "LogSoftmax")
        passes = is_softmax or node.op_type in _TRANSPARENT or node.op_type in _ARITHMETIC
        if not passes or not operands or (node.op_type in _ARITHMETIC and len(operands) != 1):
            break
        softmax = node if is_softmax and softmax is None else softmax
        sigmoid = sigmoid or node.op_type == "Sigmoid"
        node = operands[0].producer()
    return Ending("softmax" if softmax else "other", softmax, None, sigmoid)


def _is_dense(node: ir.Node) -> bool:
    """Gemm or MatMul with weights, or a convolution whose output is one position."""
    weights = node.inputs[1] if len(node.inputs) > 1 else None
    if node.op_type in ("Gemm", "MatMul"):
        return len(data_inputs(node)) == 1 or weights is None or is_constant(weights)
    shape = dims(node.outputs[0])
    return node.op_type == "Conv" and shape is not None and all(dim == 1 for dim in shape[2:])


def _before_pool(pool: ir.Node) -> ir.Node | None:
    """The convolution whose maps a pool averages."""
    node: ir.Node | None = pool
    while node is not None and node.op_type != "Conv":
        if node is not pool and node.op_type not in _BEFORE_POOL:
            return None
        operands = data_inputs(node)
        node = operands[0].producer() if operands else None
    return node
