"""Random networks whose branches leave the trunk, for tests of layers that run row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from qutec.backends.cmsis_nn import prepare
from qutec.load import load
from qutec.lower import lower
from qutec.program import Buffer, BufferKind, Port, Program, Quantization, Tensor
from qutec.quantize import quantize
from tests import random_head_calls
from tests.passes.exit_networks import Network
from tests.planner.generated import CORE


def branching_network(seed: int) -> Program:
    """Blocks and residual layers of random sizes; after some of them an exit, a view, or a map leaves."""
    rng = np.random.default_rng(seed)
    net = _Branches(rng, int(rng.integers(1, 5)), int(rng.integers(10, 19)), int(rng.integers(7, 13)))
    x = net.block(net.x, int(rng.integers(4, 9)))
    for number in range(int(rng.integers(2, 5))):
        x = net.trunk_layer(x)
        if rng.random() < 0.75:
            net.branch(x, f"exit_{number}")
    net.head(x, "final")
    model = load(net.proto().SerializeToString()).model
    return prepare(lower(quantize(model, "random"), "net"), CORE)


def network_of(build: Callable[[Network], str], channels: int, height: int, width: int) -> Program:
    """The program of a small network: `build` appends layers and names the map that is the output."""
    net = Network(channels, height, width)
    net.output(build(net))
    model = load(net.proto().SerializeToString()).model
    return prepare(lower(quantize(model, "random"), "net"), CORE)


class _Branches(Network):
    """Random layers of a trunk, and random branches."""

    def __init__(self, rng: np.random.Generator, *shape: int) -> None:
        super().__init__(*shape)
        self._draw = rng
        self.rows = shape[1]

    def trunk_layer(self, x: str) -> str:
        channels = int(self._draw.integers(4, 10))
        match int(self._draw.integers(0, 5)):
            case 0 if self.rows > 7:
                self.rows = -(-self.rows // 2)
                return self.block(x, channels, stride=2)
            case 1:
                return self.separable(x, channels)
            case 2:
                return self.residual(x)
            case 3:
                maps = [self.block(x, channels), self.conv(x, 4, kernel=1)]
                return self.op("Concat", maps, channels=channels + 4, axis=1)
            case _:
                return self.op("Relu", [self.conv(x, channels, kernel=int(self._draw.integers(1, 6)))])

    def branch(self, x: str, name: str) -> None:
        """A pooled exit, an exit with windows, an early view of some channels, or a map."""
        match int(self._draw.integers(0, 4)):
            case 0:
                self.head(self.block(x, 5), name)
            case 1:
                y = self.depthwise(self.conv(x, 6, kernel=1), kernel=2, stride=2)
                size = int(self._draw.integers(2, 4))
                window = {"kernel_shape": [size, 2], "strides": [size, 2]}
                y = self.op(str(self._draw.choice(["AveragePool", "MaxPool"])), [y], **window)
                self.output(self.op("Relu", [y], name))
            case 2:
                first = int(self._draw.integers(0, 2))
                bounds = [self.constant(np.array([n], np.int64)) for n in (first, first + 3, 1)]
                view = self.op("Slice", [x, *bounds], channels=3)
                self.head(self.op("Relu", [self.depthwise(view, stride=2)]), name)
            case _:
                self.output(self.op("Relu", [self.conv(x, 3, kernel=1)], name))


def with_heads(program: Program, seed: int) -> Program:
    """The program with pooled features of heads instead of its output, which has to be a map."""
    rng = np.random.default_rng(seed)
    (port,) = program.outputs
    _, channels, height, width = port.logical_shape
    call = random_head_calls.head_features(
        rng, relu=bool(seed % 2), size=(height, width), channels=channels, stride=(1, 1)
    )
    call = replace(call, name="heads", input=port.tensor, output=Tensor("features"))
    size = 2 * call.multiplier.size
    last = program.buffers[port.tensor.buffer]
    buffers = {
        **program.buffers,
        last.name: replace(last, kind=BufferKind.INTERNAL),
        "features": Buffer("features", size, BufferKind.OUTPUT),
    }
    features = Port("features", Tensor("features"), (1, size), Quantization(1.0, 0))
    return replace(program, buffers=buffers, calls=(*program.calls, call), outputs=(features,))
