"""Fold constant arithmetic and static shapes, but never quantisation.

    x [1, 8, 4] -> Shape -> Gather(0) -> Concat(., -1) -> Reshape(x, .)
    x [1, 8, 4] -> Reshape(x, [1, -1])

onnx-simplifier folds more; this pass serves models that it fails on. A DequantizeLinear of a constant
stays, because its parameters are what the compiler needs.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

__all__ = ["FoldConstantsPass"]

_KEPT = frozenset({"QuantizeLinear", "DequantizeLinear"})
_NONDETERMINISTIC = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_MAX_FOLDED_ELEMENTS = 4 * 1024 * 1024


class FoldConstantsPass(ir.passes.InPlacePass):
    """Replace single-output standard nodes with constant value by initializers. Requires inferred shapes.

    Graph outputs stay computed by nodes. What the ONNX reference evaluator cannot compute is left.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Return the model, modified when a node was folded."""
        modified = False
        opset = model.opset_imports.get("", 1)
        for node in list(model.graph):
            if not _is_foldable(node):
                continue
            tensor = _evaluate(node, opset)
            if tensor is None:
                continue
            output = node.outputs[0]
            value = ir.Value(
                name=output.name,
                shape=ir.Shape(tensor.shape.numpy()),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
            output.replace_all_uses_with(value)
            model.graph.remove(node, safe=True)
            model.graph.register_initializer(value)
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _is_foldable(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type in _KEPT | _NONDETERMINISTIC or len(node.outputs) != 1:
        return False
    graph_types = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    if any(attribute.type in graph_types for attribute in node.attributes.values()):
        return False
    if node.outputs[0].is_graph_output():
        return False
    if not _is_known_to_be_small(node.outputs[0]):
        return False
    if node.op_type in ("Shape", "Size"):
        value = node.inputs[0]
        return value is not None and value.shape is not None and value.shape.is_static()
    return all(value is None or value.const_value is not None for value in node.inputs)


def _is_known_to_be_small(value: ir.Value) -> bool:
    """Whether the inferred shape allows the value to be computed: Expand or Tile can make it any size."""
    if value.shape is None:
        return False
    dims = [dim for dim in value.shape if isinstance(dim, int)]
    return len(dims) == len(value.shape) and math.prod(dims) <= _MAX_FOLDED_ELEMENTS


def _evaluate(node: ir.Node, opset: int) -> ir.TensorProtocol | None:
    """The value of a node's output by the ONNX reference evaluator."""
    try:
        if node.op_type in ("Shape", "Size"):
            return _evaluate_shape(node)
        feeds = {
            v.name or "": v.const_value.numpy()
            for v in node.inputs
            if v is not None and v.const_value is not None
        }
        proto = ir.to_proto(node)
        inputs = [onnx.helper.make_tensor_value_info(name, 0, None) for name in feeds]
        outputs = [onnx.helper.make_tensor_value_info(node.outputs[0].name or "", 0, None)]
        graph = onnx.helper.make_graph([proto], "node", inputs, outputs)
        evaluator = ReferenceEvaluator(
            onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
        )
        (result,) = cast(list[npt.NDArray[np.generic]], evaluator.run(None, feeds))
        return ir.tensor(result, name=node.outputs[0].name)
    except Exception:  # the evaluator runs operator code of every kind; not folding is always right
        return None


def _evaluate_shape(node: ir.Node) -> ir.TensorProtocol:
    value = node.inputs[0]
    assert value is not None
    assert value.shape is not None
    dims = [dim for dim in value.shape if isinstance(dim, int)]
    if node.op_type == "Size":
        size = 1
        for dim in dims:
            size *= dim
        return ir.tensor(size, dtype=ir.DataType.INT64, name=node.outputs[0].name)
    start = node.attributes["start"].as_int() if "start" in node.attributes else 0
    end = node.attributes["end"].as_int() if "end" in node.attributes else len(dims)
    return ir.tensor(dims[slice(start, end)], dtype=ir.DataType.INT64, name=node.outputs[0].name)
