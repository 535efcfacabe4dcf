"""Compute in float32 what a model computes in float16, bfloat16 or double.

    x float16 -> Conv(w float16) -> Cast(to=double) -> y double
    x float   -> Conv(w float)   -> Cast(to=float)  -> y float

Inputs, outputs, initializers, constants and the types that Cast, ConstantOfShape and the quantisation
operators name are changed; int8 data and its scales keep their values (scales become float32).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

__all__ = ["ToFloat32Pass"]

_OTHER_FLOATS = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
_TYPE_ATTRIBUTES = frozenset({"dtype", "output_dtype", "precision", "stash_type", "to"})


class ToFloat32Pass(ir.passes.InPlacePass):
    """Replace every other floating-point type by float32. Ensures that none is left in the main graph."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Return the model, modified when it used another floating-point type than float32."""
        graph = model.graph
        modified = False
        for initializer in graph.initializers.values():
            tensor = initializer.const_value
            if tensor is not None and tensor.dtype in _OTHER_FLOATS:
                initializer.const_value = _as_float32(tensor)
                modified = True
        for node in graph:
            for attribute in list(node.attributes.values()):
                modified |= _convert_attribute(node, attribute)
        values = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
        for value in values:
            if value.dtype in _OTHER_FLOATS:
                value.dtype = ir.DataType.FLOAT
                modified = True
        return ir.passes.PassResult(model, modified=modified)

    def ensures(self, model: ir.Model) -> None:
        """Raise PostconditionError when a value or initializer of another floating-point type is left."""
        values = [*model.graph.inputs, *model.graph.initializers.values(), *model.graph.outputs]
        left = [value.name for value in values if value.dtype in _OTHER_FLOATS]
        if left:
            raise ir.passes.PostconditionError(f"not float32: {left}")


def _convert_attribute(node: ir.Node, attribute: ir.Attr) -> bool:
    if attribute.type == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        if tensor.dtype not in _OTHER_FLOATS:
            return False
        node.attributes[attribute.name] = ir.AttrTensor(attribute.name, _as_float32(tensor))
        return True
    if attribute.type == ir.AttributeType.INT and attribute.name in _TYPE_ATTRIBUTES:
        if attribute.as_int() not in {int(dtype) for dtype in _OTHER_FLOATS}:
            return False
        node.attributes[attribute.name] = ir.AttrInt64(attribute.name, int(ir.DataType.FLOAT))
        return True
    return False


def _as_float32(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    # An overflow becomes infinite here and is reported by the importer's check for finite weights.
    with np.errstate(over="ignore"):
        return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)
