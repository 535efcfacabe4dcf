"""Which operators can be compiled, and which nodes of a model cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from qutec.errors import UnsupportedModelError
from qutec.ingest.walk import describe_node, nodes_below, printable

__all__ = [
    "QUANTIZED_OPS",
    "SUPPORTED_OPS",
    "UnsupportedNode",
    "UnsupportedOperatorsError",
    "find_unsupported",
    "standard_domain",
]

SUPPORTED_OPS: frozenset[str] = frozenset(
    {
        "Abs",
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Celu",
        "Clip",
        "Concat",
        "Constant",
        "Conv",
        "DequantizeLinear",
        "Div",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Flatten",
        "Gelu",
        "Gemm",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "MatMul",
        "Max",
        "MaxPool",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "PRelu",
        "Pad",
        "Pow",
        "QuantizeLinear",
        "ReduceMean",
        "Relu",
        "Reshape",
        "Selu",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Softplus",
        "Softsign",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tanh",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators of the standard domain that the lowering takes (on values that depend on an input)."""

QUANTIZED_OPS: frozenset[tuple[str, str]] = frozenset(
    {("", "QLinearConv"), ("", "QLinearMatMul")}
    | {
        ("com.microsoft", op)
        for op in (
            "DequantizeLinear",
            "QGemm",
            "QLinearAdd",
            "QLinearAveragePool",
            "QLinearConcat",
            "QLinearConv",
            "QLinearGlobalAveragePool",
            "QLinearLeakyRelu",
            "QLinearMul",
            "QLinearSigmoid",
            "QLinearSoftmax",
            "QuantizeLinear",
        )
    }
)
"""(domain, operator) that `QLinearToQdqPass` turns into supported ones."""

_SHAPE_OPS = frozenset({"Shape", "Size"})
_RANDOM_OPS = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


@dataclass(frozen=True)
class UnsupportedNode:
    """A node that cannot be compiled. `op_type` carries its domain where that is not the standard one."""

    op_type: str
    node: str


class UnsupportedOperatorsError(UnsupportedModelError):
    """A model uses operators that cannot be compiled; the text lists each once, with its nodes."""

    def __init__(self, nodes: Sequence[UnsupportedNode]) -> None:
        super().__init__(_list_nodes(nodes))
        self.nodes = tuple(nodes)


def standard_domain(domain: str) -> str:
    """The domain with both spellings of the standard one made the empty string."""
    return "" if domain == "ai.onnx" else domain


def _is_constant_op(node: onnx.NodeProto) -> bool:
    """Whether a node with constant inputs has constant outputs and no subgraph that could refer outside."""
    return node.op_type not in _RANDOM_OPS and not any(True for _ in nodes_below(node))


def find_unsupported(model: onnx.ModelProto, *, folded: bool) -> tuple[UnsupportedNode, ...]:
    """Every node that keeps the model from being compiled, in graph order.

    Nodes that no output needs, and constant arithmetic, do not count. Before constant folding
    (`folded=False`) shapes count as constants, because every shape is static by the time of lowering.
    An operator that no schema or model-local function defines always counts.
    """
    functions = {(standard_domain(f.domain), f.name): f for f in model.functions}
    opsets = {standard_domain(o.domain): o.version for o in model.opset_import}
    live = _live_nodes(model.graph)
    constant = {tensor.name for tensor in model.graph.initializer} | {""}
    found: list[UnsupportedNode] = []
    for index, node in enumerate(model.graph.node):
        key = (standard_domain(node.domain), node.op_type)
        is_shape = key[0] == "" and node.op_type in _SHAPE_OPS and not folded
        if _is_constant_op(node) and (is_shape or all(name in constant for name in node.input)):
            constant.update(node.output)
            runtime = False
        else:
            runtime = True
        if index not in live:
            continue
        if key in functions:
            found.extend(_unsupported_in_function(key, functions, set()))
        elif key in QUANTIZED_OPS and not folded:
            continue
        elif not _is_known(key, opsets) or (runtime and not _is_supported(key)):
            found.append(_describe(node))
    return tuple(found)


def _list_nodes(nodes: Sequence[UnsupportedNode], names_per_op: int = 8) -> str:
    """One line that names each operator once with its nodes."""
    by_op: dict[str, list[str]] = {}
    for node in nodes:
        by_op.setdefault(node.op_type, []).append(node.node)
    parts = []
    for op_type, names in by_op.items():
        more = f" and {len(names) - names_per_op} more" if len(names) > names_per_op else ""
        parts.append(
            f"{op_type} (node{'s' if len(names) > 1 else ''} {', '.join(names[:names_per_op])}{more})"
        )
    return "unsupported operators: " + "; ".join(parts)


def _describe(node: onnx.NodeProto) -> UnsupportedNode:
    domain = standard_domain(node.domain)
    name = f"{domain}.{node.op_type}" if domain else node.op_type
    return UnsupportedNode(printable(name), describe_node(node))


def _is_supported(key: tuple[str, str]) -> bool:
    return key[0] == "" and key[1] in SUPPORTED_OPS


def _is_known(key: tuple[str, str], opsets: dict[str, int]) -> bool:
    domain, op_type = key
    if key in QUANTIZED_OPS:
        return True
    try:
        onnx.defs.get_schema(op_type, min(opsets.get(domain, 1), onnx.defs.onnx_opset_version()), domain)
    except (onnx.defs.SchemaError, RuntimeError, TypeError):
        return False
    return True


def _unsupported_in_function(
    key: tuple[str, str], functions: dict[tuple[str, str], onnx.FunctionProto], visited: set[tuple[str, str]]
) -> list[UnsupportedNode]:
    """Unknown operators in a function body; what is constant in it is known only after inlining."""
    if key in visited:
        return []
    visited.add(key)
    body = functions[key]
    opsets = {standard_domain(o.domain): o.version for o in body.opset_import}
    found: list[UnsupportedNode] = []
    for node in body.node:
        inner = (standard_domain(node.domain), node.op_type)
        if inner in functions:
            found.extend(_unsupported_in_function(inner, functions, visited))
        elif not _is_known(inner, opsets):
            found.append(_describe(node))
    return found


def _live_nodes(graph: onnx.GraphProto) -> set[int]:
    """Indices of the nodes that some output of the graph needs."""
    producer = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    live: set[int] = set()
    pending = [producer[value.name] for value in graph.output if value.name in producer]
    while pending:
        index = pending.pop()
        if index in live:
            continue
        live.add(index)
        node = graph.node[index]
        needed = [*node.input, *(name for inner in nodes_below(node) for name in inner.input)]
        pending.extend(producer[name] for name in needed if name in producer)
    return live
