"""Kernel calls of QUTE heads: pooled depthwise features, a dense layer for each head, and uncertainty.

Values wider than a byte are little-endian, and their tensors start at multiples of 4 bytes of a buffer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qutec.program.kernel_call import Indices, SingleInputCall
from qutec.program.tensors import Int8Array, Int16Array, Int32Array, Pair, Shape, Tensor, UInt16Array

__all__ = ["ExitCheck", "HeadFeatures", "HeadLogits", "HeadUncertainty", "feature_bound", "logit_bound"]

_WIDE_ALIGNMENT = 4


@dataclass(frozen=True, eq=False)
class HeadFeatures(SingleInputCall):
    """Depthwise convolution, activation and global pool of K heads: `qute_head_sums_s8`, `qute_head_relu_s8`.

    The input is one int8 map, `input_shape` NHWC. The output is int16 [K, C]:

        sum[k, c] = sum over output pixels of
            act(bias[k, c] * 2**bias_shift + sum over taps inside the map of (x + input_offset) * w)
        features[k, c] = clamp16(round(floor(sum[k, c] * multiplier[k, c] / 2**16) / 2**shift))

    with ties rounded up and act = max(0, .) where there is a bias, else the identity: a linear block's bias
    is a constant of the logits. Division by the number of pixels is part of the factor: rectified linear
    units are positively homogeneous, so one scaling after the sum is enough. Padding is that of the top and
    the left; at the bottom and the right `output_pixels` (OH, OW) decides.

    weights [K, KH, KW, C]; bias and multiplier [K, C]; shift in [1, 31]. All sums are int32: whoever makes
    the call sees to it that `feature_bound` is below 2**31.
    """

    input_shape: Shape
    output_pixels: Pair
    weights: Int8Array
    multiplier: UInt16Array
    shift: int
    stride: Pair
    padding: Pair
    input_offset: int
    bias: Int16Array | None = None
    bias_shift: int = 0

    MAX_LINES = 2**16 - 1
    """Rows, or columns, of the map."""

    def __post_init__(self) -> None:
        """Raises ValueError where the output is not aligned, or a size or shift is out of range."""
        _check_wide(self.name, self.output)
        if not 1 <= self.shift <= 31:
            raise ValueError(f"{self.name} shifts by {self.shift}, not 1 to 31")
        if max(self.input_shape[1:3]) > self.MAX_LINES:
            raise ValueError(f"{self.name} reads a map of more than {self.MAX_LINES} rows or columns")

    @property
    def heads(self) -> int:
        """K."""
        return int(self.weights.shape[0])

    @property
    def relu(self) -> bool:
        """Whether there is an activation."""
        return self.bias is not None

    def read_region(self, k: int) -> Indices:
        """The whole input map."""
        return np.arange(math.prod(self.input_shape))

    def written_region(self, k: int = 0) -> Indices:
        """K * C values of two bytes."""
        return np.arange(2 * self.multiplier.size)

    @property
    def macs(self) -> int:
        """One for each weight and output pixel, as if the maps were computed."""
        return math.prod(self.output_pixels) * int(self.weights.size)


@dataclass(frozen=True, eq=False)
class HeadLogits(SingleInputCall):
    """`qute_head_logits_s16` or `_s8`: the dense layer of each of K heads, on features of its own.

    The input is int16 or int8 [K, C] (`input_bits`), the output int32 [K, L]:

        sum[k, l] = clamp(sum over c of weights[k, l, c] * (x[k, c] + input_offset), -limit, limit)
        logits[k, l] = round(sum[k, l] * 2**left_shift * multiplier[k, l] / 2**31) + bias[k, l]

    with ties rounded up. weights [K, L, C]; bias and multiplier [K, L], multiplier >= 0. `HeadUncertainty`
    takes logits in units of 2**-20 to base 2 (Q11.20): multiplier and bias hold log2(e) and any temperature.
    `input_offset` is 0 where `input_bits` is 16. Sums are int32: `logit_bound` has to be below 2**31, and so
    has limit * 2**left_shift. A `limit` keeps each logit within 32 bits where extreme inputs could lead
    beyond: far from any logit that matters to a softmax.
    """

    heads: int
    classes: int
    inputs: int
    input_bits: Literal[8, 16]
    input_offset: int
    weights: Int8Array
    bias: Int32Array
    multiplier: Int32Array
    left_shift: int
    limit: int = 2**31 - 1

    def __post_init__(self) -> None:
        """Raises ValueError where a tensor is not aligned, int16 has an offset, or limits are too wide."""
        _check_wide(self.name, self.output)
        if self.input_bits == 16:
            _check_wide(self.name, self.input)
            if self.input_offset:
                raise ValueError(f"{self.name}: 16-bit features have no offset, not {self.input_offset}")
        if self.left_shift < 0 or self.limit << self.left_shift >= 1 << 31:
            raise ValueError(f"{self.name}: sums to {self.limit} leave 32 bits, shifted by {self.left_shift}")

    def read_region(self, k: int) -> Indices:
        """K * C values of one or two bytes."""
        return np.arange(self.heads * self.inputs * self.input_bits // 8)

    def written_region(self, k: int = 0) -> Indices:
        """K * L values of four bytes."""
        return np.arange(4 * self.heads * self.classes)

    @property
    def macs(self) -> int:
        """One for each weight."""
        return int(self.weights.size)


@dataclass(frozen=True, eq=False)
class HeadUncertainty(SingleInputCall):
    """`qute_head_uncertainty_s32`: mean of the heads' softmaxes and what it says of itself.

    The input is int32 [K, L]: logits to base 2, Q11.20, as `HeadLogits` writes them. The output is int32
    [L + 5]: L probabilities of the mean (Q30), the label (smallest index of the largest probability), its
    probability (confidence, Q30), the entropy of the mean in nats (Q16), the disagreement of the heads in
    nats (Q16: entropy of the mean less mean entropy, at least 0, and 0 for one head), and whether to abstain
    (1 where the confidence is below `abstain_below`, Q30, else 0).

    Every step is defined to the bit in `qutec.reference_heads`, with the bounds of its errors.
    """

    heads: int
    classes: int
    abstain_below: int

    MAX_HEADS = 16
    MAX_CLASSES = 4096
    SCALARS = 5
    """Values behind the probabilities."""

    def __post_init__(self) -> None:
        """Raises ValueError where a tensor is not aligned, or heads or classes are out of range."""
        _check_wide(self.name, self.input)
        _check_wide(self.name, self.output)
        if not 1 <= self.heads <= self.MAX_HEADS:
            raise ValueError(f"{self.name} has {self.heads} heads, not 1 to {self.MAX_HEADS}")
        if not 1 <= self.classes <= self.MAX_CLASSES:
            raise ValueError(f"{self.name} has {self.classes} classes, not 1 to {self.MAX_CLASSES}")

    def read_region(self, k: int) -> Indices:
        """K * L values of four bytes."""
        return np.arange(4 * self.heads * self.classes)

    def written_region(self, k: int = 0) -> Indices:
        """L + 5 values of four bytes."""
        return np.arange(4 * (self.classes + self.SCALARS))


@dataclass(frozen=True, eq=False)
class ExitCheck(SingleInputCall):
    """Ends an inference whose exit is sure enough; no kernel, but lines of the network's own C.

    The input is int32 [1]: a confidence, Q30. The output is int32 [1]: `number`, written in any case. Where
    the confidence is at least `threshold`, Q30, the calls that follow do not run and the outputs are what
    they are now. The last exit has no threshold, since nothing follows.
    """

    number: int
    threshold: int | None

    def __post_init__(self) -> None:
        """Raises ValueError where a tensor is not aligned, or the threshold is no confidence."""
        _check_wide(self.name, self.input)
        _check_wide(self.name, self.output)
        if self.threshold is not None and not 0 < self.threshold <= 1 << 30:
            raise ValueError(f"{self.name}: {self.threshold} is no confidence with 30 fractional bits")

    def read_region(self, k: int) -> Indices:
        """One value of four bytes."""
        return np.arange(4)

    def written_region(self, k: int = 0) -> Indices:
        """One value of four bytes."""
        return np.arange(4)


def feature_bound(call: HeadFeatures) -> int:
    """What no partial sum of a feature can exceed in absolute value, in any order of summation.

    The largest over k and c of OH * OW * (|bias| * 2**bias_shift + max |x + input_offset| * sum over taps
    |w|). Below 2**31 the int32 arithmetic of `HeadFeatures` is exact.
    """
    largest = max(abs(call.input_offset - 128), abs(call.input_offset + 127))
    taps = np.abs(call.weights.astype(np.int64)).sum(axis=(1, 2))
    per_pixel = largest * taps
    if call.bias is not None:
        per_pixel = per_pixel + (np.abs(call.bias.astype(np.int64)) << call.bias_shift)
    return math.prod(call.output_pixels) * int(per_pixel.max(initial=0))


def logit_bound(call: HeadLogits) -> int:
    """What no partial sum of a logit can exceed in absolute value: max |x + input_offset| * sum |w|."""
    if call.input_bits == 16:
        largest = 1 << 15
    else:
        largest = max(abs(call.input_offset - 128), abs(call.input_offset + 127))
    return largest * int(np.abs(call.weights.astype(np.int64)).sum(axis=-1).max(initial=0))


def _check_wide(name: str, tensor: Tensor) -> None:
    if tensor.offset % _WIDE_ALIGNMENT:
        raise ValueError(f"{name}: the tensor at byte {tensor.offset} of {tensor.buffer} is not aligned")
