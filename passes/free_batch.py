"""Make the batch symbolic again: the inverse of `qutec.passes.fix_batch`.

    x [1, 3, 32, 32] -> ... -> Reshape [1, 64] -> y [1, 10]
    x [N, 3, 32, 32] -> ... -> Reshape [0, 64] -> y [N, 10]      (0 keeps the dimension)

Requires constants to be initializers, and static shapes of all values. Shapes of intermediate values get
the symbolic dimension too; whether the graph really carries the batch along has to be checked by
inferring them again, and by numbers (`qutec.attach` does).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qutec.graphs import dims
from qutec.passes.trunk import DataFlow

__all__ = ["BATCH", "FreeBatchPass"]

BATCH = "N"
"""Name of the symbolic dimension."""


class FreeBatchPass(ir.passes.InPlacePass):
    """Rewrite a leading dimension of 1 to `BATCH` for inputs, outputs, Reshape targets and values between."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Return the model, modified when an input had the leading dimension 1."""
        fixed = [value for value in model.graph.inputs if (dims(value) or (None,))[0] == 1]
        if not fixed:
            return ir.passes.PassResult(model, modified=False)
        flow = DataFlow(model.graph)
        for node in model.graph:
            if node.op_type == "Reshape" and node.domain == "" and flow.data_inputs(node):
                _keep_batch(model.graph, node)
        for value in (*fixed, *(value for node in model.graph for value in node.outputs)):
            producer = value.producer()
            if value.shape is not None and (producer is None or flow.data_inputs(producer)):
                _free(value)
        return ir.passes.PassResult(model, modified=True)


def _free(value: ir.Value) -> None:
    if value.shape is not None and len(value.shape) > 0 and value.shape[0] == 1:
        value.shape = ir.Shape([BATCH, *list(value.shape)[1:]])


def _keep_batch(graph: ir.Graph, node: ir.Node) -> None:
    """Replace a leading 1 of a Reshape target by 0, which copies the dimension of the input."""
    source, target = node.inputs[0], node.inputs[1]
    if source is None or target is None or target.const_value is None:
        return
    wanted, shape = target.const_value.numpy(), dims(source)
    if wanted.ndim != 1 or wanted.size == 0 or wanted[0] != 1 or not shape or shape[0] != 1:
        return
    node.attributes.pop("allowzero", None)
    data = np.concatenate([[0], wanted[1:]]).astype(np.int64)
    name = f"{target.name}_any_batch_{node.outputs[0].name}"
    tensor = ir.tensor(data, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(data.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    node.replace_input_with(1, value)
    if target.is_initializer() and target.name and not target.uses() and not target.is_graph_output():
        del graph.initializers[target.name]
