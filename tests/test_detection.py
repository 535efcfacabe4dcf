"""Detection of dropped accuracy and of failures, against loops over the definition and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from qutec.detection import (
    Answers,
    accuracy_drop_auprc,
    accuracy_limit,
    dropped_windows,
    failure_auroc,
    windowed_mean,
)
from qutec.errors import DataError


def _answers(seed: int, count: int, accuracy: float, confidence: float) -> Answers:
    rng = np.random.default_rng(seed)
    spread = rng.beta(20 * confidence, 20 * (1 - confidence), count)
    return Answers(spread, rng.random(count) < accuracy)


def _windows(values: npt.NDArray[np.generic], window: int) -> list[float]:
    return [math.fsum(values[i : i + window]) / window for i in range(len(values) - window + 1)]


def _average_precision(reported: list[tuple[int, int]], positives: int) -> float:
    """From (true, all) positives at each threshold, from the strictest to the laxest."""
    area, recall = 0.0, 0.0
    for found, taken in reported:
        if taken:
            area += (found / positives - recall) * found / taken
            recall = found / positives
    return area


@pytest.mark.parametrize(("count", "window"), [(1, 1), (7, 7), (50, 3), (6, 7), (0, 2)])
def test_windowed_mean_is_that_of_each_window(count: int, window: int) -> None:
    values = np.random.default_rng(count).random(count)
    np.testing.assert_allclose(windowed_mean(values, window), _windows(values, window), atol=1e-12)


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="not 0"):
        windowed_mean([1.0], 0)


def test_answers_are_the_largest_of_a_row() -> None:
    answers = Answers.of([[0.7, 0.3], [0.4, 0.6], [0.5, 0.5]], [0, 0, 0])
    assert answers.confidence.tolist() == [0.7, 0.6, 0.5]
    assert answers.right.tolist() == [True, False, True]
    assert answers[np.array([2, 0])].confidence.tolist() == [0.5, 0.7]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("window", "counts"), [(20, (300, 200)), (100, (400, 400)), (10, (250, 15))])
def test_accuracy_drop_is_its_definition(seed: int, window: int, counts: tuple[int, int]) -> None:
    """Window by window and rho by rho, precision and recall by counting."""
    clean = _answers(seed, counts[0], 0.95, 0.85)
    corrupted = _answers(seed + 100, counts[1], 0.45, 0.6)
    usual = _windows(clean.right, window)
    mu = math.fsum(usual) / len(usual)
    sigma = math.sqrt(math.fsum((u - mu) ** 2 for u in usual) / len(usual))
    assert accuracy_limit(clean, window) == pytest.approx(mu - 3 * sigma)
    right = np.concatenate([clean.right, corrupted.right])
    confidence = np.concatenate([clean.confidence, corrupted.confidence])
    truth = [accuracy <= mu - 3 * sigma for accuracy in _windows(right, window)]
    assert 0 < sum(truth) < len(truth)
    assert dropped_windows(clean, corrupted, window).tolist() == truth
    reported = []
    for tenth in range(11):
        below = [mean < tenth / 10 for mean in _windows(confidence, window)]
        reported.append((sum(b and t for b, t in zip(below, truth, strict=True)), sum(below)))
    assert accuracy_drop_auprc(clean, corrupted, window) == pytest.approx(
        _average_precision(reported, sum(truth))
    )


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_drop_agrees_with_scikit_learn(seed: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    clean, corrupted = _answers(seed, 500, 0.93, 0.8), _answers(seed + 9, 400, 0.5, 0.7)
    means = windowed_mean(np.concatenate([clean.confidence, corrupted.confidence]))
    # rho in tenths: windows whose means lie between the same two are reported together.
    score = -np.minimum(np.floor(10 * means) + 1, 11)
    expected = sklearn.average_precision_score(dropped_windows(clean, corrupted), score)
    assert accuracy_drop_auprc(clean, corrupted) == pytest.approx(expected)


def test_failures_are_wrong_answers_and_foreign_samples() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    clean, other = _answers(1, 300, 0.9, 0.8), _answers(2, 200, 0.5, 0.6)
    foreign = np.random.default_rng(3).random(150)
    right = clean.confidence[clean.right]
    wrong = [a.confidence[~a.right] for a in (clean, other)]
    for failures, area in (
        (wrong[:1], failure_auroc(clean, [clean])),
        (wrong, failure_auroc(clean, [clean, other])),
        ([foreign], failure_auroc(clean, foreign=[foreign])),
        ([*wrong, foreign], failure_auroc(clean, [clean, other], [foreign])),
    ):
        scores = np.concatenate([right, *failures])
        assert area == pytest.approx(sklearn.roc_auc_score(np.arange(len(scores)) < len(right), scores))


def test_failures_by_hand() -> None:
    clean = Answers(np.array([0.9, 0.6, 0.5]), np.array([True, True, False]))
    assert failure_auroc(clean, [clean]) == 1.0
    assert failure_auroc(clean, foreign=[[0.7, 0.6]]) == pytest.approx((1 + 1 + 0 + 0.5) / 4)


def test_what_cannot_be_detected_is_said() -> None:
    clean, same = _answers(1, 300, 0.9, 0.8), _answers(1, 300, 1.0, 0.8)
    with pytest.raises(DataError, match="none of 501 windows"):
        accuracy_drop_auprc(clean, same)
    perfect = Answers(np.ones(200), np.ones(200, np.bool_))
    with pytest.raises(DataError, match="all of 301 windows"):
        accuracy_drop_auprc(perfect, perfect)
    with pytest.raises(DataError, match="99 samples are fewer than the 100"):
        accuracy_drop_auprc(clean[np.arange(99)], same)
    with pytest.raises(DataError, match="none of 200 answers is wrong"):
        failure_auroc(perfect, [perfect])
    with pytest.raises(DataError, match="none of 1 answers is right"):
        failure_auroc(Answers(np.ones(1), np.zeros(1, np.bool_)), foreign=[[0.5]])
