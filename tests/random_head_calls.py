"""Random calls of QUTE heads for tests that compare executions."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from qutec.program import (
    HeadFeatures,
    HeadLogits,
    HeadUncertainty,
    Int8Array,
    Int32Array,
    Pair,
    feature_bound,
    logit_bound,
)
from tests.random_calls import INPUT, OUTPUT, int8, multiplier

INT32_LIMIT = 1 << 31


def head_features(
    rng: np.random.Generator,
    *,
    relu: bool,
    kernel: Pair | None = None,
    size: Pair | None = None,
    channels: int | None = None,
    stride: Pair | None = None,
) -> HeadFeatures:
    """What is not given is drawn: any kernel up to 5x5, often 3x3; any stride, padding and output size."""
    if kernel is None:
        kernel = (3, 3) if rng.integers(2) else (int(rng.integers(1, 6)), int(rng.integers(1, 6)))
    stride = stride or ((1, 1) if rng.integers(2) else (int(rng.integers(1, 4)), int(rng.integers(1, 4))))
    channels = channels or int(rng.integers(1, 11))
    size = size or (int(rng.integers(1, 12)), int(rng.integers(1, 12)))
    padding = tuple(int(rng.integers(0, k)) for k in kernel)
    # At the far end there may be padding as well, up to a window that is empty but for one line.
    pixels = tuple(
        max(1, (n + p + int(rng.integers(0, k)) - k) // s + 1)
        for n, p, k, s in zip(size, padding, kernel, stride, strict=True)
    )
    heads = int(rng.choice([1, 2, 2, 3, 5, 10]))
    bias_shift = int(rng.integers(0, 7))
    gain = int(np.log2(pixels[0] * pixels[1] * kernel[0] * kernel[1])) // 2
    call = HeadFeatures(
        name="features",
        input=INPUT,
        output=OUTPUT,
        input_shape=(1, *size, channels),
        output_pixels=(pixels[0], pixels[1]),
        weights=int8(rng, heads, *kernel, channels),
        multiplier=rng.choice(
            [0, 1, 1 << 15, (1 << 16) - 1, *rng.integers(0, 1 << 16, 20)], (heads, channels)
        ).astype(np.uint16),
        shift=max(gain + int(rng.integers(-3, 7)), 1),
        stride=stride,
        padding=(padding[0], padding[1]),
        input_offset=int(rng.choice([-127, 0, 128, rng.integers(-127, 129)])),
    )
    if relu:
        bias = rng.choice([-(1 << 15), (1 << 15) - 1, *rng.integers(-2000, 2000, 20)], (heads, channels))
        call = replace(call, bias=bias.astype(np.int16), bias_shift=bias_shift)
    assert feature_bound(call) < INT32_LIMIT
    return call


def head_logits(rng: np.random.Generator, bits: Literal[8, 16]) -> HeadLogits:
    heads, classes, inputs = int(rng.integers(1, 5)), int(rng.integers(1, 12)), int(rng.integers(1, 40))
    left_shift = 0 if rng.integers(2) else int(rng.integers(1, 9))
    call = HeadLogits(
        name="logits",
        input=INPUT,
        output=OUTPUT,
        heads=heads,
        classes=classes,
        inputs=inputs,
        input_bits=bits,
        input_offset=0 if bits == 16 else int(rng.integers(-127, 129)),
        weights=int8(rng, heads, classes, inputs),
        bias=rng.integers(-(1 << 24), 1 << 24, (heads, classes)).astype(np.int32),
        multiplier=_multipliers(rng, heads, classes),
        left_shift=left_shift,
        limit=(2**31 - 1 if rng.random() < 0.5 else int(rng.integers(1, 1 << 20))) >> left_shift,
    )
    assert logit_bound(call) < INT32_LIMIT
    return call


def head_uncertainty(
    rng: np.random.Generator, heads: int | None = None, classes: int | None = None
) -> HeadUncertainty:
    return HeadUncertainty(
        "uncertainty",
        INPUT,
        OUTPUT,
        heads or int(rng.choice([1, 2, 5, 10, 16])),
        classes or int(rng.choice([1, 2, 3, 10, 100])),
        abstain_below=int(rng.integers(0, (1 << 30) + 1)),
    )


def logits(rng: np.random.Generator, batch: int, heads: int, classes: int) -> Int32Array:
    """[batch, heads, classes] in Q11.20: any spread, ties, and tails that just vanish."""
    unit = 1 << 20
    values = np.empty((batch, heads, classes), np.int64)
    for i in range(batch):
        kind = int(rng.integers(8))
        if kind == 0:
            values[i] = rng.integers(-(1 << 31), 1 << 31, (heads, classes))
        elif kind == 1:
            values[i] = rng.integers(-2000, 2000)
        elif kind == 2:
            values[i] = rng.integers(-3, 4, (heads, classes)) * unit
        elif kind == 3:
            values[i] = rng.choice([0, -int(31.05 * unit), -32 * unit, -52 * unit], (heads, classes))
        elif kind == 4:
            values[i] = rng.choice([-(1 << 31), (1 << 31) - 1], (heads, classes))
        else:
            values[i] = rng.normal(size=(heads, classes)) * unit * rng.choice([0.01, 1, 4, 30])
    return values.astype(np.int32)


def input_bytes(rng: np.random.Generator, call: HeadFeatures | HeadLogits | HeadUncertainty) -> Int8Array:
    """The flat input of one sample."""
    if isinstance(call, HeadUncertainty):
        return logits(rng, 1, call.heads, call.classes).astype("<i4").reshape(-1).view(np.int8)
    return int8(rng, call.read_region(0).size)


def _multipliers(rng: np.random.Generator, rows: int, columns: int) -> Int32Array:
    values = [multiplier(rng) for _ in range(rows * columns)]
    return np.array(values, np.int32).reshape(rows, columns)
