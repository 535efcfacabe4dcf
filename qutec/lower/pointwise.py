"""Pointwise operators as numpy functions: what a 256-entry table is filled from.

Formulas are those of the ONNX operator specification; computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qutec.lower.builder import Refused
from qutec.lower.constants import constant, real

__all__ = ["BINARY", "UNARY", "Function", "clamp_bounds", "unary_function"]

FloatArray: TypeAlias = npt.NDArray[np.float64]
Function: TypeAlias = Callable[[FloatArray], FloatArray]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: FloatArray) -> FloatArray:
    return 1.0 / (1.0 + np.exp(-x))


def _softplus(x: FloatArray) -> FloatArray:
    return np.logaddexp(0.0, x)


def _gelu(x: FloatArray, tanh: bool) -> FloatArray:
    half: FloatArray = 0.5 * x
    if tanh:
        inner: FloatArray = np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))
        return half * (1.0 + inner)
    gate: FloatArray = 1.0 + _erf(x / math.sqrt(2.0))
    return half * gate


def _elu(x: FloatArray, alpha: float) -> FloatArray:
    return np.where(x < 0, alpha * np.expm1(np.minimum(x, 0.0)), x)


def _selu(x: FloatArray, alpha: float, gamma: float) -> FloatArray:
    return gamma * np.where(x <= 0, alpha * np.expm1(np.minimum(x, 0.0)), x)


def _celu(x: FloatArray, alpha: float) -> FloatArray:
    return np.maximum(x, 0.0) + np.minimum(0.0, alpha * np.expm1(np.minimum(x, 0.0) / alpha))


def clamp_bounds(node: ir.Node) -> tuple[float, float] | None:
    """(low, high) of a Relu or of a Clip with constant bounds; None for every other node."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type != "Clip":
        return None
    bounds = []
    for index, default in ((1, -math.inf), (2, math.inf)):
        value = node.inputs[index] if len(node.inputs) > index else None
        if value is None:
            bounds.append(default)
            continue
        known = constant(value)
        if known is None:
            return None
        bounds.append(float(real(known).reshape(-1)[0]))
    return bounds[0], bounds[1]


def _clip(node: ir.Node) -> Function:
    bounds = clamp_bounds(node)
    if bounds is None:
        raise Refused("its bounds are not constants")
    low, high = bounds
    return lambda x: np.clip(x, low, high)


def _prelu(node: ir.Node) -> Function:
    slope = constant(node.inputs[1])
    if slope is None or real(slope).size != 1:
        raise Refused("its slope is not one constant")
    factor = float(real(slope).reshape(-1)[0])
    return lambda x: np.where(x < 0, factor * x, x)


def _float(node: ir.Node, name: str, default: float) -> float:
    return node.attributes.get_float(name, default)


UNARY: dict[str, Callable[[ir.Node], Function]] = {
    "Abs": lambda node: np.abs,
    "Celu": lambda node: lambda x: _celu(x, _float(node, "alpha", 1.0)),
    "Clip": _clip,
    "Elu": lambda node: lambda x: _elu(x, _float(node, "alpha", 1.0)),
    "Erf": lambda node: _erf,
    "Exp": lambda node: np.exp,
    "Gelu": lambda node: lambda x: _gelu(x, node.attributes.get_string("approximate", "none") == "tanh"),
    "HardSigmoid": lambda node: (
        lambda x: np.clip(_float(node, "alpha", 0.2) * x + _float(node, "beta", 0.5), 0.0, 1.0)
    ),
    "HardSwish": lambda node: lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "LeakyRelu": lambda node: lambda x: np.where(x < 0, _float(node, "alpha", 0.01) * x, x),
    "Mish": lambda node: lambda x: x * np.tanh(_softplus(x)),
    "Neg": lambda node: np.negative,
    "PRelu": _prelu,
    "Relu": lambda node: lambda x: np.maximum(x, 0.0),
    "Selu": lambda node: (
        lambda x: _selu(
            x,
            _float(node, "alpha", 1.6732632423543772),
            _float(node, "gamma", 1.0507009873554805),
        )
    ),
    "Sigmoid": lambda node: _sigmoid,
    "Softplus": lambda node: _softplus,
    "Softsign": lambda node: lambda x: x / (1.0 + np.abs(x)),
    "Sqrt": lambda node: lambda x: np.sqrt(np.maximum(x, 0.0)),
    "Tanh": lambda node: np.tanh,
}
"""Operators of one tensor; the factory reads the attributes and returns the function."""

BINARY: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "Add": np.add,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "Pow": np.power,
    "Sub": np.subtract,
}
"""Operators of two tensors, pointwise where both depend on one tensor or on scalar constants."""


def unary_function(node: ir.Node) -> Function:
    """The numpy function of a node in `UNARY`."""
    return UNARY[node.op_type](node)
