"""Networks compiled once for each process, and all executions of one compared."""

from __future__ import annotations

import importlib.util
import shutil
from functools import cache

import numpy as np
import pytest

import qutec
from benchmarks._measure import stored_samples
from benchmarks._networks import Network, Samples, read_samples, shared_folder
from qutec import Build
from qutec.ports import PortInfo
from qutec.program import Int8Array
from qutec.simulate import Image

TOOLS = {
    "zig": importlib.util.find_spec("ziglang") is not None,
    "gcc": shutil.which("arm-none-eabi-gcc") is not None,
    "unicorn": importlib.util.find_spec("unicorn") is not None,
    "qemu": shutil.which("qemu-system-arm") is not None,
    "cc": any(shutil.which(name) for name in ("cc", "gcc", "clang")),
}


def require(*tools: str) -> None:
    """Skip the test where one of the tools is missing."""
    missing = [tool for tool in tools if not TOOLS[tool]]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def samples_of(network: Network) -> Samples:
    """The network's data, or skip."""
    samples = read_samples(network)
    if samples is None:
        pytest.skip(f"'{shared_folder()}' has no data for {network.task} (QUTEC_SHARED)")
    return samples


@cache
def compiled(network: Network, target: str = "cortex-m4") -> Build:
    """The network for a target, with its real calibration data and no limits."""
    return qutec.compile(network.path, target=target, calibration=samples_of(network).calibration)


def some_inputs(network: Network, build: Build, count: int = 4) -> list[Int8Array]:
    """`count` stored inputs [count, *shape] for each port, half real and half noise."""
    return stored_samples(build, samples_of(network), count)


class Executions:
    """Stored inputs of a build in memory order, and outputs of its C in ONNX order."""

    def __init__(self, build: Build, stored: list[Int8Array]) -> None:
        self._outputs = [PortInfo.of(port) for port in build.program.outputs]
        ports = [PortInfo.of(port) for port in build.program.inputs]
        self._stored = {port.name: values for port, values in zip(ports, stored, strict=True)}
        self._build = build
        self.samples = [
            [port.to_memory(values[i]) for port, values in zip(ports, stored, strict=True)]
            for i in range(len(stored[0]))
        ]

    def reference(self) -> dict[str, np.ndarray]:
        """What the integer reference gives, [samples, values] by output."""
        results = self._build.run_int8(self._stored)
        return {name: values.reshape(len(values), -1) for name, values in results.items()}

    def assert_reference(self, results: list[tuple[Int8Array, ...]]) -> None:
        """Fail where an output byte of `results` (memory order, by sample) is not the reference's."""
        for k, (name, expected) in enumerate(self.reference().items()):
            actual = [self._outputs[k].from_memory(outputs[k]).reshape(-1) for outputs in results]
            np.testing.assert_array_equal(np.stack(actual), expected, err_msg=name)


def emulator_of(image: Image) -> str:
    """The emulator that has the image's core."""
    return "qemu" if image.core.mve else "unicorn"
