"""What a training run gives: the trained graph and its history; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx_ir as ir

from qutec import metrics
from qutec.metrics import FloatArray, IntArray
from qutec.train.files import write_atomically

__all__ = ["EpochReport", "Scores", "TrainingResult", "score"]


@dataclass(frozen=True)
class Scores:
    """How good probabilities are: see `qutec.metrics`."""

    accuracy: float
    nll: float
    brier: float
    ece: float


def score(probabilities: FloatArray, labels: IntArray) -> Scores:
    """The scores of probabilities [samples, classes] on labels [samples]."""
    return Scores(
        metrics.accuracy(probabilities, labels),
        metrics.nll(probabilities, labels),
        metrics.brier(probabilities, labels),
        metrics.ece(probabilities, labels),
    )


@dataclass(frozen=True)
class EpochReport:
    """One epoch, counted from 1.

    `train_loss` is the weighted loss and `train_accuracy` by output, both over the epoch's batches while the
    weights changed; the rest is measured after the epoch on the validation data. `prediction` is the mean
    over the early views, or the final classifier where there are none.
    """

    epoch: int
    lr: float
    trunk_frozen: bool
    train_loss: float
    train_accuracy: Mapping[str, float]
    validation_loss: float
    validation: Mapping[str, Scores]
    prediction: Scores

    @classmethod
    def from_json(cls, entry: dict[str, object]) -> EpochReport:
        """The inverse of `dataclasses.asdict`."""
        fields = dict(entry)
        validation, prediction = fields.pop("validation"), fields.pop("prediction")
        assert isinstance(validation, dict)
        assert isinstance(prediction, dict)
        scores = {str(name): Scores(**item) for name, item in validation.items()}
        return cls(**fields, validation=scores, prediction=Scores(**prediction))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """The trained model and what happened on the way.

    `kept_epoch` is the epoch, from 1, whose weights the model has: the last one, or with `patience` the best.
    """

    model: ir.Model
    history: tuple[EpochReport, ...]
    kept_epoch: int
    validation_data: str
    parameters: int
    warnings: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """The model as an .onnx file; the same run gives the same bytes."""
        return bytes(ir.to_proto(self.model).SerializeToString(deterministic=True))

    def save(self, path: str | Path) -> None:
        """Write the model; the file is complete or not there. Raises UsageError."""
        write_atomically(Path(path), self.to_bytes())

    def to_json(self) -> dict[str, object]:
        """What `qutec train --json` prints; fields may be added, not renamed."""
        kept = self.history[self.kept_epoch - 1]
        return {
            "schema_version": 1,
            "epochs": len(self.history),
            "kept_epoch": self.kept_epoch,
            "parameters": self.parameters,
            "warnings": list(self.warnings),
            "validation_data": self.validation_data,
            "validation_loss": kept.validation_loss,
            "prediction": asdict(kept.prediction),
            "exits": [{"output": name, **asdict(scores)} for name, scores in kept.validation.items()],
            "history": [asdict(report) for report in self.history],
        }
