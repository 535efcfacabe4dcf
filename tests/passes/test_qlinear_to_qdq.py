"""QOperator models rewritten as QDQ answer what ONNX Runtime answers for the original, within one step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from qutec.load import load
from qutec.passes.qlinear_to_qdq import QLinearToQdqPass

Array = npt.NDArray[np.generic]


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(7)
        self._samples = iter([{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(8)])

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        return next(self._samples, None)


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(model: onnx.ModelProto, inputs: dict[str, Array]) -> list[Array]:
    return [np.asarray(result) for result in _session(model).run(None, inputs)]


def _rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    result = QLinearToQdqPass()(ir.from_proto(model))
    assert result.modified
    proto = ir.to_proto(result.model)
    onnx.checker.check_model(proto)
    return proto


def _node_model(
    node: onnx.NodeProto, data: dict[str, Array], parameters: dict[str, Array], output: type[np.generic]
) -> onnx.ModelProto:
    """A model of one quantised node; `data` are its inputs, `parameters` its initializers."""
    kind = helper.np_dtype_to_tensor_dtype
    dims = [f"d{i}" for i in range(next(iter(data.values())).ndim)]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, kind(a.dtype), a.shape) for name, a in data.items()],
        [helper.make_tensor_value_info(node.output[0], kind(np.dtype(output)), dims)],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in parameters.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _assert_agrees(model: onnx.ModelProto, data: dict[str, Array], within: int = 1) -> onnx.ModelProto:
    rewritten = _rewritten(model)
    for expected, actual in zip(_run(model, data), _run(rewritten, data), strict=True):
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        assert np.abs(actual.astype(np.int32) - expected.astype(np.int32)).max() <= within
        assert len(np.unique(expected)) > 3, "the case does not exercise the range"
    return rewritten


def _int8(*shape: int, seed: int = 0, dtype: type[np.integer] = np.int8) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, info.max + 1, shape).astype(dtype)


def _scalars(dtype: type[np.integer], *names_scales_zeros: tuple[str, float, int]) -> dict[str, Array]:
    result: dict[str, Array] = {}
    for name, scale, zero in names_scales_zeros:
        result[f"{name}_scale"] = np.asarray(scale, np.float32)
        result[f"{name}_zero"] = np.asarray(zero, dtype)
    return result


def _names(*names: str) -> list[str]:
    return [part for name in names for part in (name, f"{name}_scale", f"{name}_zero")]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_convolution(dtype: type[np.integer], per_channel: bool) -> None:
    parameters = _scalars(dtype, ("x", 0.05, 5), ("y", 0.25, 9))
    parameters["w"] = _int8(6, 2, 3, 3, seed=1)
    parameters["w_scale"] = np.linspace(0.01, 0.03, 6, dtype=np.float32) if per_channel else np.float32(0.02)
    parameters["w_zero"] = np.zeros(6, np.int8) if per_channel else np.int8(0)
    parameters["b"] = np.arange(-3, 3, dtype=np.int32) * 400
    node = helper.make_node(
        "QLinearConv", [*_names("x", "w"), "y_scale", "y_zero", "b"], ["y"], pads=[1, 0, 1, 0], group=2
    )
    data = {"x": _int8(1, 4, 7, 6, dtype=dtype)}
    rewritten = _assert_agrees(_node_model(node, data, parameters, dtype), data)
    assert Counter(n.op_type for n in rewritten.graph.node) == {
        "DequantizeLinear": 3,
        "Conv": 1,
        "QuantizeLinear": 1,
    }
    tensors = {t.name: numpy_helper.to_array(t) for t in rewritten.graph.initializer}
    np.testing.assert_array_equal(tensors["w"], parameters["w"])
    np.testing.assert_array_equal(tensors["b"], parameters["b"])


@pytest.mark.parametrize("per_column", [False, True])
def test_matmul(per_column: bool) -> None:
    parameters = _scalars(np.int8, ("a", 0.05, -3), ("y", 0.4, 4))
    parameters["b"] = _int8(10, 6, seed=2)
    parameters["b_scale"] = np.linspace(0.01, 0.03, 6, dtype=np.float32) if per_column else np.float32(0.02)
    parameters["b_zero"] = np.zeros(6, np.int8) if per_column else np.int8(0)
    node = helper.make_node("QLinearMatMul", [*_names("a", "b"), "y_scale", "y_zero"], ["y"])
    data = {"a": _int8(1, 10)}
    _assert_agrees(_node_model(node, data, parameters, np.int8), data)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("per_channel", [False, True])
def test_gemm(transposed: int, per_channel: bool) -> None:
    parameters = _scalars(np.int8, ("a", 0.05, -3), ("y", 0.4, 4))
    parameters["b"] = _int8(6, 10, seed=2) if transposed else _int8(10, 6, seed=2)
    parameters["b_scale"] = np.linspace(0.01, 0.03, 6, dtype=np.float32) if per_channel else np.float32(0.02)
    parameters["b_zero"] = np.zeros(6, np.int8) if per_channel else np.int8(0)
    parameters["c"] = np.arange(6, dtype=np.int32) * 700 - 2000
    node = helper.make_node(
        "QGemm",
        [*_names("a", "b"), "c", "y_scale", "y_zero"],
        ["y"],
        domain="com.microsoft",
        transB=transposed,
        alpha=0.5,
    )
    data = {"a": _int8(1, 10)}
    _assert_agrees(_node_model(node, data, parameters, np.int8), data)


@pytest.mark.parametrize(("op", "scale"), [("QLinearAdd", 0.09), ("QLinearMul", 0.2)])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_binary_operators_broadcast(op: str, scale: float, dtype: type[np.integer]) -> None:
    parameters = _scalars(dtype, ("a", 0.05, 3), ("b", 0.04, 7), ("c", scale, 5))
    node = helper.make_node(op, [*_names("a", "b"), "c_scale", "c_zero"], ["c"], domain="com.microsoft")
    data = {"a": _int8(1, 3, 4, 5, dtype=dtype), "b": _int8(3, 1, 1, seed=3, dtype=dtype)}
    _assert_agrees(_node_model(node, data, parameters, dtype), data)


@pytest.mark.parametrize(
    ("op", "attributes", "scale", "zero"),
    [
        ("QLinearSigmoid", {}, 1 / 256, -128),
        ("QLinearLeakyRelu", {"alpha": 0.1}, 0.04, 2),
        ("QLinearSoftmax", {"opset": 13, "axis": 1}, 1 / 256, -128),
        ("QLinearSoftmax", {"opset": 13}, 1 / 256, -128),
        ("QLinearSoftmax", {"opset": 12}, 1 / 256, -128),
        ("QLinearSoftmax", {"opset": 12, "axis": 2}, 1 / 256, -128),
    ],
)
def test_pointwise_operators_and_softmax(
    op: str, attributes: dict[str, float], scale: float, zero: int
) -> None:
    parameters = _scalars(np.int8, ("x", 0.05, 3), ("y", scale, zero))
    node = helper.make_node(
        op, [*_names("x"), "y_scale", "y_zero"], ["y"], domain="com.microsoft", **attributes
    )
    data = {"x": _int8(2, 3, 4)}
    _assert_agrees(_node_model(node, data, parameters, np.int8), data)


@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("op", ["QLinearAveragePool", "QLinearGlobalAveragePool"])
def test_pools(op: str, channels_last: int) -> None:
    parameters = _scalars(np.uint8, ("x", 0.05, 120), ("y", 0.02, 110))
    window = (
        {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
        if op == "QLinearAveragePool"
        else {}
    )
    node = helper.make_node(
        op,
        [*_names("x"), "y_scale", "y_zero"],
        ["y"],
        domain="com.microsoft",
        channels_last=channels_last,
        **window,
    )
    data = {"x": _int8(1, 6, 6, 8, dtype=np.uint8)}
    _assert_agrees(_node_model(node, data, parameters, np.uint8), data)


def test_missing_zero_points_are_zero_of_the_input_type() -> None:
    # ONNX Runtime 1.31 aborts on QLinearLeakyRelu without zero points, so the oracle is numpy.
    node = helper.make_node(
        "QLinearLeakyRelu", ["x", "x_scale", "", "y_scale"], ["y"], domain="com.microsoft", alpha=0.5
    )
    parameters: dict[str, Array] = {"x_scale": np.float32(0.05), "y_scale": np.float32(0.04)}
    data = {"x": _int8(1, 2, 4, 4, dtype=np.uint8)}
    model = _node_model(node, data, parameters, np.uint8)
    (actual,) = _run(_rewritten(model), data)
    expected = np.clip(np.rint(data["x"].astype(np.float64) * 0.05 / 0.04), 0, 255)
    assert np.abs(actual.astype(np.float64) - expected).max() <= 1
    assert len(load(model).model.graph.outputs) == 1


def test_concatenation() -> None:
    parameters = _scalars(np.int8, ("a", 0.05, 3), ("b", 0.03, -7), ("y", 0.06, 1))
    node = helper.make_node(
        "QLinearConcat", ["y_scale", "y_zero", *_names("a", "b")], ["y"], domain="com.microsoft", axis=1
    )
    data = {"a": _int8(1, 3, 4), "b": _int8(1, 2, 4, seed=1)}
    _assert_agrees(_node_model(node, data, parameters, np.int8), data)


def test_parameters_that_are_not_constant_leave_the_node_alone() -> None:
    parameters = _scalars(np.int8, ("x", 0.05, 3), ("y", 0.04, 2))
    scale = parameters.pop("x_scale")
    node = helper.make_node(
        "QLinearSigmoid", [*_names("x"), "y_scale", "y_zero"], ["y"], domain="com.microsoft"
    )
    model = _node_model(node, {"x": _int8(2, 3), "x_scale": scale}, parameters, np.int8)
    assert not QLinearToQdqPass()(ir.from_proto(model)).modified


def test_old_opsets_are_refused() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 7, opset_import: ["" : 12]> g (float[1] x) => (float[1] y) { y = Relu (x) }'
    )
    with pytest.raises(ir.passes.PreconditionError):
        QLinearToQdqPass()(ir.from_proto(model))


def _float_network(opset: int) -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    weights = {
        "w1": rng.standard_normal((6, 3, 3, 3)) * 0.3,
        "w2": rng.standard_normal((6, 1, 3, 3)) * 0.3,
        "b": rng.standard_normal(6) * 0.1,
        "f": rng.standard_normal((12, 4)) * 0.3,
        "c": rng.standard_normal(4) * 0.1,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["c1"], ["r1"], alpha=0.1),
        helper.make_node("Conv", ["r1", "w2", "b"], ["c2"], pads=[1, 1, 1, 1], group=6),
        helper.make_node("Sigmoid", ["c2"], ["s"]),
        helper.make_node("Mul", ["r1", "s"], ["m"]),
        helper.make_node("Add", ["m", "r1"], ["a"]),
        helper.make_node("Concat", ["a", "m"], ["k"], axis=1),
        helper.make_node("AveragePool", ["k"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["g"]),
        helper.make_node("Flatten", ["g"], ["h"]),
        helper.make_node("Gemm", ["h", "f", "c"], ["l"]),
        helper.make_node("Softmax", ["l"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


@pytest.mark.parametrize(("opset", "per_channel"), [(11, False), (13, False), (13, True), (17, True)])
def test_network_quantised_by_onnxruntime(tmp_path: Path, opset: int, per_channel: bool) -> None:
    onnx.save(_float_network(opset), tmp_path / "float.onnx")
    quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "quantized.onnx",
        _Samples((1, 3, 8, 8)),
        quant_format=QuantFormat.QOperator,
        per_channel=per_channel,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    source = onnx.load(tmp_path / "quantized.onnx")
    assert _left(source.graph.node), "the quantizer made no QLinear operators"
    loaded = load(tmp_path / "quantized.onnx")
    proto = ir.to_proto(loaded.model)
    assert not _left(proto.graph.node)
    assert {o.domain for o in proto.opset_import} == {""}
    step = _output_scale(source)
    rng = np.random.default_rng(11)
    for _ in range(5):
        x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
        difference = np.abs(_run(proto, {"x": x})[0] - _run(source, {"x": x})[0]).max()
        assert difference <= 1.01 * step


def _left(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    return [n.op_type for n in nodes if n.op_type.startswith("QLinear") or n.domain == "com.microsoft"]


def _output_scale(model: onnx.ModelProto) -> float:
    """Scale of the DequantizeLinear that makes the model's output."""
    node = next(n for n in model.graph.node if model.graph.output[0].name in n.output)
    tensors = {t.name: t for t in model.graph.initializer}
    return float(numpy_helper.to_array(tensors[node.input[1]]))
