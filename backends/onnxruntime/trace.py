"""What ONNX Runtime's profiler wrote: the nodes of each run, and how long each of them took.

The trace is a JSON list of events with a begin `ts` and a length `dur` in whole microseconds. Events of the
category "Node" are kernels; "model_run" is one call of a session. A node of the kind If, Loop or Scan holds
the nodes of its subgraph.

The profiler's own work for a node (names, shapes, sizes of its tensors) lies partly inside the node's `dur`
and partly behind it, and for small networks it is most of what the trace shows. So the time of a node is
taken as its *span*, from its begin to the next node's, and the profiler's work for one event, which
`qutec.backends.onnxruntime.profiler` measures, is taken off it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qutec.errors import ModelError

__all__ = ["NodeSpan", "RunTrace", "read_trace"]

_SUFFIX = "_kernel_time"
_WITH_SUBGRAPHS = frozenset({"If", "Loop", "Scan"})


@dataclass(frozen=True)
class NodeSpan:
    """One node of one run; microseconds, `start_us` from the begin of the run's first node."""

    name: str
    op: str
    thread: int
    start_us: float
    kernel_us: float
    """`dur` of the event; for a node with subgraphs without the nodes in them."""
    span_us: float
    """To the begin of the next node, or to the end of the run; without the nodes of a subgraph."""


@dataclass(frozen=True)
class RunTrace:
    """One call of a session."""

    nodes: tuple[NodeSpan, ...]
    """In the order in which they began."""
    events: int
    """Events that the profiler recorded for this call, those of the session included."""
    duration_us: float
    """From the begin of the first node to the end of the run."""


@dataclass
class _Event:
    name: str
    op: str
    thread: int
    start: int
    end: int
    children: list[_Event]


def read_trace(path: Path) -> list[RunTrace]:
    """The runs in a trace, in order. Raises ModelError where the file is no trace of ONNX Runtime."""
    try:
        events = json.loads(path.read_text(encoding="utf-8"))
        runs = [event for event in events if event.get("name") == "model_run"]
        return [_run(inside) for inside in _by_run(events, runs)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"'{path}' is no trace of ONNX Runtime's profiler: {error}") from error


def _by_run(events: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The events of each run; what lies outside of runs (loading, initialisation) is left out."""
    ordered = sorted((event for event in events if event.get("cat") in ("Node", "Session")), key=_begin)
    found: list[list[dict[str, Any]]] = []
    position = 0
    for run in sorted(runs, key=_begin):
        end = run["ts"] + run["dur"]
        while position < len(ordered) and ordered[position]["ts"] < run["ts"]:
            position += 1
        inside = []
        while position < len(ordered) and ordered[position]["ts"] <= end:
            inside.append(ordered[position])
            position += 1
        found.append(inside)
    return found


def _begin(event: dict[str, Any]) -> tuple[int, int]:
    """Sorts by begin, and what holds others before them."""
    return int(event["ts"]), -int(event["dur"])


def _run(inside: Sequence[dict[str, Any]]) -> RunTrace:
    """Nodes under the nodes whose subgraphs they belong to, and their spans."""
    top: list[_Event] = []
    open_nodes: list[_Event] = []
    for item in inside:
        if item["cat"] != "Node" or not item["name"].endswith(_SUFFIX):
            continue
        name = item["name"].removesuffix(_SUFFIX)
        event = _Event(name, item["args"]["op_name"], item["tid"], item["ts"], item["ts"] + item["dur"], [])
        while open_nodes and event.start >= open_nodes[-1].end:
            open_nodes.pop()
        (open_nodes[-1].children if open_nodes else top).append(event)
        if event.op in _WITH_SUBGRAPHS:
            open_nodes.append(event)
    executions = [item for item in inside if item["cat"] == "Session" and item["name"] != "model_run"]
    ends = [item["ts"] + item["dur"] for item in executions] + [event.end for event in top]
    origin, end = (top[0].start if top else 0), max(ends, default=0)
    spans: list[NodeSpan] = []
    _spans(top, end, origin, spans)
    return RunTrace(tuple(spans), len(inside), float(end - origin) if top else 0.0)


def _spans(siblings: Sequence[_Event], end: int, origin: int, found: list[NodeSpan]) -> None:
    for index, event in enumerate(siblings):
        until = siblings[index + 1].start if index + 1 < len(siblings) else max(end, event.end)
        first_inside = min((child.start for child in event.children), default=None)
        inside = 0 if first_inside is None else event.end - first_inside
        found.append(
            NodeSpan(
                event.name,
                event.op,
                event.thread,
                float(event.start - origin),
                float(event.end - event.start - inside),
                float(until - event.start - inside),
            )
        )
        _spans(event.children, event.end, origin, found)
