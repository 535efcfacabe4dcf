"""What the importer takes, what it refuses, and that it never changes what a network computes."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from qutec.errors import ModelError, UnsupportedModelError, UsageError
from qutec.ingest import simplify as simplify_module
from qutec.ingest.operators import SUPPORTED_OPS, UnsupportedOperatorsError
from qutec.load import TARGET_OPSET, LoadedModel, load

FloatArray = npt.NDArray[np.float32]


def _weights(*shape: int, seed: int = 0) -> FloatArray:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.3).astype(np.float32)


def _cnn(opset: int = 21, batch: str | int = "N", ir_version: int = 8) -> onnx.ModelProto:
    """Conv, BN, Relu, pool, early exit; Conv, final exit. Valid at every opset from 9 on."""
    arrays = {
        "w1": _weights(8, 3, 3, 3),
        "b1": _weights(8),
        "scale": np.abs(_weights(8, seed=1)) + 0.5,
        "shift": _weights(8, seed=2),
        "mean": _weights(8, seed=3),
        "var": np.abs(_weights(8, seed=4)) + 0.5,
        "w2": _weights(16, 8, 3, 3, seed=5),
        "f1": _weights(8, 5, seed=6),
        "f2": _weights(16, 5, seed=7),
        "c": _weights(5, seed=8),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["n"], "bn"),
        helper.make_node("Relu", ["n"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool1"),
        helper.make_node("Flatten", ["p"], ["q"], "flat1"),
        helper.make_node("Gemm", ["q", "f1", "c"], ["l1"], "dense1"),
        helper.make_node("Softmax", ["l1"], ["early"], "softmax1", axis=1),
        helper.make_node("Conv", ["r", "w2"], ["d"], "conv2", strides=[2, 2]),
        helper.make_node("Relu", ["d"], ["e"], "relu2"),
        helper.make_node("GlobalAveragePool", ["e"], ["g"], "pool2"),
        helper.make_node("Flatten", ["g"], ["h"], "flat2"),
        helper.make_node("Gemm", ["h", "f2", "c"], ["l2"], "dense2"),
        helper.make_node("Softmax", ["l2"], ["final"], "softmax2", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 5]) for name in ("early", "final")],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def _text(body: str, opset: int = 21, ir_version: int = 10) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}]>\n{body}')


def _run(
    model: onnx.ModelProto | ir.Model, **inputs: npt.NDArray[np.generic]
) -> list[npt.NDArray[np.generic]]:
    proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(result) for result in session.run(None, inputs)]


def _ops(loaded: LoadedModel) -> Counter[str]:
    return Counter(node.op_type for node in loaded.model.graph)


def _image(batch: int = 1) -> FloatArray:
    return np.random.default_rng(9).standard_normal((batch, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("opset", [9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23])
def test_every_opset_loads_to_the_target_opset_with_the_same_outputs(opset: int) -> None:
    source = _cnn(opset, ir_version=4 if opset < 13 else 8)
    loaded = load(source)
    assert loaded.model.opset_imports[""] == TARGET_OPSET
    assert loaded.warnings == ()
    assert [value.name for value in loaded.model.graph.outputs] == ["early", "final"]
    for expected, actual in zip(_run(source, x=_image()), _run(loaded.model, x=_image()), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_newest_opset_of_the_installed_onnx_is_relabelled() -> None:
    newest = onnx.defs.onnx_opset_version()
    loaded = load(_cnn(newest, ir_version=onnx.IR_VERSION))
    assert loaded.model.opset_imports[""] == TARGET_OPSET
    for expected, actual in zip(_run(_cnn(21), x=_image()), _run(loaded.model, x=_image()), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_newer_opset_with_a_newer_attribute_is_refused() -> None:
    model = _text(
        'g (float[1, 4] x) => (float[1, 4] y) { y = Cast <to = 1, round_mode = "up"> (x) }', opset=24
    )
    model.opset_import[0].version = 28
    if onnx.defs.onnx_opset_version() < 28:
        pytest.skip("the installed onnx does not know opset 28")
    with pytest.raises(UnsupportedModelError, match="round_mode"):
        load(model)


def test_opsets_out_of_range_are_refused() -> None:
    for opset, reason in ((8, "older than 9"), (1000, "newer than")):
        model = _cnn(9)
        model.opset_import[0].version = opset
        with pytest.raises(ModelError, match=reason if opset == 8 else None):
            load(model)


def test_attributes_that_became_inputs_are_converted() -> None:
    source = _text(
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
    np.testing.assert_allclose(_run(load(source).model, x=x)[0], _run(source, x=x)[0], atol=1e-6)


def test_softmax_before_opset_13_keeps_its_flattened_axes() -> None:
    source = _text("g (float[1, 3, 4] x) => (float[1, 3, 4] y) { y = Softmax <axis = 1> (x) }", 11, 6)
    x = np.random.default_rng(0).standard_normal((1, 3, 4)).astype(np.float32)
    loaded = load(source)
    np.testing.assert_allclose(_run(loaded.model, x=x)[0], _run(source, x=x)[0], atol=1e-6)
    assert all(node.op_type in SUPPORTED_OPS for node in loaded.model.graph)


@pytest.mark.parametrize("simplify", [True, False])
def test_loaded_graph_is_static_named_and_free_of_constant_nodes(simplify: bool) -> None:
    loaded = load(_cnn(), simplify=simplify)
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
    assert ("BatchNormalization" in _ops(loaded)) is not simplify
    onnx.checker.check_model(ir.to_proto(loaded.model), full_check=True)


def test_file_bytes_and_protobuf_give_the_same_model(tmp_path: Path) -> None:
    data = _cnn().SerializeToString()
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    from_file, from_text, from_bytes = load(path), load(str(path)), load(data)
    assert from_file.name == from_text.name == "net"
    assert from_bytes.name == load(_cnn()).name == "cnn"
    assert from_file.sha256 == from_bytes.sha256 == hashlib.sha256(data).hexdigest()
    serialised = {ir.to_proto(m.model).SerializeToString(deterministic=True) for m in (from_file, from_bytes)}
    assert len(serialised) == 1


def test_the_given_protobuf_is_not_modified() -> None:
    source = _cnn()
    before = source.SerializeToString(deterministic=True)
    load(source)
    assert source.SerializeToString(deterministic=True) == before


def test_shape_arithmetic_is_folded_with_and_without_the_simplifier() -> None:
    source = _text(
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
        assert set(_ops(load(source, simplify=simplify))) == {"Reshape"}


def test_local_functions_are_inlined() -> None:
    source = parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
        g (float[1, 4] x) => (float[1, 4] y) { h = local.twice (x)  y = local.twice (h) }
        <domain: "local", opset_import: ["" : 21]>
        twice (a) => (b) { c = Relu (a)  b = Add (c, c) }"""
    )
    x = np.array([[-1, 0, 1, 2]], np.float32)
    loaded = load(source, simplify=False)
    assert _ops(loaded) == {"Relu": 2, "Add": 2}
    np.testing.assert_array_equal(_run(loaded.model, x=x)[0], 4 * np.maximum(x, 0))


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
    source = _text(
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
    for expected, actual in zip(_run(source, x=x), _run(loaded.model, x=x), strict=True):
        np.testing.assert_array_equal(actual, expected)


# Batch


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_any_batch_is_compiled_for_batch_1(batch: str | int) -> None:
    loaded = load(_cnn(batch=batch))
    values = [*loaded.model.graph.inputs, *loaded.model.graph.outputs]
    assert [list(value.shape or ()) for value in values] == [[1, 3, 8, 8], [1, 5], [1, 5]]
    x = _image(4)
    source = _cnn(batch="N")
    np.testing.assert_allclose(_run(loaded.model, x=x[:1])[1], _run(source, x=x)[1][:1], atol=1e-5)


def test_reshape_that_hard_codes_the_batch_follows_it() -> None:
    source = _text(
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
    source = _text(f"g (float[4, 4] x) => (float[4, 4] y) {{ {body} }}")
    if "(a, x)" in body:
        source.graph.initializer.append(numpy_helper.from_array(_weights(4, 4), "a"))
    if "axis)" in body:
        source.graph.initializer.append(numpy_helper.from_array(np.array([0]), "axis"))
    with pytest.raises(UnsupportedModelError, match="batch of 4"):
        load(source)


def test_a_leading_dimension_that_is_no_batch_is_kept() -> None:
    source = _text(
        "g (float[6, 4] x) => (float[1, 24] y) <int64[2] t = {1, -1}> { r = Relu (x)  y = Reshape (r, t) }"
    )
    assert list(load(source).model.graph.inputs[0].shape or ()) == [6, 4]


def test_symbolic_dimension_besides_the_batch_is_named() -> None:
    source = _text("g (float[N, 3, H, 8] x) => (float[N, 3, H, 8] y) { y = Relu (x) }")
    with pytest.raises(UnsupportedModelError, match=r"'x'.*dimension 2 \(H\)"):
        load(source)


def test_input_without_shape_is_refused() -> None:
    source = _cnn()
    source.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ModelError):
        load(source)


def test_data_dependent_shape_is_refused() -> None:
    source = _text("g (float[1, 8] x) => (int64[2, M] y) { y = NonZero (x) }")
    with pytest.raises(UnsupportedOperatorsError, match="NonZero"):
        load(source)


# Types


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
        [numpy_helper.from_array(_weights(6, 3).astype(dtype), "w")],
    )
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    loaded = load(source)
    assert any("float32" in text for text in loaded.warnings)
    assert {value.dtype for value in loaded.model.graph.outputs} == {ir.DataType.FLOAT}
    x = _weights(1, 6, seed=3)
    expected = x.astype(dtype) @ _weights(6, 3).astype(dtype)
    np.testing.assert_allclose(_run(loaded.model, x=x)[0], expected, rtol=5e-3, atol=5e-3)


def test_integer_input_is_refused() -> None:
    source = _text("g (int64[1, 8] x) => (float[1, 8] y) { y = Cast <to = 1> (x) }")
    with pytest.raises(UnsupportedModelError, match="'x'"):
        load(source)


# The simplifier


def test_simplifier_that_raises_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("onnxsim.simplify", fail)
    loaded = load(_cnn())
    assert "BatchNormalization" in _ops(loaded)
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
    loaded = load(_cnn())
    assert any("changed outputs" in text for text in loaded.warnings)
    np.testing.assert_allclose(_run(loaded.model, x=_image())[0], _run(_cnn(), x=_image())[0], atol=1e-5)


def test_simplifier_that_drops_an_output_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(model: onnx.ModelProto, **_: object) -> tuple[onnx.ModelProto, bool]:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        del changed.graph.output[0]
        return changed, True

    monkeypatch.setattr("onnxsim.simplify", drop)
    assert len(load(_cnn()).model.graph.outputs) == 2


def _qdq(per_channel: bool) -> onnx.ModelProto:
    """Two Convs that share weights, scales and a bias, so that a careless merge would show."""
    rng = np.random.default_rng(1)
    scale = np.full(4, 0.02, np.float32) if per_channel else np.float32(0.02)
    zero = np.zeros(4, np.int8) if per_channel else np.int8(0)
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "wq": rng.integers(-127, 128, (4, 4, 3, 3)).astype(np.int8),
        "ws": np.asarray(scale, np.float32),
        "wz": np.asarray(zero, np.int8),
        "bq": rng.integers(-500, 500, 4).astype(np.int32),
        "bs": np.asarray(scale * np.float32(0.05), np.float32),
        "bz": np.zeros(4, np.int32) if per_channel else np.asarray(0, np.int32),
        "s": np.asarray(0.05, np.float32),
        "z": np.asarray(3, np.int8),
    }
    axis = {"axis": 0} if per_channel else {}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
    ]
    for k, source in ((1, "xd"), (2, "d1")):
        nodes += [
            helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], [f"w{k}"], **axis),
            helper.make_node("DequantizeLinear", ["bq", "bs", "bz"], [f"b{k}"], **axis),
            helper.make_node("Conv", [source, f"w{k}", f"b{k}"], [f"c{k}"], pads=[1, 1, 1, 1]),
            helper.make_node("QuantizeLinear", [f"c{k}", "s", "z"], [f"q{k}"]),
            helper.make_node("DequantizeLinear", [f"q{k}", "s", "z"], [f"d{k}"]),
        ]
    graph = helper.make_graph(
        nodes,
        "qdq",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 5, 5])],
        [helper.make_tensor_value_info("d2", TensorProto.FLOAT, ["N", 4, 5, 5])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantised_model_keeps_every_pair_and_int8_weights(per_channel: bool) -> None:
    source = _qdq(per_channel)
    loaded = load(source)
    assert loaded.warnings == ()
    assert _ops(loaded) == Counter(node.op_type for node in source.graph.node)
    kept = {value.name: value.const_value for value in loaded.model.graph.initializers.values()}
    for tensor in source.graph.initializer:
        found = kept[tensor.name]
        assert found is not None
        np.testing.assert_array_equal(found.numpy(), numpy_helper.to_array(tensor))
    x = np.random.default_rng(2).standard_normal((1, 4, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(_run(loaded.model, x=x)[0], _run(source, x=x)[0])


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
        simplify_module.simplify_model(_qdq(per_channel=False))


# What is refused


def test_unsupported_operators_are_all_listed_with_their_nodes() -> None:
    source = _cnn()
    source.opset_import.append(helper.make_opsetid("com.acme", 1))
    source.graph.node.append(helper.make_node("Frobnicate", ["early"], ["f"], "acme1", domain="com.acme"))
    source.graph.node.append(helper.make_node("Nonsense", ["f"], ["g2"], "nonsense1"))
    source.graph.node.append(helper.make_node("Det", ["g2"], ["h2"], "det1"))
    source.graph.output.append(helper.make_tensor_value_info("h2", TensorProto.FLOAT, None))
    with pytest.raises(UnsupportedOperatorsError) as caught:
        load(source)
    assert [node.op_type for node in caught.value.nodes] == ["com.acme.Frobnicate", "Nonsense", "Det"]
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in ("'acme1'", "'nonsense1'", "'det1'"))


def test_unsupported_operator_that_no_output_needs_is_no_obstacle() -> None:
    source = _text("g (float[1, 4] x) => (float[1, 4] y) { d = Cos (x)  y = Relu (x) }")
    assert _ops(load(source)) == {"Relu": 1}


def test_control_flow_is_listed() -> None:
    then = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["t"])], "then", [], [helper.make_tensor_value_info("t", 1, [1, 4])]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["e"])], "else", [], [helper.make_tensor_value_info("e", 1, [1, 4])]
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], "branch", then_branch=then, else_branch=other)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.array(True), "c")],
    )
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(UnsupportedOperatorsError, match=r"If \(node 'branch'\)"):
        load(source)


def test_missing_file_and_folder_are_usage_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.onnx", tmp_path, tmp_path / "a" / "b.onnx", "a\0b"):
        with pytest.raises(UsageError) as caught:
            load(path)
        assert not isinstance(caught.value, ModelError)
        assert caught.value.exit_code == 2


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user that permissions bind")
def test_unreadable_file_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(_cnn().SerializeToString())
    path.chmod(0)
    with pytest.raises(UsageError):
        load(path)


@pytest.mark.parametrize("data", [b"", b"not a protobuf at all", b"\x00" * 64, b"\x08\x0a", os.urandom(256)])
def test_what_is_no_model_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        load(data)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_checker_errors_are_one_line() -> None:
    source = _cnn()
    source.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ModelError, match="not valid ONNX") as caught:
        load(source)
    assert "\n" not in str(caught.value)


def test_cycle_is_named() -> None:
    source = _text("g (float[1, 4] x) => (float[1, 4] y) { a = Add (x, b)  b = Relu (a)  y = Neg (b) }")
    with pytest.raises(ModelError, match="cycle"):
        load(source)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    source = _cnn()
    weights = _weights(8, 3, 3, 3)
    weights[2, 1, 0, 0] = value
    source.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w1"))
    with pytest.raises(ModelError, match="'w1'"):
        load(source)


def test_infinite_bound_of_clip_is_taken() -> None:
    source = _text("g (float[1, 4] x) => (float[1, 4] y) <float lo = {0}> { y = Clip (x, lo, hi) }")
    source.graph.initializer.append(numpy_helper.from_array(np.float32(np.inf), "hi"))
    load(source)


def test_weights_too_large_for_float32_are_refused() -> None:
    source = _text("g (double[1, 2] x) => (double[1, 2] y) <double[2] w = {1e300, 1.0}> { y = Mul (x, w) }")
    with pytest.raises(ModelError, match="infinite"):
        load(source)


def test_tensor_above_the_limit_is_refused() -> None:
    source = _text("g (float[1, 4096, 4097] x) => (float[1, 4096, 4097] y) { y = Relu (x) }")
    with pytest.raises(ModelError, match="64 MiB"):
        load(source)
    declared = _cnn()
    declared.graph.initializer[0].dims[0] = 1 << 40
    with pytest.raises(ModelError, match="64 MiB"):
        load(declared)


def test_zero_size_dimensions_are_refused() -> None:
    with pytest.raises(ModelError, match="zero-size"):
        load(_text("g (float[1, 0, 4] x) => (float[1, 0, 4] y) { y = Relu (x) }"))
    empty = _text("g (float[1, 4] x) => (float[1, 4] y) { y = Concat <axis = 1> (x, e) }")
    empty.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 0), np.float32), "e"))
    with pytest.raises(ModelError, match="zero-size"):
        load(empty)


@pytest.mark.parametrize("attribute", ["strides", "dilations", "group"])
def test_attributes_that_divide_by_zero_are_refused(attribute: str) -> None:
    source = _cnn()
    value: int | list[int] = 0 if attribute == "group" else [0, 1]
    kept = [a for a in source.graph.node[0].attribute if a.name != attribute]
    del source.graph.node[0].attribute[:]
    source.graph.node[0].attribute.extend([*kept, helper.make_attribute(attribute, value)])
    with pytest.raises(ModelError, match=attribute):
        load(source)


# External data


def _external(folder: Path, location: str, **fields: int) -> Path:
    """A model in `folder` whose weights w1 are at `location`."""
    source = _cnn()
    tensor = source.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **fields}.items():
        tensor.external_data.add(key=key, value=str(value))
    folder.mkdir(exist_ok=True)
    (folder.parent / "outside.bin").write_bytes(data)
    (folder / "weights.bin").write_bytes(b"\0" * 16 + data)
    path = folder / "net.onnx"
    path.write_bytes(source.SerializeToString())
    return path


def test_external_data_beside_the_file_is_read(tmp_path: Path) -> None:
    loaded = load(_external(tmp_path / "m", "weights.bin", offset=16))
    for expected, actual in zip(_run(_cnn(), x=_image()), _run(loaded.model, x=_image()), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize(
    "location", ["../outside.bin", "sub/../../outside.bin", "..\\outside.bin", "C:\\w.bin", ""]
)
def test_external_data_outside_of_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(ModelError, match="'w1'"):
        load(_external(tmp_path / "m", location))


def test_external_data_at_an_absolute_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="outside"):
        load(_external(tmp_path / "m", str(tmp_path / "outside.bin")))


def test_external_data_through_a_link_that_leaves_is_refused(tmp_path: Path) -> None:
    path = _external(tmp_path / "m", "link.bin")
    (tmp_path / "m" / "link.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(ModelError, match="outside"):
        load(path)


def test_external_data_that_is_missing_short_or_misplaced_is_refused(tmp_path: Path) -> None:
    for location, fields, reason in (
        ("nothing.bin", {}, "missing"),
        ("weights.bin", {"offset": 17}, "ends after"),
        ("weights.bin", {"offset": -1}, "offset"),
        ("weights.bin", {"length": 4}, "length"),
    ):
        with pytest.raises(ModelError, match=reason):
            load(_external(tmp_path / "m", location, **fields))


def test_bytes_cannot_have_external_data(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not read from a file"):
        load(_external(tmp_path / "m", "weights.bin", offset=16).read_bytes())


# Damaged files

_VALID = _cnn().SerializeToString()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(_VALID) - 1))
def test_truncated_model_loads_or_is_a_model_error(length: int) -> None:
    try:
        load(_VALID[:length])
    except ModelError as error:
        assert "\n" not in str(error)  # noqa: PT017


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(_VALID) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_model_with_flipped_bytes_loads_or_is_a_model_error(flips: list[tuple[int, int]]) -> None:
    data = bytearray(_VALID)
    for position, mask in flips:
        data[position] ^= mask
    try:
        load(bytes(data))
    except ModelError as error:
        assert "\n" not in str(error)  # noqa: PT017
