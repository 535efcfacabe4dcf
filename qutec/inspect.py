"""What a network costs, before anything is compiled: layers, parameters, MACs, exits, memory bound."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import onnx
import onnx_ir as ir

from qutec.errors import ModelError
from qutec.ingest.operators import UnsupportedNode, UnsupportedOperatorsError
from qutec.ingest.source import ModelSource, read_source
from qutec.ingest.validity import check_structure, first_line
from qutec.load import load

__all__ = ["Exit", "Inspection", "Layer", "Value", "format_inspection", "inspect_model"]

SCHEMA_VERSION = 1

_NAME_WIDTH = 48

_QUANTIZATION_OPS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_TRANSPARENT_OPS = _QUANTIZATION_OPS | {
    "Cast",
    "Dropout",
    "Flatten",
    "Identity",
    "Reshape",
    "Sigmoid",
    "Squeeze",
}
_WINDOW_OPS = frozenset(
    {"Conv", "Gemm", "MatMul", "AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean"}
)
"""Operators whose output cannot take the place of their input as it is computed element by element."""

_PARAMETER_TYPES = frozenset(
    {
        ir.DataType.FLOAT,
        ir.DataType.FLOAT16,
        ir.DataType.BFLOAT16,
        ir.DataType.DOUBLE,
        ir.DataType.INT8,
        ir.DataType.UINT8,
        ir.DataType.INT32,
    }
)
_BOUND_OPERANDS = frozenset({"Clip", "Pad"})


@dataclass(frozen=True)
class Value:
    """An input or output: ONNX shape (None where a dimension is unknown) and element type."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str


@dataclass(frozen=True)
class Exit:
    """An output that classifies: MACs of everything it depends on, and its number of classes."""

    name: str
    depth_macs: int
    classes: int


@dataclass(frozen=True)
class Layer:
    """A node that computes; its parameters are the constants it reads, also through DequantizeLinear."""

    name: str
    op: str
    output_shape: tuple[int | None, ...] | None
    parameters: int
    macs: int


@dataclass(frozen=True)
class Inspection:
    """The figures of one network, for batch 1.

    `arena_lower_bound_bytes` is a cheap bound for int8 without overlap of a layer's input and output and
    without streaming by rows: the largest, over all layers, of the bytes of input and output together
    (the larger of both where the output may be written over the input). One byte an element. What has to
    stay for later layers is not counted, so the planner's bound is higher in general.

    With `unsupported` operators the figures are those of the nodes that are understood; see `warnings`.
    """

    name: str
    sha256: str
    opset: int
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    exits: tuple[Exit, ...]
    layers: tuple[Layer, ...]
    parameters: int
    macs: int
    unsupported: tuple[str, ...]
    unsupported_nodes: tuple[UnsupportedNode, ...]
    arena_lower_bound_bytes: int
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The object that `qutec inspect --json` prints; every value is a plain JSON type."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def inspect_model(source: ModelSource) -> Inspection:
    """Inspect a network as it was written (batch norms not folded, nothing simplified).

    Operators that cannot be compiled are reported, not raised.

    Raises:
        UsageError: the file is missing or cannot be read.
        ModelError: as `qutec.load.load`, but for unsupported operators.
    """
    read = read_source(source)
    opset = max((o.version for o in read.model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    unsupported: tuple[UnsupportedNode, ...] = ()
    warnings: tuple[str, ...]
    try:
        loaded = load(source, simplify=False)
        model, warnings = loaded.model, loaded.warnings
    except UnsupportedOperatorsError as error:
        unsupported = error.nodes
        model = _partial_model(read.model)
        warnings = ("unsupported operators: MACs, parameters and memory are those of the known nodes only",)
    graph = model.graph
    macs = {node: _node_macs(node) for node in graph}
    compute = [node for node in graph if not _is_plumbing(node)]
    return Inspection(
        name=read.name,
        sha256=read.sha256,
        opset=opset,
        inputs=tuple(_describe(value) for value in graph.inputs if value.const_value is None),
        outputs=tuple(_describe(value) for value in graph.outputs),
        exits=tuple(_exits(graph, macs)),
        layers=tuple(_layer(node, macs[node]) for node in compute),
        parameters=sum(
            _size(value) for value in _distinct(v for node in graph for v in _own_parameters(node))
        ),
        macs=sum(macs.values()),
        unsupported=tuple(sorted({node.op_type for node in unsupported})),
        unsupported_nodes=unsupported,
        arena_lower_bound_bytes=max(map(_live_bytes, compute), default=0),
        warnings=warnings,
    )


def format_inspection(inspection: Inspection) -> str:
    """The inspection as text for a terminal, without a final newline."""
    lines = [f"{inspection.name}  (opset {inspection.opset}, sha256 {inspection.sha256[:12]})", ""]
    lines += [f"input   {_signature(value)}" for value in inspection.inputs]
    lines += [f"output  {_signature(value)}" for value in inspection.outputs]
    if inspection.exits:
        lines.append("")
        width = max(len(item.name) for item in inspection.exits)
        for item in inspection.exits:
            share = 100 * item.depth_macs / inspection.macs if inspection.macs else 0.0
            lines.append(
                f"exit    {item.name:<{width}}  {item.depth_macs:>12,} MACs  ({share:.1f} % of the network)"
                f"  {item.classes} classes"
            )
    lines += ["", *_table(inspection.layers), ""]
    lines += [
        f"parameters         {inspection.parameters:,}",
        f"MACs               {inspection.macs:,}",
        f"arena lower bound  {inspection.arena_lower_bound_bytes:,} bytes (int8, layer by layer)",
    ]
    if inspection.unsupported_nodes:
        lines += ["", str(UnsupportedOperatorsError(inspection.unsupported_nodes))]
    lines += [f"warning: {text}" for text in inspection.warnings]
    return "\n".join(lines)


def _partial_model(proto: onnx.ModelProto) -> ir.Model:
    """The model as far as shapes can be told when some operators are unknown."""
    check_structure(proto)
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for value in copy.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = 1
    try:
        copy = onnx.shape_inference.infer_shapes(copy, data_prop=True)
        return ir.from_proto(copy)
    except Exception as error:  # neither was made for graphs that no checker has seen
        raise ModelError(f"not valid ONNX: {first_line(error)}") from error


def _node_macs(node: ir.Node) -> int:
    """Multiply-accumulates of Conv, Gemm and MatMul, padding counted as work; 0 for all others.

    Conv: output elements x weights per output channel. Gemm, MatMul: output elements x inner dimension.
    """
    if node.domain != "" or node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.inputs) < 2:
        return 0
    left, right = node.inputs[0], node.inputs[1]
    if left is None or right is None:
        return 0
    output, weights, data = _shape(node.outputs[0]), _shape(right), _shape(left)
    if node.op_type == "Conv":
        return _product(output) * _product(weights[1:] if weights is not None else None)
    if data is None or not data:
        return 0
    transposed = node.op_type == "Gemm" and "transA" in node.attributes and node.attributes["transA"].as_int()
    return _product(output) * (data[0 if transposed else -1] or 0)


def _exits(graph: ir.Graph, macs: dict[ir.Node, int]) -> Iterator[Exit]:
    for value in graph.outputs:
        shape = _shape(value)
        if (
            shape is None
            or len(shape) != 2
            or shape[0] != 1
            or not shape[1]
            or not _ends_in_classifier(value)
        ):
            continue
        if _ends_in_classifier(value):
            yield Exit(value.name or "", sum(macs[node] for node in _ancestors(value)), shape[1])


def _ends_in_classifier(value: ir.Value) -> bool:
    """Whether a value is a Softmax or a dense layer, up to operators that keep the order of the classes."""
    node = value.producer()
    while node is not None:
        if node.op_type in ("Softmax", "Gemm", "MatMul"):
            return True
        operands = [item for item in node.inputs if item is not None and not _is_constant(item)]
        is_bias = node.op_type == "Add" and len(operands) == 1
        if not operands or not (is_bias or node.op_type in _TRANSPARENT_OPS):
            return False
        node = operands[0].producer()
    return False


def _ancestors(value: ir.Value) -> set[ir.Node]:
    seen: set[ir.Node] = set()
    pending = [value.producer()]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        pending.extend(item.producer() for item in node.inputs if item is not None)
    return seen


def _layer(node: ir.Node, macs: int) -> Layer:
    parameters = sum(_size(value) for value in _distinct(_parameters(node)))
    return Layer(node.name or "", node.op_type, _shape(node.outputs[0]), parameters, macs)


def _own_parameters(node: ir.Node) -> Iterator[ir.Value]:
    """The weights among the initializers that a node reads itself.

    Scales and zero points, bounds, and integer lists (axes, shapes) are not weights.
    """
    for index, value in enumerate(node.inputs):
        is_option = index > 0 and node.op_type in _QUANTIZATION_OPS | _BOUND_OPERANDS
        if (
            value is not None
            and value.const_value is not None
            and value.dtype in _PARAMETER_TYPES
            and not is_option
        ):
            yield value


def _parameters(node: ir.Node) -> Iterator[ir.Value]:
    yield from _own_parameters(node)
    for value in node.inputs:
        producer = value.producer() if value is not None else None
        if producer is not None and producer.op_type == "DequantizeLinear":
            yield from _own_parameters(producer)


def _live_bytes(node: ir.Node) -> int:
    inputs = _distinct(value for value in node.inputs if value is not None and not _is_constant(value))
    read = sum(_size(value) for value in inputs)
    written = sum(_size(value) for value in node.outputs)
    return read + written if node.op_type in _WINDOW_OPS else max(read, written)


def _is_constant(value: ir.Value) -> bool:
    """An initializer, or one behind a DequantizeLinear."""
    producer = value.producer()
    if producer is not None and producer.op_type == "DequantizeLinear" and producer.inputs[0] is not None:
        return producer.inputs[0].const_value is not None
    return value.const_value is not None


def _is_plumbing(node: ir.Node) -> bool:
    return node.op_type in _QUANTIZATION_OPS or node.op_type == "Constant"


def _distinct(values: Iterator[ir.Value]) -> list[ir.Value]:
    return list(dict.fromkeys(values))


def _shape(value: ir.Value) -> tuple[int | None, ...] | None:
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in value.shape)


def _size(value: ir.Value) -> int:
    return _product(_shape(value))


def _product(shape: tuple[int | None, ...] | None) -> int:
    """Elements of a shape; 0 where one is unknown."""
    return 0 if shape is None else math.prod(dim or 0 for dim in shape)


def _describe(value: ir.Value) -> Value:
    return Value(
        value.name or "", _shape(value), value.dtype.name.lower() if value.dtype is not None else "unknown"
    )


def _signature(value: Value) -> str:
    return f"{value.name}  {value.dtype} {_format_shape(value.shape)}"


def _format_shape(shape: tuple[int | None, ...] | None) -> str:
    return "?" if shape is None else "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def _shorten(name: str) -> str:
    """The end of a long name, which is what tells layers of one exporter apart."""
    return name if len(name) <= _NAME_WIDTH else f"...{name[3 - _NAME_WIDTH :]}"


def _table(layers: tuple[Layer, ...]) -> list[str]:
    rows = [("layer", "operator", "output", "parameters", "MACs")]
    rows += [
        (_shorten(x.name), x.op, _format_shape(x.output_shape), f"{x.parameters:,}", f"{x.macs:,}")
        for x in layers
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return [
        f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}  {e:>{widths[4]}}".rstrip()
        for a, b, c, d, e in rows
    ]
