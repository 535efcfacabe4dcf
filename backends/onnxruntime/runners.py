"""Models as callables: one session, or the stages of a network with dynamic exits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import onnxruntime as ort

from qutec.backends.onnxruntime.exit_graphs import Stage
from qutec.backends.onnxruntime.session import Arrays, SessionSettings, open_session, run_session

__all__ = ["Runner", "SessionRunner", "StageRunner", "run_rows"]


class Runner(Protocol):
    """Computes outputs by name from inputs by name; both have the batch in front."""

    def run(self, feed: Arrays) -> Arrays:
        """One inference. Raises ModelError."""


class SessionRunner:
    """A model in one session."""

    def __init__(self, model: bytes, settings: SessionSettings) -> None:
        self._session = open_session(model, settings)
        self._names = [value.name for value in self._session.get_outputs()]

    def run(self, feed: Arrays) -> Arrays:
        """One inference. Raises ModelError."""
        return run_session(self._session, feed, self._names)


class StageRunner:
    """Stages in sessions of their own; samples that are sure leave, the others go on to the next stage."""

    def __init__(self, stages: Sequence[Stage], settings: SessionSettings) -> None:
        self._stages = tuple(stages)
        self._sessions = [open_session(stage.model, settings) for stage in stages]

    def run(self, feed: Arrays) -> Arrays:
        """One inference; of a batch, every stage sees the rows that no earlier exit was sure of."""
        values, results = dict(feed), {}
        rows: np.ndarray | None = None
        for stage, session in zip(self._stages, self._sessions, strict=True):
            outputs = _outputs(stage, session, values)
            found = {name: outputs[name] for name in stage.results}
            if rows is None:
                results = found
            else:
                for name, array in found.items():
                    results[name][rows] = array
            if stage.threshold is None:
                break
            unsure = np.less(found[stage.results[2]], np.float32(stage.threshold))
            if not unsure.any():
                break
            values.update((name, outputs[name]) for name in stage.passed_on)
            if len(unsure) > 1 or rows is not None:
                rows = np.flatnonzero(unsure) if rows is None else rows[unsure]
                if not unsure.all():
                    values = {name: array[unsure] for name, array in values.items()}
            else:
                rows = None
        return results

    def run_to(self, exit_number: int, feed: Arrays) -> Arrays:
        """What an inference costs that leaves at an exit, however sure it is: all stages up to that one."""
        values, results = dict(feed), {}
        for stage, session in zip(self._stages[: exit_number + 1], self._sessions, strict=False):
            outputs = _outputs(stage, session, values)
            values.update((name, outputs[name]) for name in stage.passed_on)
            results = {name: outputs[name] for name in stage.results}
        return results

    def run_rows_to(self, exit_number: int, rows: Arrays) -> Arrays:
        """`run_to` for rows, one by one."""
        return _one_by_one(lambda feed: self.run_to(exit_number, feed), rows)

    def stage_feeds(self, feed: Arrays) -> list[Arrays]:
        """The inputs of every stage for samples that go on to the end."""
        values, feeds = dict(feed), []
        for stage, session in zip(self._stages, self._sessions, strict=True):
            feeds.append({name: values[name] for name in stage.inputs})
            values.update(_outputs(stage, session, values))
        return feeds


def run_rows(runner: Runner, rows: Arrays) -> Arrays:
    """Outputs [samples, ...] of rows that are run one by one."""
    return _one_by_one(runner.run, rows)


def _one_by_one(run: Callable[[Arrays], Arrays], rows: Arrays) -> Arrays:
    count = len(next(iter(rows.values())))
    results = [run({name: array[i : i + 1] for name, array in rows.items()}) for i in range(count)]
    return {name: np.concatenate([result[name] for result in results]) for name in results[0]}


def _outputs(stage: Stage, session: ort.InferenceSession, values: Arrays) -> Arrays:
    names = (*stage.results, *stage.passed_on)
    return run_session(session, {name: values[name] for name in stage.inputs}, names)
