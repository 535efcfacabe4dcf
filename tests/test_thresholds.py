"""Choice of thresholds against trying every one, and against what the device compares."""

from __future__ import annotations

import numpy as np
import pytest

from qutec import metrics
from qutec.detection import Answers, dropped_windows
from qutec.errors import DataError
from qutec.monitor import CONFIDENCE_ONE, Monitor
from qutec.thresholds import (
    abstain_effect,
    choose_abstain_level,
    choose_monitor_by_detection,
    choose_monitor_by_false_alarms,
    confidence_q30,
    fit_temperature,
    monitor_effect,
    split_halves,
    tempered,
)

WINDOW = 25


def _answers(seed: int, count: int, accuracy: float, confidence: float) -> Answers:
    rng = np.random.default_rng(seed)
    return Answers(
        rng.beta(20 * confidence, 20 * (1 - confidence), count).clip(0, 1), rng.random(count) < accuracy
    )


def _informed(seed: int, count: int) -> Answers:
    """Right as often as confidence says."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4, 1, count)
    return Answers(confidence, rng.random(count) < confidence)


def _pushed(answers: Answers, threshold: int) -> list[bool]:
    """What the device's monitor says, sample by sample, once its window is full."""
    monitor = Monitor(WINDOW, threshold)
    raised = [monitor.push(round(float(c) * CONFIDENCE_ONE)) for c in answers.confidence]
    return raised[WINDOW - 1 :]


def _counted(threshold: int, clean: Answers, corrupted: list[Answers]) -> tuple[int, int, int]:
    """Alarms, dropped, detected, by pushing every stream through the monitor."""
    alarms = dropped = detected = 0
    for answers in corrupted:
        raised = _pushed(clean.followed_by(answers), threshold)
        truth = dropped_windows(clean, answers, WINDOW).tolist()
        alarms += sum(raised)
        dropped += sum(truth)
        detected += sum(a and b for a, b in zip(raised, truth, strict=True))
    return alarms, dropped, detected


def test_monitor_with_the_best_f1_of_all_256() -> None:
    clean = _answers(0, 150, 0.96, 0.85)
    corrupted = [_answers(1, 80, 0.5, 0.6), _answers(2, 60, 0.7, 0.75), _answers(3, 40, 0.97, 0.85)]
    best = choose_monitor_by_detection(clean, corrupted, WINDOW)
    scores = []
    for threshold in range(256):
        alarms, dropped, detected = _counted(threshold, clean, corrupted)
        scores.append(2 * detected / (alarms + dropped))
    assert best == int(np.argmax(scores))
    assert 0 < scores[best] < 1
    effect = monitor_effect(best, clean, corrupted, WINDOW)
    assert (effect.alarms, effect.dropped, effect.detected) == _counted(best, clean, corrupted)
    assert effect.f1 == pytest.approx(scores[best])
    assert (effect.clean_windows, effect.false_alarms) == (126, sum(_pushed(clean, best)))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 1.0])
def test_monitor_with_at_most_so_many_false_alarms(share: float) -> None:
    clean = _answers(4, 400, 0.9, 0.8)
    threshold = choose_monitor_by_false_alarms(clean, share, WINDOW)
    allowed = share * (400 - WINDOW + 1)
    assert sum(_pushed(clean, threshold)) <= allowed
    assert threshold == 255 or sum(_pushed(clean, threshold + 1)) > allowed
    assert monitor_effect(threshold, clean, window=WINDOW).f1 is None


def test_certain_answers_never_raise_an_alarm() -> None:
    clean = Answers(np.ones(60), np.ones(60, np.bool_))
    assert choose_monitor_by_false_alarms(clean, 0.0, WINDOW) == 255
    assert monitor_effect(255, clean, window=WINDOW).false_alarms == 0


def test_a_monitor_needs_windows_and_drops() -> None:
    clean, short = _answers(0, 150, 0.96, 0.85), _answers(0, WINDOW - 1, 0.9, 0.8)
    with pytest.raises(DataError, match="24 samples are fewer than the 25"):
        choose_monitor_by_false_alarms(short, 0.1, WINDOW)
    with pytest.raises(DataError, match="24 samples are fewer than the 25"):
        monitor_effect(100, short, window=WINDOW)
    with pytest.raises(DataError, match="nothing to detect"):
        choose_monitor_by_detection(clean, [_answers(1, 50, 1.0, 0.8)], WINDOW)


@pytest.mark.parametrize("target", [0.5, 0.85, 0.93])
def test_abstain_level_is_the_lowest_that_reaches_the_accuracy(target: float) -> None:
    answers = _informed(5, 800)
    level = choose_abstain_level(answers, target)
    reached = []
    for step in range(1001):
        kept = [
            right
            for confidence, right in zip(answers.confidence, answers.right, strict=True)
            if round(float(confidence) * CONFIDENCE_ONE) >= round(step / 1000 * CONFIDENCE_ONE)
        ]
        reached.append(len(kept) >= 30 and sum(kept) / len(kept) >= target)
    assert level == reached.index(True) / 1000
    effect = abstain_effect(level, answers)
    assert effect.risk is not None
    assert 1 - effect.risk >= target
    assert effect.coverage == (answers.confidence >= level).mean()
    assert effect.wrong == (~answers.right & (answers.confidence >= level)).sum()


def test_abstain_compares_as_the_device_does() -> None:
    """The device abstains where confidence_q30 < round(level * 2^30): equal confidences are answered."""
    limit = int(confidence_q30(0.62))
    answers = Answers(np.array([limit - 1, limit, limit + 1]) / CONFIDENCE_ONE, np.array([True, False, True]))
    effect = abstain_effect(0.62, answers)
    assert (effect.samples, effect.kept, effect.wrong) == (3, 2, 1)


def test_an_accuracy_that_cannot_be_reached_is_said() -> None:
    answers = Answers(np.full(100, 0.7), np.arange(100) < 80)
    with pytest.raises(DataError, match=r"0 reaches 0.8000 with 100 of 100"):
        choose_abstain_level(answers, 0.9)
    assert abstain_effect(1.0, answers).risk is None


def _logits(seed: int, count: int, heads: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels are drawn from the mean of softmax(logits / scale)."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((count, heads, 5))
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    labels = np.array([rng.choice(5, p=row) for row in p.mean(axis=1)])
    return logits * scale, labels


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_temperature_is_where_the_nll_is_least(heads: int, scale: float) -> None:
    logits, labels = _logits(heads, 3000, heads, scale)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(scale, rel=0.1)
    optimum = metrics.nll(tempered(logits, found), labels)
    for other in np.geomspace(0.06, 18, 200):
        assert metrics.nll(tempered(logits, other), labels) >= optimum - 1e-6


def test_temperature_agrees_with_newton_on_one_head() -> None:
    """The NLL of one softmax is convex in 1 / T, and its derivative is a difference of mean logits."""
    logits, labels = _logits(7, 1000, 1, 2.0)
    z, picked = logits[:, 0], logits[np.arange(1000), 0, labels]
    low, high = 1e-3, 1e3
    for _ in range(100):
        beta = np.sqrt(low * high)
        p = np.exp(beta * (z - z.max(axis=1, keepdims=True)))
        expected = (p * z).sum(axis=1) / p.sum(axis=1)
        low, high = (beta, high) if (expected - picked).mean() < 0 else (low, beta)
    assert fit_temperature(logits, labels) == pytest.approx(1 / np.sqrt(low * high), abs=6e-4)


def test_temperature_keeps_what_is_shifted_and_needs_errors() -> None:
    logits, _ = _logits(8, 50, 2, 1.0)
    shifted = logits + np.arange(100).reshape(50, 2, 1)
    np.testing.assert_allclose(tempered(logits, 1.7), tempered(shifted, 1.7))
    with pytest.raises(DataError, match="hardly a wrong answer"):
        fit_temperature(10.0 * np.eye(3)[:, None], np.arange(3))
    with pytest.raises(DataError, match="chance"):
        fit_temperature(10.0 * np.eye(3)[:, None], np.array([1, 2, 0]))


@pytest.mark.parametrize("count", [2, 7, 1000])
def test_halves_are_disjoint_seeded_and_in_order(count: int) -> None:
    chosen, measured = split_halves(count, 3)
    assert sorted([*chosen, *measured]) == list(range(count))
    assert len(chosen) == count // 2
    assert (np.diff(chosen) > 0).all()
    assert (np.diff(measured) > 0).all()
    np.testing.assert_array_equal(split_halves(count, 3)[0], chosen)
    if count == 1000:
        assert not np.array_equal(split_halves(count, 4)[0], chosen)
        # Random halves: not the even rows, nor the first ones.
        assert 200 < np.sum(chosen < 500) < 300


def test_one_sample_has_no_halves() -> None:
    with pytest.raises(DataError, match="halves"):
        split_halves(1)
