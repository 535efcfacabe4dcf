"""How good what was compiled is: against the float network, and against labels by exit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from qutec.backends.onnxruntime.exit_graphs import Stage
from qutec.backends.onnxruntime.feeds import Labels, batches_of
from qutec.backends.onnxruntime.interleaved import Effort, run_interleaved
from qutec.backends.onnxruntime.runners import Runner, SessionRunner, StageRunner, run_rows
from qutec.backends.onnxruntime.session import Arrays, GraphOptimization, SessionSettings
from qutec.heads import EXIT_RESULTS, RESULTS
from qutec.report.profile_data import Equality, ExitCost, ModelProfile

__all__ = ["compare_with_network", "with_accuracy", "with_dynamic_exits"]

_COMPARED_ROWS = 256


def compare_with_network(reference: bytes, runner: Runner, rows: Arrays) -> Equality:
    """Compare with the float network as it was before any optimisation, on at most 256 rows one by one."""
    given = {name: array[:_COMPARED_ROWS] for name, array in rows.items()}
    plain = SessionSettings(graph_optimization=GraphOptimization.DISABLED)
    expected = run_rows(SessionRunner(reference, plain), given)
    found = run_rows(runner, given)
    differences, relative, agreements = [0.0], [0.0], []
    for name, array in expected.items():
        if array.dtype.kind == "f":
            difference = array.astype(np.float64) - found[name].astype(np.float64)
            differences.append(float(np.abs(difference).max()))
            relative.append(differences[-1] / max(float(np.abs(array).max()), 1e-6))
        if array.ndim == 2 and array.shape[1] > 1:
            agreements.append(float(np.mean(array.argmax(axis=1) == found[name].argmax(axis=1))))
    samples = len(next(iter(given.values())))
    return Equality(samples, max(differences), max(relative), min(agreements) if agreements else None)


def with_accuracy(
    profile: ModelProfile, runner: Runner, rows: Arrays, labels: Labels | None, merged: bool
) -> ModelProfile:
    """The profile with top-1 of each exit, or of the answer of merged heads, in its exits."""
    if labels is None:
        return profile
    results = run_rows(runner, rows)
    if merged:
        answer = np.mean(_label(results) == labels)
        entry = ExitCost("answer", None, None, float(answer), None)
        batches = tuple(
            replace(item, exits=(*item.exits, replace(entry, us=item.nodes_us))) for item in profile.batches
        )
        return replace(profile, batches=batches)
    accuracies = {
        name: float(np.mean(array.reshape(len(labels), -1).argmax(axis=1) == labels))
        for name, array in results.items()
    }
    batches = tuple(
        replace(item, exits=tuple(replace(cost, accuracy=accuracies.get(cost.name)) for cost in item.exits))
        for item in profile.batches
    )
    return replace(profile, batches=batches)


def with_dynamic_exits(
    profile: ModelProfile,
    runner: Runner,
    stages: Sequence[Stage],
    settings: SessionSettings,
    rows: Arrays,
    labels: Labels | None,
    names: Sequence[str],
    effort: Effort,
) -> ModelProfile:
    """The profile with the time, share and accuracy of each exit for single samples, and of the answer."""
    results = run_rows(runner, rows)
    taken = results[_named(results, "exit")].reshape(-1)
    feeds = batches_of(rows, 1)
    times = run_interleaved([lambda i: runner.run(feeds[i % len(feeds)])], effort.runs, effort.warmup)[:, 0]
    left = taken[effort.feed_numbers(len(feeds))]
    through = StageRunner(stages, settings)
    costs = []
    for number, name in enumerate(names):
        spent = times[left == number]
        accuracy = None
        if labels is not None:
            accuracy = float(np.mean(_label(through.run_rows_to(number, rows)) == labels))
        us = float(np.median(spent)) if len(spent) else None
        costs.append(ExitCost(name, us, None, accuracy, float(np.mean(taken == number))))
    overall = float(np.mean(_label(results) == labels)) if labels is not None else None
    known = [(cost.us, cost.share) for cost in costs]
    mean = sum(us * share for us, share in known if us is not None and share is not None)
    costs.append(ExitCost("answer", mean, None, overall, 1.0))
    first, *others = profile.batches
    return replace(profile, batches=(replace(first, exits=tuple(costs)), *others))


def _label(results: Arrays) -> npt.NDArray[np.generic]:
    return results[_named(results, "label")].reshape(-1)


def _named(results: Arrays, name: str) -> str:
    """The output that is a result; it has a prefix where the network has a value of its name."""
    order = EXIT_RESULTS if len(results) == len(EXIT_RESULTS) else RESULTS
    return list(results)[order.index(name)]
