"""Random early-exit networks in ONNX: odd sizes, uneven strides and pads, groups, branches, several exits.

For what nobody thought of: every operator is one that qutec takes, but not every combination of them was in a
reference network. Weights keep activations near one, so that int8 has something to tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["RandomNetwork", "random_network"]

_MAX_MAP = 40_000
"""Values of a map behind which no more layers come."""
_ACTIVATIONS = ("Relu", "Relu", "Relu", "", "Relu6", "Sigmoid", "LeakyRelu", "HardSwish", "Tanh")
_KINDS = ("convolution", "depthwise", "pointwise", "pool", "residual", "concatenation", "gate", "activation")


@dataclass(frozen=True)
class RandomNetwork:
    """A network and what it reads."""

    model: onnx.ModelProto
    input_shape: tuple[int, int, int]
    """(channels, height, width); the batch is 1."""
    exits: int


@dataclass(frozen=True)
class _Map:
    """A tensor of (1, channels, height, width)."""

    name: str
    channels: int
    height: int
    width: int


def random_network(seed: int) -> RandomNetwork:
    """The network of a seed, the same on every machine."""
    return _Builder(np.random.default_rng(seed)).network()


class _Builder:
    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: dict[str, npt.NDArray[np.float32]] = {}
        self._outputs: list[str] = []
        self._classes = self._between(2, 12)

    def network(self) -> RandomNetwork:
        shape = int(self._random.choice([1, 2, 3, 4, 6])), self._between(6, 34), self._between(4, 34)
        end = _Map("x", *shape)
        for _ in range(self._between(2, 8)):
            end = self._layer(end)
            if end.channels * end.height * end.width > _MAX_MAP:
                break
            if self._chance(0.35):
                self._exit(end)
        self._exit(end)
        graph = helper.make_graph(
            self._nodes,
            "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *shape])],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, self._classes])
                for name in self._outputs
            ],
            [numpy_helper.from_array(array, name) for name, array in self._arrays.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return RandomNetwork(model, shape, len(self._outputs))

    def _between(self, first: int, end: int) -> int:
        return int(self._random.integers(first, end))

    def _chance(self, probability: float) -> bool:
        return bool(self._random.random() < probability)

    def _stored(self, array: npt.ArrayLike) -> str:
        name = f"a{len(self._arrays)}"
        self._arrays[name] = np.asarray(array, np.float32)
        return name

    def _array(self, *shape: int, scale: float) -> str:
        return self._stored(self._random.standard_normal(shape) * scale)

    def _node(self, kind: str, inputs: list[str], **attributes: object) -> str:
        name = f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def _layer(self, source: _Map) -> _Map:
        match str(self._random.choice(_KINDS)):
            case "convolution" | "depthwise" | "pool" as kind:
                return self._window(source, kind)
            case "pointwise":
                return self._convolved(source, self._between(1, 49), (1, 1))
            case "residual":
                return self._residual(source)
            case "concatenation":
                return self._concatenation(source)
            case "gate":
                return self._gate(source)
            case _:
                return _Map(self._activated(source.name), source.channels, source.height, source.width)

    def _window(self, source: _Map, kind: str) -> _Map:
        """A kernel of any size that fits, with any pads below it and up to a stride and a dilation of 2."""
        kernel = self._between(1, min(6, source.height + 1)), self._between(1, min(6, source.width + 1))
        stride = (1, 1) if self._chance(0.65) else (self._between(1, 3), self._between(1, 3))
        dilation = (1, 1)
        if kind != "pool" and self._chance(0.15):
            dilation = self._between(1, 3), self._between(1, 3)
        begin = (kernel[0] - 1) // 2, (kernel[1] - 1) // 2
        pads = (*begin, *begin)
        if self._chance(0.5):
            pads = tuple(self._between(0, kernel[axis % 2]) for axis in range(4))
        height, width = (
            (size + pads[axis] + pads[axis + 2] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
            for axis, size in enumerate((source.height, source.width))
        )
        if height < 1 or width < 1:
            return source
        common = {"strides": list(stride), "pads": list(pads)}
        channels = source.channels
        if kind == "pool":
            pool = "MaxPool" if self._chance(0.5) else "AveragePool"
            counted = {} if pool == "MaxPool" else {"count_include_pad": self._between(0, 2)}
            name = self._node(pool, [source.name], kernel_shape=list(kernel), **common, **counted)
            return _Map(name, channels, height, width)
        groups = 1
        if kind == "depthwise":
            groups = channels
            channels *= 1 if channels > 12 or self._chance(0.8) else 2
        else:
            channels = self._between(1, 33)
            divisors = [d for d in range(2, source.channels + 1) if source.channels % d == 0]
            if divisors and self._chance(0.12):
                groups = int(self._random.choice(divisors))
                channels = groups * max(1, channels // groups)
        name = self._convolution(source, channels, kernel, groups=groups, dilations=list(dilation), **common)
        return _Map(name, channels, height, width)

    def _convolution(
        self,
        source: _Map,
        channels: int,
        kernel: tuple[int, int],
        *,
        activation: str | None = None,
        groups: int = 1,
        **more: object,
    ) -> str:
        """With a bias, batch normalisation and activation, each perhaps."""
        depth = source.channels // groups
        fan = depth * kernel[0] * kernel[1]
        inputs = [source.name, self._array(channels, depth, *kernel, scale=1.5 / np.sqrt(fan))]
        if self._chance(0.8):
            inputs.append(self._array(channels, scale=0.3))
        name = self._node("Conv", inputs, **more, group=groups)
        if self._chance(0.3):
            values = [self._array(channels, scale=0.2) for _ in range(4)]
            for positive in (values[0], values[3]):
                self._arrays[positive] = 1 + np.abs(self._arrays[positive])
            name = self._node("BatchNormalization", [name, *values])
        return self._activated(name, activation)

    def _convolved(self, source: _Map, channels: int, kernel: tuple[int, int], **more: Any) -> _Map:
        """The same size, by pads that ONNX works out; `more` is for `_convolution`."""
        name = self._convolution(source, channels, kernel, auto_pad="SAME_UPPER", **more)
        return _Map(name, channels, source.height, source.width)

    def _activated(self, name: str, kind: str | None = None) -> str:
        kind = str(self._random.choice(_ACTIVATIONS)) if kind is None else kind
        match kind:
            case "":
                return name
            case "Relu6":
                return self._node("Clip", [name, self._stored(0), self._stored(6)])
            case "LeakyRelu":
                return self._node("LeakyRelu", [name], alpha=0.1)
            case _:
                return self._node(kind, [name])

    def _residual(self, source: _Map) -> _Map:
        other = self._convolved(source, source.channels, (3, 3))
        if self._chance(0.5):
            groups = source.channels if self._chance(0.4) else 1
            other = self._convolved(other, source.channels, (3, 3), activation="", groups=groups)
        operands = [source.name, other.name]
        if self._chance(0.5):
            operands.reverse()
        name = self._activated(self._node("Add", operands))
        return _Map(name, source.channels, source.height, source.width)

    def _concatenation(self, source: _Map) -> _Map:
        other = self._convolved(source, self._between(1, 17), (1, 1) if self._chance(0.5) else (3, 3))
        name = self._node("Concat", [source.name, other.name], axis=1)
        return _Map(name, source.channels + other.channels, source.height, source.width)

    def _gate(self, source: _Map) -> _Map:
        """Of each channel (squeeze and excitation), or of each value."""
        read = source
        if self._chance(0.5):
            read = _Map(self._node("GlobalAveragePool", [source.name]), source.channels, 1, 1)
        gate = self._convolved(read, source.channels, (1, 1), activation="Sigmoid")
        name = self._node("Mul", [source.name, gate.name])
        return _Map(name, source.channels, source.height, source.width)

    def _exit(self, source: _Map) -> None:
        if source.height >= 3 and source.width >= 3 and self._chance(0.3):
            kernel = (3, 3) if self._chance(0.5) else (1, 1)
            source = self._convolved(source, self._between(3, 20), kernel)
        pool = "GlobalAveragePool" if self._chance(0.85) else "GlobalMaxPool"
        features = self._node("Flatten", [self._node(pool, [source.name])])
        weights = self._array(source.channels, self._classes, scale=1.5 / np.sqrt(source.channels))
        name = self._node("Gemm", [features, weights, self._array(self._classes, scale=0.3)])
        self._outputs.append(self._node("Softmax", [name], axis=1) if self._chance(0.7) else name)
