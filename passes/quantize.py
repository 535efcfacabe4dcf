"""Post-training int8 quantisation by QuantizeLinear / DequantizeLinear pairs.

    x -> Conv(W, b) -> Relu -> y
becomes
    x -> Q -> DQ -> Conv(DQ(W_int8), DQ(b_int32)) -> Relu -> Q -> DQ -> y

Parameters follow the TensorFlow Lite int8 specification: weights symmetric per output channel,
activations asymmetric per tensor, int32 bias at scale x_scale * w_scale; operators that only move or
select elements keep the parameters of their input; the output of Softmax is 1/256, -128. A value
inside one kernel (before a fused Relu, before a bias Add, within a chain of pointwise operators that
becomes one table) stays float. Onnxruntime runs the result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from qutec.heads import feature_output
from qutec.lower.constants import constant, real
from qutec.passes.kernel_values import KernelValues
from qutec.program import Quantization
from qutec.quantization import (
    SIGMOID_OUTPUT,
    SOFTMAX_OUTPUT,
    TANH_OUTPUT,
    activation_parameters,
    quantize_bias,
    symmetric_per_channel,
)

__all__ = ["QuantizePass", "is_quantized", "values_to_calibrate"]

_FIXED = {"Sigmoid": SIGMOID_OUTPUT, "Softmax": SOFTMAX_OUTPUT, "Tanh": TANH_OUTPUT}
_QUANTIZED_OPS = frozenset({"QuantizeLinear", "DequantizeLinear"})


def is_quantized(model: ir.Model) -> bool:
    """Whether the graph already has Q or DQ nodes."""
    return any(node.op_type in _QUANTIZED_OPS for node in model.graph)


def values_to_calibrate(model: ir.Model) -> list[str]:
    """Names of the float values whose range QuantizePass needs, in graph order."""
    values = KernelValues(model.graph)
    stored = [value.name or "" for value in values.stored if _fixed(value) is None]
    return stored + [value.name or "" for value in _features(model)]


class QuantizePass(ir.passes.InPlacePass):
    """Insert Q/DQ pairs for the ranges given; `ranges` maps value names to (min, max)."""

    def __init__(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        super().__init__()
        self._ranges = ranges

    def requires(self, model: ir.Model) -> None:
        """The graph is float and every needed range is there."""
        if is_quantized(model):
            raise ir.passes.PreconditionError("the model is quantised already")
        missing = [name for name in values_to_calibrate(model) if name not in self._ranges]
        if missing:
            raise ir.passes.PreconditionError(f"there is no range for {', '.join(missing)}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Quantise the main graph."""
        values = KernelValues(model.graph)
        parameters = _parameters(values, self._ranges)
        writer = _Writer(model.graph)
        for node in list(model.graph):
            if node in values.weighted:
                x = node.inputs[0]
                assert x is not None
                _quantize_weights(writer, values, node, parameters[x].scale)
        for node, position, value in values.concat_inputs():
            wanted = parameters[node.outputs[0]]
            if parameters[value] != wanted:
                writer.requantize(node, position, value, wanted)
        for value in values.stored:
            writer.quantize(value, parameters[value])
        for value in _features(model):
            head = value.producer()
            assert head is not None
            head.metadata_props["qutec.feature_range"] = json.dumps(list(self._ranges[value.name or ""]))
        return ir.passes.PassResult(model, modified=bool(values.stored))


def _features(model: ir.Model) -> list[ir.Value]:
    """Pooled features inside QuteHead nodes: stored as int16 by the kernel, so only their range counts."""
    return [value for node in model.graph if (value := feature_output(node)) is not None]


def _fixed(value: ir.Value) -> Quantization | None:
    producer = value.producer()
    return _FIXED.get(producer.op_type) if producer is not None else None


def _parameters(
    values: KernelValues, ranges: Mapping[str, tuple[float, float]]
) -> dict[ir.Value, Quantization]:
    """Parameters of every stored value; tied values share those of their group."""
    result: dict[ir.Value, Quantization] = {}
    for group in values.groups(joinable=lambda value: _fixed(value) is None):
        fixed = next((known for value in group if (known := _fixed(value)) is not None), None)
        if fixed is None:
            lows, highs = zip(*(ranges[value.name or ""] for value in group), strict=True)
            fixed = activation_parameters(min(lows), max(highs))
        result.update(dict.fromkeys(group, fixed))
    return result


def _quantize_weights(writer: _Writer, values: KernelValues, node: ir.Node, input_scale: float) -> None:
    weights = constant(node.inputs[1])
    assert weights is not None
    axis = values.output_axis(node, len(weights.shape))
    bias_node, bias_position, bias = values.bias(node)
    bias_values = None
    if bias is not None:
        channels = weights.shape[axis]
        bias_values = np.broadcast_to(real(bias).reshape(-1), (channels,))
    stem = node.name or node.outputs[0].name or node.op_type
    quantized, scale = symmetric_per_channel(
        real(weights), axis, values.accumulated_bias(node, bias_values), input_scale
    )
    writer.constant(node, 1, f"{stem}_weights", quantized, scale, axis)
    if bias_values is not None:
        # Stored at x_scale * w_scale as float32, which is what the scale initialiser can hold.
        bias_scale = (np.float32(input_scale) * scale).astype(np.float32)
        integers = quantize_bias(bias_values, bias_scale.astype(np.float64))
        if bias_node is not node and node.op_type == "Conv":
            integers = integers.reshape(-1, *[1] * (len(weights.shape) - 2))
        writer.constant(bias_node, bias_position, f"{stem}_bias", integers, bias_scale, 0)


class _Writer:
    """Adds nodes and initialisers to a graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._names = {value.name for value in _all_values(graph)}

    def quantize(self, value: ir.Value, quantization: Quantization) -> None:
        """Put a Q/DQ pair behind a value; all its readers read the pair's result."""
        readers = list(value.uses())
        name = value.name or "value"
        quantize, dequantize = self._pair(value, name, quantization)
        for node, position in readers:
            node.replace_input_with(position, dequantize.outputs[0])
        producer = value.producer()
        if producer is not None:
            self._graph.insert_after(producer, [quantize, dequantize])
        elif len(self._graph):
            self._graph.insert_before(self._graph[0], [quantize, dequantize])
        else:
            self._graph.extend([quantize, dequantize])
        if value.is_graph_input():
            # An output by the name of an input is that input; neither can have another name.
            return
        for position, output in enumerate(self._graph.outputs):
            if output is value:
                result = dequantize.outputs[0]
                value.name, result.name = self._unique(f"{name}_float"), name
                result.shape, result.type = value.shape, value.type
                self._graph.outputs[position] = result

    def requantize(self, node: ir.Node, position: int, value: ir.Value, quantization: Quantization) -> None:
        """Put a Q/DQ pair between a value and one of its readers."""
        quantize, dequantize = self._pair(value, f"{value.name}_for_{node.outputs[0].name}", quantization)
        self._graph.insert_before(node, [quantize, dequantize])
        node.replace_input_with(position, dequantize.outputs[0])

    def constant(
        self,
        node: ir.Node,
        position: int,
        name: str,
        integers: np.ndarray,
        scale: np.ndarray,
        axis: int,
    ) -> None:
        """Replace an input by DequantizeLinear of an integer initialiser."""
        zero = np.zeros(scale.shape, integers.dtype)
        inputs = [
            self._initializer(f"{name}_quantized", integers),
            self._initializer(f"{name}_scale", scale),
            self._initializer(f"{name}_zero_point", zero),
        ]
        dequantize = ir.node("DequantizeLinear", inputs, attributes={"axis": axis})
        self._name(dequantize, f"{name}_dequantized", inputs[0].shape, ir.DataType.FLOAT)
        self._graph.insert_before(node, dequantize)
        node.replace_input_with(position, dequantize.outputs[0])

    def _pair(self, value: ir.Value, name: str, quantization: Quantization) -> tuple[ir.Node, ir.Node]:
        scale = self._initializer(f"{name}_scale", np.array(quantization.scale, np.float32))
        zero_point = self._initializer(f"{name}_zero_point", np.array(quantization.zero_point, np.int8))
        quantize = ir.node("QuantizeLinear", [value, scale, zero_point])
        self._name(quantize, f"{name}_quantized", value.shape, ir.DataType.INT8)
        dequantize = ir.node("DequantizeLinear", [quantize.outputs[0], scale, zero_point])
        self._name(dequantize, f"{name}_dequantized", value.shape, ir.DataType.FLOAT)
        return quantize, dequantize

    def _name(self, node: ir.Node, name: str, shape: ir.Shape | None, dtype: ir.DataType) -> None:
        node.name = self._unique(name)
        output = node.outputs[0]
        output.name, output.shape, output.dtype = node.name, shape, dtype

    def _initializer(self, name: str, data: np.ndarray) -> ir.Value:
        unique = self._unique(name)
        tensor = ir.tensor(data, name=unique)
        value = ir.Value(
            name=unique, shape=ir.Shape(data.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        self._graph.register_initializer(value)
        return value

    def _unique(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name


def _all_values(graph: ir.Graph) -> Iterable[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs
