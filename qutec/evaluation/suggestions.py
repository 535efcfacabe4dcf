"""Thresholds that are chosen on one half of the data, and what they cost on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from qutec import metrics
from qutec.detection import Answers
from qutec.errors import DataError
from qutec.metrics import FloatArray, IntArray
from qutec.thresholds import (
    MonitorEffect,
    Selection,
    abstain_effect,
    choose_abstain_level,
    choose_monitor_by_detection,
    choose_monitor_by_false_alarms,
    fit_temperature,
    monitor_effect,
    split_halves,
    tempered,
)

__all__ = [
    "AbstainSuggestion",
    "MonitorSuggestion",
    "Suggestions",
    "TemperatureSuggestion",
    "suggest",
    "suggest_temperature",
]

_SEED = 0
_MONITOR_ONE = 255


@dataclass(frozen=True)
class AbstainSuggestion:
    """Confidence below which to abstain, so that the rest reaches `target_accuracy`; None with a reason.

    `answered` and the others are measured on the half that did not choose; foreign answers are all wrong.
    """

    level: float | None
    target_accuracy: float
    accuracy_without: float
    answered: Selection | None
    corrupted: Selection | None
    foreign: Selection | None
    has_flag: bool = True
    """Whether `qutec compile --abstain` sets the level; else the caller compares the confidence."""
    reason: str | None = None

    @property
    def option(self) -> str | None:
        """The option of `qutec compile`."""
        return f"--abstain {self.level:g}" if self.level is not None and self.has_flag else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "level": self.level,
            "option": self.option,
            "target_accuracy": self.target_accuracy,
            "accuracy_without": self.accuracy_without,
            "id": _selection(self.answered),
            "corrupted": _selection(self.corrupted),
            "ood": _selection(self.foreign),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class MonitorSuggestion:
    """Threshold of `qute_monitor_init`, in [0, 255]; None with a reason. `effect` is of the other half.

    `rule` is "detection" (best F1 of finding dropped windows) or "false_alarms" (as many as `share` allows):
    the second without corrupted data, or, with a reason, where none of their windows dropped.
    """

    threshold: int | None
    window: int
    rule: Literal["detection", "false_alarms"]
    share: float
    effect: MonitorEffect | None
    reason: str | None = None

    @property
    def rho(self) -> float | None:
        """The mean confidence that the threshold stands for."""
        return None if self.threshold is None else self.threshold / _MONITOR_ONE

    @property
    def call(self) -> str | None:
        """The line of C that sets the monitor up."""
        if self.threshold is None:
            return None
        return f"qute_monitor_init(&monitor, window, {self.window}, {self.threshold})"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        effect = self.effect
        return {
            "threshold": self.threshold,
            "rho": self.rho,
            "window": self.window,
            "c": self.call,
            "rule": self.rule,
            "false_alarm_share_allowed": self.share if self.rule == "false_alarms" else None,
            "measured": None if effect is None else {**asdict(effect), "f1": effect.f1},
            "reason": self.reason,
        }


@dataclass(frozen=True)
class TemperatureSuggestion:
    """The temperature of the logits with the least NLL; (before, after) are on the other half."""

    temperature: float | None
    samples: int
    nll: tuple[float, float] | None
    ece: tuple[float, float] | None
    reason: str | None = None

    @property
    def improves(self) -> bool:
        """Whether the NLL falls where the temperature was not chosen."""
        return self.nll is not None and self.nll[1] < self.nll[0]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "temperature": self.temperature,
            "improves": self.improves,
            "samples": self.samples,
            "nll_before": self.nll[0] if self.nll else None,
            "nll_after": self.nll[1] if self.nll else None,
            "ece_before": self.ece[0] if self.ece else None,
            "ece_after": self.ece[1] if self.ece else None,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Suggestions:
    """Abstain level and monitor for the answers of one execution, temperature for the float network."""

    execution: str
    chosen_on: int
    measured_on: int
    abstain: AbstainSuggestion
    monitor: MonitorSuggestion
    temperature: TemperatureSuggestion

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "execution": self.execution,
            "seed": _SEED,
            "chosen_on_samples": self.chosen_on,
            "measured_on_samples": self.measured_on,
            "abstain": self.abstain.to_json(),
            "monitor": self.monitor.to_json(),
            "temperature": self.temperature.to_json(),
        }


def suggest(
    execution: str,
    clean: Answers,
    corrupted: Sequence[Answers],
    foreign: FloatArray | None,
    temperature: TemperatureSuggestion,
    *,
    has_flag: bool,
    window: int,
    target_accuracy: float | None,
    false_alarm_share: float,
) -> Suggestions:
    """Choose on one half, measure on the other. `foreign` are confidences [n].

    `has_flag` says whether the network is compiled with an abstain flag. `target_accuracy` of the answers
    that are kept is by default what halves the error of the half that chooses. Raises DataError where there
    are fewer than 2 clean samples.
    """
    choosing, measuring = split_halves(len(clean), _SEED)
    halves = [split_halves(len(answers), _SEED) for answers in corrupted if len(answers) > 1]
    streams = [answers for answers in corrupted if len(answers) > 1]
    chosen = [answers[half] for answers, (half, _) in zip(streams, halves, strict=True)]
    measured = [answers[half] for answers, (_, half) in zip(streams, halves, strict=True)]
    return Suggestions(
        execution,
        len(choosing),
        len(measuring),
        replace(
            _abstain(clean[choosing], clean[measuring], measured, foreign, target_accuracy), has_flag=has_flag
        ),
        _monitor((clean[choosing], chosen), (clean[measuring], measured), window, false_alarm_share),
        temperature,
    )


def suggest_temperature(log_probabilities: FloatArray, labels: IntArray) -> TemperatureSuggestion:
    """From log-probabilities [n, heads, classes] of the float network and labels [n]."""
    choosing, measuring = split_halves(len(labels), _SEED)
    try:
        temperature = fit_temperature(log_probabilities[choosing], labels[choosing])
    except DataError as error:
        return TemperatureSuggestion(None, len(measuring), None, None, str(error))
    both = [tempered(log_probabilities[measuring], t) for t in (1.0, temperature)]
    nll = [metrics.nll(p, labels[measuring]) for p in both]
    ece = [metrics.ece(p, labels[measuring]) for p in both]
    return TemperatureSuggestion(temperature, len(measuring), (nll[0], nll[1]), (ece[0], ece[1]))


def _abstain(
    choosing: Answers,
    measuring: Answers,
    corrupted: Sequence[Answers],
    foreign: FloatArray | None,
    target_accuracy: float | None,
) -> AbstainSuggestion:
    target = 1.0 - float((~choosing.right).mean()) / 2 if target_accuracy is None else target_accuracy
    without = float(measuring.right.mean())
    try:
        level = choose_abstain_level(choosing, target)
    except DataError as error:
        return AbstainSuggestion(None, target, without, None, None, None, reason=str(error))
    everything = _joined(corrupted)
    strangers = None if foreign is None else Answers(foreign, np.zeros(len(foreign), np.bool_))
    return AbstainSuggestion(
        level,
        target,
        without,
        abstain_effect(level, measuring),
        None if everything is None else abstain_effect(level, everything),
        None if strangers is None else abstain_effect(level, strangers),
    )


def _monitor(
    choosing: tuple[Answers, Sequence[Answers]],
    measuring: tuple[Answers, Sequence[Answers]],
    window: int,
    share: float,
) -> MonitorSuggestion:
    clean, corrupted = choosing
    rule: Literal["detection", "false_alarms"] = "false_alarms"
    reason = None
    try:
        threshold = choose_monitor_by_false_alarms(clean, share, window)
        if corrupted:
            try:
                threshold, rule = choose_monitor_by_detection(clean, corrupted, window), "detection"
            except DataError as error:
                reason = str(error)
        effect = monitor_effect(threshold, *measuring, window=window)
    except DataError as error:
        return MonitorSuggestion(None, window, rule, share, None, f"in a half of the data: {error}")
    return MonitorSuggestion(threshold, window, rule, share, effect, reason)


def _joined(parts: Sequence[Answers]) -> Answers | None:
    if not parts:
        return None
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.followed_by(part)
    return joined


def _selection(effect: Selection | None) -> dict[str, Any] | None:
    if effect is None:
        return None
    return {**asdict(effect), "coverage": effect.coverage, "risk": effect.risk}
