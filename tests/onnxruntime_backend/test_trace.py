"""Traces of ONNX Runtime's profiler are read as it writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qutec.backends.onnxruntime.trace import read_trace
from qutec.errors import ModelError


def node(name: str, op: str, ts: int, dur: int) -> dict[str, Any]:
    event = {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "tid": 7}
    return {**event, "args": {"op_name": op}}


def session(name: str, ts: int, dur: int) -> dict[str, Any]:
    return {"cat": "Session", "name": name, "ts": ts, "dur": dur, "tid": 7, "args": {}}


def written(folder: Path, *events: dict[str, Any]) -> Path:
    path = folder / "trace.json"
    path.write_text(json.dumps(events))
    return path


def test_a_span_ends_where_the_next_node_begins(tmp_path: Path) -> None:
    (run,) = read_trace(
        written(
            tmp_path,
            session("session_initialization", 0, 50),
            node("a", "Conv", 102, 10),
            node("b", "Relu", 115, 2),
            session("SequentialExecutor::Execute", 101, 23),
            session("model_run", 100, 26),
        )
    )
    assert [(n.name, n.op, n.start_us, n.kernel_us, n.span_us) for n in run.nodes] == [
        ("a", "Conv", 0, 10, 13),
        ("b", "Relu", 13, 2, 9),
    ]
    assert run.duration_us == 22
    assert run.events == 4


def test_a_node_with_a_subgraph_counts_without_the_nodes_in_it(tmp_path: Path) -> None:
    (run,) = read_trace(
        written(
            tmp_path,
            node("inside_1", "Conv", 14, 6),
            node("inside_2", "Gemm", 22, 3),
            session("SequentialExecutor::Execute", 13, 14),
            node("branch", "If", 10, 20),
            node("after", "Softmax", 33, 4),
            session("SequentialExecutor::Execute", 9, 30),
            session("model_run", 8, 32),
        )
    )
    spans = {n.name: (n.kernel_us, n.span_us) for n in run.nodes}
    # branch: from 10 to the next node at 33, less 14 .. 30, which is the subgraph's.
    assert spans == {"branch": (4, 7), "inside_1": (6, 8), "inside_2": (3, 8), "after": (4, 6)}
    assert [n.name for n in run.nodes] == ["branch", "inside_1", "inside_2", "after"]
    assert sum(span for _, span in spans.values()) == run.duration_us


def test_events_belong_to_the_run_that_they_lie_in(tmp_path: Path) -> None:
    runs = read_trace(
        written(
            tmp_path,
            node("a", "Conv", 11, 5),
            session("model_run", 10, 8),
            node("a", "Conv", 31, 7),
            session("model_run", 30, 10),
        )
    )
    assert [[n.kernel_us for n in run.nodes] for run in runs] == [[5], [7]]


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '[{"name": "model_run"}]', '{"a": 1}'])
def test_what_is_no_trace_is_a_model_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.json"
    path.write_text(text)
    with pytest.raises(ModelError, match="no trace"):
        read_trace(path)
