"""What the importer makes of a model, and that it never changes what a network computes."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from qutec.errors import ModelError, UnsupportedModelError
from qutec.ingest import simplify as simplify_module
from qutec.ingest.operators import SUPPORTED_OPS, UnsupportedOperatorsError
from qutec.load import TARGET_OPSET, load
from tests.onnx_models import cnn, image, ops, qdq, run, text, weights


@pytest.mark.parametrize("opset", [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23])
def test_every_opset_loads_to_the_target_opset_with_the_same_outputs(opset: int) -> None:
    source = cnn(opset, ir_version=4 if opset < 13 else 8)
    loaded = load(source)
    assert loaded.model.opset_imports[""] == TARGET_OPSET
    assert loaded.warnings == ()
    assert [value.name for value in loaded.model.graph.outputs] == ["early", "final"]
    for expected, actual in zip(run(source, x=image()), run(loaded.model, x=image()), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_newest_opset_of_the_installed_onnx_is_relabelled() -> None:
    newest = onnx.defs.onnx_opset_version()
    loaded = load(cnn(newest, ir_version=onnx.IR_VERSION))
    assert loaded.model.opset_imports[""] == TARGET_OPSET
    for expected, actual in zip(run(cnn(21), x=image()), run(loaded.model, x=image()), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_newer_opset_with_a_newer_attribute_is_refused() -> None:
    model = text(
        'g (float[1, 4] x) => (float[1, 4] y) { y = Cast <to = 1, round_mode = "up"> (x) }', opset=24
    )
    model.opset_import[0].version = 28
    if onnx.defs.onnx_opset_version() < 28:
        pytest.skip("the installed onnx does not know opset 28")
    with pytest.raises(UnsupportedModelError, match="round_mode"):
        load(model)


def test_opsets_out_of_range_are_refused() -> None:
    for opset, reason in ((8, "older than 9"), (1000, "newer than")):
        model = cnn(9)
        model.opset_import[0].version = opset
        with pytest.raises(ModelError, match=reason if opset == 8 else None):
            load(model)


def test_attributes_that_became_inputs_are_converted() -> None:
    source = text(
        """g (float[1, 2, 4, 4] x) => (float[1, 1, 5] y) {
            c = Clip <min = -0.5, max = 0.5> (x)
            p = Pad <pads = [0, 0, 0, 0, 0, 0, 0, 1]> (c)
            m = ReduceMean <axes = [1, 2], keepdims = 1> (p)
            y = Squeeze <axes = [2]> (m)
        }""",
        opset=10,
        ir_version=5,
    )
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(run(load(source).model, x=x)[0], run(source, x=x)[0], atol=1e-6)


def test_softmax_before_opset_13_keeps_its_flattened_axes() -> None:
    source = text("g (float[1, 3, 4] x) => (float[1, 3, 4] y) { y = Softmax <axis = 1> (x) }", 11, 6)
    x = np.random.default_rng(0).standard_normal((1, 3, 4)).astype(np.float32)
    loaded = load(source)
    np.testing.assert_allclose(run(loaded.model, x=x)[0], run(source, x=x)[0], atol=1e-6)
    assert all(node.op_type in SUPPORTED_OPS for node in loaded.model.graph)


@pytest.mark.parametrize("simplify", [True, False])
def test_loaded_graph_is_static_named_and_free_of_constant_nodes(simplify: bool) -> None:
    loaded = load(cnn(), simplify=simplify)
    graph = loaded.model.graph
    assert list(graph.inputs[0].shape or ()) == [1, 3, 8, 8]
    names = [node.name for node in graph]
    assert len(set(names)) == len(names)
    for node in graph:
        assert node.op_type != "Constant"
        for value in node.outputs:
            assert value.shape is not None
            assert value.shape.is_static()
            assert value.dtype is not None
    assert not loaded.model.functions
    assert ("BatchNormalization" in ops(loaded)) is not simplify
    onnx.checker.check_model(ir.to_proto(loaded.model), full_check=True)


def test_file_bytes_and_protobuf_give_the_same_model(tmp_path: Path) -> None:
    data = cnn().SerializeToString()
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    from_file, from_text, from_bytes = load(path), load(str(path)), load(data)
    assert from_file.name == from_text.name == "net"
    assert from_bytes.name == load(cnn()).name == "cnn"
    assert from_file.sha256 == from_bytes.sha256 == hashlib.sha256(data).hexdigest()
    serialised = {ir.to_proto(m.model).SerializeToString(deterministic=True) for m in (from_file, from_bytes)}
    assert len(serialised) == 1


def test_the_given_protobuf_is_not_modified() -> None:
    source = cnn()
    before = source.SerializeToString(deterministic=True)
    load(source)
    assert source.SerializeToString(deterministic=True) == before


def test_shape_arithmetic_is_folded_with_and_without_the_simplifier() -> None:
    source = text(
        """g (float[N, 8, 4] x) => (float[N, 32] y)
        <int64 zero = {0}, int64[1] axes = {0}, int64[1] rest = {-1}> {
            s = Shape (x)
            n = Gather (s, zero)
            u = Unsqueeze (n, axes)
            t = Concat <axis = 0> (u, rest)
            y = Reshape (x, t)
        }"""
    )
    for simplify in (True, False):
        assert set(ops(load(source, simplify=simplify))) == {"Reshape"}


def test_local_functions_are_inlined() -> None:
    source = parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
        g (float[1, 4] x) => (float[1, 4] y) { h = local.twice (x)  y = local.twice (h) }
        <domain: "local", opset_import: ["" : 21]>
        twice (a) => (b) { c = Relu (a)  b = Add (c, c) }"""
    )
    x = np.array([[-1, 0, 1, 2]], np.float32)
    loaded = load(source, simplify=False)
    assert ops(loaded) == {"Relu": 2, "Add": 2}
    np.testing.assert_array_equal(run(loaded.model, x=x)[0], 4 * np.maximum(x, 0))


def test_recursive_functions_are_refused() -> None:
    source = parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
        g (float[1, 4] x) => (float[1, 4] y) { y = local.f (x) }
        <domain: "local", opset_import: ["" : 21, "local" : 1]>
        f (a) => (b) { b = local.f (a) }"""
    )
    with pytest.raises(ModelError):
        load(source)


def test_outputs_that_are_equal_or_pass_through_survive() -> None:
    source = text(
        """g (float[1, 4] x) => (float[1, 4] y, float[1, 4] z, float[1, 4] r, float[1, 4] w) {
            r = Relu (x)
            y = Identity (r)
            z = Relu (x)
            w = Identity (x)
        }"""
    )
    x = np.array([[-1, 0, 1, 2]], np.float32)
    loaded = load(source)
    assert [value.name for value in loaded.model.graph.outputs] == ["y", "z", "r", "w"]
    for expected, actual in zip(run(source, x=x), run(loaded.model, x=x), strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_any_batch_is_compiled_for_batch_1(batch: str | int) -> None:
    loaded = load(cnn(batch=batch))
    values = [*loaded.model.graph.inputs, *loaded.model.graph.outputs]
    assert [list(value.shape or ()) for value in values] == [[1, 3, 8, 8], [1, 5], [1, 5]]
    x = image(4)
    source = cnn(batch="N")
    np.testing.assert_allclose(run(loaded.model, x=x[:1])[1], run(source, x=x)[1][:1], atol=1e-5)


def test_reshape_that_hard_codes_the_batch_follows_it() -> None:
    source = text(
        """g (float[4, 2, 8] x) => (float[4, 16] y) <int64[2] t = {4, 16}> {
            r = Relu (x)
            y = Reshape (r, t)
        }"""
    )
    loaded = load(source)
    assert list(loaded.model.graph.outputs[0].shape or ()) == [1, 16]


@pytest.mark.parametrize(
    "body",
    [
        "y = MatMul (a, x)",
        "m = ReduceMean <keepdims = 1> (x, axis)  y = Sub (x, m)",
        "y = Transpose <perm = [1, 0]> (x)",
    ],
)
def test_fixed_batch_that_the_graph_mixes_is_refused(body: str) -> None:
    source = text(f"g (float[4, 4] x) => (float[4, 4] y) {{ {body} }}")
    if "(a, x)" in body:
        source.graph.initializer.append(numpy_helper.from_array(weights(4, 4), "a"))
    if "axis)" in body:
        source.graph.initializer.append(numpy_helper.from_array(np.array([0]), "axis"))
    with pytest.raises(UnsupportedModelError, match="batch of 4"):
        load(source)


def test_a_leading_dimension_that_is_no_batch_is_kept() -> None:
    source = text(
        "g (float[6, 4] x) => (float[1, 24] y) <int64[2] t = {1, -1}> { r = Relu (x)  y = Reshape (r, t) }"
    )
    assert list(load(source).model.graph.inputs[0].shape or ()) == [6, 4]


def test_symbolic_dimension_besides_the_batch_is_named() -> None:
    source = text("g (float[N, 3, H, 8] x) => (float[N, 3, H, 8] y) { y = Relu (x) }")
    with pytest.raises(UnsupportedModelError, match=r"'x'.*dimension 2 \(H\)"):
        load(source)


def test_input_without_shape_is_refused() -> None:
    source = cnn()
    source.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ModelError):
        load(source)


def test_data_dependent_shape_is_refused() -> None:
    source = text("g (float[1, 8] x) => (int64[2, M] y) { y = NonZero (x) }")
    with pytest.raises(UnsupportedOperatorsError, match="NonZero"):
        load(source)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types_become_float32_with_a_warning(dtype: type[np.floating]) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w"], ["h"]),
            helper.make_node("Cast", ["h"], ["i"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["i"], ["y"], to=kind),
        ],
        "g",
        [helper.make_tensor_value_info("x", kind, ["N", 6])],
        [helper.make_tensor_value_info("y", kind, ["N", 3])],
        [numpy_helper.from_array(weights(6, 3).astype(dtype), "w")],
    )
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    loaded = load(source)
    assert any("float32" in text for text in loaded.warnings)
    assert {value.dtype for value in loaded.model.graph.outputs} == {ir.DataType.FLOAT}
    x = weights(1, 6, seed=3)
    expected = x.astype(dtype) @ weights(6, 3).astype(dtype)
    np.testing.assert_allclose(run(loaded.model, x=x)[0], expected, rtol=5e-3, atol=5e-3)


def test_integer_input_is_refused() -> None:
    source = text("g (int64[1, 8] x) => (float[1, 8] y) { y = Cast <to = 1> (x) }")
    with pytest.raises(UnsupportedModelError, match="'x'"):
        load(source)


def test_simplifier_that_raises_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("onnxsim.simplify", fail)
    loaded = load(cnn())
    assert "BatchNormalization" in ops(loaded)
    assert any("boom" in text and "unsimplified" in text for text in loaded.warnings)


def test_simplifier_that_changes_numbers_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: onnx.ModelProto, **_: object) -> tuple[onnx.ModelProto, bool]:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        for tensor in changed.graph.initializer:
            if tensor.name == "f1":
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.1, "f1"))
        return changed, True

    monkeypatch.setattr("onnxsim.simplify", wrong)
    loaded = load(cnn())
    assert any("changed outputs" in text for text in loaded.warnings)
    np.testing.assert_allclose(run(loaded.model, x=image())[0], run(cnn(), x=image())[0], atol=1e-5)


def test_simplifier_that_drops_an_output_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(model: onnx.ModelProto, **_: object) -> tuple[onnx.ModelProto, bool]:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        del changed.graph.output[0]
        return changed, True

    monkeypatch.setattr("onnxsim.simplify", drop)
    assert len(load(cnn()).model.graph.outputs) == 2


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantised_model_keeps_every_pair_and_int8_weights(per_channel: bool) -> None:
    source = qdq(per_channel)
    loaded = load(source)
    assert loaded.warnings == ()
    assert ops(loaded) == Counter(node.op_type for node in source.graph.node)
    kept = {value.name: value.const_value for value in loaded.model.graph.initializers.values()}
    for tensor in source.graph.initializer:
        found = kept[tensor.name]
        assert found is not None
        np.testing.assert_array_equal(found.numpy(), numpy_helper.to_array(tensor))
    x = np.random.default_rng(2).standard_normal((1, 4, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(run(loaded.model, x=x)[0], run(source, x=x)[0])


def test_simplifier_that_folds_quantisation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fold(model: onnx.ModelProto, **_: object) -> tuple[onnx.ModelProto, bool]:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        node = next(n for n in changed.graph.node if n.output[0] == "b1")
        tensors = {t.name: numpy_helper.to_array(t) for t in changed.graph.initializer}
        changed.graph.node.remove(node)
        changed.graph.initializer.append(numpy_helper.from_array(tensors["bq"] * tensors["bs"], "b1"))
        return changed, True

    monkeypatch.setattr("onnxsim.simplify", fold)
    with pytest.raises(simplify_module.SimplifierError, match="quantisation"):
        simplify_module.simplify_model(qdq(per_channel=False))
