"""Rewrite operators on quantised tensors (QOperator format) as float operators between Q and DQ.

    xq -> QLinearConv(xq, sx, zx, wq, sw, zw, sy, zy, bq) -> yq
    xq -> DequantizeLinear(sx, zx) -> Conv(DQ(wq, sw, zw), DQ(bq, sx * sw)) -> QuantizeLinear(sy, zy) -> yq

Every parameter is taken over as it is. A bias is int32 with scale sx * sw and zero point 0 by definition of
QLinearConv and QGemm (for QGemm times alpha). Operators of com.microsoft with channels_last work on NHWC;
the float operator stands between two Transposes then. A node whose scales are not constants is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["QLinearToQdqPass"]

_STANDARD_OPSET_12 = 12
"""Last opset whose Softmax works on the flattened trailing dimensions."""


class QLinearToQdqPass(ir.passes.InPlacePass):
    """Replace QLinear* and QGemm nodes. Requires constants to be initializers and opset 13 or later."""

    def requires(self, model: ir.Model) -> None:
        """Raise PreconditionError below opset 13, where DequantizeLinear has no axis."""
        if model.opset_imports.get("", 0) <= _STANDARD_OPSET_12:
            raise ir.passes.PreconditionError("QLinearToQdqPass needs opset 13 or later")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Return the model, modified when a node was rewritten."""
        modified = False
        for node in list(model.graph):
            rewrite = _REWRITES.get((node.domain, node.op_type))
            if rewrite is None or not _has_constant_parameters(node):
                continue
            builder = _Builder(model.graph, node)
            result = rewrite(builder, node)
            output = node.outputs[0]
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], builder.nodes, [output], [result]
            )
            modified = True
        return ir.passes.PassResult(model, modified=modified)


class _Builder:
    """Collects the nodes that replace one node; names derive from that node's output."""

    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        self.nodes: list[ir.Node] = []
        self._graph = graph
        self._stem = node.outputs[0].name or node.name or node.op_type

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: dict[str, ir.Attr] | None = None,
        dtype: ir.DataType | None = ir.DataType.FLOAT,
    ) -> ir.Value:
        name = f"{self._stem}_{op_type}_{len(self.nodes)}"
        node = ir.Node("", op_type, inputs, list((attributes or {}).values()), name=name)
        node.outputs[0].name = name
        if dtype is not None:
            node.outputs[0].dtype = dtype
        self.nodes.append(node)
        return node.outputs[0]

    def constant(self, array: npt.NDArray[np.generic], role: str) -> ir.Value:
        name = f"{self._stem}_{role}_{len(self.nodes)}"
        tensor = ir.tensor(array, name=name)
        value = ir.Value(
            name=name,
            shape=ir.Shape(tensor.shape.numpy()),
            type=ir.TensorType(tensor.dtype),
            const_value=tensor,
        )
        self._graph.register_initializer(value)
        return value

    def dequantize(
        self, x: ir.Value | None, scale: ir.Value | None, zero_point: ir.Value | None, axis: int = 1
    ) -> ir.Value:
        """DequantizeLinear; `axis` matters where the scale has more than one element."""
        scale, zero_point = self._scalars(scale, zero_point)
        inputs = [x, scale] if zero_point is None else [x, scale, zero_point]
        return self.op("DequantizeLinear", inputs, _axis_of(scale, axis))

    def quantize(
        self, x: ir.Value, scale: ir.Value | None, zero_point: ir.Value | None, like: ir.DataType | None
    ) -> ir.Value:
        """QuantizeLinear; without a zero point it is 0 of the type `like`, that of the operator's input."""
        if zero_point is None:
            dtype = like if like is not None else ir.DataType.UINT8
            zero_point = self.constant(np.zeros((), dtype.numpy()), "zero_point")
        scale, zero_point = self._scalars(scale, zero_point)
        return self.op("QuantizeLinear", [x, scale, zero_point], dtype=_dtype(zero_point))

    def _scalars(
        self, scale: ir.Value | None, zero_point: ir.Value | None
    ) -> tuple[ir.Value, ir.Value | None]:
        """One-element vectors as scalars: as a vector they would mean one parameter per channel.

        A scalar zero point under a vector of scales is repeated, because Q and DQ want equal shapes.
        """
        scales = _array(scale)
        assert scale is not None
        if scales.size == 1:
            scale = scale if scales.ndim == 0 else self.constant(scales.reshape(()), "scale")
        if zero_point is None:
            return scale, None
        points = _array(zero_point)
        wanted = scales.shape if scales.size > 1 else ()
        if points.shape != wanted:
            points = np.broadcast_to(points.reshape(()) if points.size == 1 else points, wanted)
            zero_point = self.constant(np.ascontiguousarray(points).reshape(wanted), "zero_point")
        return scale, zero_point

    def nhwc_to_nchw(self, x: ir.Value) -> ir.Value:
        return self.op("Transpose", [x], {"perm": ir.AttrInt64s("perm", [0, 3, 1, 2])})

    def nchw_to_nhwc(self, x: ir.Value) -> ir.Value:
        return self.op("Transpose", [x], {"perm": ir.AttrInt64s("perm", [0, 2, 3, 1])})


def _conv(b: _Builder, node: ir.Node) -> ir.Value:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = _inputs(node, 9)
    channels_last = _flag(node, "channels_last")
    data = b.dequantize(x, x_scale, x_zero)
    if channels_last:
        data = b.nhwc_to_nchw(data)
    operands = [data, b.dequantize(w, w_scale, w_zero, axis=0)]
    if bias is not None:
        operands.append(b.dequantize(bias, _bias_scale(b, x_scale, w_scale), None, axis=0))
    result = b.op("Conv", operands, _attributes(node, without=("channels_last",)))
    if channels_last:
        result = b.nchw_to_nhwc(result)
    return b.quantize(result, y_scale, y_zero, _dtype(x))


def _matmul(b: _Builder, node: ir.Node) -> ir.Value:
    a, a_scale, a_zero, w, w_scale, w_zero, y_scale, y_zero = _inputs(node, 8)
    left = b.dequantize(a, a_scale, a_zero, axis=-2)
    right = b.dequantize(w, w_scale, w_zero, axis=-1)
    return b.quantize(b.op("MatMul", [left, right]), y_scale, y_zero, _dtype(a))


def _gemm(b: _Builder, node: ir.Node) -> ir.Value:
    a, a_scale, a_zero, w, w_scale, w_zero, bias, y_scale, y_zero = _inputs(node, 9)
    operands = [
        b.dequantize(a, a_scale, a_zero),
        b.dequantize(w, w_scale, w_zero, axis=0 if _flag(node, "transB") else 1),
    ]
    if bias is not None:
        alpha = node.attributes["alpha"].as_float() if "alpha" in node.attributes else 1.0
        operands.append(b.dequantize(bias, _bias_scale(b, a_scale, w_scale, alpha), None, axis=-1))
    result = b.op("Gemm", operands, _attributes(node))
    return result if y_scale is None else b.quantize(result, y_scale, y_zero, _dtype(a))


def _binary(op_type: str) -> _Rewrite:
    def rewrite(b: _Builder, node: ir.Node) -> ir.Value:
        x, x_scale, x_zero, y, y_scale, y_zero, z_scale, z_zero = _inputs(node, 8)
        operands = [b.dequantize(x, x_scale, x_zero), b.dequantize(y, y_scale, y_zero)]
        return b.quantize(b.op(op_type, operands), z_scale, z_zero, _dtype(x))

    return rewrite


def _unary(op_type: str) -> _Rewrite:
    def rewrite(b: _Builder, node: ir.Node) -> ir.Value:
        x, x_scale, x_zero, y_scale, y_zero = _inputs(node, 5)
        data = b.dequantize(x, x_scale, x_zero)
        channels_last = _flag(node, "channels_last")
        if channels_last:
            data = b.nhwc_to_nchw(data)
        result = b.op(op_type, [data], _attributes(node, without=("channels_last",)))
        if channels_last:
            result = b.nchw_to_nhwc(result)
        return b.quantize(result, y_scale, y_zero, _dtype(x))

    return rewrite


def _softmax(b: _Builder, node: ir.Node) -> ir.Value:
    x, x_scale, x_zero, y_scale, y_zero = _inputs(node, 5)
    flattens = node.attributes["opset"].as_int() <= _STANDARD_OPSET_12
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
    rank = len(x.shape) if x is not None and x.shape is not None else None
    data = b.dequantize(x, x_scale, x_zero)
    if not flattens or axis == -1 or (rank is not None and axis == rank - 1):
        result = b.op("Softmax", [data], {"axis": ir.AttrInt64("axis", axis)})
    else:
        flat = b.op("Flatten", [data], {"axis": ir.AttrInt64("axis", axis)})
        rows = b.op("Softmax", [flat], {"axis": ir.AttrInt64("axis", -1)})
        result = b.op("Reshape", [rows, b.op("Shape", [data], dtype=ir.DataType.INT64)])
    return b.quantize(result, y_scale, y_zero, _dtype(x))


def _concat(b: _Builder, node: ir.Node) -> ir.Value:
    y_scale, y_zero, *rest = node.inputs
    triples = [rest[i : i + 3] for i in range(0, len(rest), 3)]
    parts = [b.dequantize(x, scale, zero) for x, scale, zero in triples]
    return b.quantize(b.op("Concat", parts, _attributes(node)), y_scale, y_zero, _dtype(triples[0][0]))


def _to_standard_domain(b: _Builder, node: ir.Node) -> ir.Value:
    dtype = ir.DataType.FLOAT if node.op_type == "DequantizeLinear" else _dtype(node.inputs[-1])
    return b.op(node.op_type, node.inputs, _attributes(node), dtype)


_Rewrite = Callable[[_Builder, ir.Node], ir.Value]

_REWRITES: dict[tuple[str, str], _Rewrite] = {
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
    ("com.microsoft", "QLinearConv"): _conv,
    ("com.microsoft", "QGemm"): _gemm,
    ("com.microsoft", "QLinearAdd"): _binary("Add"),
    ("com.microsoft", "QLinearMul"): _binary("Mul"),
    ("com.microsoft", "QLinearAveragePool"): _unary("AveragePool"),
    ("com.microsoft", "QLinearGlobalAveragePool"): _unary("GlobalAveragePool"),
    ("com.microsoft", "QLinearLeakyRelu"): _unary("LeakyRelu"),
    ("com.microsoft", "QLinearSigmoid"): _unary("Sigmoid"),
    ("com.microsoft", "QLinearSoftmax"): _softmax,
    ("com.microsoft", "QLinearConcat"): _concat,
    ("com.microsoft", "QuantizeLinear"): _to_standard_domain,
    ("com.microsoft", "DequantizeLinear"): _to_standard_domain,
}


def _has_constant_parameters(node: ir.Node) -> bool:
    """Whether every scale and zero point is an initializer."""
    if node.op_type == "QLinearConcat":
        parameters = [value for i, value in enumerate(node.inputs) if i < 2 or i % 3 != 2]
    elif node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return True
    else:
        data = {
            "QLinearConv": {0, 3, 8},
            "QLinearMatMul": {0, 3},
            "QGemm": {0, 3, 6},
            "QLinearAdd": {0, 3},
            "QLinearMul": {0, 3},
        }
        parameters = [v for i, v in enumerate(node.inputs) if i not in data.get(node.op_type, {0})]
    return all(value is None or value.const_value is not None for value in parameters)


def _inputs(node: ir.Node, count: int) -> list[ir.Value | None]:
    return [*node.inputs, *([None] * (count - len(node.inputs)))][:count]


def _attributes(node: ir.Node, without: Sequence[str] = ()) -> dict[str, ir.Attr]:
    return {name: attribute for name, attribute in node.attributes.items() if name not in without}


def _flag(node: ir.Node, name: str) -> bool:
    return name in node.attributes and node.attributes[name].as_int() != 0


def _array(value: ir.Value | None) -> npt.NDArray[np.generic]:
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


def _dtype(value: ir.Value | None) -> ir.DataType | None:
    return None if value is None else value.dtype


def _axis_of(scale: ir.Value, axis: int) -> dict[str, ir.Attr]:
    return {"axis": ir.AttrInt64("axis", axis)} if _array(scale).size > 1 else {}


def _bias_scale(
    b: _Builder, x_scale: ir.Value | None, w_scale: ir.Value | None, alpha: float = 1.0
) -> ir.Value:
    factors = _array(x_scale).reshape(()).astype(np.float32), _array(w_scale).astype(np.float32)
    return b.constant(np.asarray(np.float32(alpha) * factors[0] * factors[1], np.float32), "bias_scale")
