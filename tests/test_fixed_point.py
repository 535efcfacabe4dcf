"""Fixed-point factors and arithmetic against exact fractions and floating point."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qutec.errors import UnsupportedModelError
from qutec.fixed_point import (
    add_parameters,
    exp_on_negative_values,
    one_over_one_plus_x,
    quantize_multiplier,
    quantize_multipliers,
    requantize,
    saturating_high_multiply,
    softmax_parameters,
)

property_settings = settings(max_examples=300, deadline=None)
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)


def _int32(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def exact_requantize(value: int, multiplier: int, shift: int) -> int:
    """The specification in exact fractions: ties upwards in the product, away from zero in the division."""
    shifted = _int32(value << max(shift, 0))
    high = _int32(math.floor(Fraction(shifted * multiplier, 1 << 31) + Fraction(1, 2)))
    quotient = Fraction(abs(high), 1 << max(-shift, 0))
    rounded = math.floor(quotient + Fraction(1, 2))
    return -rounded if high < 0 else rounded


def _requantize(value: int, multiplier: int, shift: int) -> int:
    return int(requantize(np.array([value], dtype=np.int64), multiplier, shift)[0])


@given(INT32, INT32, st.integers(-31, 30))
@property_settings
def test_requantisation_follows_the_specification_for_any_int32(
    value: int, multiplier: int, shift: int
) -> None:
    assert _requantize(value, multiplier, shift) == exact_requantize(value, multiplier, shift)


@pytest.mark.parametrize("value", [-(1 << 31), -3, -2, -1, 0, 1, 2, 3, (1 << 31) - 1])
@pytest.mark.parametrize("multiplier", [-(1 << 31), -(1 << 30), 1 << 30, (1 << 31) - 1])
@pytest.mark.parametrize("shift", [-31, -2, -1, 0, 1, 30])
def test_requantisation_follows_the_specification_at_ties_and_limits(
    value: int, multiplier: int, shift: int
) -> None:
    assert _requantize(value, multiplier, shift) == exact_requantize(value, multiplier, shift)


@given(st.integers(-(1 << 24), 1 << 24), st.floats(1e-6, 100.0), st.booleans())
@property_settings
def test_requantisation_is_within_one_of_the_real_product(value: int, factor: float, negative: bool) -> None:
    real = -factor if negative else factor
    if abs(value * real) >= 1 << 30:
        return
    # Half a unit for either rounding, and the factor's own 31 bits.
    bound = 1.0 + abs(value * real) * 2.0**-31 + 1e-9
    assert abs(_requantize(value, *quantize_multiplier(real)) - value * real) <= bound


def test_high_multiplication_saturates_its_one_overflow() -> None:
    lowest, highest = np.int64(-(1 << 31)), np.int64((1 << 31) - 1)
    assert int(saturating_high_multiply(lowest, lowest)) == highest
    assert int(saturating_high_multiply(lowest, highest)) == -highest


def test_requantisation_per_channel_is_requantisation_of_each_channel() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-(1 << 31), 1 << 31, (50, 7))
    multiplier, shift = rng.integers(1 << 30, 1 << 31, 7), rng.integers(-31, 31, 7)
    scaled = requantize(values, multiplier, shift)
    for channel in range(7):
        expected = requantize(values[:, channel], multiplier[channel], shift[channel])
        np.testing.assert_array_equal(scaled[:, channel], expected)


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.0, (0, 0)),
        (0.5, (1 << 30, 0)),
        (1.0, (1 << 30, 1)),
        (-0.75, (-3 << 29, 0)),
        (0.1, (1717986918, -3)),
        # The mantissa rounds up to 1, which is 1/2 with one more bit of shift.
        (1.0 - 2.0**-40, (1 << 30, 1)),
        (2.0**-32, (1 << 30, -31)),
        (2.0**-33, (0, 0)),
        (5e-324, (0, 0)),
        (2.0**30 - 1, (2147483646, 30)),
    ],
)
def test_multiplier_and_shift_of_known_factors(real: float, expected: tuple[int, int]) -> None:
    assert quantize_multiplier(real) == expected


@given(st.floats(2.0**-32, 2.0**29), st.booleans())
@property_settings
def test_multiplier_has_31_bits_and_half_a_unit_of_error(factor: float, negative: bool) -> None:
    real = -factor if negative else factor
    multiplier, shift = quantize_multiplier(real)
    assert 1 << 30 <= abs(multiplier) < 1 << 31
    assert -31 <= shift <= 30
    error = abs(Fraction(multiplier) - Fraction(real) / Fraction(2) ** (shift - 31))
    assert error <= Fraction(1, 2)


@pytest.mark.parametrize("real", [2.0**30, -(2.0**31), math.inf, math.nan])
def test_factor_out_of_range_is_refused(real: float) -> None:
    with pytest.raises(UnsupportedModelError, match="scale factor"):
        quantize_multiplier(real)


def test_factors_of_channels_are_those_of_each_channel() -> None:
    real = np.array([[0.1, 0.0], [-0.3, 7.5]])
    multipliers, shifts = quantize_multipliers(real)
    assert multipliers.dtype == shifts.dtype == np.int32
    for index, value in np.ndenumerate(real):
        assert (int(multipliers[index]), int(shifts[index])) == quantize_multiplier(float(value))


@given(st.floats(1e-12, 1e3), st.floats(0.01, 100.0))
@property_settings
def test_softmax_factor_rescales_differences_to_q5_26(scale: float, beta: float) -> None:
    multiplier, shift, diff_min = softmax_parameters(scale, beta)
    assert 0 <= multiplier < 1 << 31
    assert 0 <= shift <= 31
    real = min(scale * beta * 2.0**26, 2.0**31 - 1)
    assert multiplier * 2.0 ** (shift - 31) == pytest.approx(real, rel=2.0**-30, abs=2.0**-31)
    # diff_min is the last difference whose exponent fits in 5 integer bits and in int32 before scaling.
    assert -diff_min << shift <= 31 << 26 < (1 - diff_min) << shift


@pytest.mark.parametrize(("scale", "beta"), [(0.0, 1.0), (-0.1, 1.0), (0.1, 0.0), (math.nan, 1.0)])
def test_softmax_of_an_impossible_scale_is_refused(scale: float, beta: float) -> None:
    with pytest.raises(UnsupportedModelError, match="softmax"):
        softmax_parameters(scale, beta)


def test_exponential_is_as_accurate_as_its_polynomial() -> None:
    # The fifth Taylor term at the distance of 1/8 from its centre, and roundings.
    bound = math.exp(-1 / 8) * (1 / 8) ** 5 / math.factorial(5) * 1.1
    values = np.unique(np.concatenate([-np.geomspace(1, 2.0**31, 20001).astype(np.int64), [0]]))
    approximation = exp_on_negative_values(values) * 2.0**-31
    np.testing.assert_allclose(approximation, np.exp(values * 2.0**-26), rtol=0, atol=bound)


def test_reciprocal_is_accurate_to_1e_8_over_its_range() -> None:
    values = np.linspace(0, 2**31 - 1, 20001).astype(np.int64)
    approximation = one_over_one_plus_x(values) * 2.0**-31
    np.testing.assert_allclose(approximation, 1 / (1 + values * 2.0**-31), rtol=0, atol=1e-8)


@given(st.floats(2e-3, 10.0), st.floats(2e-3, 10.0), st.floats(1e-3, 10.0), st.booleans())
@property_settings
def test_addition_factors_restore_the_scales(
    scale_1: float, scale_2: float, output_scale: float, subtract: bool
) -> None:
    parameters = add_parameters(scale_1, -scale_2 if subtract else scale_2, output_scale)
    input_1 = math.ldexp(parameters.input_1_multiplier, parameters.input_1_shift - 31)
    input_2 = math.ldexp(parameters.input_2_multiplier, parameters.input_2_shift - 31)
    output = math.ldexp(parameters.output_multiplier, parameters.output_shift - 31 + parameters.left_shift)
    assert input_1 * output == pytest.approx(scale_1 / output_scale, rel=2.0**-29, abs=0)
    assert input_2 * output == pytest.approx(
        (-1 if subtract else 1) * scale_2 / output_scale, rel=2.0**-29, abs=0
    )
    # No term and no sum leaves int32 for any int8 pair: 255 << 20 times at most one half each.
    assert max(abs(input_1), abs(input_2)) <= 0.5
    assert (255 << parameters.left_shift) << max(parameters.output_shift, 0) < 1 << 31


def test_sum_too_small_for_the_output_becomes_zero() -> None:
    """Factors below 2**-32 are flushed, which no sum can tell from rounding."""
    parameters = add_parameters(1e-4, 1e-4, 1.0)
    assert (parameters.output_multiplier, parameters.output_shift) == (0, 0)


@pytest.mark.parametrize("scales", [(0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (1.0, 1.0, 1e-8)])
def test_addition_that_cannot_be_quantised_is_refused(scales: tuple[float, float, float]) -> None:
    with pytest.raises(UnsupportedModelError, match="addition"):
        add_parameters(*scales)
