"""Small graphs for tests of the training, by hand, and ONNX Runtime to compare with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

CLASSES = 3
SIDE = 6

Array = npt.NDArray[np.generic]


def single(
    op: str,
    shape: Sequence[int],
    constants: Sequence[Array | None] = (),
    opset: int = 21,
    outputs: int = 1,
    batch: int | str = "N",
    **attributes: object,
) -> onnx.ModelProto:
    """One node: x [batch, *shape] and constants in, `outputs` out."""
    names = ["x", *(f"c{i}" if c is not None else "" for i, c in enumerate(constants))]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, "node", **attributes)
    return _model(
        [node],
        [batch, *shape],
        dict.fromkeys(results),
        {f"c{i}": c for i, c in enumerate(constants) if c is not None},
        opset,
    )


def early_exit_cnn(
    *, heads: bool = True, seed: int = 0, batch: int | str = "N", dropout: bool = False
) -> onnx.ModelProto:
    """A QUTE training graph by hand: x [batch, 1, 6, 6], two convolutions as trunk, EE, EV, final output."""
    rng = np.random.default_rng(seed)

    def random(*shape: int) -> npt.NDArray[np.float32]:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        return (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)

    zeros, ones = np.zeros, np.ones
    constants: dict[str, Array] = {
        "trunk1.w": random(4, 1, 3, 3),
        "bn.scale": ones(4, np.float32),
        "bn.bias": zeros(4, np.float32),
        "bn.mean": zeros(4, np.float32),
        "bn.var": ones(4, np.float32),
        "trunk2.w": random(4, 4, 3, 3),
        "trunk2.b": zeros(4, np.float32),
        "ee.w": random(4, 4, 1, 1),
        "ee.dw": random(4, 1, 3, 3),
        "ee.db": random(4),
        "ee.fw": random(4, CLASSES),
        "ee.fb": zeros(CLASSES, np.float32),
        "ev.dw": random(4, 1, 3, 3),
        "ev.db": random(4),
        "ev.fw": random(4, CLASSES),
        "ev.fb": zeros(CLASSES, np.float32),
        "f.w": random(4, CLASSES),
        "f.b": zeros(CLASSES, np.float32),
    }
    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "trunk1.w"], ["t1"], "trunk1", **same),
        helper.make_node(
            "BatchNormalization",
            ["t1", "bn.scale", "bn.bias", "bn.mean", "bn.var"],
            ["t2"],
            "bn",
            momentum=0.8,
        ),
        helper.make_node("Relu", ["t2"], ["t3"], "relu1"),
        helper.make_node("Conv", ["t3", "trunk2.w", "trunk2.b"], ["t4"], "trunk2", **same),
        helper.make_node("Relu", ["t4"], ["t5"], "relu2"),
        helper.make_node("Conv", ["t3", "ee.w"], ["e1"], "ee_pointwise"),
        *_head("ee", "e1", "early_exit"),
        *_head("ev", "t5", "early_view"),
        helper.make_node("GlobalAveragePool", ["t5"], ["f1"], "f_pool"),
        helper.make_node("Flatten", ["f1"], ["f2"], "f_flatten"),
        *([helper.make_node("Dropout", ["f2"], ["f2d"], "drop")] if dropout else []),
        helper.make_node("Gemm", ["f2d" if dropout else "f2", "f.w", "f.b"], ["f3"], "f_dense"),
        helper.make_node("Softmax", ["f3"], ["final"], "f_softmax", axis=1),
    ]
    outputs = {name: [batch, CLASSES] for name in ("early_exit", "early_view", "final")}
    model = _model(nodes, [batch, 1, SIDE, SIDE], outputs, constants, 18)
    if heads:
        entries = [
            {
                "output": "early_exit",
                "kind": "early_exit",
                "index": 1,
                "depthwise_weights": "ee.dw",
                "depthwise_bias": "ee.db",
            },
            {
                "output": "early_view",
                "kind": "early_view",
                "index": 1,
                "depthwise_weights": "ev.dw",
                "depthwise_bias": "ev.db",
            },
            {
                "output": "final",
                "kind": "final",
                "index": 0,
                "depthwise_weights": None,
                "depthwise_bias": None,
            },
        ]
        helper.set_model_props(model, {"qutec.heads": json.dumps(entries), "author": "someone"})
    return model


def stripes(count: int, seed: int = 0) -> dict[str, Array]:
    """Data that a small network can learn: the class is where a bright row lies; a quarter is test data."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    images = rng.normal(0.0, 0.3, (count, 1, SIDE, SIDE)).astype(np.float32)
    images[np.arange(count), 0, 2 * labels] += 1.5
    held_out = count // 4
    return {
        "x_train": images[held_out:],
        "y_train": labels[held_out:],
        "x_test": images[:held_out],
        "y_test": labels[:held_out],
    }


def initializers(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def by_ort(model: onnx.ModelProto, x: Array) -> dict[str, Array]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: x}), strict=True))


def _head(prefix: str, source: str, output: str) -> list[onnx.NodeProto]:
    n = [f"{prefix}_{i}" for i in range(5)]
    return [
        helper.make_node(
            "Conv",
            [source, f"{prefix}.dw", f"{prefix}.db"],
            [n[0]],
            f"{prefix}_depthwise",
            pads=[1, 1, 1, 1],
            group=4,
        ),
        helper.make_node("Relu", [n[0]], [n[1]], f"{prefix}_relu"),
        helper.make_node("GlobalAveragePool", [n[1]], [n[2]], f"{prefix}_pool"),
        helper.make_node("Flatten", [n[2]], [n[3]], f"{prefix}_flatten"),
        helper.make_node("Gemm", [n[3], f"{prefix}.fw", f"{prefix}.fb"], [n[4]], f"{prefix}_dense"),
        helper.make_node("Softmax", [n[4]], [output], f"{prefix}_softmax", axis=1),
    ]


def _model(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    outputs: Mapping[str, Sequence[int | str] | None],
    constants: Mapping[str, Array],
    opset: int,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 19 else 10
    )
