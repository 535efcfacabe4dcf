"""Fixed-point numbers: how a real factor becomes (multiplier, shift), and the arithmetic on it.

A real factor r is held as an int32 `multiplier` and a `shift` with r ~= multiplier * 2**(shift - 31)
and 2**30 <= |multiplier| < 2**31. Parameters are made as TensorFlow Lite makes them
(tensorflow/lite/kernels/internal/quantization_util.cc and the Prepare functions of its kernels); they are
applied with two roundings, as CMSIS-NN does unless built with CMSIS_NN_USE_SINGLE_ROUNDING.

The arithmetic takes and returns int64 arrays that hold int32 values; what would overflow int32 in C wraps
around on two's complement, as it does on the target.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qutec.errors import UnsupportedModelError

__all__ = [
    "AddParameters",
    "add_parameters",
    "doubling_high_multiply",
    "exp_on_negative_values",
    "one_over_one_plus_x",
    "quantize_multiplier",
    "quantize_multipliers",
    "requantize",
    "rounding_divide_by_power_of_two",
    "saturating_high_multiply",
    "saturating_multiply_by_power_of_two",
    "softmax_parameters",
    "wrap_int32",
]

Int64Array = npt.NDArray[np.int64]
_Int64 = Int64Array | np.int64
Int32Array = npt.NDArray[np.int32]

_INT32_MIN = -(1 << 31)
_INT32_MAX = (1 << 31) - 1

_SHIFT_MIN = -31
_SHIFT_MAX = 30
_ADD_OUTPUT_SHIFT_MAX = 3
_SOFTMAX_INTEGER_BITS = 5


def quantize_multiplier(real: float) -> tuple[int, int]:
    """The (multiplier, shift) nearest to `real`, shift in [-31, 30].

    TensorFlow Lite's QuantizeMultiplier: frexp, then the mantissa rounded half away from zero to 31 bits.
    A factor below 2**-32 gives (0, 0). A negative factor gives a negative multiplier.

    Raises UnsupportedModelError where `real` is not finite or its shift would be above 30.
    """
    if not math.isfinite(real):
        raise UnsupportedModelError(f"a scale factor of {real} cannot be quantised")
    mantissa, shift = math.frexp(abs(real))
    multiplier = math.floor(mantissa * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = multiplier >> 1, shift + 1
    if multiplier == 0 or shift < _SHIFT_MIN:
        return 0, 0
    if shift > _SHIFT_MAX:
        raise UnsupportedModelError(f"a scale factor of {real:g} is too large to quantise (limit 2**30)")
    return (-multiplier if real < 0 else multiplier), shift


def quantize_multipliers(real: npt.NDArray[np.float64]) -> tuple[Int32Array, Int32Array]:
    """`quantize_multiplier` of each of `real`, one factor a channel: multipliers and shifts, of its shape."""
    pairs = [quantize_multiplier(float(value)) for value in real.ravel()]
    multipliers = np.array([multiplier for multiplier, _ in pairs], dtype=np.int32)
    shifts = np.array([shift for _, shift in pairs], dtype=np.int32)
    return multipliers.reshape(real.shape), shifts.reshape(real.shape)


def softmax_parameters(input_scale: float, beta: float = 1.0) -> tuple[int, int, int]:
    """(multiplier, shift, diff_min) of an int8 softmax over inputs of `input_scale`, shift in [0, 31].

    TensorFlow Lite's PreprocessSoftmaxScaling and CalculateInputRadius with 5 integer bits: differences
    to the row's maximum are rescaled to Q5.26; those under diff_min underflow and give probability 0.
    Where TensorFlow Lite refuses a scale of 2**-26 or less, the shift stays 0 and the multiplier gets
    smaller, which is the same arithmetic.

    Raises UnsupportedModelError where scale or beta is not positive and finite.
    """
    if not (math.isfinite(input_scale * beta) and input_scale > 0 and beta > 0):
        raise UnsupportedModelError(
            f"softmax needs a positive input scale and beta, not {input_scale}, {beta}"
        )
    fraction_bits = 31 - _SOFTMAX_INTEGER_BITS
    real = min(input_scale * beta * (1 << fraction_bits), float(_INT32_MAX))
    if real <= 1.0:
        multiplier, shift = min(math.floor(real * (1 << 31) + 0.5), _INT32_MAX), 0
    else:
        mantissa, shift = math.frexp(real)
        multiplier = math.floor(mantissa * (1 << 31) + 0.5)
        if multiplier == 1 << 31:
            multiplier, shift = multiplier >> 1, shift + 1
    radius = ((1 << _SOFTMAX_INTEGER_BITS) - 1) << fraction_bits
    return multiplier, shift, -(radius >> shift)


@dataclass(frozen=True)
class AddParameters:
    """The fixed-point fields of `qutec.program.Add`, under the same names."""

    input_1_multiplier: int
    input_1_shift: int
    input_2_multiplier: int
    input_2_shift: int
    left_shift: int
    output_multiplier: int
    output_shift: int


def add_parameters(input_1_scale: float, input_2_scale: float, output_scale: float) -> AddParameters:
    """Factors of an int8 addition; a negative input scale subtracts that input.

    TensorFlow Lite's add: inputs are shifted left by 20 bits and brought to the common scale
    2 * max(input scales), which keeps either factor at or below one half, and the sum is scaled to the
    output. CMSIS-NN's DSP path needs a left shift of at least 16, so this one is not a choice.

    Raises UnsupportedModelError where a scale is 0 or not finite, or where the output scale is so small
    that the sum would leave int32 (below 2**-22 of the larger input scale).
    """
    left_shift = 20
    common = 2.0 * max(abs(input_1_scale), abs(input_2_scale))
    if not (math.isfinite(common) and math.isfinite(output_scale) and output_scale > 0):
        raise UnsupportedModelError(
            f"addition cannot be quantised with scales {input_1_scale}, {input_2_scale} -> {output_scale}"
        )
    if input_1_scale == 0 or input_2_scale == 0:
        raise UnsupportedModelError("addition cannot be quantised with an input scale of 0")
    multiplier_1, shift_1 = quantize_multiplier(input_1_scale / common)
    multiplier_2, shift_2 = quantize_multiplier(input_2_scale / common)
    output_multiplier, output_shift = quantize_multiplier(common / ((1 << left_shift) * output_scale))
    if output_shift > _ADD_OUTPUT_SHIFT_MAX:
        raise UnsupportedModelError(
            f"addition's output scale {output_scale:g} is too small for inputs of scale {common / 2:g}"
        )
    return AddParameters(
        input_1_multiplier=multiplier_1,
        input_1_shift=shift_1,
        input_2_multiplier=multiplier_2,
        input_2_shift=shift_2,
        left_shift=left_shift,
        output_multiplier=output_multiplier,
        output_shift=output_shift,
    )


def wrap_int32(value: Int64Array) -> Int64Array:
    """`value` modulo 2**32 in [-2**31, 2**31), as an int32 register would hold it."""
    return value.astype(np.int32).astype(np.int64)


def doubling_high_multiply(a: _Int64, b: _Int64) -> Int64Array:
    """round(a * b / 2**31), ties upwards, for int32 values; -2**31 * -2**31 gives 2**31 (not int32).

    CMSIS-NN's saturating and plain variants, and NEON's VQRDMULH, differ in that one product only.
    """
    product: Int64Array = np.multiply(a, b)
    product += 1 << 30
    product >>= 31
    return product


def rounding_divide_by_power_of_two(value: Int64Array, exponent: _Int64) -> Int64Array:
    """round(value / 2**exponent), ties away from zero; exponent in [0, 62], broadcast against value."""
    half = (np.int64(1) << exponent) >> 1
    # -1 under a negative value moves its ties away from zero; nothing may move where nothing is divided.
    nudge = (value >> 63) & np.where(exponent > 0, np.int64(-1), np.int64(0))
    nudge += half
    nudge += value
    nudge >>= exponent
    return nudge


def requantize(value: Int64Array, multiplier: npt.ArrayLike, shift: npt.ArrayLike) -> Int64Array:
    """value * multiplier * 2**(shift - 31) with two roundings: arm_nn_requantize.

    `value` holds int32 values of any shape; multiplier and shift (in [-31, 30]) are scalars or broadcast
    along its last axis. A positive shift is applied before the multiplication and wraps around.
    """
    shifts = np.asarray(shift, dtype=np.int64)
    left = np.maximum(shifts, 0)
    if left.any():
        value = wrap_int32(value << left)
    high = doubling_high_multiply(value, np.asarray(multiplier, dtype=np.int64))
    right = np.maximum(-shifts, 0)
    # Only -2**31 * -2**31 leaves int32, and it wraps before the division.
    if np.any(np.asarray(multiplier) == _INT32_MIN):
        high = wrap_int32(high)
    return rounding_divide_by_power_of_two(high, right) if right.any() else high


def saturating_multiply_by_power_of_two(value: Int64Array, exponent: int) -> Int64Array:
    """value * 2**exponent, saturated to int32."""
    shifted: Int64Array = value << exponent
    return np.clip(shifted, _INT32_MIN, _INT32_MAX)


def saturating_high_multiply(a: _Int64, b: _Int64) -> Int64Array:
    """`doubling_high_multiply`, saturated to int32."""
    return np.minimum(doubling_high_multiply(a, b), _INT32_MAX)


def _q31(value: float) -> Int64Array:
    return np.asarray(min(math.floor(value * (1 << 31) + 0.5), _INT32_MAX), dtype=np.int64)


def exp_on_negative_values(value: Int64Array) -> Int64Array:
    """exp(value / 2**26) for value <= 0 in Q5.26, as Q0.31 (gemmlowp's exp_on_negative_values).

    The argument is split into a multiple of 1/4 and a rest in [-1/4, 0). The rest's exponential is a
    fourth-order Taylor polynomial about -1/8; that of the multiple is a product of exp(-2**k),
    k = -2 .. 4, one for each bit set.
    """
    quarter = 1 << 24
    rest = (value & (quarter - 1)) - quarter
    multiple = wrap_int32(rest - value)

    x = (rest << 5) + (1 << 28)
    x2 = saturating_high_multiply(x, x)
    x4 = saturating_high_multiply(x2, x2)
    x3 = saturating_high_multiply(x2, x)
    # ((x^4 / 4 + x^3) / 3 + x^2) / 2: the terms of order 2, 3 and 4.
    tail = rounding_divide_by_power_of_two(x4, np.int64(2)) + x3
    tail = saturating_high_multiply(tail, _q31(1 / 3)) + x2
    tail = rounding_divide_by_power_of_two(tail, np.int64(1))
    eighth = _q31(math.exp(-1 / 8))
    result = wrap_int32(eighth + saturating_high_multiply(eighth, wrap_int32(x + tail)))

    for bit in range(7):
        factor = _q31(math.exp(-(2.0 ** (bit - 2))))
        chosen = (multiple & (quarter << bit)) != 0
        result = np.where(chosen, saturating_high_multiply(result, factor), result)
    return np.where(value == 0, np.int64(_INT32_MAX), result)


def one_over_one_plus_x(value: Int64Array) -> Int64Array:
    """1 / (1 + x) in Q0.31 for x = value / 2**31 in [0, 1) (gemmlowp's one_over_one_plus_x_for_x_in_0_1).

    Three Newton-Raphson steps on the half denominator d = (1 + x) / 2 from the linear estimate
    48/17 - 32/17 d, in Q2.29.
    """
    total = value + _INT32_MAX
    half_denominator = np.where(total >= 0, (total + 1) >> 1, -((1 - total) >> 1))
    one = 1 << 29
    estimate = np.int64(48 * one // 17) + saturating_high_multiply(
        half_denominator, np.int64(-(32 * one // 17))
    )
    for _ in range(3):
        error = wrap_int32(one - saturating_high_multiply(half_denominator, estimate))
        step = saturating_multiply_by_power_of_two(saturating_high_multiply(estimate, error), 2)
        estimate = wrap_int32(estimate + step)
    return saturating_multiply_by_power_of_two(estimate, 1)
