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


def paired_ratio(base: Times, other: Times) -> Ratio:
    """How many times as long as `base` the `other` takes; both are [rounds], and belong together by round."""
    logs = np.log(other / base)
    count = len(logs)
    block = max(1, math.ceil(count ** (1 / 3)))
    blocks = math.ceil(count / block)
    generator = np.random.default_rng(0)
    starts = generator.integers(0, count - block + 1, (_RESAMPLES, blocks))
    rows = (starts[:, :, None] + np.arange(block)).reshape(_RESAMPLES, -1)[:, :count]
    medians = np.median(logs[rows], axis=1)
    tail = 50 * (1 - _CONFIDENCE)
    low, high = np.percentile(medians, [tail, 100 - tail])
    return Ratio(float(np.exp(np.median(logs))), float(np.exp(low)), float(np.exp(high)))


def compare_runners(
    runners: Sequence[Runner], feeds: Sequence[Arrays], effort: Effort
) -> tuple[list[Latency], list[Ratio]]:
    """Latency of each runner, and the ratio of every one but the first to the first."""
    actions = [_action(runner, feeds) for runner in runners]
    times = run_interleaved(actions, effort.runs, effort.warmup)
    latencies = [latency_of(column, effort.warmup) for column in times.T]
    return latencies, [paired_ratio(times[:, 0], column) for column in times.T[1:]]


def _action(runner: Runner, feeds: Sequence[Arrays]) -> Callable[[int], object]:
    return lambda number: runner.run(feeds[number % len(feeds)])
