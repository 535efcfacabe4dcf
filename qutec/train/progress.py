"""What a training run shows while it goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from qutec.train.result import EpochReport

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

__all__ = ["PlainProgress", "Progress", "RichProgress", "terminal_progress"]

_STEP_SECONDS = 0.2


class Progress(AbstractContextManager["Progress"]):
    """Shows nothing; the base of those that do.

    `step` is called where `is_due` says so, which costs a wait for the device; `epoch` after every epoch.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""

    def begin(self, epochs: int, steps: int, epoch: int, step: int) -> None:
        """The run's length in epochs and steps of each, and where it goes on from."""

    def is_due(self) -> bool:
        """Whether `step` should be called now."""
        return False

    def step(self, epoch: int, step: int, loss: float, accuracies: Sequence[float]) -> None:
        """Means over the epoch so far; epochs from 0, `step` are done."""

    def epoch(self, report: EpochReport) -> None:
        """An epoch has ended."""


class PlainProgress(Progress):
    """One line an epoch on standard error: for logs."""

    def __init__(self) -> None:
        self._epochs = 0

    def begin(self, epochs: int, steps: int, epoch: int, step: int) -> None:
        """See `Progress`."""
        self._epochs = epochs
        if epoch or step:
            self._print(f"going on in epoch {min(epoch + 1, epochs)} after {step} of {steps} steps")

    def epoch(self, report: EpochReport) -> None:
        """See `Progress`."""
        self._print(_line(report, self._epochs))

    def _print(self, line: str) -> None:
        import sys

        print(line, file=sys.stderr, flush=True)


class RichProgress(Progress):
    """A bar over all steps with loss and accuracies, and one line an epoch above it, on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}"),
        )
        self._bar: Bar = Bar(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task("training", total=None, now="")
        self._steps = self._epochs = 0
        self._shown = 0.0

    def __enter__(self) -> RichProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """See `Progress`."""
        self._bar.stop()

    def begin(self, epochs: int, steps: int, epoch: int, step: int) -> None:
        """See `Progress`."""
        self._epochs, self._steps = epochs, steps
        self._bar.update(self._task, total=epochs * steps, completed=epoch * steps + step)

    def is_due(self) -> bool:
        """See `Progress`."""
        return time.monotonic() - self._shown >= _STEP_SECONDS

    def step(self, epoch: int, step: int, loss: float, accuracies: Sequence[float]) -> None:
        """See `Progress`."""
        self._shown = time.monotonic()
        now = f"loss {loss:.4f}  acc {' '.join(f'{value:.3f}' for value in accuracies)}"
        self._bar.update(
            self._task,
            completed=epoch * self._steps + step,
            description=f"epoch {epoch + 1}/{self._epochs}",
            now=now,
        )

    def epoch(self, report: EpochReport) -> None:
        """See `Progress`."""
        self._console.print(_line(report, self._epochs), highlight=False, markup=False, soft_wrap=True)


def terminal_progress() -> Progress:
    """A bar where standard error is a terminal, else plain lines."""
    import sys

    return RichProgress() if sys.stderr.isatty() else PlainProgress()


def _line(report: EpochReport, epochs: int) -> str:
    accuracies = " ".join(f"{name} {scores.accuracy:.4f}" for name, scores in report.validation.items())
    prediction = report.prediction
    frozen = "  trunk frozen" if report.trunk_frozen else ""
    return (
        f"epoch {report.epoch}/{epochs}  loss {report.train_loss:.4f} -> {report.validation_loss:.4f}"
        f"  acc {prediction.accuracy:.4f}  nll {prediction.nll:.4f}  brier {prediction.brier:.4f}"
        f"  [{accuracies}]{frozen}"
    )
