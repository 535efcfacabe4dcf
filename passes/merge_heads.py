"""The exits that stay become one answer with its uncertainty: mean over heads, entropy, disagreement.

    f -> DepthwiseConv_k -> [Relu] -> GlobalAveragePool -> Gemm_k -> Softmax -> out_k     (k = 1 .. K)
becomes
    f -> qutec.QuteHead -> probabilities, label, confidence, entropy, disagreement, abstain
and any other K classifiers
    logits_k -> Softmax -> out_k                                                          (k = 1 .. K)
become
    logits_1 .. logits_K -> qutec.Uncertainty -> the same six outputs

With p_k = softmax(logits_k), p = mean_k p_k and H the entropy in nats: label = argmax p,
confidence = max p, entropy = H(p), disagreement = H(p) - mean_k H(p_k) (the mutual information between
answer and head), abstain = confidence < threshold. Both operators are functions of the model, written
in standard ONNX operators, so that onnxruntime runs the result; compilers match them by name. In
QuteHead the K depthwise convolutions are one with channel multiplier K (channel c * K + k).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qutec.heads import HEAD_DOMAIN, RESULTS
from qutec.lower.constants import constant, real
from qutec.lower.shapes import static_shape
from qutec.passes.linear_layers import AVERAGE_POOLS, SHAPE_OPS
from qutec.passes.result_functions import (
    MEAN_UNCERTAINTY,
    classifier_logits,
    replace_outputs,
    result_function,
    stacked_logits,
)

__all__ = ["MergeHeadsPass"]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _View:
    """One EV block: depthwise convolution of `source`, activation, global pool, dense layer."""

    source: ir.Value
    conv: ir.Node
    relu: bool
    depthwise: FloatArray
    depthwise_bias: FloatArray
    dense: FloatArray
    """[C, L]."""
    dense_bias: FloatArray

    def same_kind(self, other: _View) -> bool:
        """Whether both blocks can share one pass over one map."""
        names = ("strides", "pads", "dilations", "auto_pad")
        mine, theirs = self.conv.attributes, other.conv.attributes
        same = all(_plain(mine.get(name)) == _plain(theirs.get(name)) for name in names)
        return (
            same
            and self.source is other.source
            and self.relu == other.relu
            and self.depthwise.shape == other.depthwise.shape
            and self.dense.shape == other.dense.shape
        )


class MergeHeadsPass(ir.passes.InPlacePass):
    """Replace all outputs of a network, classifiers of the same classes, by the six results."""

    def __init__(self, abstain_below: float = 0.0) -> None:
        super().__init__()
        self._abstain_below = abstain_below

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Merge the heads; raises UnsupportedModelError where an output is no classifier."""
        graph = model.graph
        logits, classes = classifier_logits(graph.outputs)
        views = [view for value in logits if (view := _view(value)) is not None]
        if len(views) == len(logits) and all(views[0].same_kind(view) for view in views[1:]):
            node, function = _qute_head(graph, views, self._abstain_below)
        else:
            node, function = _uncertainty(logits, self._abstain_below)
        replace_outputs(model, node, function, RESULTS, classes)
        return ir.passes.PassResult(model, modified=True)


def _plain(attribute: ir.Attr | None) -> object:
    return None if attribute is None else attribute.value


def _through(value: ir.Value | None) -> ir.Value | None:
    """The value before operators that only reshape."""
    while value is not None and (node := value.producer()) is not None and node.op_type in SHAPE_OPS:
        value = node.inputs[0]
    return value


def _dense(logits: ir.Value) -> tuple[ir.Value, FloatArray, FloatArray] | None:
    """(input, weights [C, L], bias [L]) of the dense layer that computes the logits."""
    node = logits.producer()
    bias: npt.NDArray[np.float64] = np.zeros(1)
    if node is not None and node.op_type == "Add":
        known = [constant(value) for value in node.inputs]
        data = [value for value, c in zip(node.inputs, known, strict=True) if c is None]
        offsets = [c for c in known if c is not None]
        if len(data) != 1 or data[0] is None or len(offsets) != 1:
            return None
        bias = real(offsets[0]).reshape(-1)
        node = data[0].producer()
    if node is None or node.op_type not in ("Gemm", "MatMul") or node.inputs[0] is None:
        return None
    matrix = constant(node.inputs[1])
    if matrix is None or len(matrix.shape) != 2:
        return None
    weights = real(matrix)
    if node.op_type == "Gemm":
        if node.attributes.get_int("transA", 0):
            return None
        if node.attributes.get_int("transB", 0):
            weights = weights.T
        weights = weights * node.attributes.get_float("alpha", 1.0)
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            offset = constant(node.inputs[2])
            if offset is None:
                return None
            bias = bias + real(offset).reshape(-1) * node.attributes.get_float("beta", 1.0)
    full = np.broadcast_to(bias, (weights.shape[1],))
    return node.inputs[0], weights.astype(np.float32), full.astype(np.float32)


def _view(logits: ir.Value) -> _View | None:
    """The EV block that ends in these logits, None where the head is built otherwise."""
    dense = _dense(logits)
    if dense is None:
        return None
    pooled = _through(dense[0])
    pool = pooled.producer() if pooled is not None else None
    if pool is None or not _pools_everything(pool):
        return None
    value = pool.inputs[0]
    node = value.producer() if value is not None else None
    relu = node is not None and node.op_type == "Relu"
    if relu and node is not None and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type != "Conv" or node.inputs[0] is None:
        return None
    weights = constant(node.inputs[1])
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    channels = static_shape(node.inputs[0])[1]
    dilated = any(d != 1 for d in node.attributes.get_ints("dilations", []))
    if weights is None or weights.shape[:2] != (channels, 1) or dilated or channels != dense[1].shape[0]:
        return None
    if node.attributes.get_int("group", 1) != channels:
        return None
    offset = real(bias) if bias is not None else np.zeros(channels)
    return _View(
        node.inputs[0],
        node,
        relu,
        real(weights).astype(np.float32),
        offset.astype(np.float32),
        dense[1],
        dense[2],
    )


def _pools_everything(pool: ir.Node) -> bool:
    if pool.inputs[0] is None or pool.op_type not in AVERAGE_POOLS:
        return False
    source, result = static_shape(pool.inputs[0]), static_shape(pool.outputs[0])
    if math.prod(result) != source[1]:
        return False
    if pool.op_type == "AveragePool":
        padded = (
            any(pool.attributes.get_ints("pads", []))
            or pool.attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
        )
        return list(pool.attributes.get_ints("kernel_shape", [])) == list(source[2:]) and not padded
    return True


def _qute_head(graph: ir.Graph, views: Sequence[_View], abstain_below: float) -> tuple[ir.Node, ir.Function]:
    heads, first = len(views), views[0]
    channels = first.depthwise.shape[0]
    merged = np.stack([view.depthwise for view in views], axis=1).reshape(
        channels * heads, *first.depthwise.shape[1:]
    )
    merged_bias = np.stack([view.depthwise_bias for view in views], axis=1).reshape(-1)
    values = {
        "depthwise": merged,
        "depthwise_bias": merged_bias,
        "dense": np.stack([view.dense for view in views]),
        "dense_bias": np.stack([view.dense_bias for view in views])[:, None, :],
    }
    inputs = [first.source]
    for name, array in values.items():
        tensor = ir.tensor(np.ascontiguousarray(array, np.float32), name=f"qute_head_{name}")
        value = ir.Value(
            name=tensor.name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(ir.DataType.FLOAT),
            const_value=tensor,
        )
        graph.register_initializer(value)
        inputs.append(value)
    active = "active = Relu (maps)" if first.relu else "active = Identity (maps)"
    body = f"""
    maps = Conv <strides: ints = @strides, pads: ints = @pads, group: int = @group>
        (feature_map, depthwise, depthwise_bias)
    {active}
    pooled = GlobalAveragePool (active)
    by_channel = Constant <value_ints = [0, -1, {heads}]> ()
    interleaved = Reshape (pooled, by_channel)
    features = Transpose <perm = [2, 0, 1]> (interleaved)
    products = MatMul (features, dense)
    logits = Add (products, dense_bias)
"""
    name = f"QuteHead{heads}{'Relu' if first.relu else 'Linear'}"
    names = ["feature_map", *values]
    attribute_names = "strides, pads, group, abstain_below"
    body += MEAN_UNCERTAINTY
    function = result_function(name, names, RESULTS, attribute_names, body, extra="features")
    attributes = {
        "strides": _ints(first.conv, "strides", 1),
        "pads": _pads(first),
        "group": channels,
        "abstain_below": float(abstain_below),
    }
    node = ir.node(
        name,
        inputs,
        attributes=attributes,
        domain=HEAD_DOMAIN,
        num_outputs=len(RESULTS) + 1,
        name="qute_head",
    )
    feature = node.outputs[-1]
    feature.name, feature.shape = "qute_head_features", ir.Shape([heads, 1, channels])
    feature.dtype = ir.DataType.FLOAT
    return node, function


def _uncertainty(logits: Sequence[ir.Value], abstain_below: float) -> tuple[ir.Node, ir.Function]:
    name = f"Uncertainty{len(logits)}"
    names = [f"logits_{k}" for k in range(1, len(logits) + 1)]
    body = stacked_logits(names, "logits") + MEAN_UNCERTAINTY
    function = result_function(name, names, RESULTS, "abstain_below", body)
    attributes = {"abstain_below": float(abstain_below)}
    node = ir.node(
        name, logits, attributes=attributes, domain=HEAD_DOMAIN, num_outputs=len(RESULTS), name="uncertainty"
    )
    return node, function


def _ints(conv: ir.Node, name: str, default: int) -> list[int]:
    rank = len(conv.inputs[0].shape or ()) - 2 if conv.inputs[0] is not None else 2
    return [int(n) for n in conv.attributes.get_ints(name, [default] * rank)]


def _pads(view: _View) -> list[int]:
    """Explicit begin and end padding, auto_pad resolved by the output's shape."""
    conv = view.conv
    shape, result = static_shape(view.source), static_shape(conv.outputs[0])
    rank = len(shape) - 2
    strides = _ints(conv, "strides", 1)
    auto_pad = conv.attributes.get_string("auto_pad", "NOTSET")
    if auto_pad in ("NOTSET", "VALID"):
        given = (
            conv.attributes.get_ints("pads", [0] * (2 * rank)) if auto_pad == "NOTSET" else [0] * (2 * rank)
        )
        return [int(n) for n in given]
    begin, end = [], []
    for axis in range(rank):
        size, out, kernel = shape[axis + 2], result[axis + 2], view.depthwise.shape[axis + 2]
        total = max((out - 1) * strides[axis] + kernel - size, 0)
        low = total // 2 if auto_pad == "SAME_UPPER" else (total + 1) // 2
        begin.append(low)
        end.append(total - low)
    return [*begin, *end]
