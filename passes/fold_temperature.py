"""Fold what multiplies the logits of a classifier into the layer that makes them.

    x -> Gemm(W, b) -> [Reshape] -> Div(T) -> Softmax -> out
    x -> Gemm(W / T, b / T) -> [Reshape] -> Softmax -> out

T (or the factor of a Mul) is one number, or one for each class; the layer may also be MatMul, MatMul and
Add, or a Conv. Between it and T only the shape may change, or a pool may average (one number only). Where
something else reads the logits before T, the node stays.

With a temperature of its own the pass first divides the logits of every classifier by it, as temperature
scaling does after training (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017): answers stay,
confidence falls for T > 1. In a network that came quantised the scale of the logits takes the factor, and
their integers stay: logits = (q - zero) * (scale / T).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from qutec.errors import UnsupportedModelError, UsageError
from qutec.lower.constants import QuantizedConstant, constant
from qutec.passes.classifiers import ACTIVATIONS, activation_of
from qutec.passes.find_exits import find_exits
from qutec.passes.head_layers import HeadWriter
from qutec.passes.linear_layers import (
    AVERAGE_POOLS,
    SHAPE_OPS,
    linear_layer,
    read_once,
    replace_value,
    scaled_outputs,
    write_layer,
)
from qutec.passes.quantize import is_quantized

__all__ = ["FoldTemperaturePass"]

FloatArray = npt.NDArray[np.float64]

_AFFINE = frozenset({"Add", "Div", "Mul", "Sub"})
_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})


@dataclass(frozen=True, eq=False)
class _Scaling:
    """A node that multiplies `data` by a constant `factor`, which broadcasts to the shape of `data`."""

    node: ir.Node
    data: ir.Value
    factor: FloatArray


class _StaysError(Exception):
    """Why a scaling is not folded."""


class FoldTemperaturePass(ir.passes.InPlacePass):
    """Fold constant factors of logits into the layers before them. Requires shapes of all values.

    After a call `messages` says which factors stay as nodes, and why.

    Args:
        temperature: divides the logits of every classifier exit besides; 1 changes nothing.

    Raises:
        UsageError: a temperature that is not a positive number of float32.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        smallest, largest = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
        if not smallest <= temperature <= largest:
            raise UsageError(f"the temperature is {temperature:g}; it must be a positive, finite number")
        self._temperature = float(temperature)
        self.messages: tuple[str, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Divide the logits where that is asked for, and fold.

        Raises:
            UsageError: a temperature, but no output is a classifier.
            UnsupportedModelError: a temperature that does not fold into the parameters of a quantised model.
        """
        messages: list[str] = []
        quantized = is_quantized(model)
        divided = self._divided(model)
        modified = bool(divided)
        for node in list(model.graph):
            # A quantised model's parameters are its own: only a temperature that is asked for moves them.
            scaling = _scaling(node) if node in divided or not quantized else None
            if scaling is None:
                continue
            try:
                _fold(model.graph, scaling, quantized)
                modified = True
            except _StaysError as reason:
                what = f"{node.op_type} {node.name or node.outputs[0].name!r}: {reason}"
                if quantized:
                    raise UnsupportedModelError(
                        "the model is quantised, and the temperature does not fold into its parameters:"
                        f" {what}"
                    ) from reason
                messages.append(f"{what}; it stays a node")
        if modified:
            common_passes.RemoveUnusedNodesPass()(model)
        self.messages = tuple(messages)
        return ir.passes.PassResult(model, modified=modified)

    def _divided(self, model: ir.Model) -> set[ir.Node]:
        """Div nodes put before the end of every classifier."""
        if self._temperature == 1.0:
            return set()
        exits = find_exits(model).exits
        if not exits:
            raise UsageError("a temperature divides the logits of classifiers; no output is one")
        graph = model.graph
        writer = HeadWriter(graph)
        divisor = writer.initializer("temperature", np.asarray(self._temperature, np.float32))
        nodes: dict[ir.Value, ir.Node] = {}
        for output in [item.output for item in exits]:
            end, logits = activation_of(output)
            if logits not in nodes:
                nodes[logits] = _div(graph, writer, logits, divisor)
            result = nodes[logits].outputs[0]
            if end is not None:
                end.replace_input_with(0, result)
            else:
                _return_instead(graph, writer, output, result)
        return set(nodes.values())


def _div(graph: ir.Graph, writer: HeadWriter, logits: ir.Value, divisor: ir.Value) -> ir.Node:
    node = ir.node("Div", [logits, divisor])
    name = writer.unique_name(f"{logits.name}_over_temperature")
    result = node.outputs[0]
    node.name, result.name, result.shape, result.type = name, name, logits.shape, logits.type
    producer = logits.producer()
    if producer is None:
        raise UsageError(f"a temperature cannot divide {logits.name!r}, which is an input")
    graph.insert_after(producer, node)
    return node


def _return_instead(graph: ir.Graph, writer: HeadWriter, output: ir.Value, result: ir.Value) -> None:
    """Return `result` under the name of `output`, whose other readers stay."""
    index = next(i for i, value in enumerate(graph.outputs) if value is output)
    graph.outputs[index] = result
    name, output.name = output.name, writer.unique_name(f"{output.name}_undivided")
    result.name = name


def _scaling(node: ir.Node) -> _Scaling | None:
    """The scaling of logits that a node is."""
    if node.domain != "" or node.op_type not in ("Div", "Mul"):
        return None
    for position, value in enumerate(node.inputs):
        known = constant(value)
        data = node.inputs[1 - position]
        if known is None or data is None or (node.op_type == "Div" and position == 0):
            continue
        if isinstance(known, QuantizedConstant) or known.dtype.kind != "f" or constant(data) is not None:
            return None
        with np.errstate(all="ignore"):
            factor = known.astype(np.float64) if node.op_type == "Mul" else 1.0 / known.astype(np.float64)
        return _Scaling(node, data, factor) if _is_end_of_exit(node.outputs[0]) else None
    return None


def _is_end_of_exit(value: ir.Value) -> bool:
    """Whether all that depends on a value are softmaxes and outputs."""
    readers = [node for node, _ in value.uses()]
    if not readers:
        return value.is_graph_output()
    return all(
        node.op_type in ACTIVATIONS
        or (
            (node.op_type in SHAPE_OPS or (node.op_type in _AFFINE and _has_constant(node)))
            and _is_end_of_exit(node.outputs[0])
        )
        for node in readers
    )


def _has_constant(node: ir.Node) -> bool:
    return any(constant(value) is not None for value in node.inputs)


def _fold(graph: ir.Graph, scaling: _Scaling, quantized: bool) -> None:
    """Scale the layer before and drop the node; raises _StaysError."""
    node, data = scaling.node, scaling.data
    if not np.isfinite(scaling.factor).all():
        raise _StaysError("its factor is not finite")
    if not _same_shape(node.outputs[0], data):
        raise _StaysError("it changes the shape of the logits")
    source, pooled = data, False
    for passed in _way_back(data):
        if not read_once(passed):
            raise _StaysError(f"{passed.name!r} before it is read by others too")
        source = passed
        producer = passed.producer()
        pooled = pooled or (producer is not None and producer.op_type in AVERAGE_POOLS)
    if quantized:
        _scale_parameters(graph, source, float(scaling.factor.reshape(-1)[0]))
    else:
        layer = linear_layer(source)
        if layer is None:
            raise _StaysError(f"no layer with constant weights of its own makes {source.name!r}")
        layer = scaled_outputs(layer, _by_class(scaling, len(layer.bias), pooled))
        if not layer.fits:
            raise _StaysError("the weights would leave the range of float32")
        write_layer(graph, layer)
    replace_value(graph, node.outputs[0], data)
    graph.remove(node, safe=True)


def _way_back(value: ir.Value) -> Iterator[ir.Value]:
    """The value, and those before it up to the layer."""
    yield value
    node = value.producer()
    while node is not None and node.op_type in SHAPE_OPS | AVERAGE_POOLS and node.inputs[0] is not None:
        yield node.inputs[0]
        node = node.inputs[0].producer()


def _by_class(scaling: _Scaling, classes: int, pooled: bool) -> FloatArray:
    """The factor as [1], or [classes] where the elements of a row of the data are the classes."""
    if scaling.factor.size == 1:
        return scaling.factor.reshape(1)
    shape = scaling.data.shape
    dims = list(shape) if shape is not None else []
    row = [dim for dim in dims[1:] if isinstance(dim, int)]
    aligned = (1,) * (len(dims) - scaling.factor.ndim) + scaling.factor.shape
    if pooled or len(row) != len(dims) - 1 or math.prod(row) != classes or aligned[0] != 1:
        raise _StaysError("its factors are not one for each class")
    return np.broadcast_to(scaling.factor.reshape(aligned[1:]), row).reshape(-1)


def _same_shape(first: ir.Value, second: ir.Value) -> bool:
    return first.shape is not None and second.shape is not None and list(first.shape) == list(second.shape)


def _scale_parameters(graph: ir.Graph, value: ir.Value, factor: float) -> None:
    """Scale a quantised value: by its own DequantizeLinear, or by those of the layer that makes it."""
    node = value.producer()
    if node is None:
        raise _StaysError(f"{value.name!r} is an input")
    if node.op_type == "DequantizeLinear":
        _scale_dequantize(graph, node, factor)
        return
    nodes = [node]
    if node.op_type == "Add" and _has_constant(node):
        data = [v for v in node.inputs if v is not None and constant(v) is None]
        producer = data[0].producer() if len(data) == 1 and read_once(data[0]) else None
        nodes = [node, producer] if producer is not None else []
    if not nodes or nodes[-1].op_type not in _WEIGHTED:
        raise _StaysError(f"{node.op_type} makes {value.name!r}")
    operands = [
        (n, k) for n in nodes for k, v in enumerate(n.inputs) if v is not None and constant(v) is not None
    ]
    dequantizes = [n.inputs[k].producer() for n, k in operands]  # type: ignore[union-attr]
    if any(p is None or p.op_type != "DequantizeLinear" for p in dequantizes):
        raise _StaysError(f"the parameters of {value.name!r} are not all behind a DequantizeLinear")
    for (reader, position), dequantize in zip(operands, dequantizes, strict=True):
        assert dequantize is not None
        _scale_dequantize(graph, _own_copy(graph, dequantize, reader, position), factor)


def _own_copy(graph: ir.Graph, node: ir.Node, reader: ir.Node, position: int) -> ir.Node:
    """A DequantizeLinear that nobody else reads."""
    if read_once(node.outputs[0]):
        return node
    copy = ir.node("DequantizeLinear", list(node.inputs), attributes=dict(node.attributes))
    result, old = copy.outputs[0], node.outputs[0]
    result.name = HeadWriter(graph).unique_name(f"{old.name}_copy")
    copy.name, result.shape, result.type = result.name, old.shape, old.type
    graph.insert_after(node, copy)
    reader.replace_input_with(position, result)
    return copy


def _scale_dequantize(graph: ir.Graph, node: ir.Node, factor: float) -> None:
    known = constant(node.inputs[1])
    if known is None or isinstance(known, QuantizedConstant):
        raise _StaysError(f"the scale of {node.outputs[0].name!r} is not a constant")
    scale = (known.astype(np.float64) * factor).astype(np.float32)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise _StaysError("the scale would leave the range of float32")
    stem = node.inputs[1].name if node.inputs[1] is not None else node.name
    node.replace_input_with(1, HeadWriter(graph).initializer(f"{stem}_scaled", scale))
