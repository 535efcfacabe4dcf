"""Which early exits lead a pair of early exit and early view: exits that are there, and new ones.

An exit of the network is usable when its head has a depthwise layer of its own, not dilated, with no more
channels than the last feature map. It takes the equally spaced position that is nearest; new exits go
to the positions that are left, or all pairs go to where they are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from qutec.errors import UsageError
from qutec.graphs import ancestors, dims, macs_of
from qutec.passes.find_exits import ExitAnalysis, FoundExit
from qutec.passes.spaced_exits import assign, spaced_targets, spread
from qutec.passes.trunk import DataFlow

__all__ = ["DEFAULT_HEADS", "Pair", "named_pairs", "spaced_pairs"]

DEFAULT_HEADS = 2
"""Pairs when neither their number nor their places are given."""


@dataclass(frozen=True)
class Pair:
    """The early exit of a pair: new, at a map of the trunk, or one that the network has."""

    branch: ir.Value
    macs: int
    """MACs of everything that `branch` depends on."""
    existing: FoundExit | None = None


def spaced_pairs(
    analysis: ExitAnalysis, exits: Sequence[FoundExit], count: int | None, messages: list[str]
) -> list[Pair]:
    """`count` pairs in the order of the trunk; without a count 2, or all usable exits where they are more.

    What the user should know about the places is appended to `messages`.
    """
    usable = [item for item in exits if _is_usable(item, analysis)]
    count = count or max(DEFAULT_HEADS, len(usable))
    targets = spaced_targets(analysis.places[-1].macs, count)
    if len(usable) > count:
        usable = [usable[index] for index in assign(targets, [item.branch_macs for item in usable])]
    met = assign([item.branch_macs for item in usable], targets)
    open_targets = [target for index, target in enumerate(targets) if index not in met]
    pairs = [Pair(item.branch, item.branch_macs, item) for item in usable]
    if open_targets:
        places, message = spread(analysis.places, open_targets, {item.branch for item in usable})
        pairs += [Pair(place.value, place.macs) for place in places]
        if message:
            messages.append(message)
    return sorted(pairs, key=lambda pair: pair.macs)


def named_pairs(
    model: ir.Model, analysis: ExitAnalysis, exits: Sequence[FoundExit], names: Sequence[str]
) -> list[Pair]:
    """One pair for each name, in the order of the trunk.

    A name is that of a trunk value, of the node that makes it, or of the output of a usable exit.

    Raises:
        UsageError: the name is not known, or not a feature map of the trunk, or an exit is not usable or
            named twice.
    """
    flow = DataFlow(model.graph)
    pairs = [_named(flow, model.graph, analysis, exits, name) for name in names]
    reused = [pair.existing.name for pair in pairs if pair.existing is not None]
    if len(reused) > len(set(reused)):
        raise UsageError(f"exit {max(reused, key=reused.count)!r} is named twice; it can lead one pair only")
    return sorted(pairs, key=lambda pair: pair.macs)


def _is_usable(item: FoundExit, analysis: ExitAnalysis) -> bool:
    layer, end = item.head.learning, analysis.trunk_end
    if item.kind != "early_exit" or layer is None or end is None:
        return False
    weights, bias = layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else None
    if weights is None or not _is_private(weights) or (bias is not None and not _is_private(bias)):
        return False
    shape, output, last = dims(weights), dims(layer.outputs[0]), dims(end)
    if shape is None or output is None or last is None or len(shape) != len(last):
        return False
    channels = shape[0] or 0
    is_depthwise = (
        layer.attributes.get_int("group", 1) == channels and shape[1] == 1 and output[1] == channels
    )
    is_dilated = any(step != 1 for step in layer.attributes.get_ints("dilations", []))
    return is_depthwise and not is_dilated and 0 < channels <= (last[1] or 0)


def _is_private(value: ir.Value) -> bool:
    """An initializer with one reader: changing it changes nothing else."""
    return value.is_initializer() and len(value.uses()) == 1


def _named(
    flow: DataFlow, graph: ir.Graph, analysis: ExitAnalysis, exits: Sequence[FoundExit], name: str
) -> Pair:
    for item in exits:
        if item.name == name:
            if not _is_usable(item, analysis):
                raise UsageError(f"exit {name!r} has no depthwise layer that an early view can share")
            return Pair(item.branch, item.branch_macs, item)
    for node in graph:
        value = next((value for value in node.outputs if name and name in (value.name, node.name)), None)
        if value is not None and node in analysis.trunk and flow.is_map(value):
            return Pair(value, macs_of(ancestors([value])))
    known = ", ".join(repr(place.value.name) for place in analysis.places[:-1] or analysis.places)
    raise UsageError(f"{name!r} is not a feature map of the trunk; between its layers there are {known}")
