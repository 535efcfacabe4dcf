"""Which outputs classify, and where each leaves the trunk.

    x -> [trunk ... a ... b ... end] -> pool -> dense -> softmax -> final
                    |     +-> pool -> dense -> softmax -> exit 2
                    +-> conv -> pool -> dense -> softmax -> exit 1

The trunk is everything that its last feature map (`end`) needs, and that map is the last one which every
path to the final exit passes. The branch point of an exit is the deepest trunk value that its head, all
nodes besides the trunk, reads.

The final exit is the one with the most convolutions of feature maps on its longest path; dense layers after
the pool do not count, so that a large head on an early branch does not look like a trunk. Exits are in the
order of the MACs of their branch points, so a costly head does not make an early exit a late one
(BranchyNet's early exits can cost more than the final one).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import onnx_ir as ir

from qutec.errors import UsageError
from qutec.graphs import ancestors, macs_of
from qutec.heads import Head, HeadKind, read_heads
from qutec.passes.classifiers import Ending, class_count, ending
from qutec.passes.trunk import DataFlow, Place

__all__ = ["ExitAnalysis", "ExitHead", "FoundExit", "OutputRole", "find_exits"]

OutputRole: TypeAlias = Literal["exit", "aux"]

_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMean"})
_SHARED_MAP_HEADS = 3
"""So many exits on one map with at most one convolution each are heads side by side, not a trunk."""


@dataclass(frozen=True)
class ExitHead:
    """What an exit computes besides the trunk, in graph order; nodes can be part of several heads."""

    nodes: tuple[ir.Node, ...]
    learning: ir.Node | None
    """The last convolution of a feature map: the depthwise layer of T-RecX and QUTE; None without one."""
    pool: ir.Node | None
    dense: ir.Node | None
    softmax: ir.Node | None
    """None where the output is logits."""


@dataclass(frozen=True)
class FoundExit:
    """A classifier output: its role, its cost, and where it leaves the trunk."""

    output: ir.Value
    kind: HeadKind
    classes: int
    macs: int
    """MACs of everything that the output depends on, its head included."""
    branch: ir.Value
    """The deepest trunk value that the head reads; an input of the graph where it shares nothing."""
    branch_macs: int
    """MACs of everything that `branch` depends on."""
    inside_block: bool
    """Whether the branch point lies on only some of the paths through the trunk (a residual branch)."""
    head: ExitHead
    sigmoid: bool
    """Whether a sigmoid follows the dense layer: classes that do not exclude each other."""

    @property
    def name(self) -> str:
        """Name of the output."""
        return self.output.name or ""


@dataclass(frozen=True)
class ExitAnalysis:
    """The exits by depth, the final one last; the trunk; and what could be understood in two ways."""

    exits: tuple[FoundExit, ...]
    auxiliary: tuple[ir.Value, ...]
    """Outputs that are no exits, in graph order."""
    trunk: tuple[ir.Node, ...]
    trunk_end: ir.Value | None
    """The last feature map; in a network without one, the input of the last dense layer."""
    places: tuple[Place, ...]
    """Feature maps between the layers of the trunk, `trunk_end` last; empty without feature maps."""
    messages: tuple[str, ...]

    @property
    def final(self) -> FoundExit | None:
        """The exit at the end of the trunk."""
        return self.exits[-1] if self.exits else None


@dataclass(frozen=True)
class _Candidate:
    value: ir.Value
    classes: int
    ending: Ending
    forced: bool = False
    head: Head | None = None

    @property
    def name(self) -> str:
        return self.value.name or ""


def find_exits(model: ir.Model, overrides: Mapping[str, OutputRole] | None = None) -> ExitAnalysis:
    """Analyse the outputs of a model whose values have shapes; the model is not changed.

    Metadata of `qutec.heads`, where there is any, says which outputs are exits and of what kind.

    Args:
        model: batch 1 or a symbolic batch, nodes in topological order.
        overrides: output name -> exit or aux, for what the analysis cannot know.

    Raises:
        UsageError: an override names no output, or calls an output an exit that has no class dimension.
        ModelError: the metadata is garbled.
    """
    messages: list[str] = []
    flow = DataFlow(model.graph)
    candidates = _candidates(model, overrides or {}, messages)
    if not candidates:
        return ExitAnalysis((), tuple(model.graph.outputs), (), None, (), tuple(messages))
    ends, last = _last_exits(flow, candidates, messages)
    trunk_end = _trunk_end(flow, ends, last, candidates)
    needed = ancestors([trunk_end])
    trunk = tuple(node for node in model.graph if node in needed)
    places = flow.places(trunk_end) if flow.is_map(trunk_end) else ()
    found = [_exit(flow, item, item is last, needed, trunk_end, messages) for item in candidates]
    found.sort(key=lambda item: (_rank(item), item.branch_macs, flow.depth(item.branch), item.macs))
    _report_costs(found, messages)
    exits = {item.output for item in found}
    auxiliary = tuple(value for value in model.graph.outputs if value not in exits)
    return ExitAnalysis(tuple(found), auxiliary, trunk, trunk_end, places, tuple(messages))


def _candidates(
    model: ir.Model, overrides: Mapping[str, OutputRole], messages: list[str]
) -> list[_Candidate]:
    outputs = {value.name or "": value for value in model.graph.outputs}
    unknown = [name for name in overrides if name not in outputs]
    if unknown:
        raise UsageError(f"{unknown[0]!r} is not an output; the outputs are {', '.join(outputs)}")
    heads = {head.output: head for head in read_heads(model)}
    found: list[_Candidate] = []
    unsure: list[_Candidate] = []
    for name, value in outputs.items():
        role, head = overrides.get(name), heads.get(name)
        classes, end = class_count(value), ending(value)
        if role == "aux" or (role is None and heads and head is None):
            continue
        if classes is None:
            if role == "exit":
                raise UsageError(
                    f"output {name!r} {value.shape} has no class dimension: it cannot be an exit"
                )
            continue
        candidate = _Candidate(value, classes, end, role == "exit" or head is not None, head)
        (found if candidate.forced or end.kind in ("softmax", "dense") else unsure).append(candidate)
    found = _without_taps(found, messages)
    sizes = {item.classes for item in found}
    for item in unsure:
        if item.ending.kind == "pooled" and (item.classes in sizes or not (found or len(unsure) > 1)):
            messages.append(
                f"output {item.name!r} is the pool of a convolution: taken for an exit"
                f" (--output-is {item.name}=aux if it is features)"
            )
            found.append(item)
        elif item.classes in sizes or not found:
            messages.append(
                f"output {item.name!r} does not end in softmax or a dense layer: taken for auxiliary"
                f" (--output-is {item.name}=exit if it classifies)"
            )
    if len({item.classes for item in found}) > 1:
        counts = ", ".join(f"{item.name!r} {item.classes}" for item in found)
        messages.append(
            f"the exits have different numbers of classes ({counts}); --output-is sets them right"
        )
    return found


def _without_taps(found: list[_Candidate], messages: list[str]) -> list[_Candidate]:
    """Without outputs that are part of the way to another exit, or the same exit once more."""
    kept = []
    softmaxes = [item for item in found if item.ending.softmax is not None]
    agreed = {item.classes for item in softmaxes}
    for index, item in enumerate(found):
        others = [other for other in found if other is not item]
        twin = next((other for other in others if _same_layer(item, other)), None)
        feeds = next((other for other in others if item.value.producer() in ancestors([other.value])), None)
        if item.forced:
            kept.append(item)
        elif twin is not None and (
            _is_better(twin, item) or (found.index(twin) < index and not _is_better(item, twin))
        ):
            messages.append(f"output {item.name!r} is the exit {twin.name!r} once more: taken for auxiliary")
        elif item.ending.softmax is None and feeds is not None and feeds.classes != item.classes:
            messages.append(
                f"output {item.name!r} has {item.classes} elements and is part of the way to {feeds.name!r}:"
                f" taken for auxiliary (--output-is {item.name}=exit if it classifies)"
            )
        elif (
            item.ending.softmax is None
            and len(softmaxes) > 1
            and len(agreed) == 1
            and item.classes not in agreed
        ):
            messages.append(
                f"output {item.name!r} has {item.classes} elements and no softmax, unlike the others: taken"
                f" for auxiliary (--output-is {item.name}=exit if it classifies)"
            )
        else:
            kept.append(item)
    return kept


def _same_layer(one: _Candidate, other: _Candidate) -> bool:
    return one.ending.dense is not None and one.ending.dense is other.ending.dense


def _is_better(one: _Candidate, other: _Candidate) -> bool:
    """Whether, of two outputs of one layer, `one` is the exit: the one given as such, or probabilities."""
    if one.forced != other.forced:
        return one.forced
    return one.ending.softmax is not None and other.ending.softmax is None


def _last_exits(
    flow: DataFlow, candidates: list[_Candidate], messages: list[str]
) -> tuple[list[_Candidate], _Candidate]:
    """(the exits that sit on the last feature map together, the final one among them)."""
    final = [item for item in candidates if item.head is not None and item.head.kind == "final"]
    views = [item for item in candidates if item.head is not None and item.head.kind == "early_view"]
    if final or views:
        return final + views, (final or views)[-1]
    group = _side_by_side(flow, candidates)
    if group:
        last = min(reversed(group), key=lambda item: flow.depth(item.value))
        names = ", ".join(repr(item.name) for item in group)
        messages.append(f"{names} sit side by side on the last feature map; {last.name!r} is taken for final")
        return group, last

    def weight(item: _Candidate) -> tuple[int, int, int]:
        macs = macs_of(ancestors([item.value]))
        return flow.depth(item.value), macs, candidates.index(item)

    last = max(candidates, key=weight)
    rivals = [
        item.name
        for item in candidates
        if item is not last and flow.depth(item.value) == flow.depth(last.value)
    ]
    if rivals and flow.depth(last.value) > 0:
        names = ", ".join(map(repr, rivals))
        messages.append(f"{names} and {last.name!r} are equally deep; {last.name!r} is taken for final")
    return [last], last


def _side_by_side(flow: DataFlow, candidates: list[_Candidate]) -> list[_Candidate]:
    """Exits on one deepest shared map, each with at most one convolution of its own; empty if too few."""
    deepest: ir.Value | None = None
    for index, one in enumerate(candidates):
        for other in candidates[:index]:
            shared = flow.common_maps([one.value, other.value])
            if shared and (deepest is None or flow.depth(shared[-1]) > flow.depth(deepest)):
                deepest = shared[-1]
    if deepest is None:
        return []
    group = [item for item in candidates if flow.depends(item.value, deepest)]
    own = [flow.depth(item.value) - flow.depth(deepest) for item in group]
    return group if len(group) >= _SHARED_MAP_HEADS and max(own) <= 1 else []


def _trunk_end(
    flow: DataFlow, ends: list[_Candidate], last: _Candidate, candidates: list[_Candidate]
) -> ir.Value:
    earlier = ancestors([item.value for item in candidates if item not in ends])
    maps = flow.common_maps([value for item in ends for value in _sources(flow, item.value, earlier)])
    classifier = last.ending.dense
    if maps and classifier is not None and len(ends) == 1:
        # Where a convolution makes the classes, its maps are scores, not features.
        scores = classifier.outputs[0]
        maps = [value for value in maps if not flow.depends(value, scores)] or maps
    if maps and len(ends) == 1 and last.head is not None and last.head.kind == "early_view":
        # A lone early view: its own depthwise layer is no part of the trunk.
        maps = [value for value in maps if flow.depth(value) < flow.depth(maps[-1])] or maps
    if maps:
        return maps[-1]
    inputs = flow.data_inputs(classifier) if classifier is not None else []
    return inputs[0] if inputs else last.value


def _sources(flow: DataFlow, output: ir.Value, earlier: set[ir.Node]) -> list[ir.Value]:
    """The feature maps that an output's vectors are made of, without those that earlier exits need too.

    A head that also reads what an earlier exit made (T-RecX's kept exit maps, cascaded logits) would
    otherwise end the trunk at that exit.
    """
    found: list[ir.Value] = []
    pending, seen = [output], set[ir.Value]()
    while pending:
        value = pending.pop()
        producer = value.producer()
        if value in seen or producer is None:
            continue
        seen.add(value)
        if flow.is_map(value):
            found.append(value)
        else:
            pending.extend(flow.data_inputs(producer))
    return [value for value in found if value.producer() not in earlier] or found or [output]


def _exit(
    flow: DataFlow,
    item: _Candidate,
    is_last: bool,
    trunk: set[ir.Node],
    trunk_end: ir.Value,
    messages: list[str],
) -> FoundExit:
    needed = ancestors([item.value])
    private = needed - trunk
    own = tuple(sorted(private, key=flow.position))
    read = (value for node in own for value in flow.data_inputs(node))
    taps = list(dict.fromkeys(value for value in read if value.producer() not in private)) or [item.value]
    branch = max(taps, key=lambda value: (flow.depth(value), macs_of(ancestors([value]))))
    if len(taps) > 1:
        names = ", ".join(repr(value.name) for value in taps)
        messages.append(f"exit {item.name!r} reads {names} of the trunk; {branch.name!r} is its branch point")
    if branch.is_graph_input() and len(trunk) > 0 and not is_last:
        messages.append(f"exit {item.name!r} shares nothing with the trunk")
    kind: HeadKind = item.head.kind if item.head is not None else "final" if is_last else "early_exit"
    inside = branch.producer() in trunk and not flow.dominates(branch, trunk_end)
    return FoundExit(
        item.value,
        kind,
        item.classes,
        macs_of(needed),
        branch,
        macs_of(ancestors([branch])),
        inside,
        _head(flow, own, item.ending, branch),
        item.ending.sigmoid,
    )


def _head(flow: DataFlow, nodes: tuple[ir.Node, ...], end: Ending, branch: ir.Value) -> ExitHead:
    last = end.dense or end.softmax
    before = ancestors(last.outputs) if last is not None else set(nodes)
    convolutions = [
        node
        for node in nodes
        if node.op_type == "Conv" and node in before and node is not end.dense and _reads_map(flow, node)
    ]
    pools = [node for node in nodes if node.op_type in _POOLS]
    direct = [node for node in pools if branch in node.inputs]
    return ExitHead(
        nodes,
        learning=convolutions[-1] if convolutions else None,
        pool=direct[-1] if direct else pools[-1] if pools else None,
        dense=end.dense,
        softmax=end.softmax,
    )


def _reads_map(flow: DataFlow, node: ir.Node) -> bool:
    return any(flow.is_map(value) for value in flow.data_inputs(node))


def _rank(item: FoundExit) -> int:
    return {"early_exit": 0, "early_view": 1, "final": 2}[item.kind]


def _report_costs(exits: list[FoundExit], messages: list[str]) -> None:
    last = exits[-1]
    for item in exits[:-1]:
        if item.macs > last.macs and item.kind == "early_exit":
            messages.append(
                f"exit {item.name!r} has more MACs ({item.macs:,}) than the final one {last.name!r}"
                f" ({last.macs:,}): its head is large, its branch point is not deeper"
            )
