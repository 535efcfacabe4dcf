"""The arithmetic of QUTE heads against Python integers and against float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from qutec.program import HeadFeatures, HeadLogits, HeadUncertainty, Tensor, feature_bound, logit_bound
from qutec.reference_heads import head_features, head_logits, head_uncertainty
from tests import random_head_calls as calls
from tests.random_calls import int8

Q16, Q30 = 1 << 16, 1 << 30


def brute_force_feature(call: HeadFeatures, values: npt.NDArray[np.int8], head: int, channel: int) -> int:
    height, width = values.shape[:2]
    total = 0
    for out_y, out_x in np.ndindex(*call.output_pixels):
        accumulator = 0 if call.bias is None else int(call.bias[head, channel]) << call.bias_shift
        for i, j in np.ndindex(call.weights.shape[1], call.weights.shape[2]):
            y = out_y * call.stride[0] - call.padding[0] + i
            x = out_x * call.stride[1] - call.padding[1] + j
            if 0 <= y < height and 0 <= x < width:
                value = int(values[y, x, channel]) + call.input_offset
                accumulator += value * int(call.weights[head, i, j, channel])
        total += max(0, accumulator) if call.relu else accumulator
    scaled = total * int(call.multiplier[head, channel]) // (1 << 16)
    return max(-32768, min(32767, (2 * scaled + (1 << call.shift)) // (1 << (call.shift + 1))))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_features_are_the_pooled_depthwise_convolutions(seed: int, relu: bool) -> None:
    rng = np.random.default_rng(seed)
    call = calls.head_features(rng, relu=relu, channels=2)
    values = int8(rng, 2, *call.input_shape[1:])
    features = head_features(call, values)
    assert features.dtype == np.int16
    for sample, head, channel in np.ndindex(features.shape):
        assert features[sample, head, channel] == brute_force_feature(call, values[sample], head, channel)


def test_feature_bound_is_reached_by_the_worst_map() -> None:
    rng = np.random.default_rng(0)
    call = calls.head_features(rng, relu=True, kernel=(1, 1), size=(5, 5), stride=(1, 1))
    call = replace(
        call,
        output_pixels=(5, 5),
        input_offset=128,
        bias=np.full_like(call.bias, 1000),
        bias_shift=3,
        multiplier=np.full_like(call.multiplier, 1 << 15),
        shift=8,
        weights=np.full_like(call.weights, 127),
    )
    worst = np.full((1, *call.input_shape[1:]), 127, np.int8)
    assert feature_bound(call) == 25 * (8000 + 255 * 127)
    assert (head_features(call, worst) == round(feature_bound(call) / 2**9)).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_logits_are_dense_layers_of_their_own_features(bits: int) -> None:
    rng = np.random.default_rng(bits)
    for _ in range(6):
        call = calls.head_logits(rng, 16 if bits == 16 else 8)
        low, high = -(1 << (bits - 1)), 1 << (bits - 1)
        dtype = np.int16 if bits == 16 else np.int8
        values = rng.integers(low, high, (3, call.heads, call.inputs)).astype(dtype)
        got = head_logits(call, values)
        for sample, head, row in np.ndindex(got.shape):
            weights = call.weights[head, row].tolist()
            inputs = [value + call.input_offset for value in values[sample, head].tolist()]
            total = sum(w * x for w, x in zip(weights, inputs, strict=True))
            assert abs(total) <= logit_bound(call)
            total = min(max(total, -call.limit), call.limit)
            product = (total << call.left_shift) * int(call.multiplier[head, row])
            scaled = (product + (1 << 30)) >> 31
            assert got[sample, head, row] == scaled + int(call.bias[head, row])


def softmax(logits: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    real = logits.astype(np.float64) * (np.log(2.0) / (1 << 20))
    powers = np.exp(real - real.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def entropy(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(-(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=-1))


def uncertainty(heads: int, classes: int, abstain_below: int = Q30 // 2) -> HeadUncertainty:
    return HeadUncertainty("uncertainty", Tensor("x"), Tensor("y"), heads, classes, abstain_below)


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 100, 1000, 4096])
@pytest.mark.parametrize("heads", [1, 2, 5, 10, 16])
def test_uncertainty_is_that_of_real_arithmetic(heads: int, classes: int) -> None:
    rng = np.random.default_rng(100 * heads + classes)
    logits = calls.logits(rng, 40, heads, classes)
    result = head_uncertainty(uncertainty(heads, classes), logits)
    parts = softmax(logits)
    mean = parts.mean(axis=1)

    probabilities = result[:, :classes] / Q30
    assert (np.abs(probabilities - mean) <= mean * 2.0**-24 + (heads + classes) * 2.0**-31).all()
    cut = heads * classes * 2.0**-31
    assert np.abs(probabilities.sum(axis=1) - 1).max() <= 2.0**-24 + cut
    assert np.abs(result[:, classes + 2] / Q16 - entropy(mean)).max() <= 2.0**-17 + 2.0**-19 + 16 * cut
    disagreement = np.maximum(entropy(mean) - entropy(parts).mean(axis=1), 0)
    assert np.abs(result[:, classes + 3] / Q16 - disagreement).max() <= 2.0**-17 + 2.0**-18 + 32 * cut
    assert (result[:, classes + 3] >= 0).all()
    if heads == 1:
        assert (result[:, classes + 3] == 0).all()

    np.testing.assert_array_equal(result[:, classes], result[:, :classes].argmax(axis=1))
    np.testing.assert_array_equal(result[:, classes + 1], result[:, :classes].max(axis=1))
    np.testing.assert_array_equal(result[:, classes + 4], result[:, classes + 1] < Q30 // 2)


def test_tails_below_every_class_shown_are_lost_within_the_bound() -> None:
    """999 classes of 2**-31.5 each weigh 2**-21.5 together, and none of them is left in Q31."""
    logits = np.full((1, 1, 1000), -int(31.5 * (1 << 20)), np.int32)
    logits[0, 0, 7] = 0
    result = head_uncertainty(uncertainty(1, 1000), logits)
    assert result[0, 7] == Q30
    assert abs(1 - softmax(logits)[0, 0, 7]) <= 1000 * 2.0**-31


def test_4096_equal_logits_are_the_widest_sum() -> None:
    logits = np.zeros((1, 2, 4096), np.int32)
    result = head_uncertainty(uncertainty(2, 4096), logits)
    assert (np.abs(result[0, :4096] - Q30 // 4096) <= 1).all()
    assert abs(result[0, 4098] / Q16 - np.log(4096)) <= 2.0**-16
    assert result[0, 4099] == 0


@pytest.mark.parametrize("heads", [1, 3])
def test_certain_heads_leave_no_doubt(heads: int) -> None:
    logits = np.full((1, heads, 4), -(1 << 31), np.int32)
    logits[:, :, 2] = (1 << 31) - 1
    result = head_uncertainty(uncertainty(heads, 4), logits)[0]
    label, confidence, entropy_q16, disagreement, abstain = result[4:]
    assert (label, entropy_q16, disagreement, abstain) == (2, 0, 0, 0)
    assert abs(int(confidence) - Q30) <= (0 if heads == 1 else 1 << 6)


def test_heads_that_contradict_each_other_disagree_by_log_two() -> None:
    logits = np.full((1, 2, 2), -(1 << 30), np.int32)
    logits[0, 0, 0] = logits[0, 1, 1] = 1 << 30
    result = head_uncertainty(uncertainty(2, 2, abstain_below=Q30 // 2 + 1), logits)[0]
    assert result[:3].tolist() == [Q30 // 2, Q30 // 2, 0]
    assert abs(result[5] / Q16 - np.log(2)) <= 2.0**-16
    assert result[6] == 1


@pytest.mark.parametrize(
    ("heads", "classes", "offset"), [(0, 4, 0), (17, 4, 0), (1, 0, 0), (1, 4097, 0), (1, 4, 2)]
)
def test_a_call_out_of_range_cannot_be_made(heads: int, classes: int, offset: int) -> None:
    with pytest.raises(ValueError, match="uncertainty"):
        HeadUncertainty("uncertainty", Tensor("x", offset), Tensor("y"), heads, classes, 0)


def test_wide_features_have_no_offset() -> None:
    call = calls.head_logits(np.random.default_rng(0), 16)
    with pytest.raises(ValueError, match="offset"):
        HeadLogits(**{**vars(call), "input_offset": 3})
