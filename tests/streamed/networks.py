"""Random networks whose input can be handed in row by row, and their builds."""

from __future__ import annotations

from functools import cache

import numpy as np

import qutec
from qutec import Build
from tests.passes.exit_networks import Network


def random_map_network(seed: int) -> bytes:
    """Windows, separable and residual layers and tables on a map, random in size, stride and order."""
    rng = np.random.default_rng(seed)
    net = Network(int(rng.integers(1, 5)), int(rng.integers(9, 20)), int(rng.integers(4, 12)))
    x = net.x
    if seed % 3 == 1:
        # The first layer takes single pixels, so that no row is held twice.
        x = net.op("Relu", [net.conv(x, int(rng.integers(2, 6)), kernel=1, stride=int(rng.integers(1, 4)))])
    elif seed % 3 == 2:
        # Two layers read the input.
        x = net.op("Relu", [net.op("Add", [net.conv(x, 4), net.conv(x, 4, kernel=1)])])
    for _ in range(int(rng.integers(2, 5))):
        kind = int(rng.integers(0, 6))
        channels = int(rng.integers(2, 9))
        if kind == 0:
            x = net.block(x, channels, stride=int(rng.integers(1, 3)))
        elif kind == 1:
            x = net.separable(x, channels)
        elif kind == 2:
            x = net.residual(x)
        elif kind == 3:
            x = net.op("Tanh", [net.conv(x, channels, kernel=int(rng.integers(1, 6)))])
        elif kind == 4:
            x = net.op("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 1], pads=[0, 0, 0, 1])
        else:
            x = net.op("AveragePool", [x], kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    net.head(x, "out")
    return bytes(net.proto().SerializeToString())


@cache
def streamed(seed: int, optimize: str = "sram", target: str = "cortex-m4") -> Build:
    """A random network that is given its input row by row."""
    return qutec.compile(
        random_map_network(seed),
        target=target,
        calibration="random",
        optimize=optimize,
        stream_input=True,
        simplify=False,
        name="net",
    )


def random_inputs(build: Build, count: int, seed: int = 3) -> np.ndarray:
    """Stored inputs [count, *shape] over the whole range of int8."""
    shape = build.program.inputs[0].logical_shape[1:]
    return np.random.default_rng(seed).integers(-128, 128, (count, *shape), np.int8)
