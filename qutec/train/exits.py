"""What a graph that is trained consists of: its classifiers, its trunk and the pairs of weight transfer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from qutec.errors import ModelError, UnsupportedModelError
from qutec.graphs import ancestors, node_macs
from qutec.heads import Head, HeadKind, read_heads
from qutec.passes.find_exits import find_exits
from qutec.train.weights import constant_tensor

__all__ = ["Classifier", "Shapes", "Structure", "find_structure"]

Shapes = Mapping[ir.Value, tuple[int, ...]]


@dataclass(frozen=True)
class Classifier:
    """An output that is trained.

    `logits` is the value before the final Softmax, which the loss is computed on. `depth` is the share of the
    trunk's MACs before the output's branch point, 0..1.
    """

    output: str
    kind: HeadKind
    index: int
    logits: str
    depth: float


@dataclass(frozen=True)
class Structure:
    """The classifiers in their order, and what the training needs to know about them.

    `predicting` are the outputs whose mean is the prediction: the early views, else the final classifier.
    `trunk` are the nodes that two or more classifiers share; `finished` those of outputs alone that the
    network had before early views were attached: the final one, and early exits without an early view.
    `transfers` are pairs of initializers, from early exit to early view.
    """

    classifiers: tuple[Classifier, ...]
    predicting: tuple[str, ...]
    trunk: frozenset[ir.Node]
    finished: frozenset[ir.Node]
    transfers: tuple[tuple[str, str], ...]
    messages: tuple[str, ...]
    """What could be understood in two ways."""

    @property
    def is_qute(self) -> bool:
        """Whether there are early views, which are trained as the paper has it."""
        return any(classifier.kind == "early_view" for classifier in self.classifiers)


def find_structure(model: ir.Model, shapes: Shapes) -> Structure:
    """Read the heads of a training graph, or find the classifiers of a plain one.

    Without metadata `qutec.passes.find_exits` tells which outputs classify and which one is final. `shapes`
    are those of the computed values for one sample. The model is not changed.

    Raises:
        ModelError: the metadata contradict the graph.
        UnsupportedModelError: no output can be trained.
    """
    heads = read_heads(model)
    annotated = _with_shapes(model, shapes)
    messages: tuple[str, ...] = ()
    if not heads:
        analysis = find_exits(annotated)
        messages = analysis.messages
        heads = tuple(Head(found.name, found.kind, 0) for found in analysis.exits)
        if not heads:
            raise UnsupportedModelError(
                "no output of the graph is a classifier: none ends in a row of classes"
            )
    outputs = {value.name: value for value in model.graph.outputs}
    needed = {head.output: ancestors([outputs[head.output]]) for head in heads}
    shared = {node for node in model.graph if sum(node in nodes for nodes in needed.values()) > 1}
    macs = {
        node: node_macs(twin)
        for node, twin in zip(model.graph, annotated.graph, strict=True)
        if node in shared
    }
    total = sum(macs.values())
    classifiers = tuple(
        Classifier(
            head.output,
            head.kind,
            head.index,
            _logits(outputs[head.output]),
            sum(macs[node] for node in needed[head.output] & shared) / total if total else 1.0,
        )
        for head in heads
    )
    viewed = {head.index for head in heads if head.kind == "early_view"}
    finished = set[ir.Node]()
    if viewed:
        finished.update(*(needed[head.output] for head in heads if head.index not in viewed))
    return Structure(
        classifiers,
        _predicting(classifiers),
        frozenset(shared),
        frozenset(finished - shared),
        _transfers(model.graph, heads),
        messages,
    )


def _with_shapes(model: ir.Model, shapes: Shapes) -> ir.Model:
    """A copy whose computed values all have a shape, as analyses need it; a file may lack them."""
    copy = model.clone()
    by_name = {value.name: shape for value, shape in shapes.items()}
    for node in copy.graph:
        for value in node.outputs:
            tensor = constant_tensor(value)
            shape = by_name.get(value.name) if tensor is None else tensor.numpy().shape
            if shape is not None:
                value.shape = ir.Shape(shape)
    return copy


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
    finals = tuple(c.output for c in classifiers if c.kind == "final")
    return views or finals[-1:] or (classifiers[-1].output,)


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
                raise ModelError(
                    f"only one of {source.output!r} and {view.output!r} names its depthwise {what}"
                )
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
        raise ModelError(
            f"{theta!r} {list(shapes[0])} and {phi!r} {list(shapes[1])} are a pair of unequal shapes"
        )
