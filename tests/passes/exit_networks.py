"""A builder of small multi-exit networks, so that a test reads like the network that it is about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from qutec.ingest.shapes import infer_shapes


class Network:
    """Appends layers; every method returns the name of the value it makes. Weights are random, seeded.

    Maps are [batch, C, *spatial] with one or two spatial axes. Values are named by the test or numbered.
    """

    def __init__(self, *shape: int, batch: str | int = 1, channels_last: bool = False) -> None:
        self._rng = np.random.default_rng(0)
        self._batch = batch
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._channels: dict[str, int] = {"x": shape[0]}
        self._rank = len(shape) - 1
        stored = (*shape[1:], shape[0]) if channels_last else shape
        self._input = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *stored])
        self.x = "x"
        if channels_last:
            last = self._rank + 1
            self.x = self.op("Transpose", ["x"], channels=shape[0], perm=[0, last, *range(1, last)])

    def op(
        self,
        op_type: str,
        inputs: Sequence[str],
        name: str = "",
        channels: int | None = None,
        **attributes: object,
    ) -> str:
        name = name or f"{op_type.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, inputs, [name], f"{name}_node", **attributes))
        self._channels[name] = self._channels[inputs[0]] if channels is None else channels
        return name

    def constant(self, array: npt.NDArray[np.generic], name: str = "") -> str:
        name = name or f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def weights(self, *shape: int) -> str:
        scale = 1 / np.sqrt(max(int(np.prod(shape[1:])), 1))
        return self.constant((self._rng.standard_normal(shape) * scale).astype(np.float32))

    def conv(
        self,
        x: str,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        group: int = 1,
        name: str = "",
        bias: bool = True,
    ) -> str:
        inputs = [x, self.weights(channels, self._channels[x] // group, *[kernel] * self._rank)]
        inputs += [self.weights(channels)] if bias else []
        low, high = (kernel - 1) // 2, kernel // 2
        pads = [low] * self._rank + [high] * self._rank
        strides = [stride] * self._rank
        return self.op("Conv", inputs, name, channels, pads=pads, strides=strides, group=group)

    def block(self, x: str, channels: int, stride: int = 1, name: str = "", norm: bool = False) -> str:
        """Conv [, batch normalisation], ReLU."""
        y = self.conv(x, channels, stride=stride)
        return self.op("Relu", [self.norm(y) if norm else y], name)

    def norm(self, x: str) -> str:
        count = self._channels[x]
        scale = self.constant((self._rng.random(count) + 0.5).astype(np.float32))
        variance = self.constant((self._rng.random(count) + 0.5).astype(np.float32))
        return self.op("BatchNormalization", [x, scale, self.weights(count), self.weights(count), variance])

    def depthwise(self, x: str, kernel: int = 3, stride: int = 1, name: str = "") -> str:
        return self.conv(x, self._channels[x], kernel, stride, group=self._channels[x], name=name)

    def separable(self, x: str, channels: int, name: str = "") -> str:
        """Depthwise, ReLU, pointwise, ReLU."""
        return self.op("Relu", [self.conv(self.op("Relu", [self.depthwise(x)]), channels, kernel=1)], name)

    def residual(self, x: str, inner: str = "", name: str = "") -> str:
        """Two convolutions around which the input goes; `inner` names the value between them."""
        channels = self._channels[x]
        y = self.conv(self.block(x, channels, name=inner), channels)
        return self.op("Relu", [self.op("Add", [x, y])], name)

    def pooled(self, x: str, name: str = "") -> str:
        """Global average pool and flatten."""
        return self.op("Flatten", [self.op("GlobalAveragePool", [x])], name)

    def dense(self, x: str, count: int, name: str = "") -> str:
        return self.op("Gemm", [x, self.weights(self._channels[x], count), self.weights(count)], name, count)

    def softmax(self, x: str, name: str = "") -> str:
        return self.op("Softmax", [x], name, axis=1)

    def head(self, x: str, name: str, classes: int = 5) -> str:
        """Pool, dense, softmax, and the output of that name."""
        return self.output(self.softmax(self.dense(self.pooled(x), classes), name))

    def output(self, name: str, dtype: int = TensorProto.FLOAT) -> str:
        self._outputs.append(helper.make_tensor_value_info(name, dtype, None))
        return name

    def proto(self, order: Sequence[str] = ()) -> onnx.ModelProto:
        """The checked model with inferred shapes; `order` is that of its outputs."""
        by_name = {value.name: value for value in self._outputs}
        outputs = [by_name[name] for name in order] if order else self._outputs
        graph = helper.make_graph(self._nodes, "network", [self._input], outputs, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        onnx.checker.check_model(model, full_check=True)
        return model

    def model(self, order: Sequence[str] = ()) -> ir.Model:
        return infer_shapes(ir.from_proto(self.proto(order)))


def chain(*shape: int, norm: bool = False, batch: str | int = 1, channels_last: bool = False) -> Network:
    """Four blocks of 4, 6, 8, 8 channels, the last three with values b2, b3, b4, and a final exit."""
    net = Network(*shape, batch=batch, channels_last=channels_last)
    b1 = net.block(net.x, 4, stride=2, name="b1", norm=norm)
    b2 = net.block(b1, 6, stride=2, name="b2", norm=norm)
    b3 = net.block(b2, 8, name="b3", norm=norm)
    net.head(net.block(b3, 8, name="b4", norm=norm), "final")
    return net
