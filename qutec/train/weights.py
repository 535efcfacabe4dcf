"""Which constants of a graph are trained, and which are running statistics.

Trained are kernels and biases (Conv, Gemm, MatMul), scale and bias of BatchNormalization, slopes of PRelu,
and constants of more than one element that are added to, subtracted from or multiplied with data that
already went through a trained layer: before the first one they are preprocessing, and scalars are parts of
activation functions. A weight may reach its layer through Transpose, Reshape and the like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

__all__ = ["Weights", "constant_tensor", "find_weights", "give_own_copies", "merge_copies"]

_LAYOUT_OPS = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_TRAINED_INPUTS = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
}
_STATISTIC_INPUTS = (3, 4)
_AFFINE_OPS = frozenset({"Add", "Mul", "Sub"})


@dataclass(frozen=True)
class Weights:
    """The weights of a graph by role, in the order in which the graph uses them.

    Each value maps to the nodes of the layers that use it.
    """

    trained: dict[ir.Value, tuple[ir.Node, ...]]
    statistics: dict[ir.Value, tuple[ir.Node, ...]]


def constant_tensor(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor of an initializer or of a Constant node's output; None for everything else.

    An initializer that is also a graph input counts: it is the default that training starts from.
    """
    if value.is_initializer():
        return value.const_value
    node = value.producer()
    if node is None or node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    attributes = node.attributes
    if "value" in attributes:
        return attributes["value"].as_tensor()
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32)):
        if name in attributes:
            return ir.tensor(np.asarray(attributes[name].value, dtype))
    for name in ("value_int", "value_ints"):
        if name in attributes:
            return ir.tensor(np.asarray(attributes[name].value, np.int64))
    return None


def find_weights(graph: ir.Graph) -> Weights:
    """The trained constants and running statistics of the nodes that an output needs."""
    trained: dict[ir.Value, list[ir.Node]] = {}
    statistics: dict[ir.Value, list[ir.Node]] = {}
    learned: set[ir.Value] = set()  # what depends on a trained weight
    for node in graph:
        for index in _TRAINED_INPUTS.get(node.op_type, ()):
            _note(trained, node, index)
        if node.op_type == "BatchNormalization":
            for index in _STATISTIC_INPUTS:
                _note(statistics, node, index)
        elif node.op_type in _AFFINE_OPS:
            for index, other in ((0, 1), (1, 0)):
                source = _source(node.inputs[index])
                if source is not None and _size(source) > 1 and node.inputs[other] in learned:
                    _note(trained, node, index)
        if any(value in learned or _source(value) in trained for value in node.inputs if value is not None):
            learned.update(node.outputs)
    return Weights(
        {value: tuple(nodes) for value, nodes in trained.items()},
        {value: tuple(nodes) for value, nodes in statistics.items()},
    )


def give_own_copies(model: ir.Model, kept: frozenset[str]) -> dict[str, str]:
    """Undo the sharing of equal constants that exporters do; name of each copy -> name of what it copies.

    A fresh network has many tensors of zeros and ones, and an exporter that stores equal tensors once would
    tie biases, scales and running statistics of different layers together for good. Every use of a shared
    statistic, and of a shared vector of equal elements, gets a copy of its own. Weights that are shared on
    purpose differ in their elements, so they stay shared; so do the initializers named in `kept`.
    """
    graph = model.graph
    weights = find_weights(graph)
    copies: dict[str, str] = {}
    for value in {**weights.trained, **weights.statistics}:
        uses = list(value.uses())
        if len(uses) < 2 or not value.is_initializer() or value.name in kept or value.is_graph_output():
            continue
        if value not in weights.statistics and not _is_uniform_vector(value):
            continue
        for use in uses[1:]:
            tensor = value.const_value
            assert tensor is not None
            name = _free_name(graph, f"{value.name}_{use.node.outputs[0].name}")
            own = ir.Value(
                name=name,
                shape=value.shape,
                type=value.type,
                const_value=ir.tensor(tensor.numpy(), name=name),
            )
            graph.register_initializer(own)
            use.node.replace_input_with(use.idx, own)
            copies[name] = str(value.name)
    return copies


def merge_copies(model: ir.Model, copies: Mapping[str, str]) -> None:
    """Share again what `give_own_copies` copied and training left equal, such as in a frozen trunk."""
    initializers = model.graph.initializers
    for name, original in copies.items():
        copy, value = initializers[name], initializers[original]
        assert copy.const_value is not None
        assert value.const_value is not None
        if copy.const_value.tobytes() == value.const_value.tobytes():
            copy.replace_all_uses_with(value)
            del initializers[name]


def _note(found: dict[ir.Value, list[ir.Node]], node: ir.Node, index: int) -> None:
    source = _source(node.inputs[index]) if index < len(node.inputs) else None
    if source is not None:
        found.setdefault(source, []).append(node)


def _source(value: ir.Value | None) -> ir.Value | None:
    """The constant of floats that a value is, or that reaches it through layout operators only."""
    while value is not None:
        tensor = constant_tensor(value)
        if tensor is not None:
            return value if tensor.dtype.is_floating_point() else None
        node = value.producer()
        if node is None or node.op_type not in _LAYOUT_OPS:
            return None
        value = node.inputs[0]
    return None


def _size(value: ir.Value) -> int:
    tensor = constant_tensor(value)
    return 0 if tensor is None else tensor.size


def _is_uniform_vector(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or len(tensor.shape) != 1:
        return False
    array = tensor.numpy()
    return bool((array == array[0]).all())


def _free_name(graph: ir.Graph, wanted: str) -> str:
    taken = {value.name for node in graph for value in node.outputs}
    taken.update(value.name for value in graph.inputs)
    taken.update(graph.initializers)
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name
