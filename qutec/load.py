"""From any ONNX model to the one form that the compiler works on.

source -> check -> one opset -> QDQ form -> float32 -> batch 1 -> simplified -> `LoadedModel`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from qutec.errors import ModelError, UnsupportedModelError
from qutec.ingest.equivalence import Arrays, RunError, largest_difference, random_inputs, run_model
from qutec.ingest.operators import SUPPORTED_OPS, UnsupportedOperatorsError, find_unsupported
from qutec.ingest.opset import TARGET_OPSET, convert_opset
from qutec.ingest.shapes import check_shapes, check_sizes, infer_shapes, set_batch_to_1
from qutec.ingest.simplify import SimplifierError, is_quantized, simplify_model
from qutec.ingest.source import ModelSource, Source, read_source
from qutec.ingest.validity import check_finite, check_valid, first_line
from qutec.passes.fold_constants import FoldConstantsPass
from qutec.passes.qlinear_to_qdq import QLinearToQdqPass
from qutec.passes.to_float32 import ToFloat32Pass

__all__ = ["SUPPORTED_OPS", "TARGET_OPSET", "LoadedModel", "ModelSource", "load"]

_FLOAT_TOLERANCE = 1e-3
"""Accepted difference of a rewritten float32 model, relative to the largest value of an output."""

_QUANTIZED_TOLERANCE = 4 / 255
"""The same for quantised and half-precision models: a rounding that flips costs some steps of 1/255."""


OnStep: TypeAlias = Callable[[str, ir.Model], None]


@dataclass(frozen=True)
class LoadedModel:
    """A checked model: static shapes, batch 1, opset `TARGET_OPSET`, float32 or QDQ.

    The graph has no functions, no Constant nodes, no unused nodes and no inputs besides the real ones;
    every value has a type and a static shape, every node a unique name. Outputs are those of the source,
    in its order.
    """

    model: ir.Model
    name: str
    sha256: str
    """Of the source file's bytes; external data is not part of it."""
    warnings: tuple[str, ...]


def load(source: ModelSource, *, simplify: bool = True, on_step: OnStep | None = None) -> LoadedModel:
    """Read, check and normalise an ONNX model; see `LoadedModel` for the result.

    Args:
        source: path of an .onnx file, the bytes of one, or a protobuf (which is not modified).
        simplify: run onnx-simplifier; its result is compared with the original on random inputs, and
            dropped with a warning on a difference or an error. Without it constants are still folded.
        on_step: called with the name of each step and the model after it, which must not be changed.

    Raises:
        UsageError: the file is missing or cannot be read.
        ModelError: the model is not valid, or breaks a limit (see `qutec.ingest`).
        UnsupportedModelError: the model is valid but cannot be compiled; every operator is listed.
    """
    read = read_source(source)
    unsupported = find_unsupported(read.model, folded=False)
    if unsupported:
        raise UnsupportedOperatorsError(unsupported)
    check_valid(read.model)
    check_finite(read.model)
    try:
        return _normalise(read, simplify=simplify, on_step=on_step or _ignore)
    except (ir.passes.PassError, ir.passes.InvariantError, ir.serde.SerdeError) as error:
        cause = error.__cause__ if error.__cause__ is not None else error
        raise ModelError(f"not valid ONNX: {first_line(cause)}") from error


def _normalise(read: Source, *, simplify: bool, on_step: OnStep) -> LoadedModel:
    warnings: list[str] = []
    inlined = _to_proto(_inline(read.model))
    model = _from_proto(convert_opset(inlined))
    on_step("one_opset", model)
    model = ir.passes.Sequential(
        common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        QLinearToQdqPass(),
    )(model).model
    narrowed = ToFloat32Pass()(model)
    if narrowed.modified:
        warnings.append("the model computes in float16, bfloat16 or double; it is compiled in float32")
    model, batch = set_batch_to_1(narrowed.model)
    check_sizes(model)
    model = infer_shapes(_clean(model))
    check_sizes(model)
    on_step("batch_1", model)
    proto = _to_proto(model)
    exact = not (is_quantized(proto) or narrowed.modified)
    tolerance = _FLOAT_TOLERANCE if exact else _QUANTIZED_TOLERANCE
    inputs, expected = _reference(read.model, proto, batch)
    if expected is not None:
        _check_conversion(proto, inputs, expected, batch, tolerance, warnings)
    if simplify:
        model = _simplified(model, inputs, expected, tolerance, warnings)
        on_step("simplified", model)
    _final_checks(model)
    return LoadedModel(model, read.name, read.sha256, tuple(warnings))


def _ignore(step: str, model: ir.Model) -> None:
    pass


def _inline(proto: onnx.ModelProto) -> ir.Model:
    model = _from_proto(proto)
    inlined = common_passes.InlinePass()(model).model
    inlined.functions.clear()
    return common_passes.RemoveInitializersFromInputsPass()(inlined).model


def _clean(model: ir.Model) -> ir.Model:
    """Constants folded, what nobody needs removed, unique names; keeps inputs and outputs.

    Identity stays where the simplifier left it: onnx_ir's elimination would make one output of two when
    Identity joins them.
    """
    folding = True
    while folding:
        folding = FoldConstantsPass()(model).modified
        if folding:
            model = infer_shapes(model)
    passes = ir.passes.Sequential(
        common_passes.RemoveInitializersFromInputsPass(),
        common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common_passes.RemoveUnusedNodesPass(),
        common_passes.RemoveUnusedOpsetsPass(),
        common_passes.NameFixPass(),
        common_passes.ClearMetadataAndDocStringPass(),
    )
    return passes(model).model


def _reference(
    original: onnx.ModelProto, converted: onnx.ModelProto, batch: int
) -> tuple[Arrays, Arrays | None]:
    """Random inputs for the converted model, and what the source answers to them (None: cannot be run).

    A source with a fixed batch gets `batch` random rows; the first one counts. ONNX Runtime aborts the
    process on some contributed operators whose zero points are left out: such a source is not run.
    """
    source_inputs = random_inputs(original)
    types = {value.name: value.type.tensor_type.elem_type for value in converted.graph.input}
    inputs = {
        name: (array[:1] if batch > 1 else array).astype(onnx.helper.tensor_dtype_to_np_dtype(types[name]))
        for name, array in source_inputs.items()
    }
    if any(_omits_zero_point(node) for node in original.graph.node):
        return inputs, None
    try:
        outputs = run_model(original, source_inputs)
    except RunError:
        return inputs, None
    return inputs, {name: array[:1] if batch > 1 else array for name, array in outputs.items()}


def _omits_zero_point(node: onnx.NodeProto) -> bool:
    """Whether a contributed QLinear operator lacks an optional input, named empty or at the end of 5 or 8."""
    is_contributed = node.domain == "com.microsoft" and node.op_type.startswith("QLinear")
    return is_contributed and ("" in node.input or len(node.input) in (4, 7))


def _check_conversion(
    converted: onnx.ModelProto,
    inputs: Arrays,
    expected: Arrays,
    batch: int,
    tolerance: float,
    warnings: list[str],
) -> None:
    try:
        difference = largest_difference(expected, run_model(converted, inputs))
    except RunError as error:
        raise UnsupportedModelError(
            f"ONNX Runtime runs the source but not its normal form: {error}"
        ) from error
    if difference <= tolerance:
        return
    if batch > 1:
        raise UnsupportedModelError(
            f"the fixed batch of {batch} mixes its rows: with batch 1 the outputs change; export with batch 1"
        )
    warnings.append(
        f"conversion to opset {TARGET_OPSET} changes outputs by up to {difference:.2g} of their range"
    )


def _simplified(
    model: ir.Model, inputs: Arrays, expected: Arrays | None, tolerance: float, warnings: list[str]
) -> ir.Model:
    """The simplified model, or the given one with a warning."""
    proto = _to_proto(model)
    try:
        simplified = simplify_model(proto)
        result = infer_shapes(_clean(_from_proto(simplified)))
        difference = largest_difference(
            expected if expected is not None else run_model(proto, inputs),
            run_model(_to_proto(result), inputs),
        )
        if difference <= tolerance:
            # The simplifier drops metadata, which names the heads of a training graph.
            result.metadata_props.update(model.metadata_props)
            return result
        reason = f"the simplifier changed outputs by up to {difference:.2g} of their range"
    except (SimplifierError, RunError, ModelError) as error:
        reason = first_line(error)
    warnings.append(f"{reason}; the model is compiled unsimplified")
    return model


def _final_checks(model: ir.Model) -> None:
    proto = _to_proto(model)
    unsupported = find_unsupported(proto, folded=True)
    if unsupported:
        raise UnsupportedOperatorsError(unsupported)
    check_shapes(model)
    check_valid(proto)
    check_finite(proto)


def _from_proto(proto: onnx.ModelProto) -> ir.Model:
    try:
        return ir.from_proto(proto)
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise ModelError(f"not valid ONNX: {first_line(error)}") from error


def _to_proto(model: ir.Model) -> onnx.ModelProto:
    proto = ir.to_proto(model)
    assert isinstance(proto, onnx.ModelProto)
    return proto
