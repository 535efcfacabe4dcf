"""The batch made symbolic: the inverse of fixing it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qutec.ingest.shapes import infer_shapes
from qutec.passes.fix_batch import FixBatchPass
from qutec.passes.free_batch import BATCH, FreeBatchPass
from tests.onnx_models import run
from tests.passes.exit_networks import Network, chain


def _leading(model: ir.Model) -> set[object]:
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    return {str(value.shape[0]) for value in values if value.shape is not None}


def _reshaping() -> Network:
    net = Network(2, 4, 4, channels_last=True)
    x = net.op("GlobalAveragePool", [net.block(net.x, 8)])
    both = net.constant(np.array([1, 8], np.int64), "both")
    open_end = net.constant(np.array([1, -1], np.int64), "open_end")
    flat = net.op("Reshape", [x, both])
    again = net.op("Reshape", [x, open_end])
    net.output(net.softmax(net.dense(net.op("Add", [flat, again]), 5), "final"))
    return net


def test_every_value_gets_the_symbolic_batch_and_inference_agrees() -> None:
    model = _reshaping().model()
    result = FreeBatchPass()(model)
    assert result.modified
    assert _leading(result.model) == {BATCH}
    inferred = infer_shapes(result.model)
    assert _leading(inferred) == {BATCH}
    assert set(inferred.graph.initializers).isdisjoint({"both", "open_end"})


def test_rows_are_answered_as_alone() -> None:
    x = np.random.default_rng(0).standard_normal((5, 4, 4, 2)).astype(np.float32)
    (together,) = run(FreeBatchPass()(_reshaping().model()).model, x=x)
    single = _reshaping().proto()
    alone = np.concatenate([run(single, x=x[row : row + 1])[0] for row in range(5)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_fixing_and_freeing_are_inverse() -> None:
    model = chain(2, 16, 16, batch="N").model()
    fixed = infer_shapes(FixBatchPass()(model).model)
    assert _leading(fixed) == {"1"}
    assert _leading(infer_shapes(FreeBatchPass()(fixed).model)) == {"N"}


def test_a_symbolic_batch_is_left_alone() -> None:
    assert not FreeBatchPass()(chain(2, 16, 16, batch="N").model()).modified
