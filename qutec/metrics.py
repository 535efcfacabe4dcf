"""Accuracy, calibration and detection measures of classifiers, in numpy.

`probabilities` is [samples, classes], rows sum to 1; `labels` is [samples], integers from 0. `scores` and
`positive` are [samples]: the higher the score, the more likely a positive.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qutec.errors import DataError

__all__ = ["FloatArray", "IntArray", "accuracy", "auprc", "auroc", "brier", "ece", "f1_weighted", "nll"]

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]

_LEAST_PROBABILITY = 1e-12
"""Bounds the log loss of a class that was given probability 0."""


def accuracy(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Share of samples whose most probable class (the first of equals) is the label."""
    p, y = _classified(probabilities, labels)
    return float(np.mean(np.argmax(p, axis=1) == y))


def f1_weighted(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """F1 of each class, averaged with the number of its samples as weight; 0 for a class never right."""
    p, y = _classified(probabilities, labels)
    predicted = np.argmax(p, axis=1)
    classes = p.shape[1]
    right = np.bincount(y[predicted == y], minlength=classes)
    of_class = np.bincount(y, minlength=classes)
    said = np.bincount(predicted, minlength=classes)
    # F1 = 2 TP / (2 TP + FP + FN), and its denominator is predictions plus samples of the class.
    f1 = 2 * right / np.maximum(of_class + said, 1)
    return float(np.average(f1, weights=of_class))


def brier(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean squared distance to the one-hot label, divided by the number of classes."""
    p, y = _classified(probabilities, labels)
    difference = p.copy()
    difference[np.arange(len(y)), y] -= 1.0
    return float(np.mean(np.square(difference)))


def nll(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Negative log-likelihood of the labels in nats; probabilities below 1e-12 count as 1e-12."""
    p, y = _classified(probabilities, labels)
    return float(-np.mean(np.log(np.maximum(p[np.arange(len(y)), y], _LEAST_PROBABILITY))))


def ece(probabilities: npt.ArrayLike, labels: npt.ArrayLike, bins: int = 15) -> float:
    """Expected calibration error: mean |accuracy - confidence| over equal bins (a, b] of the confidence.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 5.
    """
    p, y = _classified(probabilities, labels)
    if bins < 1:
        raise DataError(f"{bins} bins; at least 1 is needed")
    confidence = p.max(axis=1)
    right = np.argmax(p, axis=1) == y
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.bincount(index, weights=right, minlength=bins) - np.bincount(index, confidence, bins)
    return float(np.abs(gap).sum() / len(y))


def auroc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Area under the ROC curve: how often a positive outscores a negative, ties counting half."""
    s, is_positive = _detected(scores, positive)
    _, group, counts = np.unique(s, return_inverse=True, return_counts=True)
    # Mann-Whitney: equal scores share the mean of their ranks.
    last = np.cumsum(counts)
    rank = (last - (counts - 1) / 2)[group]
    positives = int(is_positive.sum())
    negatives = len(s) - positives
    excess = rank[is_positive].sum() - positives * (positives + 1) / 2
    return float(excess / (positives * negatives))


def auprc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Average precision: the sum of precision times gain in recall over the distinct scores, from the top."""
    s, is_positive = _detected(scores, positive)
    order = np.argsort(-s, kind="stable")
    s, hits = s[order], np.cumsum(is_positive[order])
    last_of_equals = np.append(s[1:] != s[:-1], True)
    found = hits[last_of_equals]
    taken = np.flatnonzero(last_of_equals) + 1
    gain = np.diff(found, prepend=0) / found[-1]
    return float(np.sum(gain * found / taken))


def _classified(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[FloatArray, IntArray]:
    p = np.asarray(probabilities, dtype=np.float64)
    y = np.asarray(labels)
    if p.ndim != 2 or y.shape != p.shape[:1] or p.size == 0:
        raise DataError(f"probabilities {list(p.shape)} and labels {list(y.shape)} do not fit together")
    if y.dtype.kind not in "iu":
        raise DataError(f"labels are of type {y.dtype}, not integers")
    if y.min() < 0 or y.max() >= p.shape[1]:
        raise DataError(f"labels lie in {y.min()}..{y.max()}, but there are {p.shape[1]} classes")
    if not np.isfinite(p).all():
        raise DataError("a probability is not finite")
    return p, y.astype(np.int64)


def _detected(scores: npt.ArrayLike, positive: npt.ArrayLike) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    s = np.asarray(scores, dtype=np.float64)
    is_positive = np.asarray(positive).astype(np.bool_)
    if s.ndim != 1 or is_positive.shape != s.shape:
        raise DataError(f"scores {list(s.shape)} and positives {list(is_positive.shape)} do not fit together")
    if not np.isfinite(s).all():
        raise DataError("a score is not finite")
    if not is_positive.any() or is_positive.all():
        raise DataError("detection needs both positives and negatives")
    return s, is_positive
