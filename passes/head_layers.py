"""Adds layers to a graph: float initializers, and nodes whose values have names, types and shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["FloatArray", "HeadWriter", "glorot_uniform", "he_normal", "same_padding"]

FloatArray = npt.NDArray[np.float32]


def he_normal(rng: np.random.Generator, shape: Sequence[int], fan_in: int) -> FloatArray:
    """Normal with variance 2 / fan_in, for a layer before a ReLU (He et al. 2015)."""
    return rng.normal(0.0, (2.0 / fan_in) ** 0.5, shape).astype(np.float32)


def glorot_uniform(rng: np.random.Generator, shape: Sequence[int], fan_in: int, fan_out: int) -> FloatArray:
    """Uniform within +-sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    limit = (6.0 / (fan_in + fan_out)) ** 0.5
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def same_padding(sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> list[int]:
    """ONNX pads (all begins, then all ends) for ceil(size / stride) outputs; the odd one goes to the end."""
    begins, ends = [], []
    for size, width, stride in zip(sizes, kernel, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + width - size, 0)
        begins.append(total // 2)
        ends.append(total - total // 2)
    return begins + ends


class HeadWriter:
    """Appends nodes to the end of a graph; every name starts with a stem and is made unique."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._names = {value.name for value in (*graph.inputs, *graph.initializers.values())}
        self._names |= {value.name for node in graph for value in node.outputs}
        self._names |= {node.name for node in graph}

    def convolution(
        self,
        x: ir.Value,
        weights: ir.Value,
        bias: ir.Value | None,
        stem: str,
        *,
        strides: Sequence[int],
        group: int = 1,
    ) -> ir.Value:
        """Conv with same padding; x [N, C, *spatial], weights [C_out, C / group, *kernel]."""
        lead, sizes = _shape(x)
        kernel = _static(weights)[2:]
        attributes: dict[str, int | list[int]] = {
            "kernel_shape": kernel,
            "strides": list(strides),
            "pads": same_padding(sizes[1:], kernel, strides),
            "group": group,
        }
        inputs = [x, weights] if bias is None else [x, weights, bias]
        out = [-(-size // stride) for size, stride in zip(sizes[1:], strides, strict=True)]
        return self._node("Conv", inputs, stem, [lead, _static(weights)[0], *out], attributes)

    def relu(self, x: ir.Value, stem: str) -> ir.Value:
        """Relu."""
        lead, sizes = _shape(x)
        return self._node("Relu", [x], stem, [lead, *sizes])

    def first_channels(self, x: ir.Value, count: int, stem: str) -> ir.Value:
        """Channels 0 .. count - 1 of x [N, C, *spatial]; x itself where it has no more."""
        lead, sizes = _shape(x)
        if sizes[0] == count:
            return x
        bounds = [
            self.initializer(f"{stem}_{name}", np.array([value], np.int64))
            for name, value in (("starts", 0), ("ends", count), ("axes", 1))
        ]
        return self._node("Slice", [x, *bounds], stem, [lead, count, *sizes[1:]])

    def pooled(self, x: ir.Value, stem: str) -> ir.Value:
        """Global average pool and Flatten: [N, C, *spatial] -> [N, C]."""
        lead, sizes = _shape(x)
        pool = self._node("GlobalAveragePool", [x], f"{stem}_pool", [lead, sizes[0], *[1] * (len(sizes) - 1)])
        return self.flat(pool, stem)

    def flat(self, x: ir.Value, stem: str) -> ir.Value:
        """Flatten to [N, features]; x itself where it has that shape."""
        lead, sizes = _shape(x)
        if len(sizes) == 1:
            return x
        return self._node("Flatten", [x], f"{stem}_flatten", [lead, int(np.prod(sizes))], {"axis": 1})

    def dense(self, x: ir.Value, weights: ir.Value, bias: ir.Value, stem: str) -> ir.Value:
        """Gemm; x [N, C], weights [L, C], bias [L]."""
        lead, _ = _shape(x)
        return self._node("Gemm", [x, weights, bias], stem, [lead, _static(weights)[0]], {"transB": 1})

    def softmax_output(self, logits: ir.Value, name: str) -> str:
        """Softmax over [N, L] as a new graph output; returns its name, which may have a number added."""
        lead, sizes = _shape(logits)
        value = self._node("Softmax", [logits], name, [lead, *sizes], {"axis": 1})
        self._graph.outputs.append(value)
        return value.name or ""

    def initializer(self, name: str, data: npt.NDArray[np.generic]) -> ir.Value:
        """A new constant of the graph."""
        unique = self.unique_name(name)
        tensor = ir.tensor(data, name=unique)
        value = ir.Value(
            name=unique, shape=ir.Shape(data.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        self._graph.register_initializer(value)
        return value

    def _node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        name: str,
        shape: Sequence[int | ir.SymbolicDim],
        attributes: dict[str, int | list[int]] | None = None,
    ) -> ir.Value:
        node = ir.node(op_type, inputs, attributes=attributes or {})
        node.name = self.unique_name(name)
        output = node.outputs[0]
        output.name, output.shape, output.type = node.name, ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
        self._graph.append(node)
        return output

    def unique_name(self, wanted: str) -> str:
        """The name, with a number added where it is taken; it is taken from now on."""
        name, count = wanted, 1
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name


def _shape(value: ir.Value) -> tuple[int | ir.SymbolicDim, list[int]]:
    """(batch dimension, the others, which are static)."""
    assert value.shape is not None
    lead = value.shape[0]
    return lead, [dim for dim in list(value.shape)[1:] if isinstance(dim, int)]


def _static(value: ir.Value) -> list[int]:
    assert value.shape is not None
    return [dim for dim in value.shape if isinstance(dim, int)]
