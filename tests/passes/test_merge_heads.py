"""Merging heads keeps the float answer, and its int8 form keeps the uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from qutec.errors import UnsupportedModelError
from qutec.heads import RESULTS
from qutec.load import load
from qutec.lower import lower
from qutec.passes.merge_heads import MergeHeadsPass
from qutec.planner import plan_program, validate_plan
from qutec.program import HeadFeatures, HeadLogits, HeadUncertainty
from qutec.quantize import quantize
from qutec.reference import run_program

FloatArray = npt.NDArray[np.float32]


@dataclass
class Net:
    """Collects the nodes of a small network."""

    seed: int = 0

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def weight(
        self, name: str, *shape: int, scale: float = 0.4, factors: npt.NDArray[np.float64] | None = None
    ) -> str:
        data = (self.random.standard_normal(shape) * scale).astype(np.float32)
        if factors is not None:
            data = (data * factors).astype(np.float32)
        self.constants.append(numpy_helper.from_array(data, name))
        return name

    def add(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def model(self, shape: list[int], outputs: dict[str, int]) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, c]) for n, c in outputs.items()],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 17)]
        data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
        return data


def ev_network(
    heads: int,
    *,
    relu: bool,
    size: tuple[int, ...] = (7, 6),
    kernel: int = 3,
    stride: int = 1,
    channels: int = 6,
    classes: int = 5,
    pads: list[int] | None = None,
    spread: float = 1.0,
    bias: float = 0.2,
) -> bytes:
    """A trunk of one convolution and K EV blocks on its map; 1-D where `size` has one number.

    Depthwise weights of the last channel are `spread` times smaller than those of the first, and what
    follows them is that much larger.
    """
    net, rank = Net(heads + stride), len(size)
    window = [kernel] * rank
    same = [kernel // 2] * (2 * rank)
    trunk = net.add(
        "Conv",
        ["x", net.weight("w", channels, 3, *[3] * rank), net.weight("b", channels)],
        "c",
        pads=[1] * (2 * rank),
    )
    trunk = net.add("Relu", [trunk], "f")
    outputs = {}
    for k in range(heads):
        sizes = np.geomspace(1, 1 / spread, channels)
        weights = [
            net.weight(f"dw{k}", channels, 1, *window, factors=sizes.reshape(-1, 1, *[1] * rank)),
            net.weight(f"db{k}", channels, scale=bias, factors=sizes),
        ]
        value = net.add(
            "Conv", [trunk, *weights], f"d{k}", group=channels, pads=pads or same, strides=[stride] * rank
        )
        if relu:
            value = net.add("Relu", [value], f"r{k}")
        value = net.add("Flatten", [net.add("GlobalAveragePool", [value], f"g{k}")], f"flat{k}")
        dense = [
            net.weight(f"W{k}", classes, channels, scale=1.5, factors=1 / sizes),
            net.weight(f"B{k}", classes),
        ]
        logits = net.add("Gemm", [value, *dense], f"l{k}", transB=1)
        outputs[net.add("Softmax", [logits], f"out{k}", axis=-1)] = classes
    return net.model([1, 3, *size], outputs)


def run(model: ir.Model, x: FloatArray) -> list[FloatArray]:
    """Outputs of onnxruntime for each row of x, stacked."""
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    rows = [session.run(None, {"x": row[None]}) for row in x]
    return [np.concatenate([np.asarray(row[k]) for row in rows]) for k in range(len(rows[0]))]


def uncertainty_of(heads: FloatArray) -> dict[str, npt.NDArray[np.float64]]:
    """Results from softmax vectors [K, samples, L], from the definitions."""
    p = heads.astype(np.float64)
    mean = p.mean(axis=0)

    def entropy(q: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return -(q * np.log(np.maximum(q, 1e-30))).sum(axis=-1)

    return {
        "probabilities": mean,
        "label": mean.argmax(axis=-1),
        "confidence": mean.max(axis=-1),
        "entropy": entropy(mean),
        "disagreement": entropy(mean) - entropy(p).mean(axis=0),
    }


CASES = {
    "linear": {"heads": 2, "relu": False},
    "relu": {"heads": 2, "relu": True},
    "one head": {"heads": 1, "relu": True},
    "ten heads": {"heads": 10, "relu": False},
    "1-D linear": {"heads": 3, "relu": False, "size": (20,)},
    "1-D relu": {"heads": 2, "relu": True, "size": (20,)},
    "stride 2": {"heads": 2, "relu": False, "stride": 2},
    "stride 2 relu": {"heads": 2, "relu": True, "stride": 2},
    "5x5": {"heads": 2, "relu": False, "kernel": 5},
    "even kernel, uneven pads": {"heads": 2, "relu": True, "kernel": 2, "pads": [0, 0, 1, 1]},
    "no padding": {"heads": 2, "relu": False, "pads": [0, 0, 0, 0]},
    "channels of all sizes": {"heads": 2, "relu": False, "spread": 20.0},
    "channels of all sizes, relu": {"heads": 2, "relu": True, "spread": 20.0},
    "large biases": {"heads": 2, "relu": False, "bias": 3.0},
    "large biases, relu": {"heads": 2, "relu": True, "bias": 3.0},
    "three channels": {"heads": 2, "relu": False, "channels": 3},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_merged_ev_blocks_answer_the_same_in_float(case: dict[str, object]) -> None:
    source = load(ev_network(**case)).model  # type: ignore[arg-type]
    x = (
        np.random.default_rng(1)
        .standard_normal((8, *source.graph.inputs[0].shape.numpy()[1:]))
        .astype(np.float32)
    )
    before = np.stack(run(source, x))
    merged = MergeHeadsPass()(source).model
    onnx.checker.check_model(ir.to_proto(merged), full_check=True)
    after = run(merged, x)
    expected = uncertainty_of(before)
    assert [value.name for value in merged.graph.outputs] == list(RESULTS)
    for name, result in zip(RESULTS, after, strict=True):
        if name != "abstain":
            np.testing.assert_allclose(result, expected[name], atol=1e-5, err_msg=name)
    assert sum(node.op_type == "Conv" for node in merged.graph) == 1


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_int8_heads_keep_the_uncertainty(case: dict[str, object]) -> None:
    merged = MergeHeadsPass(abstain_below=0.5)(load(ev_network(**case)).model).model  # type: ignore[arg-type]
    x = (
        np.random.default_rng(2)
        .standard_normal((64, *merged.graph.inputs[0].shape.numpy()[1:]))
        .astype(np.float32)
    )
    exact = dict(zip(RESULTS, run(merged, x), strict=True))
    quantized = quantize(merged, x)
    quantized_float = dict(zip(RESULTS, run(quantized, x), strict=True))
    program = lower(quantized, "net")
    kinds = [type(call) for call in program.calls]
    assert kinds[-3:] == [HeadFeatures, HeadLogits, HeadUncertainty]
    assert len(kinds) == 4
    plan = plan_program(program, [0] * len(kinds))
    validate_plan(program, [0] * len(kinds), plan)
    port = program.inputs[0]
    codes = np.rint(x / np.float32(port.quantization.scale)) + port.quantization.zero_point
    outputs = run_program(program, [np.clip(codes, -128, 127).astype(np.int8)])
    results = {
        p.name: values.astype(np.float64) * p.quantization.scale
        for p, values in zip(program.outputs, outputs, strict=True)
    }
    # The head itself: the integers against onnxruntime on the very same int8 map, but for int8 weights.
    np.testing.assert_allclose(results["probabilities"][:, 0], quantized_float["probabilities"], atol=0.03)
    np.testing.assert_allclose(results["entropy"][:, 0], quantized_float["entropy"], atol=0.06)
    np.testing.assert_allclose(results["disagreement"][:, 0], quantized_float["disagreement"], atol=0.02)
    np.testing.assert_allclose(results["probabilities"].sum(axis=-1), 1.0, atol=1e-6)
    confidence = results["probabilities"].max(axis=-1)
    np.testing.assert_array_equal(results["confidence"].reshape(-1), confidence.reshape(-1))
    np.testing.assert_array_equal(results["abstain"].reshape(-1), confidence.reshape(-1) < 0.5)
    assert (results["label"].reshape(-1) == exact["label"]).mean() > 0.9


def test_exits_of_any_kind_are_averaged_on_their_logits() -> None:
    net = Net(3)
    trunk = net.add("Relu", [net.add("Conv", ["x", net.weight("w", 4, 3, 3, 3)], "c")], "f")
    early = net.add("Flatten", [net.add("MaxPool", [trunk], "m", kernel_shape=[2, 2], strides=[2, 2])], "e")
    first = net.add("Gemm", [early, net.weight("W1", 36, 5), net.weight("B1", 5)], "l1")
    deep = net.add("Flatten", [net.add("GlobalAveragePool", [trunk], "g")], "d")
    second = net.add("MatMul", [deep, net.weight("W2", 4, 5, scale=2.0)], "l2")
    outputs = {net.add("Softmax", [first], "early", axis=1): 5, net.add("Identity", [second], "late"): 5}
    source = load(net.model([1, 3, 8, 8], outputs)).model
    x = np.random.default_rng(4).standard_normal((40, 3, 8, 8)).astype(np.float32)
    before = run(source, x)
    late = np.exp(before[1] - before[1].max(axis=-1, keepdims=True))
    expected = uncertainty_of(np.stack([before[0], late / late.sum(axis=-1, keepdims=True)]))
    merged = MergeHeadsPass()(source).model
    after = dict(zip(RESULTS, run(merged, x), strict=True))
    for name, values in expected.items():
        np.testing.assert_allclose(after[name], values, atol=1e-5, err_msg=name)
    program = lower(quantize(merged, x), "net")
    kinds = [type(call).__name__ for call in program.calls]
    assert kinds.count("HeadLogits") == 2
    assert kinds.count("HeadUncertainty") == 1
    assert "Softmax" not in kinds


def test_exits_that_come_quantised_are_averaged_on_their_logits() -> None:
    net = Net(8)
    trunk = net.add("Relu", [net.add("Conv", ["x", net.weight("w", 4, 3, 3, 3)], "c")], "f")
    flat = net.add("Flatten", [net.add("GlobalAveragePool", [trunk], "g")], "d")
    outputs = {}
    for k in range(2):
        logits = net.add(
            "Gemm", [flat, net.weight(f"W{k}", 4, 5, scale=4.0), net.weight(f"B{k}", 5)], f"l{k}"
        )
        outputs[net.add("Softmax", [logits], f"out{k}", axis=1)] = 5
    source = load(net.model([1, 3, 8, 8], outputs)).model
    x = np.random.default_rng(9).standard_normal((40, 3, 8, 8)).astype(np.float32)
    expected = np.mean(run(source, x), axis=0)
    quantized = load(ir.to_proto(quantize(source, x)), simplify=False).model
    results = dict(zip(RESULTS, run(MergeHeadsPass()(quantized).model, x), strict=True))
    assert np.ptp(expected.max(axis=1)) > 0.2
    np.testing.assert_allclose(results["probabilities"], expected, atol=0.03)


def test_a_sigmoid_is_refused() -> None:
    net = Net(10)
    logits = net.add("Gemm", [net.add("Flatten", ["x"], "flat"), net.weight("W", 12, 3)], "l")
    with pytest.raises(UnsupportedModelError, match="sigmoid"):
        MergeHeadsPass()(load(net.model([1, 3, 2, 2], {net.add("Sigmoid", [logits], "p"): 3})).model)


def test_classes_that_differ_are_refused() -> None:
    net = Net(5)
    flat = net.add("Flatten", ["x"], "flat")
    outputs = {}
    for name, classes in (("a", 3), ("b", 4)):
        logits = net.add("Gemm", [flat, net.weight(f"W{name}", 12, classes)], f"l{name}")
        outputs[net.add("Softmax", [logits], name, axis=1)] = classes
    with pytest.raises(UnsupportedModelError, match=r"\[1, 3\], \[1, 4\]"):
        MergeHeadsPass()(load(net.model([1, 3, 2, 2], outputs)).model)


def test_outputs_keep_apart_from_names_that_are_taken() -> None:
    net = Net(6)
    flat = net.add("Flatten", ["x"], "label")
    logits = net.add("Gemm", [flat, net.weight("W", 12, 3)], "entropy")
    source = load(net.model([1, 3, 2, 2], {net.add("Softmax", [logits], "probabilities", axis=1): 3})).model
    merged = MergeHeadsPass()(source).model
    names = [value.name for value in merged.graph.outputs]
    assert len(set(names)) == len(RESULTS)
    assert names[0] == "probabilities"
    onnx.checker.check_model(ir.to_proto(merged))
