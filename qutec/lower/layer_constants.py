"""Constants as layers want them: weights and bias of a node, transposed, scaled, spread over channels.

Quantised constants keep their integers throughout.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from qutec.lower.builder import Refused
from qutec.lower.constants import Constant, QuantizedConstant, constant, real

__all__ = [
    "along_axis",
    "bias_of",
    "broadcast",
    "channel_bias",
    "matrix",
    "scaled",
    "swapped",
    "weights_of",
]


def along_axis(offset: Constant, shape: tuple[int, ...], axis: int) -> Constant | None:
    """The constant as a vector along `axis` of a tensor of `shape`, None if it varies elsewhere too."""
    aligned = (1,) * (len(shape) - len(offset.shape)) + tuple(offset.shape)
    if len(aligned) > len(shape) or any(n != 1 for i, n in enumerate(aligned) if i != axis):
        return None
    if isinstance(offset, QuantizedConstant):
        return replace(offset, values=offset.values.reshape(-1), axis=None if offset.axis is None else 0)
    return offset.reshape(-1)


def broadcast(vector: Constant, channels: int) -> Constant:
    """A vector of one element, or of `channels`, as one of `channels`."""
    if isinstance(vector, QuantizedConstant):
        return replace(vector, values=np.broadcast_to(vector.values, (channels,)))
    return np.broadcast_to(vector, (channels,))


def channel_bias(bias: Constant | None, channels: int) -> Constant | None:
    """Gemm's C, which broadcasts to [rows, channels], as a vector; it must be the same for every row."""
    if bias is None:
        return None
    along = along_axis(bias, (1, channels), 1)
    if along is None:
        raise Refused("its bias is not one value for each output")
    return broadcast(along, channels)


def weights_of(node: ir.Node) -> Constant:
    """The second input of a Conv, Gemm or MatMul, in ONNX's layout."""
    weights = constant(node.inputs[1])
    if weights is None:
        raise Refused("its weights are not a constant")
    return weights


def bias_of(node: ir.Node) -> Constant | None:
    """The third input of a Conv or Gemm, None where there is none."""
    if len(node.inputs) <= 2 or node.inputs[2] is None:
        return None
    bias = constant(node.inputs[2])
    if bias is None:
        raise Refused("its bias is not a constant")
    return bias


def matrix(weights: Constant) -> Constant:
    """Weights [1, ..., 1, I, O] as a matrix."""
    shape = weights.shape[-2:]
    if not isinstance(weights, QuantizedConstant):
        return weights.reshape(shape)
    lost = len(weights.shape) - 2
    axis = None if weights.axis is None else weights.axis - lost
    return replace(weights, values=weights.values.reshape(shape), axis=axis)


def swapped(weights: Constant) -> Constant:
    """The transpose of a matrix."""
    if not isinstance(weights, QuantizedConstant):
        return weights.T
    axis = None if weights.axis is None else 1 - weights.axis
    return replace(weights, values=weights.values.T, axis=axis)


def scaled(weights: Constant, factor: float) -> Constant:
    """The weights times a number; integers stay, their scale takes the factor."""
    if factor == 1.0:
        return weights
    if not isinstance(weights, QuantizedConstant):
        return real(weights) * factor
    if factor == 0.0:
        return replace(
            weights, values=np.zeros_like(weights.values), zero_point=np.zeros_like(weights.zero_point)
        )
    if factor > 0:
        return replace(weights, scale=weights.scale * factor)
    # -128 has no negative in 8 bits; what does not fit is refused when the layer is made.
    return replace(
        weights, values=-weights.values, zero_point=-weights.zero_point, scale=weights.scale * -factor
    )
