"""Dynamic exits in the form that ONNX Runtime runs faster here: stages, or one graph with If."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qutec.backends.onnxruntime.exit_graphs import Stage
from qutec.backends.onnxruntime.interleaved import Effort, compare_runners
from qutec.backends.onnxruntime.runners import Runner, SessionRunner, StageRunner
from qutec.backends.onnxruntime.session import Arrays, SessionSettings
from qutec.report.profile_data import DynamicForm

__all__ = ["DynamicNetwork", "choose_form"]


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
    """Run both forms in turn on single samples; the one with the smaller median ratio is chosen.

    Both leave at the same exits, so what is compared is the way there: handing values from session to
    session through Python, or the If inside of one.
    """
    stages, nested = network.runner("stages", settings), network.runner("if", settings)
    (if_latency, stages_latency), (ratio,) = compare_runners([nested, stages], feeds, effort)
    return DynamicForm(
        form="stages" if ratio.ratio < 1.0 else "if",
        stages_us=stages_latency.p50,
        if_us=if_latency.p50,
        stages_over_if=ratio,
        thresholds=tuple(stage.threshold for stage in network.stages if stage.threshold is not None),
        samples=len(feeds),
    )
