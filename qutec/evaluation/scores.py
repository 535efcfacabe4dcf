"""The figures of one execution, each with the count that it rests on, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from qutec import metrics
from qutec.detection import (
    SIGMAS,
    Answers,
    accuracy_drop_auprc,
    accuracy_limit,
    dropped_windows,
    failure_auroc,
)
from qutec.errors import DataError
from qutec.evaluation.networks import Predictions
from qutec.metrics import FloatArray, IntArray

__all__ = ["AccuracyDrop", "Area", "CorruptionAnswers", "CorruptionScore", "Scores", "score"]

_MERGED = "the exits are merged into one answer: their own answers are not outputs"


@dataclass(frozen=True, eq=False)
class CorruptionAnswers:
    """What was answered to one corruption."""

    name: str
    answers: Answers


@dataclass(frozen=True)
class Area:
    """An AUROC of right answers against failures, and how many there are of each."""

    value: float | None
    right: int
    failures: int
    reason: str | None = None


@dataclass(frozen=True)
class CorruptionScore:
    """The answers to one corruption; `dropped_windows` of `windows` of the stream clean, then corrupted."""

    name: str
    samples: int
    accuracy: float
    auprc: float | None
    windows: int
    dropped_windows: int
    reason: str | None = None


@dataclass(frozen=True)
class AccuracyDrop:
    """Detection of dropped accuracy; `auprc` is the mean over `counted` corruptions that have one."""

    window: int
    accuracy_limit: float | None
    auprc: float | None
    counted: int
    corruptions: tuple[CorruptionScore, ...]
    reason: str | None = None


@dataclass(frozen=True)
class Scores:
    """Accuracy, calibration (`qutec.metrics`) and detection (`qutec.detection`) of one execution.

    `auroc` has "id_wrong", right answers against wrong ones, both to clean samples; "id_corrupted_wrong",
    right answers to clean samples against wrong ones to clean and corrupted samples; "ood", right answers to
    clean samples against all answers to foreign ones.
    """

    samples: int
    accuracy: float
    f1: float
    brier: float
    nll: float
    ece: float
    exit_accuracy: Mapping[str, float]
    auroc: Mapping[str, Area]
    accuracy_drop: AccuracyDrop | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; null where there is no figure, with its reason under "reasons"."""
        reasons = {f"auroc.{name}": area.reason for name, area in self.auroc.items() if area.reason}
        if not self.exit_accuracy:
            reasons["exits"] = _MERGED
        result: dict[str, Any] = {
            "samples": self.samples,
            "accuracy": self.accuracy,
            "f1": self.f1,
            "brier": self.brier,
            "nll": self.nll,
            "ece": self.ece,
            "exits": [
                {"name": name, "accuracy": accuracy, "samples": self.samples}
                for name, accuracy in self.exit_accuracy.items()
            ]
            or None,
            "auroc": {name: area.value for name, area in self.auroc.items()},
            "auroc_counts": {
                name: {"right": area.right, "failures": area.failures} for name, area in self.auroc.items()
            },
        }
        drop = self.accuracy_drop
        if drop is not None:
            result["auprc_accuracy_drop"] = drop.auprc
            result["accuracy_drop"] = {
                "window": drop.window,
                "sigmas": SIGMAS,
                "accuracy_limit": drop.accuracy_limit,
                "corruptions_counted": drop.counted,
                "corruptions": [asdict(item) for item in drop.corruptions],
            }
            if drop.reason:
                reasons["auprc_accuracy_drop"] = drop.reason
        result["reasons"] = reasons
        return result


def score(
    predictions: Predictions,
    labels: IntArray,
    corrupted: Sequence[CorruptionAnswers],
    foreign: FloatArray | None,
    window: int,
) -> Scores:
    """The scores of answers to clean samples, corrupted ones, and foreign ones (confidences [n])."""
    p = predictions.probabilities
    clean = Answers.of(p, labels)
    auroc = {"id_wrong": _area(clean, [clean])}
    if corrupted:
        auroc["id_corrupted_wrong"] = _area(clean, [clean, *(item.answers for item in corrupted)])
    if foreign is not None:
        auroc["ood"] = _area(clean, [Answers(foreign, np.zeros(len(foreign), np.bool_))])
    return Scores(
        samples=len(labels),
        accuracy=metrics.accuracy(p, labels),
        f1=metrics.f1_weighted(p, labels),
        brier=metrics.brier(p, labels),
        nll=metrics.nll(p, labels),
        ece=metrics.ece(p, labels),
        exit_accuracy={name: metrics.accuracy(values, labels) for name, values in predictions.exits.items()},
        auroc=auroc,
        accuracy_drop=_accuracy_drop(clean, corrupted, window) if corrupted else None,
    )


def _area(clean: Answers, failing: Sequence[Answers]) -> Area:
    """The failures are the wrong answers; a foreign sample has no right one."""
    right, failures = int(clean.right.sum()), sum(int((~answers.right).sum()) for answers in failing)
    try:
        return Area(failure_auroc(clean, failing), right, failures)
    except DataError as error:
        return Area(None, right, failures, str(error))


def _accuracy_drop(clean: Answers, corrupted: Sequence[CorruptionAnswers], window: int) -> AccuracyDrop:
    rows = tuple(_corruption_score(clean, item, window) for item in corrupted)
    found = [row.auprc for row in rows if row.auprc is not None]
    return AccuracyDrop(
        window=window,
        accuracy_limit=accuracy_limit(clean, window) if len(clean) >= window else None,
        auprc=float(np.mean(found)) if found else None,
        counted=len(found),
        corruptions=rows,
        reason=None if found else rows[0].reason,
    )


def _corruption_score(clean: Answers, item: CorruptionAnswers, window: int) -> CorruptionScore:
    windows = max(len(clean) + len(item.answers) - window + 1, 0)
    accuracy = float(item.answers.right.mean())
    try:
        dropped = int(dropped_windows(clean, item.answers, window).sum())
    except DataError as error:
        return CorruptionScore(item.name, len(item.answers), accuracy, None, windows, 0, str(error))
    try:
        area: float | None = accuracy_drop_auprc(clean, item.answers, window)
        reason = None
    except DataError as error:
        area, reason = None, str(error)
    return CorruptionScore(item.name, len(item.answers), accuracy, area, windows, dropped, reason)
