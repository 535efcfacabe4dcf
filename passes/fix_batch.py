"""Make the leading dimension of every input 1.

    x [N, 3, 32, 32] -> ... -> Reshape [N, 64] -> y [N, 10]      (N symbolic, or B > 1)
    x [1, 3, 32, 32] -> ... -> Reshape [1, 64] -> y [1, 10]

A symbolic leading dimension is the batch by ONNX convention. A fixed one above 1 is the batch when
every input and every output has it in front; Reshape targets that start with it follow. Shapes of
intermediate values are dropped, to be inferred again; whether the batch was really only
carried along has to be checked on the inferred shapes and numbers (`qutec.ingest.shapes` does).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

__all__ = ["FixBatchPass", "fixed_batch"]


def fixed_batch(model: ir.Model) -> int:
    """The batch B > 1 that all inputs and outputs have in front, else 1."""
    values = [*model.graph.inputs, *model.graph.outputs]
    batches = {_leading(value) for value in values}
    if len(batches) != 1 or any(value.shape is None or len(value.shape) < 2 for value in values):
        return 1
    batch = batches.pop()
    return batch if isinstance(batch, int) and batch > 1 else 1


class FixBatchPass(ir.passes.InPlacePass):
    """Rewrite the batch to 1. Requires constants to be initializers and initializers not to be inputs."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Return the model, modified when an input had another leading dimension than 1."""
        batch = fixed_batch(model)
        modified = False
        for value in model.graph.inputs:
            leading = _leading(value)
            if value.shape is None or leading is None:
                continue
            if not isinstance(leading, int) or (batch > 1 and leading == batch):
                value.shape = ir.Shape([1, *list(value.shape)[1:]])
                modified = True
        if not modified:
            return ir.passes.PassResult(model, modified=False)
        if batch > 1:
            _rewrite_reshape_targets(model.graph, batch)
        for node in model.graph:
            for output in node.outputs:
                output.shape = _output_shape(output.shape, batch) if output.is_graph_output() else None
        return ir.passes.PassResult(model, modified=True)


def _leading(value: ir.Value) -> int | ir.SymbolicDim | None:
    if value.shape is None or len(value.shape) == 0:
        return None
    dim = value.shape[0]
    return dim if isinstance(dim, int) else ir.SymbolicDim(dim.value)


def _output_shape(shape: ir.Shape | None, batch: int) -> ir.Shape | None:
    """What stays known of a declared output shape; symbolic dimensions are left to inference."""
    if shape is None:
        return None
    dims: list[int | None] = [dim if isinstance(dim, int) else None for dim in shape]
    if batch > 1:
        dims[0] = 1
    return ir.Shape(dims)


def _rewrite_reshape_targets(graph: ir.Graph, batch: int) -> None:
    for node in graph:
        if node.op_type != "Reshape" or node.domain != "" or len(node.inputs) < 2:
            continue
        target = node.inputs[1]
        if target is None or target.const_value is None or not _depends_on_input(node.inputs[0]):
            continue
        dims = target.const_value.numpy()
        if dims.ndim != 1 or dims.size == 0 or dims[0] != batch:
            continue
        name = f"{target.name}_batch_1_{node.outputs[0].name}"
        tensor = ir.tensor(np.concatenate([[1], dims[1:]]).astype(np.int64), name=name)
        value = ir.Value(
            name=name,
            shape=ir.Shape(tensor.shape.numpy()),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        graph.register_initializer(value)
        node.replace_input_with(1, value)


def _depends_on_input(value: ir.Value | None) -> bool:
    pending, seen = [value], set()
    while pending:
        item = pending.pop()
        if item is None or item in seen:
            continue
        seen.add(item)
        if item.is_graph_input():
            return True
        producer = item.producer()
        if producer is not None:
            pending.extend(producer.inputs)
    return False
