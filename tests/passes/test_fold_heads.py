"""Heads of any shape keep their float answers through the folds, and end in the merged head kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qutec.attach import attach
from qutec.load import load
from qutec.lower import lower
from qutec.passes.fold_batch_norm import FoldBatchNormPass
from qutec.passes.fold_temperature import FoldTemperaturePass
from qutec.passes.merge_heads import MergeHeadsPass
from qutec.passes.select_exits import SelectExitsPass
from qutec.program import HeadFeatures, HeadLogits, HeadUncertainty
from qutec.quantize import quantize
from tests.onnx_models import run

FloatArray = npt.NDArray[np.float32]

NormPlace: TypeAlias = Literal["none", "after depthwise", "after pool", "before dense", "after dense"]
Dense: TypeAlias = Literal["gemm", "gemm, alpha and beta", "matmul, add", "matmul"]
Factor: TypeAlias = Literal["none", "div", "mul", "div by class", "mul by class"]

NORMS: list[NormPlace] = ["none", "after depthwise", "after pool", "before dense", "after dense"]
DENSES: list[Dense] = ["gemm", "gemm, alpha and beta", "matmul, add", "matmul"]
FACTORS: list[Factor] = ["none", "div", "mul", "div by class", "mul by class"]

TOLERANCE = 1e-5
CLASSES = 5
SAMPLES = 6


@dataclass(frozen=True)
class Heads:
    """K EV blocks on the map of one convolution; `size` has one or two axes."""

    heads: int = 2
    size: tuple[int, ...] = (6, 5)
    channels: int = 4
    kernel: int = 3
    stride: int = 1
    pads: tuple[int, int] = (1, 1)
    relu: bool = False
    norm: NormPlace = "none"
    dense: Dense = "gemm"
    factor: Factor = "none"
    seed: int = 0

    def proto(self) -> onnx.ModelProto:
        """The network: x [1, 3, *size] to one softmax vector for each head."""
        return _Builder(self).proto()


class _Builder:
    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._random = np.random.default_rng(heads.seed)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def proto(self) -> onnx.ModelProto:
        heads, rank = self._heads, len(self._heads.size)
        weights = self._weights(heads.channels, 3, *[3] * rank)
        trunk = self._op("Conv", ["x", weights, self._weights(heads.channels)], pads=[1] * (2 * rank))
        trunk = self._op("Relu", [trunk])
        outputs = [self._head(trunk) for _ in range(heads.heads)]
        graph = helper.make_graph(
            self._nodes,
            "heads",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, *heads.size])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CLASSES]) for name in outputs],
            self._constants,
        )
        opsets = [helper.make_opsetid("", 21)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def _head(self, trunk: str) -> str:
        heads, rank = self._heads, len(self._heads.size)
        weights = self._weights(heads.channels, 1, *[heads.kernel] * rank)
        value = self._op(
            "Conv",
            [trunk, weights, self._weights(heads.channels)],
            group=heads.channels,
            strides=[heads.stride] * rank,
            pads=[heads.pads[0]] * rank + [heads.pads[1]] * rank,
        )
        value = self._norm(value, "after depthwise", heads.channels)
        if heads.relu:
            value = self._op("Relu", [value])
        value = self._norm(self._op("GlobalAveragePool", [value]), "after pool", heads.channels)
        value = self._norm(self._op("Flatten", [value]), "before dense", heads.channels)
        value = self._norm(self._dense(value), "after dense", CLASSES)
        return self._op("Softmax", [self._scaled(value)], axis=1)

    def _dense(self, value: str) -> str:
        heads = self._heads
        weights, bias = self._weights(heads.channels, CLASSES, scale=1.5), self._weights(CLASSES)
        if heads.dense == "gemm":
            return self._op("Gemm", [value, weights, bias])
        if heads.dense == "gemm, alpha and beta":
            transposed = self._weights(CLASSES, heads.channels, scale=1.5)
            return self._op("Gemm", [value, transposed, bias], alpha=0.7, beta=1.6, transB=1)
        product = self._op("MatMul", [value, weights])
        return self._op("Add", [bias, product]) if heads.dense == "matmul, add" else product

    def _norm(self, value: str, place: NormPlace, channels: int) -> str:
        if self._heads.norm != place:
            return value
        positive = [self._constant(self._random.uniform(0.5, 1.5, channels)) for _ in range(2)]
        centre = [self._weights(channels) for _ in range(2)]
        return self._op("BatchNormalization", [value, positive[0], *centre, positive[1]])

    def _scaled(self, value: str) -> str:
        factor = self._heads.factor
        if factor == "none":
            return value
        count = CLASSES if factor.endswith("class") else 1
        known = self._constant(self._random.uniform(0.5, 2.0, count))
        return self._op(factor.split()[0].capitalize(), [value, known])

    def _weights(self, *shape: int, scale: float = 0.5) -> str:
        return self._constant(self._random.standard_normal(shape) * scale)

    def _constant(self, values: npt.NDArray[np.float64]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def _op(self, op_type: str, inputs: list[str], **attributes: object) -> str:
        name = f"{op_type.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, inputs, [name], name, **attributes))
        return name


@st.composite
def some_heads(draw: st.DrawFn) -> Heads:
    kernel = draw(st.integers(1, 4))
    pads = draw(st.tuples(st.integers(0, kernel - 1), st.integers(0, kernel - 1)))
    size = draw(st.lists(st.integers(kernel, 9), min_size=1, max_size=2))
    return Heads(
        heads=draw(st.integers(1, 10)),
        size=tuple(size),
        channels=draw(st.integers(2, 7)),
        kernel=kernel,
        stride=draw(st.integers(1, 3)),
        pads=pads,
        relu=draw(st.booleans()),
        norm=draw(st.sampled_from(NORMS)),
        dense=draw(st.sampled_from(DENSES)),
        factor=draw(st.sampled_from(FACTORS)),
        seed=draw(st.integers(0, 10_000)),
    )


def inputs(shape: tuple[int, ...], seed: int = 1) -> FloatArray:
    return np.random.default_rng(seed).standard_normal((SAMPLES, *shape)).astype(np.float32)


def answers(model: onnx.ModelProto | ir.Model, x: FloatArray, name: str = "x") -> FloatArray:
    """Every output of onnxruntime for each sample alone: [outputs, samples, ...]."""
    rows = [run(model, **{name: row[None]}) for row in x]
    return np.stack([np.concatenate([row[k].reshape(1, -1) for row in rows]) for k in range(len(rows[0]))])


def tempered(probabilities: FloatArray, temperature: float) -> npt.NDArray[np.float64]:
    """softmax(log p / T): what dividing the logits makes of probabilities p."""
    p = np.power(np.maximum(probabilities.astype(np.float64), 1e-300), 1 / temperature)
    scaled: npt.NDArray[np.float64] = p / p.sum(axis=-1, keepdims=True)
    return scaled


def folded(model: ir.Model, temperature: float = 1.0) -> ir.Model:
    return FoldTemperaturePass(temperature)(FoldBatchNormPass()(model).model).model


def assert_head_kernels_follow_the_trunk(model: ir.Model, trunk: int) -> None:
    """After so many convolutions there is what the head kernels take, and nothing else."""
    calls = [type(call) for call in lower(model, "net").calls]
    assert calls[trunk:] == [HeadFeatures, HeadLogits, HeadUncertainty]


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(some_heads(), st.booleans(), st.sampled_from([1.0, 0.4, 2.5]))
def test_folded_heads_answer_the_same_and_reach_the_head_kernel(
    heads: Heads, simplify: bool, temperature: float
) -> None:
    proto = heads.proto()
    x = inputs((3, *heads.size))
    expected = tempered(answers(proto, x), temperature)
    model = folded(load(proto, simplify=simplify).model, temperature)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    np.testing.assert_allclose(answers(model, x), expected, atol=TOLERANCE)
    kept = {"Conv", "Flatten", "Gemm", "GlobalAveragePool", "MatMul", "Add", "Relu", "Softmax"}
    assert {node.op_type for node in model.graph} <= kept | {"Reshape", "ReduceMean", "Squeeze"}
    merged = MergeHeadsPass()(model).model
    np.testing.assert_allclose(run(merged, x=x[:1])[0][0], expected[:, 0].mean(axis=0), atol=TOLERANCE)
    assert_head_kernels_follow_the_trunk(quantize(merged, x), trunk=1)


@pytest.mark.parametrize("norm", NORMS[1:])
@pytest.mark.parametrize("dense", DENSES)
@pytest.mark.parametrize("simplify", [True, False], ids=["simplified", "unsimplified"])
def test_batch_normalisation_anywhere_in_a_head_folds(norm: NormPlace, dense: Dense, simplify: bool) -> None:
    heads = Heads(norm=norm, dense=dense, relu=norm != "after depthwise", seed=3)
    proto = heads.proto()
    x = inputs((3, *heads.size))
    model = FoldBatchNormPass()(load(proto, simplify=simplify).model).model
    assert not any(node.op_type == "BatchNormalization" for node in model.graph)
    np.testing.assert_allclose(answers(model, x), answers(proto, x), atol=TOLERANCE)
    assert_head_kernels_follow_the_trunk(quantize(MergeHeadsPass()(model).model, x), trunk=1)


@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.8])
def test_attached_heads_with_temperature_merge_into_the_head_kernel(
    activation: Literal["none", "relu"], temperature: float
) -> None:
    graph = attach(Heads(heads=1, dense="matmul, add").proto(), heads=3, activation=activation)
    x = inputs((3, 6, 5))
    model = SelectExitsPass("qute")(load(ir.to_proto(graph.model)).model).model
    expected = tempered(answers(model, x), temperature).mean(axis=0)
    merged = MergeHeadsPass()(folded(model, temperature)).model
    for row, wanted in zip(x, expected, strict=True):
        np.testing.assert_allclose(run(merged, x=row[None])[0][0], wanted, atol=TOLERANCE)
    # The block that was there is the end of the trunk now, with its depthwise layer.
    assert_head_kernels_follow_the_trunk(quantize(merged, x), trunk=2)
