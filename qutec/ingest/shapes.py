"""Static shapes: batch 1, everything else known, nothing empty or too large."""

from __future__ import annotations

import math

import onnx
import onnx_ir as ir

from qutec.errors import ModelError, UnsupportedModelError
from qutec.ingest.source import MAX_TENSOR_BYTES
from qutec.ingest.validity import first_line
from qutec.passes.fix_batch import FixBatchPass, fixed_batch

__all__ = ["check_shapes", "infer_shapes", "set_batch_to_1"]

_UNSIZED_TYPES = frozenset({ir.DataType.UNDEFINED, ir.DataType.STRING})
_INPUT_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.INT8, ir.DataType.UINT8})


def set_batch_to_1(model: ir.Model) -> tuple[ir.Model, int]:
    """The model for batch 1 with inferred shapes, and the batch B that was fixed before (1 when symbolic).

    Raises:
        ModelError: an input without a shape, or a contradiction between shapes.
        UnsupportedModelError: symbolic dimensions besides the batch, input types other than float32, int8
            and uint8, or a fixed batch that the graph does not simply carry along.
    """
    _check_inputs(model)
    model = infer_shapes(model)
    batch = fixed_batch(model)
    before = {value.name: value.shape for value in _values(model)}
    result = FixBatchPass()(model)
    if not result.modified:
        return result.model, 1
    try:
        after = infer_shapes(result.model)
    except ModelError as error:
        if batch == 1:
            raise
        raise UnsupportedModelError(
            f"the fixed batch of {batch} is not only carried along ({error}); export with batch 1"
        ) from error
    if batch > 1:
        _check_carried(before, after, batch)
    return after, batch


def infer_shapes(model: ir.Model) -> ir.Model:
    """A copy of the model with the shape and type of every value that ONNX shape inference can tell.

    Raises:
        ModelError: shapes or types contradict each other.
    """
    proto = ir.to_proto(model)
    assert isinstance(proto, onnx.ModelProto)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise ModelError(f"shapes or types do not fit together: {first_line(error)}") from error
    return ir.from_proto(inferred)


def check_shapes(model: ir.Model) -> None:
    """Refuse shapes that are unknown, empty or too large.

    Raises:
        ModelError: a zero-size dimension, or a value above `MAX_TENSOR_BYTES`.
        UnsupportedModelError: a shape that is not static; all such values are counted, the first named.
    """
    unknown = [value for value in _values(model) if value.shape is None or not value.shape.is_static()]
    if unknown:
        first = unknown[0]
        producer = first.producer()
        where = (
            f"{first.name!r}"
            if producer is None
            else f"{first.name!r} ({producer.op_type} {producer.name!r})"
        )
        others = f" and of {len(unknown) - 1} more values" if len(unknown) > 1 else ""
        raise UnsupportedModelError(f"the shape of {where}{others} is not static: {first.shape}")
    check_sizes(model)


def check_sizes(model: ir.Model) -> None:
    """Refuse what is known to be empty or too large; unknown dimensions pass.

    Raises:
        ModelError: a zero-size or negative dimension, or a value above `MAX_TENSOR_BYTES`.
    """
    for value in _values(model):
        if value.shape is None:
            continue
        dims = [dim for dim in value.shape if isinstance(dim, int)]
        if any(dim <= 0 for dim in dims):
            raise ModelError(f"value {value.name!r} has a zero-size dimension: {value.shape}")
        dtype = value.dtype
        bits = 8 if dtype is None or dtype in _UNSIZED_TYPES else dtype.bitwidth
        size = math.prod(dims) * bits // 8
        if size > MAX_TENSOR_BYTES:
            raise ModelError(
                f"value {value.name!r} {value.shape} has {size} bytes;"
                f" the limit is {MAX_TENSOR_BYTES} (64 MiB)"
            )


def _values(model: ir.Model) -> list[ir.Value]:
    """Inputs and node outputs of the main graph; what a node leaves out has no name."""
    outputs = (value for node in model.graph for value in node.outputs)
    return [value for value in (*model.graph.inputs, *outputs) if value.name]


def _check_inputs(model: ir.Model) -> None:
    for value in model.graph.inputs:
        if not isinstance(value.type, ir.TensorType) or value.dtype not in _INPUT_TYPES:
            raise UnsupportedModelError(
                f"input {value.name!r} has the type {value.type}; supported are float32, int8 and uint8"
            )
        if value.shape is None:
            raise ModelError(f"input {value.name!r} has no shape")
        for index, dim in enumerate(value.shape):
            if index > 0 and not isinstance(dim, int):
                raise UnsupportedModelError(
                    f"input {value.name!r} {value.shape}: dimension {index} ({dim}) is not fixed;"
                    " only the leading one, the batch, may be symbolic"
                )
    check_sizes(model)


def _check_carried(before: dict[str | None, ir.Shape | None], model: ir.Model, batch: int) -> None:
    """Each value must have kept its shape, or lost nothing but the leading batch."""
    for value in _values(model):
        old, new = before.get(value.name), value.shape
        if old is None or new is None or old == new:
            continue
        if len(old) > 0 and old[0] == batch and list(new) == [1, *list(old)[1:]]:
            continue
        node = value.producer()
        where = "" if node is None else f" at {node.op_type} {node.name!r}"
        raise UnsupportedModelError(
            f"the fixed batch of {batch} is not only carried along{where}:"
            f" {old} would become {new}; export with batch 1"
        )
