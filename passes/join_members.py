"""Several networks as one that runs them in turn on the same inputs: the members of a deep ensemble.

    a: x -> ... -> out          x -+-> ... -> out
    b: y -> ... -> out    ->       +-> ... -> member_2/out

Inputs are matched by position; the names of the first member stay, those of the others get a prefix. Nodes
stay in the order of the members, so that a compiler that keeps it holds the activations of one member at a
time. Source of the method: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation
using Deep Ensembles" (2017).
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qutec.errors import UsageError
from qutec.heads import write_heads
from qutec.passes.quantize import is_quantized

__all__ = ["join_members"]


def join_members(models: Sequence[ir.Model]) -> ir.Model:
    """The first model with the nodes, initializers and outputs of the others; all of them are used up.

    Models are as `qutec.load.load` leaves them: no functions, one opset, static shapes. The metadata of heads
    goes, because it describes one trunk.

    Raises:
        UsageError: the members have different inputs, or some are quantised and some are not.
    """
    first, *others = models
    for number, model in enumerate(others, 2):
        _check_alike(first, model, number)
    write_heads(first, [])
    for number, model in enumerate(others, 2):
        _add(first.graph, model.graph, f"member_{number}/")
    return first


def _check_alike(first: ir.Model, other: ir.Model, number: int) -> None:
    wanted, found = _inputs(first), _inputs(other)
    if [(value.shape, value.dtype) for value in wanted] != [(value.shape, value.dtype) for value in found]:
        raise UsageError(
            f"the members of an ensemble read the same inputs: member 1 has {_described(wanted)}, "
            f"member {number} {_described(found)}"
        )
    if is_quantized(first) != is_quantized(other):
        raise UsageError(f"members 1 and {number} of the ensemble: one is quantised, the other is not")


def _inputs(model: ir.Model) -> list[ir.Value]:
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def _described(values: Sequence[ir.Value]) -> str:
    return ", ".join(f"{value.name} {value.dtype} {value.shape}" for value in values)


def _add(graph: ir.Graph, other: ir.Graph, prefix: str) -> None:
    """Move everything of `other` to the end of `graph`."""
    for mine, theirs in zip(graph.inputs, other.inputs, strict=True):
        theirs.replace_all_uses_with(mine)
    constants = list(other.initializers.values())
    other.initializers.clear()
    outputs = list(other.outputs)
    other.outputs.clear()
    nodes = list(other)
    other.remove(nodes)
    for value in (*constants, *(value for node in nodes for value in node.outputs)):
        value.name = f"{prefix}{value.name}"
    for value in constants:
        graph.register_initializer(value)
    for node in nodes:
        node.name = f"{prefix}{node.name}"
    graph.extend(nodes)
    graph.outputs.extend(outputs)
