"""Times of several callables run in turn, and ratios of them with an interval.

A machine that is shared or changes its clock drifts by more than what two models differ. Every round runs
each of them once, in an order drawn anew, so that drift reaches all alike; what is compared are the two times
of one round. The ratio is the median over the rounds of t_b / t_a; its interval is a moving-block bootstrap
(Künsch 1989) of that median, which takes into account that neighbouring rounds resemble each other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qutec.backends.onnxruntime.runners import Runner
from qutec.backends.onnxruntime.session import Arrays
from qutec.errors import UsageError
from qutec.report.profile_data import Latency, Ratio

__all__ = ["Effort", "Times", "compare_runners", "latency_of", "paired_ratio", "run_interleaved"]

Times: TypeAlias = npt.NDArray[np.float64]

_RESAMPLES = 2000
_CONFIDENCE = 0.95
_FEWEST_RUNS = 10
_MOST_PROFILED_RUNS = 100


@dataclass(frozen=True)
class Effort:
    """How often is measured."""

    runs: int = 200
    warmup: int = 20

    @classmethod
    def parse(cls, runs: int, warmup: int) -> Effort:
        """Raises UsageError for numbers that make no sense."""
        if runs < _FEWEST_RUNS:
            raise UsageError(f"runs: {runs} are too few; {_FEWEST_RUNS} is the least")
        if warmup < 0:
            raise UsageError(f"warm-up: there cannot be {warmup} runs")
        return cls(runs, warmup)

    @property
    def profiled_runs(self) -> int:
        """Runs under the profiler, whose trace would become large otherwise."""
        return min(self.runs, _MOST_PROFILED_RUNS)

    def feed_numbers(self, feeds: int) -> npt.NDArray[np.int64]:
        """Which of so many inputs, that are taken in turn, each measured run has."""
        return (np.arange(self.runs) + self.warmup) % feeds


def run_interleaved(actions: Sequence[Callable[[int], object]], rounds: int, warmup: int) -> Times:
    """Wall times [rounds, actions] in microseconds; `warmup` rounds go before and are not counted.

    Each action is given the number of the round, the same for all actions of a round.
    """
    generator = np.random.default_rng(0)
    times = np.zeros((rounds, len(actions)))
    for number in range(-warmup, rounds):
        for index in generator.permutation(len(actions)):
            action = actions[index]
            begin = time.perf_counter_ns()
            action(number + warmup)
            end = time.perf_counter_ns()
            if number >= 0:
                times[number, index] = (end - begin) / 1000.0
    return times


def latency_of(times: Times, warmup: int) -> Latency:
    """Percentiles of some wall times [runs] in microseconds."""
    p50, p90, p99 = (float(np.percentile(times, percent)) for percent in (50, 90, 99))
    return Latency(p50, p90, p99, len(times), warmup)


def paired_ratio(base: Times, other: Times, kinds: npt.NDArray[np.int64] | None = None) -> Ratio:
    """How many times as long as `base` the `other` takes; both are [rounds], and belong together by round.

    Where rounds are of several `kinds` [rounds], as inferences are that end at different exits, the ratio is
    the mean over kinds of their medians, weighted by how many rounds they have.
    """
    ratios = other / base
    kinds = np.zeros(len(ratios), np.int64) if kinds is None else kinds
    count = len(ratios)
    block = max(1, math.ceil(count ** (1 / 3)))
    generator = np.random.default_rng(0)
    starts = generator.integers(0, count - block + 1, (_RESAMPLES, math.ceil(count / block)))
    rows = (starts[:, :, None] + np.arange(block)).reshape(_RESAMPLES, -1)[:, :count]
    resampled = _weighted_medians(ratios[rows], kinds[rows])
    tail = 50 * (1 - _CONFIDENCE)
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Ratio(float(_weighted_medians(ratios[None], kinds[None])[0]), float(low), float(high))


def _weighted_medians(values: Times, kinds: npt.NDArray[np.int64]) -> Times:
    """Of each row of `values` [rows, rounds] the mean of the medians of its kinds, by their numbers."""
    total = np.zeros(len(values))
    for kind in np.unique(kinds):
        of_kind = kinds == kind
        present = of_kind.any(axis=1)
        medians = np.nanmedian(np.where(of_kind, values, np.nan)[present], axis=1)
        total[present] += medians * of_kind[present].mean(axis=1)
    return total


def compare_runners(
    runners: Sequence[Runner],
    feeds: Sequence[Sequence[Arrays]],
    effort: Effort,
    kinds: npt.NDArray[np.int64] | None = None,
) -> tuple[list[Latency], list[Ratio]]:
    """Latency of each runner, and the ratio of every one but the first to the first.

    `feeds` are the inputs of each runner, as many for one as for the other; the runs take them in turn.
    `kinds` [feeds] as in `paired_ratio`.
    """
    actions = [_action(runner, given) for runner, given in zip(runners, feeds, strict=True)]
    times = run_interleaved(actions, effort.runs, effort.warmup)
    latencies = [latency_of(column, effort.warmup) for column in times.T]
    by_round = None if kinds is None else kinds[effort.feed_numbers(len(feeds[0]))]
    return latencies, [paired_ratio(times[:, 0], column, by_round) for column in times.T[1:]]


def _action(runner: Runner, feeds: Sequence[Arrays]) -> Callable[[int], object]:
    return lambda number: runner.run(feeds[number % len(feeds)])
