"""Models that others quantised: their parameters are taken over exactly."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from qutec.load import load
from qutec.lower import lower
from qutec.program import Conv2D, DepthwiseConv2D, FullyConnected
from qutec.reference import run_program
from tests.lower.harness import (
    Array,
    assert_plan_is_valid,
    layer_errors,
    net,
    rows,
    run_onnx,
    run_samples,
    signed,
    weights,
)

SHARED = Path(os.environ.get("QUTEC_SHARED", Path(__file__).parents[3] / "shared"))


@pytest.mark.parametrize(
    ("model", "recorded"),
    [
        ("mlperf_resnet8_ic_int8_qdq_b1", "tflm_mlperf_resnet8_ic_int8"),
        ("mlperf_dscnn_kws_int8_qdq_b1", "tflm_mlperf_dscnn_kws_int8"),
        ("mlperf_dscnn_kws_int8_qdq_dyn", "tflm_mlperf_dscnn_kws_int8"),
    ],
)
@pytest.mark.parametrize("simplify", [False, True])
def test_mlperf_tiny_model_answers_what_tensorflow_lite_micro_recorded(
    model: str, recorded: str, simplify: bool
) -> None:
    path, answers = SHARED / "models" / f"{model}.onnx", SHARED / "models" / f"{recorded}.npz"
    if not path.is_file() or not answers.is_file():
        pytest.skip(f"{path.name} and {answers.name} are not in $QUTEC_SHARED/models")
    program = lower(load(path, simplify=simplify).model, "net")
    with np.load(answers) as data:
        x, y = data["x"], data["y"]
    (ours,) = run_program(program, [x])
    np.testing.assert_array_equal(ours.reshape(y.shape), y)
    assert not {"Lookup", "Copy", "Gather", "Fill"} & {type(call).__name__ for call in program.calls}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: list[dict[str, Array]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._feeds, None)


def _cnn() -> onnx.ModelProto:
    return net(
        """(float[1,3,12,10] x) => (float y) {
            c1 = Conv<pads=[1,1,1,1]>(x, w1, b1)  r1 = Relu(c1)
            c2 = Conv<group=6,pads=[1,1,1,1]>(r1, w2, b2)  r2 = Clip(c2, zero, six)
            c3 = Conv(r2, w3, b3)  s = Add(c3, r1)  r3 = Relu(s)
            p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r3)
            q = Concat<axis=1>(p, p2)  p2 = AveragePool<kernel_shape=[2,2],strides=[2,2]>(c3)
            g = GlobalAveragePool(q)  f = Flatten(g)  d = Gemm<transB=1>(f, w4, b4)
            y = Softmax<axis=1>(d) }""".replace(
            "q = Concat<axis=1>(p, p2)  p2 = AveragePool<kernel_shape=[2,2],strides=[2,2]>(c3)",
            "p2 = AveragePool<kernel_shape=[2,2],strides=[2,2]>(c3)  q = Concat<axis=1>(p, p2)",
        ),
        opset=17,
        w1=weights(6, 3, 3, 3),
        b1=weights(6),
        w2=weights(6, 1, 3, 3, seed=1),
        b2=weights(6, seed=1),
        w3=weights(6, 6, 1, 1, seed=2),
        b3=weights(6, seed=2),
        w4=weights(5, 12, seed=3),
        b4=weights(5, seed=3),
        zero=np.float32(0),
        six=np.float32(6),
    )


def _quantize_static(
    folder: Path, model: onnx.ModelProto, feeds: list[dict[str, Array]], **options: Any
) -> bytes:
    source, target = folder / "float.onnx", folder / "quantized.onnx"
    onnx.save(model, source)
    quantize_static(source, target, _Reader(feeds), **options)
    return target.read_bytes()


@pytest.mark.parametrize("quant_format", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("activation", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_model_of_onnxruntimes_quantizer(
    tmp_path: Path, quant_format: QuantFormat, activation: QuantType, per_channel: bool
) -> None:
    samples = {"x": np.random.default_rng(0).standard_normal((4, 3, 12, 10)).astype(np.float32)}
    data = _quantize_static(
        tmp_path,
        _cnn(),
        rows(samples),
        quant_format=quant_format,
        activation_type=activation,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
        extra_options={"WeightSymmetric": True},
    )
    loaded = load(data, simplify=False).model
    proto = ir.to_proto(loaded)
    errors = layer_errors(proto, samples)
    # The softmax is requantised from 1/256 to what the file says: two roundings.
    assert len(errors) > 5
    assert max(errors.values()) <= 2, errors
    assert sorted(errors.values())[-2] <= 1, errors
    program = lower(loaded, "net")
    assert_plan_is_valid(program)
    ours = run_samples(program, samples)["y"].astype(float)
    quantization = program.outputs[0].quantization
    theirs = run_onnx(onnx.load_model_from_string(data), rows(samples))["y"]
    distance = np.abs((ours - quantization.zero_point) * quantization.scale - theirs.reshape(ours.shape))
    assert distance.max() <= 3 * quantization.scale


def test_weights_of_the_file_are_in_the_program(tmp_path: Path) -> None:
    samples = {"x": np.random.default_rng(0).standard_normal((2, 3, 12, 10)).astype(np.float32)}
    data = _quantize_static(
        tmp_path,
        _cnn(),
        rows(samples),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(data).graph.initializer}
    program = lower(load(data, simplify=False).model, "net")
    conv, depthwise = program.calls[0], program.calls[1]
    assert isinstance(conv, Conv2D)
    assert isinstance(depthwise, DepthwiseConv2D)
    np.testing.assert_array_equal(conv.weights.transpose(0, 3, 1, 2), stored["w1_quantized"])
    np.testing.assert_array_equal(conv.bias, stored["b1_quantized"])
    np.testing.assert_array_equal(depthwise.weights.transpose(2, 0, 1)[:, None], stored["w2_quantized"])


def test_unsigned_weights_of_a_dense_layer_keep_their_zero_point(tmp_path: Path) -> None:
    model = net(
        "(float[1,20] x) => (float y) { y = Gemm(x, w, b) }", opset=17, w=weights(20, 6), b=weights(6)
    )
    samples = {"x": np.random.default_rng(0).standard_normal((4, 20)).astype(np.float32)}
    data = _quantize_static(
        tmp_path,
        model,
        rows(samples),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QUInt8,
        extra_options={"WeightSymmetric": False},
    )
    loaded = load(data, simplify=False).model
    (call,) = lower(loaded, "net").calls
    assert isinstance(call, FullyConnected)
    assert call.filter_offset != 0
    assert max(layer_errors(ir.to_proto(loaded), samples).values()) <= 1


def _qdq(
    nodes: list[onnx.NodeProto], inputs: dict[str, list[int]], outputs: list[str], **constants: npt.ArrayLike
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "qdq",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def _pair(name: str, scale: str = "s", zero: str = "z") -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_d"]),
    ]


def test_quantisation_before_and_after_a_relu_makes_a_table() -> None:
    """A file may say the parameters of the value before an activation too; both roundings are kept."""
    nodes = [
        *_pair("x"),
        helper.make_node("Conv", ["x_d", "w"], ["c"]),
        *_pair("c", "t"),
        helper.make_node("Relu", ["c_d"], ["r"]),
        *_pair("r", "u", "v"),
    ]
    model = _qdq(
        nodes, {"x": [1, 3, 5, 5]}, ["r_d"],
        s=np.float32(0.03), z=np.int8(3), t=np.float32(0.05), u=np.float32(0.02), v=np.int8(-128),
        w=weights(4, 3, 2, 2),
    )  # fmt: skip
    samples = {"x": np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype(np.float32)}
    loaded = load(model, simplify=False).model
    assert [type(call).__name__ for call in lower(loaded, "net").calls] == ["Conv2D", "Lookup"]
    assert max(layer_errors(ir.to_proto(loaded), samples).values()) <= 1


def test_quantised_weights_behind_transpose_and_a_second_pair() -> None:
    """DequantizeLinear, Transpose, QuantizeLinear, DequantizeLinear on weights are followed."""
    integers = np.random.default_rng(0).integers(-127, 128, (8, 5)).astype(np.int8)
    nodes = [
        *_pair("x"),
        helper.make_node("DequantizeLinear", ["w", "t"], ["w_d"]),
        helper.make_node("Transpose", ["w_d"], ["w_t"], perm=[1, 0]),
        helper.make_node("QuantizeLinear", ["w_t", "t", "z0"], ["w_q"]),
        helper.make_node("DequantizeLinear", ["w_q", "t", "z0"], ["w_dd"]),
        helper.make_node("Gemm", ["x_d", "w_dd"], ["g"], transB=1),
        *_pair("g", "u"),
    ]
    model = _qdq(
        nodes, {"x": [1, 8]}, ["g_d"],
        s=np.float32(0.03), z=np.int8(3), t=np.float32(0.02), u=np.float32(0.1), z0=np.int8(0), w=integers,
    )  # fmt: skip
    loaded = load(model, simplify=False).model
    (call,) = lower(loaded, "net").calls
    assert isinstance(call, FullyConnected)
    np.testing.assert_array_equal(call.weights, integers.T)


def test_one_value_quantised_in_two_ways() -> None:
    nodes = [
        *_pair("x"),
        helper.make_node("Conv", ["x_d", "w"], ["c"]),
        *_pair("c", "t"),
        helper.make_node("QuantizeLinear", ["c", "u", "z"], ["k_q"]),
        helper.make_node("DequantizeLinear", ["k_q", "u", "z"], ["k_d"]),
    ]
    model = _qdq(
        nodes, {"x": [1, 3, 5, 5]}, ["c_d", "k_d"],
        s=np.float32(0.03), z=np.int8(3), t=np.float32(0.05), u=np.float32(0.02), w=weights(4, 3, 2, 2),
    )  # fmt: skip
    samples = {"x": np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype(np.float32)}
    loaded = load(model, simplify=False).model
    program = lower(loaded, "net")
    scales = [port.quantization.scale for port in program.outputs]
    assert scales == [float(np.float32(0.05)), float(np.float32(0.02))]
    assert max(layer_errors(ir.to_proto(loaded), samples).values()) <= 1


def test_scale_is_kept_to_the_last_bit() -> None:
    scale = np.nextafter(np.float32(0.03), np.float32(1))
    nodes = [*_pair("x"), helper.make_node("MaxPool", ["x_d"], ["p"], kernel_shape=[2, 2]), *_pair("p")]
    model = _qdq(nodes, {"x": [1, 3, 5, 5]}, ["p_d"], s=scale, z=np.uint8(131))
    program = lower(load(model, simplify=False).model, "net")
    for port in (*program.inputs, *program.outputs):
        assert port.quantization.scale == float(scale)
        assert port.quantization.zero_point == 3


def test_unsigned_codes_are_moved_by_128() -> None:
    nodes = [*_pair("x"), helper.make_node("Conv", ["x_d", "w"], ["c"]), *_pair("c", "t", "y")]
    model = _qdq(
        nodes, {"x": [1, 2, 4, 4]}, ["c_d"],
        s=np.float32(0.02), z=np.uint8(120), t=np.float32(0.03), y=np.uint8(128), w=weights(3, 2, 2, 2),
    )  # fmt: skip
    samples = {"x": np.random.default_rng(0).standard_normal((4, 2, 4, 4)).astype(np.float32)}
    loaded = load(model, simplify=False).model
    ours = run_samples(lower(loaded, "net"), samples)["c_d"].astype(float)
    theirs = run_onnx(ir.to_proto(loaded), rows(samples))["c_d"].reshape(ours.shape)
    np.testing.assert_allclose(ours * np.float32(0.03), theirs, atol=0.031)
    assert signed(np.array([0, 128, 255], np.uint8)).tolist() == [-128, 0, 127]
