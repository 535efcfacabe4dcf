"""Walks over the tensors, nodes and graphs of an ONNX protobuf, subgraphs and functions included."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

__all__ = ["all_graphs", "all_nodes", "all_tensors", "describe_node", "nodes_below", "printable"]


def describe_node(node: onnx.NodeProto) -> str:
    """A short name for messages: the node's own, else its operator and first output."""
    if node.name:
        return repr(node.name)
    output = next((name for name in node.output if name), "")
    return f"{printable(node.op_type)} -> {output!r}"


def printable(text: str) -> str:
    """Text that comes from a file, escaped where it could break a line or a terminal."""
    return text if text and text.isprintable() else repr(text)


def nodes_below(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the subgraphs that a node holds (the branches of If, the body of Loop)."""
    for graph in _subgraphs(node):
        for inner in graph.node:
            yield inner
            yield from nodes_below(inner)


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of the main graph, of its subgraphs and of the model-local functions."""
    for body in (model.graph.node, *(function.node for function in model.functions)):
        for node in body:
            yield node
            yield from nodes_below(node)


def all_graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph, then every subgraph."""
    yield model.graph
    for node in all_nodes(model):
        yield from _subgraphs(node)


def all_tensors(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every tensor that the model holds, each with a name for messages."""
    for graph in all_graphs(model):
        for tensor in graph.initializer:
            yield tensor.name, tensor
        for sparse in graph.sparse_initializer:
            yield sparse.values.name, sparse.values
            yield sparse.values.name, sparse.indices
    for node in all_nodes(model):
        for attribute in node.attribute:
            label = f"{node.output[0] if node.output else node.op_type}.{attribute.name}"
            if attribute.HasField("t"):
                yield label, attribute.t
            for tensor in attribute.tensors:
                yield label, tensor
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield label, sparse.values
                yield label, sparse.indices


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
