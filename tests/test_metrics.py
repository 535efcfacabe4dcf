"""Measures of accuracy, calibration and detection, against hand computations and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from qutec import metrics
from qutec.errors import DataError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ROWS = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.4, 0.5, 0.1], [0.2, 0.2, 0.6]]
LABELS = [0, 1, 0, 2]


def _random(seed: int, samples: int = 400, classes: int = 7) -> tuple[Floats, Integers]:
    rng = np.random.default_rng(seed)
    logits = 2.0 * rng.standard_normal((samples, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array(
        [rng.choice(classes - 1, p=row[:-1] / row[:-1].sum()) for row in p]
    )  # the last class is absent
    return p, labels


def test_four_samples_by_hand() -> None:
    assert metrics.accuracy(ROWS, LABELS) == 0.75
    assert metrics.nll(ROWS, LABELS) == pytest.approx(-math.log(0.7 * 0.8 * 0.4 * 0.6) / 4)
    squares = (0.09 + 0.04 + 0.01) + (0.01 + 0.04 + 0.01) + (0.36 + 0.25 + 0.01) + (0.04 + 0.04 + 0.16)
    assert metrics.brier(ROWS, LABELS) == pytest.approx(squares / 4 / 3)
    # Confidences .7, .8, .5, .6; every one in a bin of its own.
    assert metrics.ece(ROWS, LABELS) == pytest.approx((0.3 + 0.2 + 0.5 + 0.4) / 4)
    # Class 0: one of two found, nothing wrong; class 1: found, one too many; class 2 right.
    assert metrics.f1_weighted(ROWS, LABELS) == pytest.approx((2 * (2 / 3) + 2 / 3 + 1) / 4)


def test_ece_weighs_bins_by_their_samples() -> None:
    # Two of three in bin (0.8, 0.8667] are right, the one in (0.9333, 1] is.
    rows = [[0.82, 0.18], [0.84, 0.16], [0.86, 0.14], [1.0, 0.0]]
    assert metrics.ece(rows, [0, 0, 1, 0]) == pytest.approx(3 / 4 * abs(2 / 3 - 0.84))


def test_bins_hold_their_upper_edge() -> None:
    # Confidences 0.5 and 0.6 are one bin of two or two bins, whichever side 0.5 belongs to.
    rows = [[0.5, 0.5], [0.6, 0.4]]
    assert metrics.ece(rows, [1, 0], bins=2) == pytest.approx((0.5 + 0.4) / 2)


def test_certain_and_wrong_has_a_bounded_loss() -> None:
    assert metrics.nll([[1.0, 0.0]], [1]) == pytest.approx(-math.log(1e-12))


@pytest.mark.parametrize("seed", range(3))
def test_classification_measures_agree_with_scikit_learn(seed: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    p, y = _random(seed)
    predicted = p.argmax(axis=1)
    assert metrics.accuracy(p, y) == pytest.approx(sklearn.accuracy_score(y, predicted))
    weighted = sklearn.f1_score(y, predicted, average="weighted", labels=range(7), zero_division=0)
    assert metrics.f1_weighted(p, y) == pytest.approx(weighted)
    assert metrics.nll(p, y) == pytest.approx(sklearn.log_loss(y, p, labels=range(7)))
    one_vs_rest = [sklearn.brier_score_loss(y == k, p[:, k]) for k in range(7)]
    assert metrics.brier(p, y) == pytest.approx(np.mean(one_vs_rest))


@pytest.mark.parametrize("decimals", [1, 8], ids=["many ties", "no ties"])
def test_detection_measures_agree_with_scikit_learn(decimals: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(decimals)
    positive = rng.random(300) < 0.3
    scores = np.round(rng.standard_normal(300) + positive, decimals)
    assert metrics.auroc(scores, positive) == pytest.approx(sklearn.roc_auc_score(positive, scores))
    assert metrics.auprc(scores, positive) == pytest.approx(sklearn.average_precision_score(positive, scores))


def test_auroc_counts_pairs() -> None:
    rng = np.random.default_rng(3)
    scores, positive = rng.integers(0, 5, 60).astype(float), rng.random(60) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    assert metrics.auroc(scores, positive) == pytest.approx(np.mean(pairs))


def test_detection_by_hand() -> None:
    assert metrics.auroc([0.9, 0.8, 0.1], [True, True, False]) == 1.0
    assert metrics.auroc([1.0, 1.0], [True, False]) == 0.5
    assert metrics.auprc([0.9, 0.8, 0.7], [True, False, True]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@pytest.mark.parametrize(
    ("rows", "labels", "reason"),
    [
        (ROWS, [0, 1, 0], "do not fit"),
        (ROWS, [0, 1, 0, 3], "3 classes"),
        (ROWS, [0, 1, 0, -1], "classes"),
        (ROWS, [0.0, 1.0, 0.0, 2.0], "integers"),
        ([[math.nan, 1.0]], [0], "not finite"),
        (np.zeros((0, 3)), np.zeros(0, int), "do not fit"),
    ],
)
def test_unusable_probabilities_are_refused(rows: npt.ArrayLike, labels: npt.ArrayLike, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        metrics.accuracy(rows, labels)


def test_detection_needs_both_kinds() -> None:
    with pytest.raises(DataError, match="both"):
        metrics.auroc([1.0, 2.0], [True, True])
    with pytest.raises(DataError, match="not finite"):
        metrics.auprc([1.0, math.nan], [True, False])
