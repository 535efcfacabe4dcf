"""What a graph that is trained consists of: its classifiers, its trunk and the pairs of weight transfer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from qutec.errors import ModelError, UnsupportedModelError
from qutec.heads import Head, HeadKind, read_heads
from qutec.train.weights import constant_tensor

__all__ = ["Classifier", "Shapes", "Structure", "find_structure"]

Shapes = Mapping[ir.Value, tuple[int, ...]]

_MAC_OPS = frozenset({"Conv", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Classifier:
    """An output that is trained.

    `logits` is the value before the final Softmax, which the loss is computed on. `depth` is the share of the
    trunk's MACs before the output's branch point, 0..1 (of all MACs without early views).
    """

    output: str
    kind: HeadKind | None
    index: int
    logits: str
    depth: float


@dataclass(frozen=True)
class Structure:
    """The classifiers in their order, and what the training needs to know about them.

    `predicting` are the outputs whose mean is the prediction: the early views, else the deepest classifier.
    `trunk` are the nodes that two or more classifiers share; `finished` those of outputs alone that the network
    had before early views were attached: the final one, and early exits without an early view.
    `transfers` are pairs of initializers, from early exit to early view.
    """

    classifiers: tuple[Classifier, ...]
    predicting: tuple[str, ...]
    trunk: frozenset[ir.Node]
    finished: frozenset[ir.Node]
    transfers: tuple[tuple[str, str], ...]

    @property
    def is_qute(self) -> bool:
        """Whether there are early views, which are trained as the paper has it."""
        return any(classifier.kind == "early_view" for classifier in self.classifiers)


def find_structure(model: ir.Model, shapes: Shapes) -> Structure:
    """Read the heads of a training graph, or find the classifiers of a plain one.

    Without metadata, classifiers are the outputs that end in Softmax or LogSoftmax; where none does, all
    outputs are taken as logits. `shapes` are those of the computed values for one sample.

    Raises:
        ModelError: the metadata contradict the graph.
        UnsupportedModelError: no output can be trained.
    """
    heads = read_heads(model)
    if not heads:
        heads = _plain_heads(model.graph, shapes)
    outputs = {value.name: value for value in model.graph.outputs}
    needed = {head.output: _ancestors([outputs[head.output]]) for head in heads}
    shared = frozenset(
        node for node in model.graph if sum(node in nodes for nodes in needed.values()) > 1
    )
    is_qute = any(head.kind == "early_view" for head in heads)
    macs = {node: _macs(node, shapes) for node in model.graph}
    reference = shared if is_qute else frozenset[ir.Node]().union(*needed.values())
    total = sum(macs[node] for node in reference)
    has_kinds = read_heads(model) != ()
    classifiers = tuple(
        Classifier(
            head.output,
            head.kind if has_kinds else None,
            head.index,
            _logits(outputs[head.output]),
            sum(macs[node] for node in needed[head.output] & reference) / total if total else 1.0,
        )
        for head in heads
    )
    viewed = {head.index for head in heads if head.kind == "early_view"}
    finished = frozenset[ir.Node]().union(*(needed[head.output] for head in heads if head.index not in viewed))
    return Structure(
        classifiers,
        _predicting(classifiers),
        shared,
        finished - shared if is_qute else frozenset(),
        _transfers(model.graph, heads),
    )


def _plain_heads(graph: ir.Graph, shapes: Shapes) -> tuple[Head, ...]:
    ending = [value for value in graph.outputs if _softmax(value) is not None]
    found = ending or [value for value in graph.outputs if len(_row(shapes.get(value, ()))) == 1]
    if not found:
        raise UnsupportedModelError("no output of the graph is a classifier: none gives one row of numbers a sample")
    return tuple(Head(str(value.name), "final", 0) for value in found)


def _row(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of one sample that are longer than 1."""
    return tuple(length for length in shape[1:] if length > 1)


def _softmax(value: ir.Value) -> ir.Node | None:
    """The Softmax or LogSoftmax that an output ends in."""
    node = value.producer()
    while node is not None and node.op_type == "Identity":
        source = node.inputs[0]
        node = None if source is None else source.producer()
    return node if node is not None and node.op_type in ("Softmax", "LogSoftmax") else None


def _logits(value: ir.Value) -> str:
    node = _softmax(value)
    source = value if node is None else node.inputs[0]
    assert source is not None
    return str(source.name)


def _predicting(classifiers: tuple[Classifier, ...]) -> tuple[str, ...]:
    views = tuple(c.output for c in classifiers if c.kind == "early_view")
    if views:
        return views
    finals = [c for c in classifiers if c.kind in ("final", None)] or list(classifiers)
    return (max(finals, key=lambda c: c.depth).output,)


def _transfers(graph: ir.Graph, heads: Iterable[Head]) -> tuple[tuple[str, str], ...]:
    exits = {head.index: head for head in heads if head.kind == "early_exit"}
    pairs: list[tuple[str, str]] = []
    for view in heads:
        source = exits.get(view.index)
        if view.kind != "early_view" or source is None:
            continue
        for theta, phi, what in (
            (source.depthwise_weights, view.depthwise_weights, "weights"),
            (source.depthwise_bias, view.depthwise_bias, "bias"),
        ):
            if (theta is None) != (phi is None):
                raise ModelError(f"only one of {source.output!r} and {view.output!r} names its depthwise {what}")
            if theta is not None and phi is not None:
                _check_pair(graph, theta, phi)
                pairs.append((theta, phi))
    return tuple(pairs)


def _check_pair(graph: ir.Graph, theta: str, phi: str) -> None:
    shapes = []
    for name in (theta, phi):
        value = graph.initializers.get(name)
        if value is None or value.const_value is None:
            raise ModelError(f"the heads name the initializer {name!r}, which the graph lacks")
        shapes.append(tuple(value.const_value.shape))
    if shapes[0] != shapes[1]:
        raise ModelError(f"{theta!r} {list(shapes[0])} and {phi!r} {list(shapes[1])} are a pair of unequal shapes")


def _ancestors(values: Iterable[ir.Value]) -> frozenset[ir.Node]:
    waiting, found = list(values), set[ir.Node]()
    while waiting:
        node = waiting.pop().producer()
        if node is not None and node not in found:
            found.add(node)
            waiting.extend(value for value in node.inputs if value is not None)
    return frozenset(found)


def _macs(node: ir.Node, shapes: Shapes) -> int:
    """Multiply-accumulates of a node for one sample: each output costs the weights that enter it."""
    if node.op_type not in _MAC_OPS or len(node.inputs) < 2:
        return 0
    operands = [_shape(value, shapes) for value in node.inputs[:2]]
    results = math.prod(shapes.get(node.outputs[0], (0,)))
    if node.op_type == "Conv":
        return results * math.prod(operands[1][1:])
    transposed = node.op_type == "Gemm" and node.attributes.get_int("transB", 0)
    if len(operands[1]) < 2:
        return results * math.prod(operands[1])
    return results * operands[1][-1 if transposed else -2]


def _shape(value: ir.Value | None, shapes: Shapes) -> tuple[int, ...]:
    if value is None:
        return ()
    tensor = constant_tensor(value)
    if tensor is not None:
        return tuple(int(length) for length in tensor.shape)
    return shapes.get(value, ())
