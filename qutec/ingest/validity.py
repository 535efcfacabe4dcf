"""What the importer refuses before any native code but the ONNX checker sees the model."""

from __future__ import annotations

import numpy as np
import onnx

from qutec.errors import ModelError
from qutec.ingest.walk import all_graphs, all_nodes, all_tensors, describe_node

__all__ = ["check_finite", "check_structure", "check_valid", "first_line"]

_POSITIVE_ATTRIBUTES = frozenset({"dilations", "group", "kernel_shape", "strides"})
_UNBOUNDED_OPERANDS = frozenset({"Clip", "Max", "Min", "Pad"})
"""Operators for which an infinite constant means "no bound"."""

_FLOAT_TYPES = frozenset(
    {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
    }
)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, which is what native libraries put the reason in."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def check_valid(model: onnx.ModelProto) -> None:
    """Run the ONNX checker and the importer's own checks.

    Raises:
        ModelError: what `check_structure` refuses, empty tensors, sparse tensors, or whatever the ONNX
            checker refuses, in one line.
    """
    check_structure(model)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, TypeError, RuntimeError) as error:
        raise ModelError(f"not valid ONNX: {first_line(error)}") from error
    if any(graph.sparse_initializer for graph in all_graphs(model)):
        raise ModelError("sparse initializers are not supported")
    if not model.graph.output:
        raise ModelError("the graph has no output")
    for label, tensor in all_tensors(model):
        # An empty 1-D int64 tensor is a legal list of axes or the shape of a scalar.
        is_empty_list = tensor.data_type == onnx.TensorProto.INT64 and list(tensor.dims) == [0]
        if 0 in tensor.dims and not is_empty_list:
            raise ModelError(f"tensor {label!r} has a zero-size dimension: {list(tensor.dims)}")


def check_structure(model: onnx.ModelProto) -> None:
    """The checks that need no operator schema and that native code relies on.

    Raises:
        ModelError: a cycle, or an attribute that would divide by zero.
    """
    _check_acyclic(model.graph)
    _check_attributes(model)


def check_finite(model: onnx.ModelProto) -> None:
    """Refuse NaN in any tensor and infinity in any but the bounds of Clip, Min, Max and Pad.

    Raises:
        ModelError: naming the tensor.
    """
    bounds = _unbounded_operands(model)
    for label, tensor in all_tensors(model):
        if tensor.data_type not in _FLOAT_TYPES:
            continue
        try:
            with np.errstate(invalid="ignore"):  # a NaN of a narrow type is found below
                array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"tensor {label!r} cannot be read: {first_line(error)}") from error
        if np.isnan(array).any():
            raise ModelError(f"tensor {label!r} holds NaN")
        if np.isinf(array).any() and not (array.size == 1 and label in bounds):
            raise ModelError(f"tensor {label!r} holds infinite values")


def _unbounded_operands(model: onnx.ModelProto) -> set[str]:
    nodes = list(all_nodes(model))
    bounds = {name for node in nodes if node.op_type in _UNBOUNDED_OPERANDS for name in node.input[1:]}
    bounds |= {name for node in nodes if node.op_type in ("Max", "Min") for name in node.input}
    return bounds | {f"{name}.value" for name in bounds}


def _check_attributes(model: onnx.ModelProto) -> None:
    for node in all_nodes(model):
        for attribute in node.attribute:
            if attribute.name not in _POSITIVE_ATTRIBUTES:
                continue
            values = list(attribute.ints) if attribute.type == onnx.AttributeProto.INTS else [attribute.i]
            is_integer = attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.INT)
            if is_integer and min(values, default=1) < 1:
                raise ModelError(
                    f"node {describe_node(node)}: {attribute.name} is {values}, but must be positive"
                )


def _check_acyclic(graph: onnx.GraphProto) -> None:
    producer = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = [{producer[name] for name in node.input if name in producer} for node in graph.node]
    users: list[list[int]] = [[] for _ in graph.node]
    for index, sources in enumerate(needs):
        for source in sources:
            users[source].append(index)
    missing = [len(sources) for sources in needs]
    ready = [i for i, count in enumerate(missing) if count == 0]
    done = 0
    while ready:
        done += 1
        for user in users[ready.pop()]:
            missing[user] -= 1
            if missing[user] == 0:
                ready.append(user)
    if done < len(graph.node):
        stuck = [describe_node(node) for node, count in zip(graph.node, missing, strict=True) if count]
        raise ModelError(f"the graph has a cycle through or before {', '.join(stuck[:8])}")
