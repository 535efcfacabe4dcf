"""The arithmetic of QUTE heads on numpy arrays, to the bit; `qutec.reference` runs it on buffers.

Errors of `head_uncertainty` against real arithmetic on the same logits, of K heads and L classes:

- Powers (minimax polynomial) are within 2**-29, logarithms within 2**-27 and the 2**-26 that they are cut
  at. A share is 2 to the power of minus its bits, cut at 2**-31; so is each exponential in the sum of a head,
  beside the largest, which is 1. A probability is within 2**-24 of its value, relatively, and within
  (K + L) * 2**-31 more, so that all together are 1 within 2**-24 + K * L * 2**-31.
- An entropy is a mean of logarithms whose weights are cut where the logarithm is at most 31: within
  2**-19 + K * L * 2**-27 nats, and 2**-17 more for rounding to Q16. The disagreement, a difference of two
  such means, is within 2**-18 + K * L * 2**-26 and the rounding.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qutec.fixed_point import doubling_high_multiply, wrap_int32
from qutec.program import HeadFeatures, HeadLogits, HeadUncertainty, Int8Array, Int16Array, Int32Array

__all__ = ["head_features", "head_logits", "head_uncertainty"]

Int64Array: TypeAlias = npt.NDArray[np.int64]

_FRACTION_BITS = 20
_MAX_DISTANCE = (32 << _FRACTION_BITS) - 1
_ONE_Q30 = 1 << 30
_LN_2_Q32 = 2977044472

# Minimax: 2**-f = t0 - f * (t1 - f * (t2 - ...)) for f in [0, 1), in Q31, exactly 1 at 0.
_EXP2_TERMS = (2147483648, 1488522040, 515878639, 119168801, 20577648, 2743352, 236086)
# Minimax: log2(1 + f) = f * (t0 - f * (t1 - ...)) for f in [0, 1), in Q31.
_LOG2_TERMS = (
    *(3098161928, 1548991981, 1031368517, 764400338, 575323445),
    *(393184562, 210937589, 73908142, 12177207),
)


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
        total = np.zeros((len(values), height, width, channels), np.int64)
        if call.bias is not None:
            total += call.bias[head].astype(np.int64) << call.bias_shift
        for y, x in np.ndindex(kernel_y, kernel_x):
            rows = slice(y, y + (height - 1) * stride_y + 1, stride_y)
            columns = slice(x, x + (width - 1) * stride_x + 1, stride_x)
            total += padded[:, rows, columns] * call.weights[head, y, x].astype(np.int64)
        if call.relu:
            np.maximum(total, 0, out=total)
        scaled = (total.sum(axis=(1, 2)) * call.multiplier[head].astype(np.int64)) >> 16
        rounded = ((scaled >> (call.shift - 1)) + 1) >> 1
        features[:, head] = np.clip(rounded, -(1 << 15), (1 << 15) - 1)
    return features


def head_logits(call: HeadLogits, values: npt.NDArray[np.int8] | Int16Array) -> Int32Array:
    """values [batch, K, C] -> logits [batch, K, L]."""
    inputs = values.astype(np.int64) + call.input_offset
    logits = np.empty((len(values), call.heads, call.classes), np.int32)
    for head in range(call.heads):
        sums = wrap_int32(inputs[:, head] @ call.weights[head].astype(np.int64).T)
        sums = np.clip(sums, -call.limit, call.limit) << call.left_shift
        scaled = doubling_high_multiply(sums, call.multiplier[head].astype(np.int64))
        logits[:, head] = wrap_int32(scaled + call.bias[head])
    return logits


def head_uncertainty(call: HeadUncertainty, logits: Int32Array) -> Int32Array:
    """logits [batch, K, L] -> [batch, L + 5]: probabilities, then the five scalars of `HeadUncertainty`."""
    below = logits.max(axis=2, keepdims=True).astype(np.int64) - logits
    distance = np.minimum(below, _MAX_DISTANCE) << (26 - _FRACTION_BITS)
    log2_heads = int(_log2(np.array(call.heads)))
    log2_sums = _log2(_power_of_half(distance).sum(axis=2, keepdims=True)) - (31 << 26)

    bits = distance + log2_sums + log2_heads
    shares = _power_of_half(bits)
    probability = np.minimum((shares.sum(axis=1) + 1) >> 1, _ONE_Q30)
    # The mean over the heads of their own entropies is that of the shares less log2(K).
    bits_of_heads = (shares * bits).sum(axis=(1, 2)) >> 31
    log2_probability = _log2(np.maximum(probability, 1))
    entropy = (probability * ((30 << 26) - log2_probability)).sum(axis=1) >> 30
    disagreement = np.maximum(entropy + log2_heads - bits_of_heads, 0)
    if call.heads == 1:
        disagreement[...] = 0

    label = probability.argmax(axis=1)
    confidence = probability.max(axis=1)
    scalars = [label, confidence, _nats(entropy), _nats(disagreement), confidence < call.abstain_below]
    return np.concatenate([probability, np.stack(scalars, axis=1)], axis=1).astype(np.int32)


def _mul_high(a: Int64Array, b: Int64Array | int) -> Int64Array:
    """The upper word of the product of two uint32."""
    product = a.astype(np.uint64) * np.asarray(b, dtype=np.int64).astype(np.uint64)
    return (product >> np.uint64(32)).astype(np.int64)


def _alternating_sum(terms: tuple[int, ...], x: Int64Array) -> Int64Array:
    """terms[0] - x * (terms[1] - x * (...)), x in Q32."""
    total = np.zeros_like(x)
    for term in reversed(terms):
        total = term - _mul_high(total, x)
    return total


def _power_of_half(bits: Int64Array) -> Int64Array:
    """2**-bits in Q31, cut; bits in Q26."""
    power = _alternating_sum(_EXP2_TERMS, (bits & ((1 << 26) - 1)) << 6)
    return power >> (bits >> 26)


def _log2(value: Int64Array) -> Int64Array:
    """log2 of positive integers below 2**53 in Q26; beyond 32 bits the lowest are cut."""
    length = _bit_length(value)
    mantissa = value << np.maximum(32 - length, 0) >> np.maximum(length - 32, 0)
    fraction = (mantissa & ((1 << 31) - 1)) << 1
    return ((length - 1) << 26) + (_mul_high(_alternating_sum(_LOG2_TERMS, fraction), fraction) >> 5)


def _nats(octaves: Int64Array) -> Int64Array:
    """From octaves in Q26 to nats in Q16."""
    return (_mul_high(octaves, _LN_2_Q32) + 512) >> 10


def _bit_length(value: Int64Array) -> Int64Array:
    """Bits of positive values below 2**53."""
    return np.frexp(value.astype(np.float64))[1].astype(np.int64)
