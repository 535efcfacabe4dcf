"""From the compiler's model to one of standard operators alone, for any batch where that is wanted.

    f [1, C, H, W] -> qutec.QuteHead2Linear -> probabilities [1, L], ...
becomes
    f [N, C, H, W] -> Conv -> GlobalAveragePool -> ... -> probabilities [N, L], ...

Nodes that come out of a function are named <call>/<operator>, so that a profile can tell them.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from qutec.backends.onnxruntime.session import Arrays, SessionSettings, open_session, run_session
from qutec.errors import ModelError, UnsupportedModelError
from qutec.heads import is_head_node
from qutec.ingest.equivalence import largest_difference, random_inputs
from qutec.ingest.shapes import infer_shapes
from qutec.passes.free_batch import FreeBatchPass

__all__ = ["free_batch", "inline_functions", "serialized"]

_CHECKED_ROWS = 3
_ROW_TOLERANCE = 1e-4
_QUANTIZED_ROW_TOLERANCE = 4 / 255


def inline_functions(model: ir.Model) -> ir.Model:
    """A copy without functions."""
    copy = ir.from_proto(ir.to_proto(model))
    calls = [node.name for node in copy.graph if is_head_node(node)]
    known = {node.name for node in copy.graph}
    result = ir.passes.Sequential(
        common_passes.InlinePass(),
        common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common_passes.RemoveUnusedNodesPass(),
        common_passes.RemoveUnusedOpsetsPass(),
    )(copy).model
    if calls:
        _name_nodes(result.graph, f"{calls[0]}/", known)
    return infer_shapes(result)


def _name_nodes(graph: ir.Graph, prefix: str, known: set[str | None]) -> None:
    """Prefix what was added to the graph, the names of its outputs left alone."""
    outputs = set(graph.outputs)
    for number, node in enumerate(graph):
        if node.name in known:
            continue
        node.name = f"{prefix}{node.op_type}_{number}"
        for value in node.outputs:
            if value not in outputs:
                value.name = f"{prefix}{value.name}"


def free_batch(model: ir.Model) -> ir.Model:
    """A copy with a symbolic batch, which answers each row of a batch as that row alone.

    Raises UnsupportedModelError where the graph does not simply carry the batch along.
    """
    copy = ir.from_proto(ir.to_proto(model))
    freed = FreeBatchPass()(copy).model
    outputs = set(freed.graph.outputs)
    for node in freed.graph:
        for value in node.outputs:
            if value not in outputs:
                value.shape = None
    try:
        freed = infer_shapes(freed)
        _check_rows(freed)
    except ModelError as error:
        raise UnsupportedModelError(f"the batch cannot be symbolic again: {error}") from error
    return freed


def _check_rows(model: ir.Model) -> None:
    """Run some rows at once and one by one; raises UnsupportedModelError on a difference."""
    proto = ir.to_proto(model)
    rows = [random_inputs(proto, seed) for seed in range(_CHECKED_ROWS)]
    together: Arrays = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    session = open_session(serialized(model), SessionSettings())
    full = run_session(session, together)
    single = [run_session(session, row) for row in rows]
    each = {name: np.concatenate([result[name] for result in single]) for name in full}
    quantized = any(node.op_type == "DequantizeLinear" for node in model.graph)
    limit = _QUANTIZED_ROW_TOLERANCE if quantized else _ROW_TOLERANCE
    difference = largest_difference(each, full)
    if difference > limit:
        raise UnsupportedModelError(f"rows of a batch change each other's results by {difference:.2g}")


def serialized(model: ir.Model) -> bytes:
    """The model's bytes, the same for the same model."""
    proto = ir.to_proto(model)
    assert isinstance(proto, onnx.ModelProto)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data
