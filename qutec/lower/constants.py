"""Constant values of the graph: float arrays, and integer arrays with their own parameters (QDQ)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qutec.lower.builder import Refused
from qutec.program import Quantization

__all__ = ["Constant", "QuantizedConstant", "constant", "integers", "quantization_of", "real"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class QuantizedConstant:
    """Integers with scale and zero point; `axis` is the channel axis of a per-channel scale.

    8-bit values are signed: uint8 data and its zero point are moved down by 128, which changes nothing
    in what they stand for.
    """

    values: IntArray
    scale: FloatArray
    zero_point: IntArray
    axis: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """The ONNX shape."""
        return self.values.shape

    def real(self) -> FloatArray:
        """The float values that the integers stand for."""
        scale, zero_point = self.scale, self.zero_point
        if self.axis is not None and scale.ndim == 1:
            along = [1] * self.values.ndim
            along[self.axis] = -1
            scale, zero_point = scale.reshape(along), zero_point.reshape(along)
        return (self.values - zero_point) * scale


Constant = npt.NDArray[np.generic] | QuantizedConstant


def real(value: Constant) -> FloatArray:
    """The float64 values of a constant."""
    if isinstance(value, QuantizedConstant):
        return value.real()
    return value.astype(np.float64)


def constant(value: ir.Value | None) -> Constant | None:
    """What a value holds if it is known at compile time, else None.

    Follows QuantizeLinear, DequantizeLinear and the operators that only move elements, so that the
    transposed or reshaped weights of a QDQ model keep their integers.
    """
    if value is None:
        return None
    if value.const_value is not None:
        return value.const_value.numpy()
    node = value.producer()
    if node is None or node.op_type not in _FOLLOWED:
        return None
    operands = [constant(operand) if operand is not None else None for operand in node.inputs]
    if operands[0] is None:
        return None
    return _FOLLOWED[node.op_type](node, operands)


def integers(value: ir.Value | None, what: str) -> list[int]:
    """A constant tensor of integers (axes, pads, shapes) as a list."""
    known = constant(value)
    if known is None or isinstance(known, QuantizedConstant):
        raise Refused(f"its {what} is not a constant")
    return [int(element) for element in known.reshape(-1)]


def quantization_of(node: ir.Node) -> Quantization:
    """Per-tensor parameters of a QuantizeLinear or DequantizeLinear, in signed 8-bit form."""
    data = node.inputs[0]
    if node.op_type == "DequantizeLinear" and data is not None and data.dtype not in _EIGHT_BITS:
        raise Refused(f"its data is {data.dtype.name if data.dtype else 'unknown'}; 8 bits are supported")
    scale, zero_point, _ = _parameters(node, None)
    if scale.size != 1:
        raise Refused("its activation is quantised per channel")
    return Quantization(float(scale.reshape(-1)[0]), int(zero_point.reshape(-1)[0]))


_EIGHT_BITS = (ir.DataType.INT8, ir.DataType.UINT8, None)


def _parameters(node: ir.Node, data: npt.NDArray[np.generic] | None) -> tuple[FloatArray, IntArray, bool]:
    """(scale, signed zero point, unsigned data): scale and zero point of a Q or DQ node."""
    scale = constant(node.inputs[1])
    if scale is None or isinstance(scale, QuantizedConstant):
        raise Refused("its scale is not a constant")
    zero_value = node.inputs[2] if len(node.inputs) > 2 else None
    zero_point = constant(zero_value)
    if zero_value is not None and (zero_point is None or isinstance(zero_point, QuantizedConstant)):
        raise Refused("its zero point is not a constant")
    if zero_point is None:
        dtype = data.dtype if data is not None else np.dtype(np.uint8)
        output_dtype = node.attributes.get_int("output_dtype", 0)
        if node.op_type == "QuantizeLinear" and output_dtype:
            dtype = ir.DataType(output_dtype).numpy()
        elif node.op_type == "DequantizeLinear" and data is None:
            source = node.inputs[0]
            dtype = source.dtype.numpy() if source is not None and source.dtype is not None else dtype
        zero_point = np.zeros(scale.shape, dtype)
    assert not isinstance(zero_point, QuantizedConstant)
    unsigned = zero_point.dtype == np.uint8
    if zero_point.dtype not in (np.uint8, np.int8, np.int32):
        raise Refused(f"it is quantised to {zero_point.dtype}; 8 bits are supported")
    if scale.size > 1 and (scale.ndim != 1 or node.attributes.get_int("block_size", 0) != 0):
        raise Refused("it is quantised in blocks; one scale, or one for each channel, is supported")
    signed = zero_point.astype(np.int64) - (128 if unsigned else 0)
    scale_array = scale.astype(np.float64)
    if not np.isfinite(scale_array).all() or (scale_array <= 0).any():
        raise Refused("its scale is not a positive number")
    return scale_array, signed, unsigned


def _dequantized(node: ir.Node, operands: list[Constant | None]) -> Constant:
    data = operands[0]
    assert isinstance(data, np.ndarray)
    scale, zero_point, unsigned = _parameters(node, data)
    axis = node.attributes.get_int("axis", 1)
    per_channel = scale.size > 1
    values = data.astype(np.int64) - (128 if unsigned else 0)
    if not per_channel:
        scale, zero_point = scale.reshape(()), zero_point.reshape(())
    return QuantizedConstant(values, scale, zero_point, axis % data.ndim if per_channel else None)


def _quantized(node: ir.Node, operands: list[Constant | None]) -> Constant:
    value = operands[0]
    assert value is not None
    data = real(value).astype(np.float32)
    scale, zero_point, unsigned = _parameters(node, None)
    if scale.size > 1:
        along = [1] * data.ndim
        along[node.attributes.get_int("axis", 1)] = -1
        scale, zero_point = scale.reshape(along), zero_point.reshape(along)
    # ONNX Runtime divides in float32, which decides some ties.
    values = np.clip(np.rint(data / scale.astype(np.float32)) + zero_point, -128, 127).astype(np.int64)
    return (values + 128).astype(np.uint8) if unsigned else values.astype(np.int8)


def _rearranged(
    value: Constant,
    move: Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]],
) -> Constant:
    """`move` applied to the elements; the channel axis is found again by moving its index along."""
    if not isinstance(value, QuantizedConstant):
        return move(value)
    values = move(value.values).astype(np.int64)
    if value.axis is None:
        return replace(value, values=values)
    along = [1] * value.values.ndim
    along[value.axis] = -1
    channel = np.broadcast_to(np.arange(value.shape[value.axis]).reshape(along), value.shape)
    moved = move(channel)
    for axis, length in enumerate(moved.shape):
        profile = np.moveaxis(moved, axis, 0).reshape(length, -1)
        if length == value.scale.size and (profile == np.arange(length)[:, None]).all():
            return replace(value, values=values, axis=axis)
    raise Refused("a reshape splits the channels of per-channel quantised weights")


def _transposed(node: ir.Node, operands: list[Constant | None]) -> Constant:
    value = operands[0]
    assert value is not None
    permutation = node.attributes.get_ints("perm", list(reversed(range(len(value.shape)))))
    return _rearranged(value, lambda array: array.transpose(permutation))


def _reshaped(node: ir.Node, operands: list[Constant | None]) -> Constant:
    value = operands[0]
    assert value is not None
    shape = node.outputs[0].shape
    if shape is None or not shape.is_static():
        raise Refused("its shape is not known")
    return _rearranged(value, lambda array: array.reshape(shape.numpy()))


def _same(node: ir.Node, operands: list[Constant | None]) -> Constant:
    value = operands[0]
    assert value is not None
    return value


def _cast(node: ir.Node, operands: list[Constant | None]) -> Constant:
    value = operands[0]
    if isinstance(value, QuantizedConstant):
        return value
    assert value is not None
    return value.astype(ir.DataType(node.attributes.get_int("to", 1)).numpy())


_FOLLOWED: dict[str, Callable[[ir.Node, list[Constant | None]], Constant]] = {
    "Cast": _cast,
    "DequantizeLinear": _dequantized,
    "Flatten": _reshaped,
    "Identity": _same,
    "QuantizeLinear": _quantized,
    "Reshape": _reshaped,
    "Squeeze": _reshaped,
    "Transpose": _transposed,
    "Unsqueeze": _reshaped,
}
