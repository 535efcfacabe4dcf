"""The time of each node of a model.

A node's time is its span in the trace (see `qutec.backends.onnxruntime.trace`) less c, what the profiler
itself costs for an event. A session with profiler and one without run in turn; with t and t' their wall
times and E events in a run, c = mean(t' - t) / E. So c is one number for the whole network, and the sum of
the nodes is the time of the session without profiler as far as no node is shorter than the deviation of its
own c: `NodeProfile.explained` says how far it is. Only rounds count in which neither session was slower than
its median over the samples that end at the same exit: on a shared machine something interrupts the others.

With the execution mode "parallel" nodes overlap, and nothing can be taken off: times are those of the trace.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from qutec.backends.onnxruntime.interleaved import Effort, Times, run_interleaved
from qutec.backends.onnxruntime.session import (
    Arrays,
    ExecutionMode,
    SessionSettings,
    open_session,
    run_session,
)
from qutec.backends.onnxruntime.trace import RunTrace, read_trace
from qutec.errors import ModelError

__all__ = ["NodeProfile", "NodeTime", "profile_nodes"]


@dataclass(frozen=True)
class NodeTime:
    """One node of the graph that ONNX Runtime really runs, after its own optimisations; microseconds."""

    name: str
    op: str
    us: float
    start_us: float
    """Begin in a run that is made of the nodes' times, one after the other."""


@dataclass(frozen=True)
class NodeProfile:
    """Where the time of one call goes."""

    nodes: tuple[NodeTime, ...]
    """In the order in which they run."""
    wall_us: float
    """Mean wall time without profiler, in the rounds that this profile was made of."""
    call_us: float
    """Of it, what lies outside of the nodes: the way into ONNX Runtime and back."""
    profiler_us: float
    """What the profiler costs for one event, taken off each node; 0 where nodes overlap."""
    trace: bytes
    """The trace as ONNX Runtime wrote it."""
    optimized: onnx.ModelProto
    """The graph that ONNX Runtime made of the model."""

    @property
    def nodes_us(self) -> float:
        """Sum of the nodes."""
        return sum(node.us for node in self.nodes)

    @property
    def explained(self) -> float:
        """Sum of the nodes over the wall time that they explain."""
        return self.nodes_us / self.wall_us


def profile_nodes(
    model: bytes,
    settings: SessionSettings,
    feeds: Sequence[Arrays],
    effort: Effort,
    kinds: npt.NDArray[np.int64] | None = None,
) -> NodeProfile:
    """Time by node, for one call on each of the `feeds` in turn.

    `kinds` [feeds] numbers the exits at which they end, where that differs. Raises ModelError.
    """
    with tempfile.TemporaryDirectory(prefix="qutec-") as name:
        folder = Path(name)
        optimized_path = folder / "optimized.onnx"
        plain = open_session(model, settings, optimized_path=optimized_path)
        watched = open_session(model, settings, profile_prefix=folder / "trace")
        run_session(plain, feeds[0])
        names = [value.name for value in plain.get_outputs()]
        times = run_interleaved(
            [
                lambda i: plain.run(names, feeds[i % len(feeds)]),
                lambda i: watched.run(names, feeds[i % len(feeds)]),
            ],
            effort.profiled_runs,
            effort.warmup,
        )
        written = Path(watched.end_profiling())
        runs = read_trace(written)[effort.warmup :]
        trace, optimized = written.read_bytes(), onnx.load(optimized_path)
    if len(runs) != effort.profiled_runs:
        raise ModelError(f"ONNX Runtime's trace has {len(runs)} of {effort.profiled_runs} runs")
    by_feed = np.zeros(len(feeds), np.int64) if kinds is None else kinds
    numbers = (np.arange(effort.profiled_runs) + effort.warmup) % len(feeds)
    chosen = _undisturbed(times, by_feed[numbers])
    walls, watched_walls = times[chosen, 0], times[chosen, 1]
    taken = [runs[i] for i in chosen]
    overlaps = settings.execution_mode is ExecutionMode.PARALLEL
    events = np.array([run.events for run in taken])
    profiler_us = 0.0 if overlaps else max(0.0, float(np.mean((watched_walls - walls) / events)))
    inside = np.array([run.duration_us for run in taken])
    # Two events, of the session, are outside of the nodes.
    call_us = float(np.mean(watched_walls - inside)) - 2 * profiler_us
    nodes = _nodes(taken, profiler_us, overlaps=overlaps)
    return NodeProfile(nodes, float(np.mean(walls)), max(0.0, call_us), profiler_us, trace, optimized)


def _undisturbed(times: Times, kinds: npt.NDArray[np.int64]) -> list[int]:
    """Rounds in which neither session was slower than its median, for each kind; at least the fastest."""
    chosen = []
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        of_kind = times[rows]
        fast = rows[(of_kind <= np.median(of_kind, axis=0)).all(axis=1)]
        chosen += [int(i) for i in fast] or [int(rows[np.argmin(of_kind.sum(axis=1))])]
    return sorted(chosen)


def _nodes(runs: Sequence[RunTrace], profiler_us: float, *, overlaps: bool) -> tuple[NodeTime, ...]:
    """Mean over the runs; a node that some runs do not reach counts with 0 there."""
    totals: dict[tuple[str, str], float] = {}
    starts: dict[tuple[str, str], float] = {}
    # The longest run first: it has the nodes of all branches in their order.
    for run in sorted(runs, key=lambda run: -len(run.nodes)):
        for node in run.nodes:
            key = (node.name, node.op)
            us = node.kernel_us if overlaps else node.span_us - profiler_us
            totals[key] = totals.get(key, 0.0) + us
            starts.setdefault(key, node.start_us)
    ordered = list(totals) if not overlaps else sorted(totals, key=lambda key: starts[key])
    nodes, at = [], 0.0
    for key in ordered:
        # Not before the mean: times of a run are whole microseconds, below c as often as above it.
        us = max(0.0, totals[key] / len(runs))
        nodes.append(NodeTime(*key, us, starts[key] if overlaps else at))
        at += us
    return tuple(nodes)
