"""How well confidence tells that answers got worse: the measures of QUTE (arXiv 2404.12599).

Probabilities are [samples, classes]; the confidence is the largest of a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qutec.metrics import FloatArray, auprc, auroc

__all__ = ["accuracy_drop_auprc", "failure_auroc", "windowed_mean"]

_WINDOW = 100
_THRESHOLDS = np.arange(11) / 10
_SIGMAS = 3.0

_Labels = npt.NDArray[np.integer]


def windowed_mean(values: npt.ArrayLike, window: int = _WINDOW) -> FloatArray:
    """Means over all windows of so many neighbours: [n] to [n - window + 1]."""
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(values, np.float64)]))
    means: FloatArray = (sums[window:] - sums[:-window]) / window
    return means


def accuracy_drop_auprc(clean: FloatArray, corrupted: FloatArray, labels: _Labels) -> float:
    """AUPRC of finding windows of 100 with dropped accuracy in a stream of clean images, then corrupted ones.

    A window is positive where its accuracy is at most mu - 3 sigma of the clean windows; it is reported where
    its mean confidence is below rho, rho = 0, 0.1 .. 1. Both parts of the stream have the labels' order.

    Raises:
        DataError: no window or every window is positive.
    """
    right = [_right(p, labels) for p in (clean, corrupted)]
    usual = windowed_mean(right[0])
    dropped = windowed_mean(np.concatenate(right)) <= usual.mean() - _SIGMAS * usual.std()
    confidence = windowed_mean(np.concatenate([clean.max(axis=1), corrupted.max(axis=1)]))
    # The more thresholds lie above the mean confidence, the stricter the ones that report the window.
    score = (confidence[:, np.newaxis] < _THRESHOLDS).sum(axis=1)
    return auprc(score, dropped)


def failure_auroc(
    clean: FloatArray,
    labels: _Labels,
    wrong: Sequence[tuple[FloatArray, _Labels]] = (),
    foreign: Sequence[FloatArray] = (),
) -> float:
    """AUROC of the confidence: right answers on clean images against failures.

    Failures are the wrong answers among `wrong` (probabilities and labels) and all of `foreign`, which are
    out of distribution.

    Raises:
        DataError: no right answer or no failure.
    """
    confident = clean.max(axis=1)[_right(clean, labels)]
    failed = [p.max(axis=1)[~_right(p, y)] for p, y in wrong] + [p.max(axis=1) for p in foreign]
    negative = np.concatenate([np.empty(0), *failed])
    return auroc(
        np.concatenate([confident, negative]), np.arange(len(confident) + len(negative)) < len(confident)
    )


def _right(probabilities: FloatArray, labels: _Labels) -> npt.NDArray[np.bool_]:
    right: npt.NDArray[np.bool_] = probabilities.argmax(axis=1) == labels
    return right
