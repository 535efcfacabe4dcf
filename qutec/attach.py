"""From a classifier to a training graph: load, free the batch, attach early exits and early views, check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from qutec.errors import ModelError, UnsupportedModelError, UsageError
from qutec.graphs import dims
from qutec.heads import Head, read_heads
from qutec.ingest.equivalence import Arrays, RunError, largest_difference, random_inputs, run_model
from qutec.ingest.shapes import infer_shapes
from qutec.ingest.source import ModelSource
from qutec.ingest.validity import check_valid
from qutec.load import load
from qutec.passes.attach_qute import Activation, AttachQutePass
from qutec.passes.find_exits import OutputRole
from qutec.passes.free_batch import BATCH, FreeBatchPass

__all__ = ["TrainingGraph", "attach", "write_training_graph"]

_BATCH_TOLERANCE = 1e-4
"""Accepted difference, relative to an output's largest value, between a batch and its rows one by one."""

_ROWS = 3


@dataclass(frozen=True)
class TrainingGraph:
    """A network with early exits and early views, batch symbolic, opset of `qutec.load`; nothing is folded.

    `heads` is what the metadata of `model` says (see `qutec.heads`).
    """

    model: ir.Model
    heads: tuple[Head, ...]
    warnings: tuple[str, ...]


def attach(
    source: ModelSource,
    *,
    heads: int | None = None,
    at: Sequence[str] | None = None,
    activation: Activation = "none",
    plus: bool = False,
    kernel: int = 3,
    seed: int = 0,
    output_is: Mapping[str, OutputRole] | None = None,
) -> TrainingGraph:
    """Attach K early exits and K early views to an ONNX classifier; see `AttachQutePass` for the arguments.

    A fixed batch becomes symbolic, so that the graph can be trained in batches; the outputs of the source
    stay as they are.

    Raises:
        UsageError, ModelError: as `qutec.load.load` and `AttachQutePass`.
        UnsupportedModelError: a quantised model, no feature maps, or rows of a batch that are mixed.
    """
    loaded = load(source, simplify=False)
    attaching = AttachQutePass(heads, at, activation, plus, kernel, seed, output_is=output_is)
    single = _proto(loaded.model)
    batched = _with_free_batch(loaded.model)
    _check_rows(single, _proto(batched))
    model = attaching(batched).model
    model = infer_shapes(model)
    check_valid(_proto(model))
    return TrainingGraph(model, read_heads(model), (*loaded.warnings, *attaching.messages))


def write_training_graph(graph: TrainingGraph, path: str | Path) -> None:
    """Write the graph as one .onnx file, whole or not at all; the same graph gives the same bytes.

    Raises:
        UsageError: the file cannot be written.
    """
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.write_bytes(_proto(graph.model).SerializeToString(deterministic=True))
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UsageError(f"cannot write '{target}': {error.strerror}") from error


def _with_free_batch(model: ir.Model) -> ir.Model:
    """A copy with symbolic batch, its shapes inferred and compared with those of batch 1."""
    before = {value.name: dims(value) for node in model.graph for value in node.outputs}
    freed = FreeBatchPass()(ir.from_proto(_proto(model))).model
    expected = {value.name: dims(value) for node in freed.graph for value in node.outputs}
    for node in freed.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    try:
        inferred = infer_shapes(freed)
    except ModelError as error:
        raise UnsupportedModelError(f"the batch of 1 cannot be made symbolic: {error}") from error
    for node in inferred.graph:
        for value in node.outputs:
            name = value.name
            if dims(value) != expected[name]:
                raise UnsupportedModelError(
                    f"the batch of 1 cannot be made symbolic: {node.op_type} {node.name!r} makes"
                    f" {value.shape} of what was {list(before[name] or ())}; export it with a symbolic batch"
                )
    return inferred


def _check_rows(single: onnx.ModelProto, batched: onnx.ModelProto) -> None:
    """Each row of a batch must be answered as if it were alone.

    Raises:
        UnsupportedModelError: it is not, or ONNX Runtime fails on a batch.
    """
    rows = [random_inputs(single, seed) for seed in range(_ROWS)]
    try:
        alone = _stacked([run_model(single, row) for row in rows])
        together = run_model(batched, _stacked(rows))
    except RunError as error:
        raise UnsupportedModelError(f"the network does not run with a symbolic batch: {error}") from error
    if largest_difference(alone, together) > _BATCH_TOLERANCE:
        raise UnsupportedModelError(
            "the network mixes the rows of a batch, so it cannot be trained in batches;"
            f" its input needs a leading batch dimension ({BATCH!r}) that it only carries along"
        )


def _stacked(items: list[Arrays]) -> Arrays:
    return {name: np.concatenate([item[name] for item in items]) for name in items[0]}


def _proto(model: ir.Model) -> onnx.ModelProto:
    proto = ir.to_proto(model)
    assert isinstance(proto, onnx.ModelProto)
    return proto
