"""Conversion of a model to the one opset that the rest of the compiler knows."""

from __future__ import annotations

import onnx
import onnx.version_converter

from qutec.errors import UnsupportedModelError
from qutec.ingest.operators import standard_domain
from qutec.ingest.validity import first_line
from qutec.ingest.walk import all_nodes, describe_node

__all__ = ["MIN_OPSET", "TARGET_OPSET", "convert_opset", "source_opset"]

TARGET_OPSET = 21
"""Version of the standard operator set of every loaded model."""

MIN_OPSET = 9
"""Oldest version that is taken."""

_TARGET_IR_VERSION = 10
"""The ONNX file format version that came with opset 21."""


def source_opset(model: onnx.ModelProto) -> int:
    """Version of the standard operator set that a model imports (0 where it imports none)."""
    return max((o.version for o in model.opset_import if standard_domain(o.domain) == ""), default=0)


def convert_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model at `TARGET_OPSET`, without model-local functions being touched.

    Older models go through `onnx.version_converter`, newer ones are relabelled when no node uses what
    came later. Other domains keep their version.

    Raises:
        UnsupportedModelError: older than `MIN_OPSET`, newer than the installed onnx, or not convertible.
    """
    version = source_opset(model)
    if version < MIN_OPSET:
        raise UnsupportedModelError(
            f"opset {version} is older than {MIN_OPSET}, the oldest that is supported"
        )
    if version > onnx.defs.onnx_opset_version():
        raise UnsupportedModelError(
            f"opset {version} is newer than {onnx.defs.onnx_opset_version()}, the newest that onnx"
            f" {onnx.__version__} knows"
        )
    if version > TARGET_OPSET:
        return _relabel(model, version)
    if version < TARGET_OPSET:
        return _upgrade(model, version)
    return _labelled(model)


def _upgrade(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    try:
        converted = onnx.version_converter.convert_version(model, TARGET_OPSET)
    except Exception as error:  # the converter raises whatever C++ throws, RuntimeError mostly
        blockers = _differences(model, version)
        if not blockers:
            return _labelled(model)
        raise UnsupportedModelError(
            f"opset {version} cannot be converted to {TARGET_OPSET}: {first_line(error)}"
        ) from error
    return _labelled(converted)


def _relabel(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    blockers = _differences(model, version)
    if blockers:
        raise UnsupportedModelError(
            f"opset {version} is newer than {TARGET_OPSET}, and these nodes use what changed: "
            + "; ".join(blockers)
        )
    return _labelled(model)


def _labelled(model: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    others = [o for o in model.opset_import if standard_domain(o.domain) != ""]
    del result.opset_import[:]
    result.opset_import.append(onnx.helper.make_opsetid("", TARGET_OPSET))
    result.opset_import.extend(others)
    result.ir_version = _TARGET_IR_VERSION
    for node in all_nodes(result):
        node.domain = standard_domain(node.domain)
    return result


def _differences(model: onnx.ModelProto, version: int) -> list[str]:
    """Nodes whose operator means something else at `TARGET_OPSET`, as far as schemas tell."""
    found = []
    for node in all_nodes(model):
        if standard_domain(node.domain) != "":
            continue
        reason = _difference(node, version)
        if reason:
            found.append(f"{describe_node(node)} ({node.op_type}: {reason})")
    return found


def _difference(node: onnx.NodeProto, version: int) -> str:
    try:
        before = onnx.defs.get_schema(node.op_type, version, "")
        after = onnx.defs.get_schema(node.op_type, TARGET_OPSET, "")
    except onnx.defs.SchemaError:
        return f"not defined at opset {TARGET_OPSET}"
    if before.since_version == after.since_version:
        return ""
    if node.op_type == "Softmax":
        return "other axes at opset 13, which no schema shows"
    if len(node.input) > after.max_input or len(node.output) > after.max_output:
        return "more inputs or outputs"
    if len(node.input) < after.min_input or len(node.output) < after.min_output:
        return "fewer inputs or outputs"
    used = {attribute.name for attribute in node.attribute}
    for name in sorted(used):
        if name not in after.attributes or after.attributes[name].type != before.attributes[name].type:
            return f"attribute {name}"
    for name in sorted(before.attributes.keys() | after.attributes.keys()):
        if name in used:
            continue
        old, new = before.attributes.get(name), after.attributes.get(name)
        if new is None:
            continue
        if new.required or (old is not None and old.default_value != new.default_value):
            return f"default of attribute {name}"
    return ""
