"""What is known of a value while the graph is walked: finished int8 data, or a kernel that waits.

A QDQ graph computes in float between DequantizeLinear and QuantizeLinear. Lowering keeps that float
part as an expression and emits one kernel call when the QuantizeLinear says how its result is stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qutec.errors import UnsupportedModelError
from qutec.lower.builder import Builder, Refused, quantize_array
from qutec.lower.constants import Constant, constant
from qutec.lower.pointwise import Function
from qutec.lower.view import View
from qutec.program import Quantization, Tensor

__all__ = [
    "NO_CLAMP",
    "Clamp",
    "Context",
    "DenseLayer",
    "Expression",
    "OpenQuantization",
    "Pending",
    "Pointwise",
    "Result",
]

Clamp: TypeAlias = tuple[float, float]
"""(low, high) in real numbers: the activation that is fused into a kernel."""

NO_CLAMP: Clamp = (-math.inf, math.inf)


@dataclass(frozen=True)
class OpenQuantization(Quantization):
    """The parameters of a network input before a Q or DQ node has told them."""

    input_name: str = ""


@dataclass(frozen=True, eq=False)
class Pending:
    """A kernel call that waits for the parameters of its output."""

    shape: tuple[int, ...]
    emit: Callable[[Quantization, Clamp], View]
    clamp: Clamp = NO_CLAMP
    quantization: Quantization | None = None
    """Parameters that the kernel fixes by itself (softmax), used where the graph gives none."""
    biased: Callable[[Constant], Pending | None] | None = None
    """The same kernel with a constant added to its accumulator, None if it does not fit the channels."""
    dense: DenseLayer | None = None
    """The layer itself where it is dense, on one row, and followed by nothing."""
    after: tuple[Callable[[View], View], ...] = ()
    """Moves of elements to make once the result is there."""
    origin: str = ""
    """The node that the kernel computes, for error texts."""

    def clamped(self, clamp: Clamp) -> Pending:
        """The same kernel followed by a clamp."""
        low, high = (min(max(bound, clamp[0]), clamp[1]) for bound in self.clamp)
        return replace(self, clamp=(low, high), quantization=None, biased=None, dense=None)

    def then(self, move: Callable[[View], View], shape: tuple[int, ...]) -> Pending:
        """The same kernel followed by a move of elements."""
        return replace(self, shape=shape, after=(*self.after, move), biased=None, dense=None)


@dataclass(frozen=True, eq=False)
class Pointwise:
    """A function of each element of a view; becomes one table."""

    base: View
    function: Function
    origin: str = ""
    """The last node of the chain, for error texts."""


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """A dense layer whose output need not be int8: weights [O, I], bias [O] as real numbers."""

    name: str
    x: View
    weights: Constant
    bias: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """int32 values that a network returns and nothing else reads; real = scale * stored."""

    tensor: Tensor
    scale: float


Expression: TypeAlias = View | Pending | Pointwise


@dataclass
class Context:
    """State of one lowering."""

    builder: Builder
    expressions: dict[ir.Value, Expression] = field(default_factory=dict)
    input_quantization: dict[str, Quantization] = field(default_factory=dict)
    results: dict[ir.Value, Result] = field(default_factory=dict)
    _realized: dict[tuple[int, Quantization], tuple[Expression, View]] = field(default_factory=dict)

    def expression(self, value: ir.Value | None) -> Expression:
        """What is known of a value that is not a constant."""
        if value is None:
            raise Refused("an input is missing")
        if value in self.expressions:
            return self.expressions[value]
        if constant(value) is not None:
            raise Refused(f"its input '{value.name}' is a constant")
        raise Refused(f"its input '{value.name}' was not lowered")

    def view(self, value: ir.Value | None) -> View:
        """The finished int8 data of a value; refuses where no Q/DQ pair stands before the reader."""
        known = self.expression(value)
        assert value is not None
        if isinstance(known, Pending) and known.quantization is not None:
            return self.realized(known, known.quantization, value.name or "value")
        if not isinstance(known, View) or isinstance(known.quantization, OpenQuantization):
            raise Refused(f"its input '{value.name}' has no quantisation parameters")
        return known

    def raw(self, value: ir.Value | None) -> View:
        """The 8-bit codes of a value whose parameters its reader tells."""
        known = self.expression(value)
        return known if isinstance(known, View) else self.view(value)

    def realized(self, known: Expression, quantization: Quantization, name: str) -> View:
        """The int8 data of an expression at the given parameters; emits its call once."""
        key = (id(known), quantization)
        if key not in self._realized:
            try:
                self._realized[key] = (known, self._realize(known, quantization, name))
            except (Refused, UnsupportedModelError) as refusal:
                origin = "" if isinstance(known, View) else known.origin
                raise Refused(str(refusal), origin) from refusal
        return self._realized[key][1]

    def _realize(self, known: Expression, quantization: Quantization, name: str) -> View:
        if isinstance(known, Pending):
            view = known.emit(quantization, known.clamp)
            for move in known.after:
                view = move(view)
            return view
        if isinstance(known, Pointwise):
            return self.tabulated(known, quantization, name)
        if isinstance(known.quantization, OpenQuantization):
            return self._told(known, known.quantization, quantization, name)
        return self.builder.requantized(known, quantization, name)

    def tabulated(self, known: Pointwise, quantization: Quantization, name: str) -> View:
        """A table for the function; none where it changes nothing."""
        base = known.base.quantization
        codes = np.arange(-128, 128, dtype=np.float64)
        with np.errstate(all="ignore"):
            result = known.function((codes - base.zero_point) * base.scale)
        if np.isnan(result).any():
            raise Refused("it is not a number for some input")
        limit = 1e30
        table = quantize_array(np.clip(result, -limit, limit), quantization)
        return self.builder.looked_up(known.base, table, quantization, name)

    def told(self, view: View, quantization: Quantization) -> View:
        """The view read at these parameters (DequantizeLinear); tells those of a network input."""
        if isinstance(view.quantization, OpenQuantization):
            self.input_quantization.setdefault(view.quantization.input_name, quantization)
        return replace(view, quantization=quantization)

    def _told(self, view: View, asked: OpenQuantization, quantization: Quantization, name: str) -> View:
        first = self.input_quantization.setdefault(asked.input_name, quantization)
        return self.builder.requantized(replace(view, quantization=first), quantization, name)
