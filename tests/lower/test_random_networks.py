"""Random residual, branching and early-exit networks: every layer of each against onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from tests.lower.harness import (
    Array,
    assert_layers_agree,
    assert_plan_is_valid,
    compiled,
    port_values,
    rows,
    run_onnx,
    run_samples,
)


@dataclass
class _Drawing:
    """A graph in the making; `maps` are (value, channels, height, width) that later layers may read."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    maps: list[tuple[str, int, int, int]] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)

    def op(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], f"n{len(self.nodes)}", **attributes))
        return name

    def constant(self, array: npt.ArrayLike) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def noise(self, *shape: int) -> str:
        fan_in = max(1, int(np.prod(shape[1:])))
        return self.constant((self.rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32))

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def conv(
        self, source: tuple[str, int, int, int], channels: int | None = None
    ) -> tuple[str, int, int, int]:
        name, c, h, w = source
        kernel = [self.integer(1, min(3, h)), self.integer(1, min(3, w))]
        depthwise = channels is None and self.chance(0.4)
        outputs = c if depthwise else (channels or self.integer(1, 9))
        pads = (
            [0, 0, kernel[0] - 1, kernel[1] - 1] if self.chance(0.5) else [kernel[0] // 2, kernel[1] // 2] * 2
        )
        if channels is not None:
            pads = [(k - 1) // 2 for k in kernel] + [k // 2 for k in kernel]
        strides = [1, 1] if channels is not None or self.chance(0.6) else [self.integer(1, 2), 2]
        size = [(n + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i, n in enumerate((h, w))]
        inputs = [name, self.noise(outputs, 1 if depthwise else c, *kernel)]
        if self.chance(0.7):
            inputs.append(self.noise(outputs))
        result = self.op("Conv", inputs, pads=pads, strides=strides, group=c if depthwise else 1)
        return result, outputs, size[0], size[1]

    def activation(self, name: str) -> str:
        kind = self.rng.choice(["none", "Relu", "Clip", "LeakyRelu", "HardSwish", "SiLU", "Sigmoid", "Tanh"])
        if kind == "none":
            return name
        if kind == "Clip":
            return self.op("Clip", [name, self.constant(np.float32(0)), self.constant(np.float32(6))])
        if kind == "SiLU":
            return self.op("Mul", [name, self.op("Sigmoid", [name])])
        return self.op(str(kind), [name])

    def grow(self) -> None:
        """One more layer on one of the maps."""
        source = self.maps[self.integer(max(0, len(self.maps) - 3), len(self.maps) - 1)]
        name, c, h, w = source
        kind = self.rng.choice(
            ["conv", "conv", "conv", "residual", "pool", "concat", "gate", "norm", "slice", "pad", "split"]
        )
        if kind == "residual":
            branch = self.conv((self.activation(self.conv(source, c)[0]), c, h, w), c)
            operator = str(self.rng.choice(["Add", "Sub", "Mul"], p=[0.7, 0.15, 0.15]))
            pair = [branch[0], name] if self.chance(0.5) else [name, branch[0]]
            self.add(self.op(operator, pair), c, h, w)
        elif kind == "pool" and h > 1 and w > 1:
            pool = str(self.rng.choice(["MaxPool", "AveragePool"]))
            result = self.op(pool, [name], kernel_shape=[2, 2], strides=[2, 2])
            self.add(result, c, h // 2, w // 2)
        elif kind == "concat":
            same = [other for other in self.maps if other[2:] == (h, w)]
            other = same[self.integer(0, len(same) - 1)]
            self.add(self.op("Concat", [name, other[0]], axis=1), c + other[1], h, w)
        elif kind == "gate":
            gate = self.op("Conv", [self.op("GlobalAveragePool", [name]), self.noise(c, c, 1, 1)])
            self.add(self.op("Mul", [name, self.op("Sigmoid", [gate])]), c, h, w)
        elif kind == "norm":
            parameters = [
                self.constant((np.abs(self.rng.standard_normal(c)) + 0.5).astype(np.float32)) for _ in "sbmv"
            ]
            self.add(self.activation(self.op("BatchNormalization", [name, *parameters])), c, h, w)
        elif kind == "slice" and c > 1:
            bounds = [self.constant(np.array([n], np.int64)) for n in (c // 2, c, 1)]
            self.add(self.op("Slice", [name, *bounds]), c - c // 2, h, w)
        elif kind == "pad":
            pads = self.constant(np.array([0, 0, 1, 0, 0, 0, 0, 1], np.int64))
            self.add(self.op("Pad", [name, pads]), c, h + 1, w + 1)
        elif kind == "split" and c > 1:
            sizes = self.constant(np.array([1, c - 1], np.int64))
            node = helper.make_node(
                "Split", [name, sizes], [f"a{len(self.nodes)}", f"b{len(self.nodes)}"], axis=1
            )
            self.nodes.append(node)
            self.maps.append((node.output[0], 1, h, w))
            self.maps.append((node.output[1], c - 1, h, w))
        else:
            result = self.conv(source)
            self.add(self.activation(result[0]), *result[1:])

    def add(self, name: str, channels: int, height: int, width: int) -> None:
        """A layer's result, with an exit on it now and then."""
        self.maps.append((name, channels, height, width))
        if self.chance(0.2):
            self.leave(self.maps[-1])

    def leave(self, source: tuple[str, int, int, int]) -> None:
        """Classifier on a map: pooled or flattened, dense, sometimes softmax."""
        name, c, h, w = source
        if self.chance(0.6):
            flat, features = self.op("Flatten", [self.op("GlobalAveragePool", [name])]), c
        else:
            flat, features = self.op("Flatten", [name]), c * h * w
        if self.chance(0.5):
            logits = self.op("Gemm", [flat, self.noise(4, features), self.noise(4)], transB=1)
        else:
            product = self.op(
                "MatMul", [flat, self.constant(self.rng.standard_normal((features, 4)).astype(np.float32))]
            )
            logits = self.op("Add", [product, self.noise(4)])
        self.exits.append(self.op("Softmax", [logits], axis=1) if self.chance(0.7) else logits)


def _network(seed: int) -> onnx.ModelProto:
    drawing = _Drawing(np.random.default_rng(seed))
    shape = [1, drawing.integer(1, 4), drawing.integer(3, 12), drawing.integer(3, 12)]
    source = "x"
    if drawing.chance(0.3):
        source = drawing.op("Transpose", ["x"], perm=[0, 3, 1, 2])
        given = [1, shape[2], shape[3], shape[1]]
    else:
        given = shape
    drawing.maps.append((source, *shape[1:]))
    for _ in range(drawing.integer(3, 9)):
        drawing.grow()
    drawing.leave(drawing.maps[-1])
    if drawing.chance(0.3):
        drawing.exits.append(drawing.maps[-1][0])
    graph = helper.make_graph(
        drawing.nodes,
        f"random_{seed}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in dict.fromkeys(drawing.exits)
        ],
        [numpy_helper.from_array(array, name) for name, array in drawing.constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return shape_inference.infer_shapes(model, strict_mode=True)


@pytest.mark.parametrize(
    ("seed", "simplify"), [*((seed, False) for seed in range(30)), *((seed, True) for seed in range(30, 36))]
)
def test_every_layer_of_a_random_network(seed: int, simplify: bool) -> None:
    model = _network(seed)
    case = compiled(model, simplify=simplify, count=3)
    assert [port.name for port in case.program.outputs] == [output.name for output in model.graph.output]
    # A table over one tensor and each kernel round once.
    assert_layers_agree(case, tolerance=1)
    assert_plan_is_valid(case.program)


@pytest.mark.parametrize("seed", range(0, 30, 6))
def test_outputs_of_a_random_network_stay_near_onnxruntime(seed: int) -> None:
    """From end to end single steps add up, but stay steps."""
    case = compiled(_network(seed), count=3)
    ours = run_samples(case.program, case.samples)
    theirs = run_onnx(case.quantized, rows(case.samples))
    for port in case.program.outputs:
        codes = port_values(port, theirs[port.name].astype(np.float32)).astype(int)
        assert np.abs(ours[port.name].reshape(codes.shape) - codes).max() <= 12, port.name
