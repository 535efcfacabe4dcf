"""Small ONNX models, and ONNX Runtime without optimizations to run them, for tests of the importer."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper, parser

from qutec.load import LoadedModel

FloatArray = npt.NDArray[np.float32]


def weights(*shape: int, seed: int = 0) -> FloatArray:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.3).astype(np.float32)


def cnn(opset: int = 21, batch: str | int = "N", ir_version: int = 8) -> onnx.ModelProto:
    """Conv, BN, Relu, pool, early exit; Conv, final exit. Valid at every opset from 9 on."""
    arrays = {
        "w1": weights(8, 3, 3, 3),
        "b1": weights(8),
        "scale": np.abs(weights(8, seed=1)) + 0.5,
        "shift": weights(8, seed=2),
        "mean": weights(8, seed=3),
        "var": np.abs(weights(8, seed=4)) + 0.5,
        "w2": weights(16, 8, 3, 3, seed=5),
        "f1": weights(8, 5, seed=6),
        "f2": weights(16, 5, seed=7),
        "c": weights(5, seed=8),
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


def text(body: str, opset: int = 21, ir_version: int = 10) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}]>\n{body}')


def run(
    model: onnx.ModelProto | ir.Model, **inputs: npt.NDArray[np.generic]
) -> list[npt.NDArray[np.generic]]:
    proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(result) for result in session.run(None, inputs)]


def ops(loaded: LoadedModel) -> Counter[str]:
    return Counter(node.op_type for node in loaded.model.graph)


def image(batch: int = 1) -> FloatArray:
    return np.random.default_rng(9).standard_normal((batch, 3, 8, 8)).astype(np.float32)


def qdq(per_channel: bool) -> onnx.ModelProto:
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
