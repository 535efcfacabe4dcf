"""The arithmetic of QUTE heads on numpy arrays, to the bit; `qutec.reference` runs it on buffers.

Errors of `head_uncertainty` against real arithmetic on the same logits, up to 1000 classes:

- Exponentials (table and cubic) are within 2**-29.9, the largest being 1; their sum is kept in Q51, so that
  tails count which no single class shows; its reciprocal (Newton) is within a factor of 1 + 2**-29.9.
- A probability is cut at 2**-31 for each head and rounded once: within 2**-28. All together are 1 within
  L * 2**-30 + 2**-28.
- Logarithms (table and cubic) are within 2**-24. An entropy is their mean, weighted with probabilities that
  are off by 2**-30 where the logarithm to base 2 is at most 31: within L * 2**-25.5 + 2**-17 (rounding to
  Q16), which is 2**-15. The disagreement, a difference of two such means, is within 2**-14.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qutec.fixed_point import requantize, wrap_int32
from qutec.program import HeadFeatures, HeadLogits, HeadUncertainty, Int8Array, Int32Array

__all__ = ["head_features", "head_logits", "head_uncertainty"]

Int16Array: TypeAlias = npt.NDArray[np.int16]
Int64Array: TypeAlias = npt.NDArray[np.int64]

_FRACTION_BITS = 20
_SUM_EXTRA_BITS = 20
_MAX_EXPONENT = 12
_ONE_Q30 = 1 << 30
_ONE_Q31 = 1 << 31
_LN_2_Q32 = 2977044472

_POWER_OF_TWO = np.array([round(2.0 ** (31 - i / 32)) for i in range(33)], dtype=np.int64)
"""2**(-i / 32) in Q31."""
_RECIPROCAL_INDEX = np.array([0, *(round(32 * np.log2(1 + (i + 0.5) / 32)) for i in range(1, 32))], np.int64)
"""For m in [1 + i / 32, 1 + (i + 1) / 32): which power is near 1 / m; exactly 1 for m = 1."""

# Minimax: 2**(-s / 32) = 1 - s * (a - s * (b - s * c)) for s in [0, 1], in Q32, error 2**-33.
_EXP2_CUBIC = (93032633, 1007539, 7200)
# Minimax: log2(1 + t) = t * (a - t * (b - t * c)) for |t| <= 1 / 32; Q30, Q31, Q31; error 2**-24.
_LOG2_CUBIC = (1549083842, 1549484860, 1020426366)


def head_features(call: HeadFeatures, values: Int8Array) -> Int16Array:
    """values [batch, H, W, C] -> features [batch, K, C]."""
    heads, kernel_y, kernel_x, channels = call.weights.shape
    (height, width), (stride_y, stride_x) = call.output_pixels, call.stride
    top, left = call.padding
    span = ((height - 1) * stride_y + kernel_y, (width - 1) * stride_x + kernel_x)
    padded = np.zeros((len(values), *span, channels), np.int64)
    inside = padded[:, top : top + values.shape[1], left : left + values.shape[2]]
    inside[...] = values[:, : inside.shape[1], : inside.shape[2]].astype(np.int64) + call.input_offset
    features = np.empty((len(values), heads, channels), np.int16)
    for head in range(heads):
        total = np.zeros((len(values), height, width, channels), np.int64) + call.bias[head]
        for y, x in np.ndindex(kernel_y, kernel_x):
            rows = slice(y, y + (height - 1) * stride_y + 1, stride_y)
            columns = slice(x, x + (width - 1) * stride_x + 1, stride_x)
            total += padded[:, rows, columns] * call.weights[head, y, x].astype(np.int64)
        if call.relu:
            np.maximum(total, 0, out=total)
        scaled = requantize(wrap_int32(total.sum(axis=(1, 2))), call.multiplier[head], call.shift[head])
        features[:, head] = np.clip(scaled, -(1 << 15), (1 << 15) - 1)
    return features


def head_logits(call: HeadLogits, values: npt.NDArray[np.int8] | Int16Array) -> Int32Array:
    """values [batch, K, C] -> logits [batch, K, L]."""
    inputs = values.astype(np.int64) + call.input_offset
    logits = np.empty((len(values), call.heads, call.classes), np.int32)
    for head in range(call.heads):
        sums = wrap_int32(inputs[:, head] @ call.weights[head].astype(np.int64).T)
        sums = np.clip(sums, -call.limit, call.limit)
        scaled = requantize(sums, call.multiplier[head], call.shift[head])
        logits[:, head] = wrap_int32(scaled + call.bias[head])
    return logits


def head_uncertainty(call: HeadUncertainty, logits: Int32Array) -> Int32Array:
    """logits [batch, K, L] -> [batch, L + 5]: probabilities, then the five scalars of `HeadUncertainty`."""
    below = logits.max(axis=2, keepdims=True).astype(np.int64) - logits
    octaves = below >> _FRACTION_BITS
    power = _exp2_of_fraction(below)
    terms = (power << np.maximum(_SUM_EXTRA_BITS - octaves, 0)) >> np.clip(octaves - _SUM_EXTRA_BITS, 0, 63)
    # 4096 equal logits reach 2**63, which has no sign to spare.
    sums = terms.sum(axis=2).astype(np.uint64)
    exponentials = power >> np.minimum(octaves, 63)
    moments = (exponentials * below).sum(axis=2)

    exponent = _bit_length((sums >> np.uint64(32)).astype(np.int64)) - (32 - _MAX_EXPONENT)
    mantissa = (sums >> (_SUM_EXTRA_BITS + exponent).astype(np.uint64)).astype(np.int64)
    inverse = _reciprocal_of_mantissa(mantissa)
    mean_below = ((moments >> (25 + exponent)) * inverse) >> 31
    head_bits = (exponent << 26) + _log2_of_mantissa(mantissa) + mean_below
    head_entropy = ((head_bits * _LN_2_Q32 >> 32) >> 4).sum(axis=1) // call.heads << 4

    least = exponent.min(axis=1, keepdims=True)
    factor = ((inverse + call.heads // 2) // call.heads) >> (exponent - least)
    mean = (exponentials * factor[:, :, None]).sum(axis=1)
    mean += np.int64(_ONE_Q31) << least
    probability = np.minimum(mean >> (32 + least), _ONE_Q30)

    bits = (probability * _bits_of_probability(probability)).sum(axis=1)
    entropy = (bits >> 30) * _LN_2_Q32 >> 32
    disagreement = np.where(entropy > head_entropy, (entropy - head_entropy + 512) >> 10, 0)
    if call.heads == 1:
        disagreement[...] = 0
    label = probability.argmax(axis=1)
    confidence = probability.max(axis=1)
    scalars = [label, confidence, (entropy + 512) >> 10, disagreement, confidence < call.abstain_below]
    return np.concatenate([probability, np.stack(scalars, axis=1)], axis=1).astype(np.int32)


def _mul_high(a: Int64Array, b: Int64Array | int) -> Int64Array:
    """The upper word of the product of two uint32."""
    product = a.astype(np.uint64) * np.asarray(b, dtype=np.int64).astype(np.uint64)
    return (product >> np.uint64(32)).astype(np.int64)


def _exp2_of_fraction(x: Int64Array) -> Int64Array:
    """2**-f in Q31, f the fraction of x in Q20."""
    rest = (x & 0x7FFF) << 17
    power = _POWER_OF_TWO[(x >> 15) & 31]
    first, second, third = _EXP2_CUBIC
    slope = first - _mul_high(rest, second - _mul_high(rest, third))
    result: Int64Array = power - _mul_high(power, _mul_high(rest, slope))
    return result


def _log2_of_mantissa(m: Int64Array) -> Int64Array:
    """log2(m) in Q26 for m in [1, 2) in Q31."""
    index = _RECIPROCAL_INDEX[(m >> 26) & 31]
    t = (_mul_high(m, _POWER_OF_TWO[index]) - _ONE_Q30) << 5
    first, second, third = _LOG2_CUBIC
    slope = second - ((t * third >> 32) >> 3)
    slope = first - ((t * slope >> 32) >> 4)
    result: Int64Array = (index << 21) + ((t * slope >> 32) >> 7)
    return result


def _reciprocal_of_mantissa(m: Int64Array) -> Int64Array:
    """1 / m in Q31 for m in [1, 2) in Q31."""
    r: Int64Array = _POWER_OF_TWO[_RECIPROCAL_INDEX[(m >> 26) & 31]]
    for _ in range(3):
        r = r + (r * (_ONE_Q30 - _mul_high(m, r)) >> 30)
    return np.minimum(r, _ONE_Q31)


def _bits_of_probability(p: Int64Array) -> Int64Array:
    """-log2(p) in Q26 for p in Q30; 0 for p = 0, whose share of an entropy is 0."""
    length = _bit_length(np.maximum(p, 1))
    bits = ((31 - length) << 26) - _log2_of_mantissa(np.maximum(p, 1) << (32 - length))
    return np.where(p > 0, bits, 0)


def _bit_length(value: Int64Array) -> Int64Array:
    """Bits of positive values below 2**53."""
    return np.frexp(value.astype(np.float64))[1].astype(np.int64)
