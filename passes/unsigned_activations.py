"""Store activations as uint8 where the graph stores them as int8: the same numbers, their codes 128 higher.

    x -> Q(scale, -128: int8) -> DQ -> ...
becomes
    x -> Q(scale, 0: uint8) -> DQ -> ...

ONNX Runtime's kernels for x86 multiply unsigned by signed bytes. Its own conversion (QDQS8ToU8, of 1.31)
leaves out values that several nodes read, and a layer whose input and output are then of different signedness
computes in float. Weights stay int8, and so do inputs and outputs of the model that are int8.
Requires constants to be initializers.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

__all__ = ["UnsignedActivationsPass"]

_OFFSET = 128


class UnsignedActivationsPass(ir.passes.InPlacePass):
    """Shift the codes of every QuantizeLinear of an activation, and of all that reads them."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Return the model, modified when an activation was stored as int8."""
        graph = model.graph
        modified = False
        for node in list(graph):
            if node.op_type == "QuantizeLinear" and (readers := _readers(node)) is not None:
                for item in (node, *readers):
                    _shift(graph, item)
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def _readers(node: ir.Node) -> list[ir.Node] | None:
    """All DequantizeLinear that read what a QuantizeLinear stores; None where it has to stay int8."""
    if _zero_point(node) is None:
        return None
    stored = node.outputs[0]
    readers = list(stored.consumers())
    if stored.is_graph_output() or any(reader.op_type != "DequantizeLinear" for reader in readers):
        return None
    return readers


def _zero_point(node: ir.Node) -> np.ndarray | None:
    """The int8 zero point of a whole tensor, else None."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None or value.const_value is None or value.dtype != ir.DataType.INT8:
        return None
    array = value.const_value.numpy()
    return array if array.size == 1 else None


def _shift(graph: ir.Graph, node: ir.Node) -> None:
    """Give a node the unsigned zero point, and its result the type."""
    zero_point = node.inputs[2]
    assert zero_point is not None
    node.replace_input_with(2, _unsigned(graph, zero_point))
    if node.op_type == "QuantizeLinear":
        node.attributes.pop("output_dtype", None)
        node.outputs[0].dtype = ir.DataType.UINT8


def _unsigned(graph: ir.Graph, zero_point: ir.Value) -> ir.Value:
    """The same zero point for unsigned codes; one initializer for all that share it."""
    name = f"{zero_point.name}_unsigned"
    if name in graph.initializers:
        return graph.initializers[name]
    assert zero_point.const_value is not None
    codes = (zero_point.const_value.numpy().astype(np.int16) + _OFFSET).astype(np.uint8)
    tensor = ir.tensor(codes, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(codes.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value
