"""onnx-simplifier with guards: its result is taken only when nothing that matters was lost."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import onnx

from qutec.errors import ModelError
from qutec.ingest.operators import find_unsupported
from qutec.ingest.validity import first_line

__all__ = ["SimplifierError", "is_quantized", "simplify_model"]

_MAX_FOLDED = "16MB"
"""Constants above this size are not folded: an Expand could make them as large as it likes."""

_MERGING_OPTIMIZERS = ["eliminate_common_subexpression", "eliminate_duplicate_initializer"]
"""Optimizers that would merge equal scales, zero points and DequantizeLinear nodes of a quantised model."""


class SimplifierError(Exception):
    """The simplifier failed, or its result lost something; the text says what."""


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the main graph holds QuantizeLinear or DequantizeLinear."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)


def simplify_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """The simplified model, with the same inputs, outputs and quantisation parameters.

    Raises:
        SimplifierError: the simplifier raised, or changed the signature, dropped quantisation, or made
            operators that cannot be compiled. A hard crash of its native code cannot be caught here.
    """
    with _without("torch"):
        import onnxsim

    try:
        simplified: onnx.ModelProto
        simplified, _ = onnxsim.simplify(
            model,
            check_n=0,
            tensor_size_threshold=_MAX_FOLDED,
            skipped_optimizers=_MERGING_OPTIMIZERS if is_quantized(model) else None,
        )
    except Exception as error:  # native code: RuntimeError, ValueError, onnxruntime's own
        raise SimplifierError(f"the simplifier failed: {first_line(error)}") from error
    del simplified.metadata_props[:]
    _check_signature(model, simplified)
    if _quantization(model) != _quantization(simplified):
        raise SimplifierError("the simplifier changed quantisation parameters")
    if not find_unsupported(model, folded=True) and find_unsupported(simplified, folded=True):
        raise SimplifierError("the simplifier made operators that cannot be compiled")
    return simplified


def _check_signature(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    def signature(model: onnx.ModelProto) -> list[tuple[str, int]]:
        values = [*model.graph.input, *model.graph.output]
        return [(value.name, value.type.tensor_type.elem_type) for value in values]

    if signature(before) != signature(after):
        raise SimplifierError("the simplifier changed the inputs or outputs")
    try:
        onnx.checker.check_model(after)
    except onnx.checker.ValidationError as error:
        raise SimplifierError(f"the simplifier made an invalid model: {first_line(error)}") from error


def _quantization(model: onnx.ModelProto) -> Counter[tuple[object, ...]]:
    """The multiset of Q/DQ nodes with the values of their constant operands."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            tensors[node.output[0]] = node.attribute[0].t
    return Counter(
        (node.op_type, *(_content(tensors.get(name)) for name in node.input))
        for node in model.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    )


def _content(tensor: onnx.TensorProto | None) -> tuple[object, ...] | None:
    if tensor is None:
        return None
    try:
        return (tensor.data_type, tuple(tensor.dims), onnx.numpy_helper.to_array(tensor).tobytes())
    except (ValueError, TypeError) as error:
        raise ModelError(f"tensor {tensor.name!r} cannot be read: {first_line(error)}") from error


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Keep an optional import of a dependency from loading a package that is not loaded yet.

    onnxsim imports torch, if there is one, for a bridge that is not used here; that takes seconds and
    hundreds of megabytes.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
