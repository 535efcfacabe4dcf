"""How well confidence tells that answers are wrong or got worse: the measures of QUTE (arXiv 2404.12599).

Accuracy drop: a stream of known inputs, then corrupted ones; in a sliding window of m samples the accuracy
either holds or has dropped, and the mean confidence is to tell which. Failure: of two answers, one right and
one wrong or out of distribution, the right one is to be the more confident. Nothing here needs labels of a
device; confidences are floats in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qutec.errors import DataError
from qutec.metrics import FloatArray, auprc, auroc

__all__ = [
    "SIGMAS",
    "WINDOW",
    "Answers",
    "BoolArray",
    "accuracy_drop_auprc",
    "accuracy_limit",
    "dropped_windows",
    "failure_auroc",
    "windowed_mean",
]

BoolArray: TypeAlias = npt.NDArray[np.bool_]

WINDOW = 100
"""Samples in a sliding window; the paper's m."""
SIGMAS = 3.0
"""A window has dropped where its accuracy is so many standard deviations under the usual one, or more."""

_RHOS = np.arange(11) / 10


@dataclass(frozen=True, eq=False)
class Answers:
    """What a classifier answered to a stream: its confidence [n] in [0, 1], and whether it was right [n]."""

    confidence: FloatArray
    right: BoolArray

    @classmethod
    def of(cls, probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> Answers:
        """The answers of probabilities [n, classes], the largest of a row being the confidence."""
        p = np.asarray(probabilities, np.float64)
        return cls(p.max(axis=1), p.argmax(axis=1) == np.asarray(labels))

    def __len__(self) -> int:
        return len(self.right)

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> Answers:
        """The answers to some of the samples, in the order of `rows`."""
        return Answers(self.confidence[rows], self.right[rows])

    def followed_by(self, other: Answers) -> Answers:
        """One stream of both."""
        return Answers(
            np.concatenate([self.confidence, other.confidence]), np.concatenate([self.right, other.right])
        )


def windowed_mean(values: npt.ArrayLike, window: int = WINDOW) -> FloatArray:
    """Means over all windows of so many neighbours: [n] to [n - window + 1], empty where n is smaller."""
    if window < 1:
        raise ValueError(f"a window has 1 sample or more, not {window}")
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(values, np.float64)]))
    means: FloatArray = (sums[window:] - sums[: max(len(sums) - window, 0)]) / window
    return means


def accuracy_limit(clean: Answers, window: int = WINDOW) -> float:
    """mu - 3 sigma of the accuracies of all windows of a clean stream, at or under which accuracy dropped.

    Raises:
        DataError: fewer samples than a window has.
    """
    if len(clean) < window:
        raise DataError(f"{len(clean)} samples are fewer than the {window} of a window")
    usual = windowed_mean(clean.right, window)
    return float(usual.mean() - SIGMAS * usual.std())


def dropped_windows(clean: Answers, corrupted: Answers, window: int = WINDOW) -> BoolArray:
    """In which windows [n + n' - window + 1] of the stream clean, then corrupted, the accuracy has dropped.

    Raises:
        DataError: fewer clean samples than a window has.
    """
    limit = accuracy_limit(clean, window)
    dropped: BoolArray = windowed_mean(clean.followed_by(corrupted).right, window) <= limit
    return dropped


def accuracy_drop_auprc(clean: Answers, corrupted: Answers, window: int = WINDOW) -> float:
    """AUPRC of finding the dropped windows of the stream clean, then corrupted.

    A window is reported where its mean confidence is below rho, rho = 0, 0.1 .. 1.

    Raises:
        DataError: no window or every window dropped, or fewer clean samples than a window has.
    """
    dropped = dropped_windows(clean, corrupted, window)
    if not dropped.any():
        raise DataError(f"none of {len(dropped)} windows has dropped accuracy: there is nothing to detect")
    if dropped.all():
        raise DataError(f"all of {len(dropped)} windows count as dropped: there is nothing to tell apart")
    confidence = windowed_mean(clean.followed_by(corrupted).confidence, window)
    # The more thresholds lie above the mean confidence, the stricter the ones that report the window.
    score = (confidence[:, np.newaxis] < _RHOS).sum(axis=1)
    return auprc(score, dropped)


def failure_auroc(
    clean: Answers, wrong: Sequence[Answers] = (), foreign: Sequence[npt.ArrayLike] = ()
) -> float:
    """AUROC of the confidence: right answers to clean samples against failures.

    Failures are the wrong answers among `wrong`, and all confidences [n] of `foreign`, whose samples are out
    of distribution.

    Raises:
        DataError: no right answer or no failure.
    """
    confident = clean.confidence[clean.right]
    failed = [answers.confidence[~answers.right] for answers in wrong]
    failed += [np.asarray(confidence, np.float64) for confidence in foreign]
    negative = np.concatenate([np.empty(0), *failed])
    if not len(confident):
        raise DataError(f"none of {len(clean)} answers is right")
    if not len(negative):
        raise DataError(f"none of {sum(map(len, wrong))} answers is wrong")
    return auroc(
        np.concatenate([confident, negative]), np.arange(len(confident) + len(negative)) < len(confident)
    )
