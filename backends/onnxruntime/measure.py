"""A ModelProfile: latency, nodes, parts and memory of one model, for each batch size."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qutec.backends.onnxruntime.attribution import Attribution, attribute_nodes, attribute_stages
from qutec.backends.onnxruntime.dynamic import exits_taken
from qutec.backends.onnxruntime.exit_graphs import Stage
from qutec.backends.onnxruntime.interleaved import Effort, latency_of, run_interleaved
from qutec.backends.onnxruntime.memory import measure_memory
from qutec.backends.onnxruntime.profiler import NodeProfile, profile_nodes
from qutec.backends.onnxruntime.runners import Runner, SessionRunner, StageRunner
from qutec.backends.onnxruntime.session import Arrays, SessionSettings
from qutec.report.profile_data import (
    BatchProfile,
    ExitCost,
    Latency,
    ModelProfile,
    NodeRow,
    operators_of,
    sections_of,
)

__all__ = ["Measured", "machine_words", "measure_model", "measure_stages"]

Feeds = Mapping[int, Sequence[Arrays]]
"""Inputs by batch size."""


@dataclass(frozen=True)
class Measured:
    """A profile, and the traces that it was made of by file name."""

    profile: ModelProfile
    traces: Mapping[str, bytes]


def measure_model(
    name: str,
    model: bytes,
    settings: SessionSettings,
    feeds: Feeds,
    effort: Effort,
    exits: Sequence[str] = (),
    *,
    nested: bool = False,
) -> Measured:
    """Profile a model in one session.

    `exits` are outputs or merged heads (see `attribute_nodes`); `nested` is for a model with an If at
    each exit, whose parts are stages. Raises ModelError, ToolMissingError.
    """
    runner = SessionRunner(model, settings)
    profiles, traces = [], {}
    for batch, given in feeds.items():
        latency = _latency(runner, given, effort)
        kinds = exits_taken(runner, given) if nested and batch == 1 else None
        found = profile_nodes(model, settings, given, effort, kinds)
        parts = attribute_stages(found.optimized) if nested else attribute_nodes(found.optimized, exits)
        rows = _rows([(found, parts, None)])
        costs = () if nested else _costs(rows, parts)
        profiles.append(_batch(batch, latency, [found], rows, costs))
        traces[_trace_name(batch, feeds)] = found.trace
    largest = feeds[max(feeds)][0]
    memory = measure_memory([(model, largest)], settings)
    digest = hashlib.sha256(model).hexdigest()
    return Measured(ModelProfile(name, digest, len(model), memory, tuple(profiles)), traces)


def measure_stages(
    name: str, stages: Sequence[Stage], settings: SessionSettings, feeds: Feeds, effort: Effort
) -> Measured:
    """Profile stages: latency on the samples, that may leave early; nodes of samples that go to the end."""
    runner = StageRunner(stages, settings)
    profiles, traces = [], {}
    for batch, given in feeds.items():
        latency = _latency(runner, given, effort)
        inputs = [runner.stage_feeds(feed) for feed in given]
        found = []
        for number, stage in enumerate(stages):
            each = [feed[number] for feed in inputs]
            profile = profile_nodes(stage.model, settings, each, effort)
            found.append(profile)
            traces[_trace_name(batch, feeds, f"_stage_{number + 1}")] = profile.trace
        rows = _rows([(item, None, f"stage {number + 1}") for number, item in enumerate(found)])
        profiles.append(_batch(batch, latency, found, rows, ()))
    largest = runner.stage_feeds(feeds[max(feeds)][0])
    models = [(stage.model, feed) for stage, feed in zip(stages, largest, strict=True)]
    digest = hashlib.sha256(b"".join(stage.model for stage in stages)).hexdigest()
    size = sum(len(stage.model) for stage in stages)
    return Measured(
        ModelProfile(name, digest, size, measure_memory(models, settings), tuple(profiles)), traces
    )


def machine_words() -> str:
    """The processor, as this system names it, and how many of it there are."""
    import os

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model")):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {os.cpu_count() or 1} logical processors, {platform.system()} {platform.machine()}"


def _latency(runner: Runner, feeds: Sequence[Arrays], effort: Effort) -> Latency:
    times = run_interleaved(
        [lambda number: runner.run(feeds[number % len(feeds)])], effort.runs, effort.warmup
    )
    return latency_of(times[:, 0], effort.warmup)


def _trace_name(batch: int, feeds: Feeds, part: str = "") -> str:
    return f"trace{part}.json" if len(feeds) == 1 else f"trace{part}_batch_{batch}.json"


def _rows(found: Sequence[tuple[NodeProfile, Attribution | None, str | None]]) -> tuple[NodeRow, ...]:
    total = sum(profile.nodes_us for profile, _, _ in found) or 1.0
    rows, begin = [], 0.0
    for profile, parts, section in found:
        for node in profile.nodes:
            part = section or (parts.sections.get(node.name, "network") if parts is not None else "network")
            rows.append(NodeRow(node.name, node.op, part, node.us, node.us / total, begin + node.start_us))
        begin += profile.nodes_us
    return tuple(rows)


def _costs(rows: Sequence[NodeRow], parts: Attribution) -> tuple[ExitCost, ...]:
    def us(names: frozenset[str]) -> float:
        return float(np.sum([row.us for row in rows if row.name in names]))

    return tuple(
        ExitCost(name, us(needed), us(parts.own(name)), None, None) for name, needed in parts.needed.items()
    )


def _batch(
    batch: int,
    latency: Latency,
    found: Sequence[NodeProfile],
    rows: tuple[NodeRow, ...],
    exits: tuple[ExitCost, ...],
) -> BatchProfile:
    wall, nodes = sum(item.wall_us for item in found), sum(item.nodes_us for item in found)
    return BatchProfile(
        batch=batch,
        latency_us=latency,
        wall_us=wall,
        nodes_us=nodes,
        explained=nodes / wall,
        call_us=sum(item.call_us for item in found),
        profiler_us=float(np.mean([item.profiler_us for item in found])),
        operators=operators_of(rows),
        sections=sections_of(rows),
        exits=exits,
        nodes=rows,
    )
