"""Ratios of times that were taken in turn."""

from __future__ import annotations

import numpy as np
import pytest

from qutec.backends.onnxruntime.interleaved import Effort, latency_of, paired_ratio, run_interleaved
from qutec.errors import UsageError


def noisy(rng: np.random.Generator, rounds: int) -> np.ndarray:
    """A machine that drifts to three times the time, with a tenth of the runs interrupted."""
    drift = np.linspace(1.0, 3.0, rounds) * 100.0
    return drift * rng.lognormal(0.0, 0.05, rounds) + np.where(rng.random(rounds) < 0.1, 4000.0, 0.0)


def test_drift_and_interruptions_do_not_move_the_ratio() -> None:
    rng = np.random.default_rng(1)
    base, other = noisy(rng, 400), 1.25 * noisy(rng, 400)
    found = paired_ratio(base, other)
    assert found.ratio == pytest.approx(1.25, rel=0.03)
    assert found.high - found.low < 0.05


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    inside = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        found = paired_ratio(noisy(rng, 120), 0.9 * noisy(rng, 120))
        inside += found.low <= 0.9 <= found.high
    assert 85 <= inside <= 100


def test_kinds_are_weighted_by_their_number_not_by_the_middle_one() -> None:
    """Of 10 inferences 6 end early at half the time: the median alone would say 0.5."""
    base = np.full(1000, 100.0)
    kinds = np.tile([0, 0, 0, 0, 0, 0, 1, 1, 1, 1], 100)
    other = np.where(kinds == 0, 50.0, 120.0)
    assert paired_ratio(base, other, kinds).ratio == pytest.approx(0.6 * 0.5 + 0.4 * 1.2)
    assert paired_ratio(base, other).ratio == pytest.approx(0.5)


def test_every_round_runs_each_action_once_and_warm_up_is_not_counted() -> None:
    seen: list[tuple[str, int]] = []
    times = run_interleaved(
        [lambda number: seen.append(("a", number)), lambda number: seen.append(("b", number))], 5, 2
    )
    assert times.shape == (5, 2)
    assert (times > 0).all()
    for number in range(7):
        assert sorted(seen[2 * number : 2 * number + 2]) == [("a", number), ("b", number)]


def test_percentiles_are_numpys() -> None:
    times = np.arange(1.0, 102.0)
    latency = latency_of(times, 3)
    assert (latency.p50, latency.p90, latency.p99) == (51.0, 91.0, 100.0)
    assert (latency.runs, latency.warmup) == (101, 3)


def test_measured_runs_go_on_with_the_inputs_after_the_warm_up() -> None:
    numbers: list[int] = []
    effort = Effort.parse(10, 3)
    run_interleaved([lambda number: numbers.append(number % 4)], effort.runs, effort.warmup)
    assert numbers[3:] == effort.feed_numbers(4).tolist()


@pytest.mark.parametrize(("runs", "warmup"), [(9, 0), (0, 0), (100, -1)])
def test_efforts_that_make_no_sense_are_refused(runs: int, warmup: int) -> None:
    with pytest.raises(UsageError):
        Effort.parse(runs, warmup)
