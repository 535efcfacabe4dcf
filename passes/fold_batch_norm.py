"""Fold batch normalisation into the layer before it, or through an average pool into the dense layer after.

    x -> Conv(W, b) -> BatchNormalization -> y        =  x -> Conv(s W, s b + d) -> y
    x -> BatchNormalization -> [pool, Flatten] -> Gemm(W, b) -> y
                                                      =  x -> [pool, Flatten] -> Gemm(W s, b + W d) -> y

with s = scale / sqrt(variance + epsilon) and d = offset - s mean for each channel. The layer may be Conv,
Gemm or MatMul, each with an Add of a constant; the pool an average that counts no padding, which commutes
with s x + d. onnx-simplifier does the first for Conv only; heads with a normalisation between pool and
dense layer, or after the dense layer, stay heads that way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from qutec.lower.constants import QuantizedConstant, constant, real
from qutec.passes.linear_layers import (
    AVERAGE_POOLS,
    SHAPE_OPS,
    LinearLayer,
    linear_layer,
    read_once,
    replace_value,
    scaled_inputs,
    scaled_outputs,
    write_layer,
)

__all__ = ["FoldBatchNormPass"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

_EPSILON = 1e-5


@dataclass(frozen=True, eq=False)
class _Reader:
    """A dense layer that reads normalised features; `channels` [C] is the channel of each."""

    layer: LinearLayer
    channels: IntArray


class FoldBatchNormPass(ir.passes.InPlacePass):
    """Remove what batch normalisation the layers around can take. Requires shapes, and inference mode."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Return the model, modified when a node was folded; others stay."""
        modified = False
        # From the end, so that of two in a row before a dense layer the second goes first.
        for node in reversed(list(model.graph)):
            if node.op_type != "BatchNormalization" or node.domain != "":
                continue
            affine = _affine(node)
            if affine is not None and (
                _into_layer_before(model.graph, node, *affine)
                or _into_layers_after(model.graph, node, *affine)
            ):
                modified = True
        if modified:
            common_passes.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified=modified)


def _affine(node: ir.Node) -> tuple[FloatArray, FloatArray] | None:
    """(s, d) of a normalisation by constants."""
    known = [constant(value) for value in node.inputs[1:5]]
    if node.attributes.get_int("training_mode", 0) or any(
        value is None or isinstance(value, QuantizedConstant) for value in known
    ):
        return None
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return None
    scale, offset, mean, variance = (real(value) for value in known if value is not None)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", _EPSILON))
    shift = offset - mean * factor
    return (factor, shift) if np.isfinite(factor).all() and np.isfinite(shift).all() else None


def _into_layer_before(graph: ir.Graph, node: ir.Node, factor: FloatArray, shift: FloatArray) -> bool:
    source = node.inputs[0]
    if source is None or not read_once(source):
        return False
    layer = linear_layer(source)
    rank = len(source.shape or ())
    # The channels of a normalisation are axis 1; those of a dense layer are the last one.
    if layer is None or factor.shape != layer.bias.shape or (layer.node.op_type != "Conv" and rank != 2):
        return False
    layer = scaled_outputs(layer, factor, shift)
    if not layer.fits:
        return False
    replace_value(graph, node.outputs[0], write_layer(graph, layer))
    graph.remove(node, safe=True)
    return True


def _into_layers_after(graph: ir.Graph, node: ir.Node, factor: FloatArray, shift: FloatArray) -> bool:
    source, result = node.inputs[0], node.outputs[0]
    row = _row(result)
    if source is None or not row or row[0] != len(factor):
        return False
    channels = np.broadcast_to(np.arange(len(factor)).reshape(-1, *[1] * (len(row) - 1)), row)
    readers = _dense_readers(result, channels)
    layers = [scaled_inputs(r.layer, factor[r.channels], shift[r.channels]) for r in readers]
    if not layers or not all(layer.fits for layer in layers):
        return False
    for layer in layers:
        write_layer(graph, layer)
    replace_value(graph, result, source)
    graph.remove(node, safe=True)
    return True


def _dense_readers(value: ir.Value, channels: IntArray) -> list[_Reader]:
    """The dense layers that a value feeds, by average pools and changes of shape; empty if not them alone.

    `channels` has the value's shape without the batch.
    """
    if value.is_graph_output():
        return []
    found: list[_Reader] = []
    for node, position in value.uses():
        if position != 0:
            return []
        result = node.outputs[0]
        if node.op_type in ("Gemm", "MatMul"):
            layer = _with_bias(result)
            if layer is None or channels.shape != layer.weights.shape[1:]:
                return []
            readers = [_Reader(layer, channels)]
        else:
            after = _moved(node, channels, value, result)
            readers = [] if after is None else _dense_readers(result, after)
        if not readers:
            return []
        found += readers
    return found


def _with_bias(value: ir.Value) -> LinearLayer | None:
    """The layer that a Gemm or MatMul begins, with the Add behind it."""
    reader = next((node for node, _ in value.uses()), None) if read_once(value) else None
    biased = linear_layer(reader.outputs[0]) if reader is not None and reader.op_type == "Add" else None
    return biased or linear_layer(value)


def _moved(node: ir.Node, channels: IntArray, source: ir.Value, result: ir.Value) -> IntArray | None:
    """The channels of a node's output; None for nodes that do not commute with a factor and an offset."""
    row, before, after = _row(result), source.shape, result.shape
    if row is None or before is None or after is None or before[0] != after[0]:
        return None
    if node.op_type in SHAPE_OPS:
        return channels.reshape(row) if np.prod(row) == channels.size else None
    if node.op_type not in AVERAGE_POOLS:
        return None
    of_channel = channels.reshape(len(channels), -1)
    if channels.ndim < 2 or (of_channel != of_channel[:, :1]).any() or row[0] != len(channels):
        return None
    if (node.op_type == "AveragePool" and _counts_padding(node)) or (
        node.op_type == "ReduceMean" and not _means_positions(node, len(before))
    ):
        return None
    return np.broadcast_to(of_channel[:, 0].reshape(-1, *[1] * (len(row) - 1)), row)


def _counts_padding(pool: ir.Node) -> bool:
    attributes = pool.attributes
    padded = any(attributes.get_ints("pads", [])) or attributes.get_string("auto_pad", "NOTSET") not in (
        "NOTSET",
        "VALID",
    )
    beyond = padded or attributes.get_int("ceil_mode", 0) != 0
    return beyond and attributes.get_int("count_include_pad", 0) != 0


def _means_positions(node: ir.Node, rank: int) -> bool:
    """Whether a ReduceMean leaves batch and channels alone."""
    axes = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    given = [] if axes is None else [int(axis) % rank for axis in real(axes).reshape(-1)]
    return bool(given) and all(axis >= 2 for axis in given)


def _row(value: ir.Value) -> tuple[int, ...] | None:
    """The shape without the batch, if it is known."""
    if value.shape is None or len(value.shape) < 2:
        return None
    row = tuple(dim for dim in list(value.shape)[1:] if isinstance(dim, int))
    return row if len(row) == len(value.shape) - 1 else None
