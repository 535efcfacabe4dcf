"""Dynamic exits in the form that ONNX Runtime runs faster here: stages, or one graph with If."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qutec.backends.onnxruntime.exit_graphs import Stage
from qutec.backends.onnxruntime.interleaved import Effort, compare_runners
from qutec.backends.onnxruntime.runners import Runner, SessionRunner, StageRunner
from qutec.backends.onnxruntime.session import Arrays, SessionSettings
from qutec.heads import EXIT_RESULTS
from qutec.report.profile_data import DynamicForm

__all__ = ["DynamicNetwork", "choose_form", "exits_taken"]


@dataclass(frozen=True)
class DynamicNetwork:
    """Both forms of one network."""

    stages: tuple[Stage, ...]
    if_model: bytes

    def runner(self, form: str, settings: SessionSettings) -> Runner:
        """The form "stages" or "if", ready to run."""
        if form == "stages":
            return StageRunner(self.stages, settings)
        return SessionRunner(self.if_model, settings)


def choose_form(
    network: DynamicNetwork, settings: SessionSettings, feeds: Sequence[Arrays], effort: Effort
) -> DynamicForm:
    """Run both forms in turn on single samples; the one that takes less time on average is chosen.

    Both leave at the same exits, so what is compared is the way there: handing values from session to
    session through Python, or the If inside of one.
    """
    stages, nested = network.runner("stages", settings), network.runner("if", settings)
    kinds = exits_taken(stages, feeds)
    (if_latency, stages_latency), (ratio,) = compare_runners([nested, stages], [feeds, feeds], effort, kinds)
    return DynamicForm(
        form="stages" if ratio.ratio < 1.0 else "if",
        stages_us=stages_latency.p50,
        if_us=if_latency.p50,
        stages_over_if=ratio,
        thresholds=tuple(stage.threshold for stage in network.stages if stage.threshold is not None),
        samples=len(feeds),
    )


def exits_taken(runner: Runner, feeds: Sequence[Arrays]) -> npt.NDArray[np.int64]:
    """Number of the exit at which each of some single samples ends."""
    place = EXIT_RESULTS.index("exit")
    return np.array([int(list(runner.run(feed).values())[place][0]) for feed in feeds], np.int64)
