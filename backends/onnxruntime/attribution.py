"""Which part of the network a node of the graph that ONNX Runtime runs belongs to.

ONNX Runtime fuses and renames nodes, so what an exit needs is read off the graph that it made, not off the
model that it was given. Nodes that several exits need are the trunk; what comes out of a result function
(prefix of `qutec.backends.onnxruntime.plain_model`) is the uncertainty, and everything behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

__all__ = ["Attribution", "attribute_nodes", "attribute_stages"]

_TRUNK = "trunk"
_HEADS = "heads"
_UNCERTAINTY = "uncertainty"
_VIEWS = "qute_head/"
_MEAN = "uncertainty/"


@dataclass(frozen=True)
class Attribution:
    """Names of nodes by part, and by exit."""

    sections: Mapping[str, str]
    """Section of each node."""
    needed: Mapping[str, frozenset[str]]
    """Exit -> the nodes that it needs."""

    def own(self, name: str) -> frozenset[str]:
        """The nodes that no other exit needs."""
        others = [nodes for other, nodes in self.needed.items() if other != name]
        return self.needed[name].difference(*others)


def attribute_nodes(optimized: onnx.ModelProto, exits: Sequence[str]) -> Attribution:
    """Parts of a model that runs to its end.

    Args:
        optimized: as ONNX Runtime wrote it, with the names of the trace.
        exits: the exits, by depth: outputs of the model, or the heads that are merged into one answer.
    """
    graph = optimized.graph
    producers = {name: node for node in graph.node for name in node.output if name}
    merged = _merged_values(graph, len(exits))
    outputs = {value.name for value in graph.output}
    ends = (
        dict(zip(exits, merged, strict=True)) if merged else {name: name for name in exits if name in outputs}
    )
    needed = {name: frozenset(_ancestors(producers, [end])) for name, end in ends.items()}
    tagged = _behind(graph, [node for node in graph.node if _is_tagged(node)])
    sections = {}
    for node in graph.node:
        users = [name for name, nodes in needed.items() if node.name in nodes]
        if node.name in tagged and not users:
            sections[node.name] = _UNCERTAINTY if merged or _is_after_softmax(graph, node, tagged) else _HEADS
        elif len(needed) > 1 and len(users) == 1:
            sections[node.name] = f"only {users[0]}"
        else:
            sections[node.name] = _TRUNK if len(needed) > 1 or tagged else "network"
    return Attribution(sections, needed)


def attribute_stages(optimized: onnx.ModelProto) -> Attribution:
    """Parts of a model with nested Ifs: how many of them a node is in."""
    sections = {}
    for depth, node in _nested(optimized.graph, 0):
        answer = depth == 0 and node.name.startswith("exit_answer/")
        sections[node.name] = "answer" if answer else f"stage {depth + 1}"
    return Attribution(sections, {})


def _nested(graph: onnx.GraphProto, depth: int) -> Iterator[tuple[int, onnx.NodeProto]]:
    for node in graph.node:
        yield depth, node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                inside = depth + 1 if attribute.name == "else_branch" else depth
                yield from _nested(attribute.g, inside)


def _is_tagged(node: onnx.NodeProto) -> bool:
    names = (node.name, *node.output)
    return any(prefix in name for name in names for prefix in (_VIEWS, _MEAN))


def _merged_values(graph: onnx.GraphProto, count: int) -> list[str]:
    """The logits of the heads that a mean is made of, in order; empty where there is no such mean."""
    for node in graph.node:
        if node.op_type == "Concat" and _is_tagged(node) and len(node.input) == count:
            return list(node.input)
    return []


def _ancestors(producers: Mapping[str, onnx.NodeProto], values: Sequence[str]) -> set[str]:
    found: set[str] = set()
    pending, seen = list(values), set[str]()
    while pending:
        name = pending.pop()
        node = producers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        found.add(node.name)
        pending.extend(node.input)
    return found


def _behind(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """Names of the nodes, and of all that read what they give; the graph is in topological order."""
    found = {node.name for node in nodes}
    values = {name for node in nodes for name in node.output}
    for node in graph.node:
        if node.name in found or any(name in values for name in node.input):
            found.add(node.name)
            values.update(node.output)
    return found


def _is_after_softmax(graph: onnx.GraphProto, node: onnx.NodeProto, tagged: set[str]) -> bool:
    """Whether a node of merged heads is behind their logits."""
    soft = [item for item in graph.node if item.op_type == "Softmax" and item.name in tagged]
    return node.name in _behind(graph, soft[:1])
