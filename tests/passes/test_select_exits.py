"""Pruning to the outputs of a mode: which stay, with which values, and what goes with the others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from typer.testing import CliRunner

import qutec
from qutec.cli import app
from qutec.errors import UsageError
from qutec.heads import read_heads
from qutec.passes.select_exits import ExitMode, SelectExitsPass
from tests.onnx_models import run
from tests.passes.exit_networks import Network, chain

_CLI = CliRunner()


def _training_graph() -> ir.Model:
    net = chain(2, 16, 16)
    net.output(net.pooled("b3", name="features"))
    net.head("b2", "plain")
    return qutec.attach(net.proto(), heads=2).model


def _names(model: ir.Model) -> list[str]:
    return [value.name or "" for value in model.graph.outputs]


_KEPT: dict[ExitMode, list[str]] = {
    "qute": ["early_view_1", "early_view_2"],
    "final": ["final"],
    "ensemble": ["final", "plain", "early_exit_1", "early_view_1", "early_exit_2", "early_view_2"],
    "all": ["final", "features", "plain", "early_exit_1", "early_view_1", "early_exit_2", "early_view_2"],
}


@pytest.mark.parametrize("mode", _KEPT)
def test_each_mode_keeps_its_outputs_with_their_values(mode: ExitMode) -> None:
    model = _training_graph()
    x = np.random.default_rng(0).standard_normal((2, 2, 16, 16)).astype(np.float32)
    before = dict(zip(_names(model), run(model, x=x), strict=True))
    heads = read_heads(model)
    result = SelectExitsPass(mode)(model)
    assert result.modified == (mode != "all")
    assert sorted(_names(result.model)) == sorted(_KEPT[mode])
    after = dict(zip(_names(result.model), run(result.model, x=x), strict=True))
    for name, value in after.items():
        np.testing.assert_array_equal(value, before[name])
    assert read_heads(result.model) == tuple(head for head in heads if head.output in _KEPT[mode])
    proto = ir.to_proto(result.model)
    assert isinstance(proto, onnx.ModelProto)
    onnx.checker.check_model(proto, full_check=True)


def test_nothing_of_the_pruned_exits_is_left() -> None:
    model = SelectExitsPass("final")(_training_graph()).model
    base = chain(2, 16, 16).model()
    assert sorted(n.op_type for n in model.graph) == sorted(n.op_type for n in base.graph)
    assert len(model.graph.initializers) == len(base.graph.initializers)


def test_without_metadata_the_exits_are_found() -> None:
    net = chain(2, 16, 16)
    net.head("b2", "early")
    net.output(net.pooled("b3", name="features"))
    assert _names(SelectExitsPass("final")(net.model()).model) == ["final"]
    assert _names(SelectExitsPass("ensemble")(net.model()).model) == ["final", "early"]
    told = SelectExitsPass("final", output_is={"final": "aux"})(net.model()).model
    assert _names(told) == ["early"]


def test_a_network_that_is_as_asked_for_is_not_modified() -> None:
    result = SelectExitsPass("final")(chain(2, 16, 16).model())
    assert not result.modified


def test_impossible_requests_say_what_there_is() -> None:
    with pytest.raises(UsageError, match="no early views; `qutec attach` adds them"):
        SelectExitsPass("qute")(chain(2, 16, 16).model())
    views = SelectExitsPass("qute")(_training_graph()).model
    with pytest.raises(UsageError, match=r"no final exit any more; it has early_view_1 \(early_view\)"):
        SelectExitsPass("final")(views)
    net = Network(2, 8, 8)
    net.output(net.block(net.x, 4, name="map"))
    with pytest.raises(UsageError, match="no output of the model is a classifier"):
        SelectExitsPass("final")(net.model())
    with pytest.raises(
        UsageError, match="'some' are not known; there are qute, ensemble, dynamic, final, all"
    ):
        SelectExitsPass("some")  # type: ignore[arg-type]


def test_compile_keeps_the_final_exit_only() -> None:
    net = chain(2, 16, 16)
    net.head("b2", "early")
    everything = qutec.compile(net.proto(), calibration="random")
    final = qutec.compile(net.proto(), calibration="random", exits="final")
    assert sorted(everything.report.exits) == ["early", "final"]
    assert final.report.exits == ("final",)
    assert final.report.macs < everything.report.macs


def test_command_line_attaches_inspects_and_compiles(tmp_path: Path) -> None:
    source, graph, build = tmp_path / "net.onnx", tmp_path / "train.onnx", tmp_path / "build"
    onnx.save(chain(2, 16, 16).proto(), source)
    attached = _CLI.invoke(
        app, ["attach", str(source), "-o", str(graph), "--heads", "2", "--at", "b1,b3", "--json"]
    )
    assert attached.exit_code == 0, attached.output
    assert [head["output"] for head in json.loads(attached.stdout)["heads"]] == [
        "early_exit_1",
        "early_exit_2",
        "early_view_1",
        "early_view_2",
        "final",
    ]
    seen = _CLI.invoke(app, ["inspect", str(graph), "--output-is", "early_view_1=aux", "--json"])
    assert seen.exit_code == 0, seen.output
    exits = json.loads(seen.stdout)["exits"]
    assert [item["branch"] for item in exits] == ["b1", "b3", "b4", "b4"]
    assert [item["kind"] for item in exits] == ["early_exit", "early_exit", "early_view", "final"]
    options = ["--calibration", "random", "--exits", "final", "-o", str(build), "--json"]
    compiled = _CLI.invoke(app, ["compile", str(graph), *options])
    assert compiled.exit_code == 0, compiled.output
    assert json.loads(compiled.stdout)["exits"] == ["final"]


@pytest.mark.parametrize("text", ["final", "final=maybe", "=exit"])
def test_a_role_that_does_not_parse_is_a_usage_error(tmp_path: Path, text: str) -> None:
    onnx.save(chain(2, 16, 16).proto(), tmp_path / "net.onnx")
    result = _CLI.invoke(app, ["inspect", str(tmp_path / "net.onnx"), "--output-is", text])
    assert isinstance(result.exception, UsageError)


@pytest.mark.parametrize("simplify", [False, True])
def test_heads_survive_loading(simplify: bool) -> None:
    proto = ir.to_proto(_training_graph())
    assert isinstance(proto, onnx.ModelProto)
    loaded = qutec.load(proto, simplify=simplify).model
    kinds = [(head.output, head.kind, head.index) for head in read_heads(loaded)]
    assert kinds == [(head.output, head.kind, head.index) for head in read_heads(_training_graph())]
