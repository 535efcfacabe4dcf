"""What a network costs, before anything is compiled: layers, parameters, MACs, exits, memory bound."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import onnx
import onnx_ir as ir

from qutec.errors import ModelError
from qutec.graphs import dims, is_constant, node_macs
from qutec.ingest.operators import UnsupportedNode, UnsupportedOperatorsError
from qutec.ingest.source import ModelSource, read_source
from qutec.ingest.validity import check_structure, first_line
from qutec.load import load
from qutec.passes.find_exits import ExitAnalysis, FoundExit, OutputRole, find_exits

__all__ = ["Exit", "Head", "Inspection", "Layer", "Trunk", "Value", "format_inspection", "inspect_model"]

SCHEMA_VERSION = 1

_NAME_WIDTH = 48

_QUANTIZATION_OPS = frozenset({"QuantizeLinear", "DequantizeLinear"})
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
class Head:
    """What an exit computes besides the trunk: names of nodes; None for what it does not have."""

    nodes: tuple[str, ...]
    learning_layer: str | None
    pool: str | None
    dense: str | None
    softmax: str | None
    macs: int


@dataclass(frozen=True)
class Exit:
    """An output that classifies: MACs of everything it depends on, and its number of classes.

    `branch` is the trunk value where the exit leaves, `branch_macs` what it takes to get there.
    """

    name: str
    depth_macs: int
    classes: int
    kind: str
    branch: str
    branch_macs: int
    inside_block: bool
    head: Head


@dataclass(frozen=True)
class Trunk:
    """The part that leads to the last feature map, `end`; `places` are the values between its blocks."""

    nodes: tuple[str, ...]
    end: str
    macs: int
    places: tuple[str, ...]


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
    """In the order of the trunk, the final one last (see `qutec.passes.find_exits`)."""
    trunk: Trunk | None
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


def inspect_model(source: ModelSource, output_is: Mapping[str, OutputRole] | None = None) -> Inspection:
    """Inspect a network as it was written (batch norms not folded, nothing simplified).

    Operators that cannot be compiled are reported, not raised. What is not certain about the exits is
    among the warnings; `output_is` settles it (output name -> exit or aux).

    Raises:
        UsageError: the file is missing or cannot be read, or `output_is` names no output.
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
    macs = {node: node_macs(node) for node in graph}
    analysis = find_exits(model, output_is)
    compute = [node for node in graph if not _is_plumbing(node)]
    return Inspection(
        name=read.name,
        sha256=read.sha256,
        opset=opset,
        inputs=tuple(_describe(value) for value in graph.inputs if value.const_value is None),
        outputs=tuple(_describe(value) for value in graph.outputs),
        exits=tuple(_exit(item, macs) for item in analysis.exits),
        trunk=_trunk(analysis, macs),
        layers=tuple(_layer(node, macs[node]) for node in compute),
        parameters=sum(
            _size(value) for value in _distinct(v for node in graph for v in _own_parameters(node))
        ),
        macs=sum(macs.values()),
        unsupported=tuple(sorted({node.op_type for node in unsupported})),
        unsupported_nodes=unsupported,
        arena_lower_bound_bytes=max(map(_live_bytes, compute), default=0),
        warnings=(*warnings, *analysis.messages),
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
                f"  {item.classes} classes  {item.kind.replace('_', ' ')} at {item.branch}"
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


def _exit(found: FoundExit, macs: dict[ir.Node, int]) -> Exit:
    head = found.head
    return Exit(
        name=found.name,
        depth_macs=found.macs,
        classes=found.classes,
        kind=found.kind,
        branch=found.branch.name or "",
        branch_macs=found.branch_macs,
        inside_block=found.inside_block,
        head=Head(
            nodes=tuple(_label(node) for node in head.nodes),
            learning_layer=_label(head.learning) if head.learning is not None else None,
            pool=_label(head.pool) if head.pool is not None else None,
            dense=_label(head.dense) if head.dense is not None else None,
            softmax=_label(head.softmax) if head.softmax is not None else None,
            macs=sum(macs[node] for node in head.nodes),
        ),
    )


def _trunk(analysis: ExitAnalysis, macs: dict[ir.Node, int]) -> Trunk | None:
    if analysis.trunk_end is None:
        return None
    return Trunk(
        nodes=tuple(_label(node) for node in analysis.trunk),
        end=analysis.trunk_end.name or "",
        macs=sum(macs[node] for node in analysis.trunk),
        places=tuple(place.value.name or "" for place in analysis.places if not place.inner),
    )


def _label(node: ir.Node) -> str:
    """A node's name, or that of its first output."""
    return node.name or node.outputs[0].name or node.op_type


def _layer(node: ir.Node, macs: int) -> Layer:
    parameters = sum(_size(value) for value in _distinct(_parameters(node)))
    return Layer(node.name or "", node.op_type, dims(node.outputs[0]), parameters, macs)


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
    inputs = _distinct(value for value in node.inputs if value is not None and not is_constant(value))
    read = sum(_size(value) for value in inputs)
    written = sum(_size(value) for value in node.outputs)
    return read + written if node.op_type in _WINDOW_OPS else max(read, written)


def _is_plumbing(node: ir.Node) -> bool:
    return node.op_type in _QUANTIZATION_OPS or node.op_type == "Constant"


def _distinct(values: Iterator[ir.Value]) -> list[ir.Value]:
    return list(dict.fromkeys(values))


def _size(value: ir.Value) -> int:
    return _product(dims(value))


def _product(shape: tuple[int | None, ...] | None) -> int:
    """Elements of a shape; 0 where one is unknown."""
    return 0 if shape is None else math.prod(dim or 0 for dim in shape)


def _describe(value: ir.Value) -> Value:
    return Value(
        value.name or "", dims(value), value.dtype.name.lower() if value.dtype is not None else "unknown"
    )


def _signature(value: Value) -> str:
    return f"{value.name}  {value.dtype} {_formatdims(value.shape)}"


def _formatdims(shape: tuple[int | None, ...] | None) -> str:
    return "?" if shape is None else "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def _shorten(name: str) -> str:
    """The end of a long name, which is what tells layers of one exporter apart."""
    return name if len(name) <= _NAME_WIDTH else f"...{name[3 - _NAME_WIDTH :]}"


def _table(layers: tuple[Layer, ...]) -> list[str]:
    rows = [("layer", "operator", "output", "parameters", "MACs")]
    rows += [
        (_shorten(x.name), x.op, _formatdims(x.output_shape), f"{x.parameters:,}", f"{x.macs:,}")
        for x in layers
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return [
        f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}  {e:>{widths[4]}}".rstrip()
        for a, b, c, d, e in rows
    ]
