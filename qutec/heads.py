"""The classifier heads of a training graph, kept in the model's metadata under one key.

A training graph has a trunk, the original final output, K early exits (EE) and K early views (EV). Heads
with the same index are a pair: their depthwise layers have one shape, because training copies the early
exit's weights to the early view's before every batch (see `qutec.passes.attach_qute`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias, get_args

import onnx_ir as ir

from qutec.errors import ModelError

__all__ = [
    "EXIT_RESULTS",
    "HEAD_DOMAIN",
    "INTEGER_RESULTS",
    "METADATA_KEY",
    "RESULTS",
    "Head",
    "HeadKind",
    "feature_output",
    "is_head_node",
    "read_heads",
    "write_heads",
]

METADATA_KEY = "qutec.heads"
"""Key of `ModelProto.metadata_props` that holds the heads as a JSON list."""

HEAD_DOMAIN = "qutec"
"""Domain of the functions that `qutec.passes.merge_heads` makes of the heads."""

RESULTS = ("probabilities", "label", "confidence", "entropy", "disagreement", "abstain")
"""Outputs of a network whose heads are merged, in this order."""

EXIT_RESULTS = (*RESULTS, "exit")
"""Outputs of a network that stops at the first exit that is sure enough; the last is its number, from 0."""

INTEGER_RESULTS = frozenset({"label", "abstain", "exit"})
"""Results that count or number something; the others are real."""

HeadKind: TypeAlias = Literal["early_exit", "early_view", "final"]


@dataclass(frozen=True)
class Head:
    """One classifier output: early exit k, early view k (k from 1), or a final one (index 0).

    The initializers of the depthwise layer are named for early exits and early views that are a pair;
    they are only good in the training graph itself, not after `qutec.load.load`.
    """

    output: str
    kind: HeadKind
    index: int
    depthwise_weights: str | None = None
    depthwise_bias: str | None = None


def is_head_node(node: ir.Node) -> bool:
    """Whether a node is a merged head."""
    return node.domain == HEAD_DOMAIN


def feature_output(node: ir.Node) -> ir.Value | None:
    """The pooled features inside a merged head, for calibration to see their range; None in other nodes."""
    if is_head_node(node) and node.op_type.startswith("QuteHead"):
        return node.outputs[len(RESULTS)]
    return None


def read_heads(model: ir.Model) -> tuple[Head, ...]:
    """The heads that the metadata lists, in its order; empty without metadata.

    Raises:
        ModelError: the metadata does not parse, names an output that the graph lacks, or contradicts itself.
    """
    text = model.metadata_props.get(METADATA_KEY)
    if text is None:
        return ()
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"metadata {METADATA_KEY!r} is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise ModelError(f"metadata {METADATA_KEY!r} is not a list")
    heads = tuple(_parse(entry) for entry in entries)
    _check(model, heads)
    return heads


def write_heads(model: ir.Model, heads: Iterable[Head]) -> None:
    """Replace the metadata of the model; without heads the key is removed.

    Raises:
        ModelError: a head names an output that the graph lacks, or two heads contradict each other.
    """
    listed = tuple(heads)
    _check(model, listed)
    if listed:
        model.metadata_props[METADATA_KEY] = json.dumps([asdict(head) for head in listed])
    else:
        model.metadata_props.pop(METADATA_KEY, None)


def _parse(entry: object) -> Head:
    if not isinstance(entry, dict):
        raise ModelError(f"metadata {METADATA_KEY!r}: {entry!r} is not an object")
    output, kind, index = entry.get("output"), entry.get("kind"), entry.get("index")
    weights, bias = entry.get("depthwise_weights"), entry.get("depthwise_bias")
    if not isinstance(output, str) or not output:
        raise ModelError(f"metadata {METADATA_KEY!r}: a head has no output name")
    if not isinstance(index, int) or isinstance(index, bool):
        raise ModelError(f"metadata {METADATA_KEY!r}: the index of {output!r} is {index!r}, not a number")
    for name in (weights, bias):
        if name is not None and not isinstance(name, str):
            raise ModelError(
                f"metadata {METADATA_KEY!r}: {name!r} of {output!r} is not an initializer's name"
            )
    for known in get_args(HeadKind):
        if kind == known:
            return Head(output, known, index, weights, bias)
    raise ModelError(f"metadata {METADATA_KEY!r}: {output!r} is of the unknown kind {kind!r}")


def _check(model: ir.Model, heads: tuple[Head, ...]) -> None:
    outputs = {value.name for value in model.graph.outputs}
    for head in heads:
        if head.output not in outputs:
            raise ModelError(f"metadata {METADATA_KEY!r}: {head.output!r} is not an output of the graph")
        if (head.kind == "final") != (head.index == 0) or head.index < 0:
            raise ModelError(
                f"metadata {METADATA_KEY!r}: {head.output!r} is {head.kind} with index {head.index};"
                " a final head has 0, others count from 1"
            )
    _check_unique([head.output for head in heads], "output {} is listed twice")
    _check_unique(
        [f"{head.kind} {head.index}" for head in heads if head.kind != "final"], "there are two heads {}"
    )


def _check_unique(items: list[str], message: str) -> None:
    for item, count in Counter(items).items():
        if count > 1:
            raise ModelError(f"metadata {METADATA_KEY!r}: {message.format(repr(item))}")
