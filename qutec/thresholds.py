"""Thresholds from data, and what each costs: drop monitor, abstain level, temperature.

Choose on one half of the data and measure on the other (`split_halves`): a threshold that is measured where
it was chosen looks better than it is. Confidences are compared in the fixed point of the device: bytes in
the monitor (`qutec.monitor`), Q30 at the abstain level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qutec import metrics
from qutec.detection import WINDOW, Answers, BoolArray, dropped_windows
from qutec.errors import DataError
from qutec.metrics import FloatArray, IntArray
from qutec.monitor import CONFIDENCE_ONE, quantize_confidence, window_alarms

__all__ = [
    "MonitorEffect",
    "Selection",
    "abstain_effect",
    "choose_abstain_level",
    "choose_monitor_by_detection",
    "choose_monitor_by_false_alarms",
    "confidence_q30",
    "fit_temperature",
    "monitor_effect",
    "split_halves",
    "tempered",
]

_CODES = 256
_ABSTAIN_STEPS = 1000
"""Abstain levels are thousandths, so that the flag of the command line is exact."""
_LEAST_KEPT = 30
"""Answers that an abstain level must keep: the accuracy of fewer says nothing."""
_LOG_TEMPERATURES = np.log(0.05), np.log(20.0)
_GRID = 61
_TEMPERATURE_DIGITS = 3
_GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class MonitorEffect:
    """What a monitor's threshold does to streams: counts of windows, which overlap.

    `false_alarms` of `clean_windows` are windows of the clean stream alone. The rest is summed over one
    stream for each corruption, the clean samples first: `alarms` in all, `dropped` windows whose accuracy
    dropped (see `qutec.detection`), `detected` of them with an alarm.
    """

    clean_windows: int
    false_alarms: int
    alarms: int
    dropped: int
    detected: int

    @property
    def f1(self) -> float | None:
        """F1 of finding dropped windows; None where none dropped."""
        return 2 * self.detected / (self.alarms + self.dropped) if self.dropped else None


@dataclass(frozen=True)
class Selection:
    """What an abstain level does: of `samples` answers, `kept` are given, and of these `wrong` are wrong."""

    samples: int
    kept: int
    wrong: int

    @property
    def coverage(self) -> float:
        """Share of the samples that are answered."""
        return self.kept / self.samples

    @property
    def risk(self) -> float | None:
        """Share of wrong answers among those given; None where none is."""
        return self.wrong / self.kept if self.kept else None


def split_halves(count: int, seed: int = 0) -> tuple[IntArray, IntArray]:
    """Rows of two random halves, each in ascending order, so that a stream keeps its order.

    Equal counts and seeds give equal halves: of images and their corrupted copies, the same are chosen.

    Raises:
        DataError: fewer than 2 samples.
    """
    if count < 2:
        raise DataError(f"{count} sample cannot be split into halves")
    order = np.random.default_rng([seed, count]).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


def confidence_q30(confidence: npt.ArrayLike) -> IntArray:
    """Confidences as the device has them, 1 being 2^30."""
    return np.rint(np.asarray(confidence, np.float64) * CONFIDENCE_ONE).astype(np.int64)


def choose_monitor_by_detection(clean: Answers, corrupted: Sequence[Answers], window: int = WINDOW) -> int:
    """The monitor threshold in [0, 255] that finds dropped windows with the best F1; the lowest of equals.

    Windows are those of one stream for each corruption, clean samples first, and count alike.

    Raises:
        DataError: no window dropped, or fewer clean samples than a window has.
    """
    alarms, detected, dropped = np.zeros(_CODES), np.zeros(_CODES), 0
    for answers in corrupted:
        levels = _alarm_levels(clean.followed_by(answers), window)
        truth = dropped_windows(clean, answers, window)
        alarms += _at_most(levels)
        detected += _at_most(levels[truth])
        dropped += int(truth.sum())
    if not dropped:
        raise DataError("no window of the corrupted data has dropped accuracy: there is nothing to detect")
    return int(np.argmax(2 * detected / (alarms + dropped)))


def choose_monitor_by_false_alarms(clean: Answers, share: float, window: int = WINDOW) -> int:
    """The highest monitor threshold in [0, 255] that at most a `share` of the clean windows falls below.

    Raises:
        DataError: fewer samples than a window has.
    """
    levels = _alarm_levels(clean, window)
    if not len(levels):
        raise DataError(f"{len(clean)} samples are fewer than the {window} of a window")
    return int(np.flatnonzero(_at_most(levels) <= share * len(levels))[-1])


def monitor_effect(
    threshold: int, clean: Answers, corrupted: Sequence[Answers] = (), window: int = WINDOW
) -> MonitorEffect:
    """What a threshold does; see `MonitorEffect`.

    Raises:
        DataError: fewer clean samples than a window has.
    """
    if len(clean) < window:
        raise DataError(f"{len(clean)} samples are fewer than the {window} of a window")
    false_alarms = _alarms(clean, threshold, window)
    alarms = dropped = detected = 0
    for answers in corrupted:
        raised = _alarms(clean.followed_by(answers), threshold, window)
        truth = dropped_windows(clean, answers, window)
        alarms += int(raised.sum())
        dropped += int(truth.sum())
        detected += int((raised & truth).sum())
    return MonitorEffect(len(false_alarms), int(false_alarms.sum()), alarms, dropped, detected)


def choose_abstain_level(answers: Answers, target_accuracy: float) -> float:
    """The lowest level, in thousandths, above which answers reach an accuracy: the largest coverage.

    Raises:
        DataError: no level that keeps 30 answers reaches it; says what the best one reaches.
    """
    confidence = confidence_q30(answers.confidence)
    order = np.argsort(confidence, kind="stable")
    # Of the answers in the order of their confidence, so many from the end are right.
    right = np.append(np.cumsum(answers.right[order][::-1])[::-1], 0)
    levels = np.arange(_ABSTAIN_STEPS + 1) / _ABSTAIN_STEPS
    first = np.searchsorted(confidence[order], confidence_q30(levels))
    kept = len(answers) - first
    accuracy = right[first] / np.maximum(kept, 1)
    enough = kept >= min(_LEAST_KEPT, len(answers))
    found = np.flatnonzero(enough & (accuracy >= target_accuracy))
    if len(found):
        return float(levels[found[0]])
    best = int(np.argmax(np.where(enough, accuracy, -1.0)))
    raise DataError(
        f"no level reaches an accuracy of {target_accuracy:.4f} with at least {_LEAST_KEPT} answers; "
        f"{levels[best]:g} reaches {accuracy[best]:.4f} with {kept[best]} of {len(answers)}"
    )


def abstain_effect(level: float, answers: Answers) -> Selection:
    """What abstaining below a level leaves of some answers; the comparison is the device's."""
    kept = confidence_q30(answers.confidence) >= confidence_q30(level)
    return Selection(len(answers), int(kept.sum()), int((kept & ~answers.right).sum()))


def fit_temperature(log_probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The temperature with the least NLL of the mean over heads, to three decimals, between 0.05 and 20.

    `log_probabilities` is [n, heads, classes], logits of each head up to a constant; `labels` is [n].
    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2; one temperature
    for all heads.

    Raises:
        DataError: the NLL falls up to an end of that range, as on data without a wrong answer.
    """

    def loss(log_temperature: float) -> float:
        return metrics.nll(tempered(log_probabilities, float(np.exp(log_temperature))), labels)

    # The NLL of a mean of softmaxes may have several minima: a grid finds the lowest one's surroundings.
    grid = np.linspace(*_LOG_TEMPERATURES, _GRID)
    best = int(np.argmin([loss(float(value)) for value in grid]))
    if best in (0, _GRID - 1):
        why = "there is hardly a wrong answer" if best == 0 else "the answers are no better than chance"
        raise DataError(f"the NLL still falls at a temperature of {np.exp(grid[best]):g}: {why}")
    lowest = _golden_section(loss, float(grid[best - 1]), float(grid[best + 1]))
    return round(float(np.exp(lowest)), _TEMPERATURE_DIGITS)


def tempered(log_probabilities: npt.ArrayLike, temperature: float) -> FloatArray:
    """Mean over heads of softmax(logits / temperature): [n, heads, classes] to [n, classes]."""
    logits = np.asarray(log_probabilities, np.float64) / temperature
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    mean: FloatArray = (powers / powers.sum(axis=-1, keepdims=True)).mean(axis=1)
    return mean


def _alarm_levels(answers: Answers, window: int) -> IntArray:
    """For each full window the lowest threshold that raises the alarm: sum < threshold * window."""
    codes = quantize_confidence(confidence_q30(answers.confidence))
    sums = np.concatenate([[0], np.cumsum(codes)])
    levels: IntArray = (sums[window:] - sums[: max(len(sums) - window, 0)]) // window + 1
    return levels


def _at_most(levels: IntArray) -> npt.NDArray[np.int64]:
    """For each threshold in [0, 255], how many windows it raises the alarm in."""
    # A window of nothing but 255 has the level 256: no threshold raises its alarm.
    return np.cumsum(np.bincount(levels, minlength=_CODES + 1))[:_CODES]


def _alarms(answers: Answers, threshold: int, window: int) -> BoolArray:
    """The monitor's alarms over the full windows of a stream."""
    return window_alarms(confidence_q30(answers.confidence), window, threshold)[window - 1 :]


def _golden_section(loss: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one minimum between low and high has it."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > _TOLERANCE:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return (low + high) / 2
