"""Profiles: what they say adds up, and belongs to the network that was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qutec
from qutec.backends.onnxruntime import OnnxRuntimeBuild, profile_models
from qutec.backends.onnxruntime.interleaved import Effort
from qutec.backends.onnxruntime.profiler import profile_nodes
from qutec.backends.onnxruntime.session import SessionSettings
from qutec.backends.onnxruntime.trace import read_trace
from qutec.graphs import ancestors
from qutec.inspect import inspect_model
from qutec.load import load
from qutec.report.profile_data import BatchProfile
from tests.onnxruntime_backend.oracle import DIGITS, exits_of, images


def compiled(source: Any, **options: Any) -> OnnxRuntimeBuild:
    return qutec.compile(source, target="onnxruntime", runs=20, warmup=2, **options)


@pytest.fixture(scope="module")
def every_exit() -> OnnxRuntimeBuild:
    return compiled(DIGITS, batch="1,3", data={"x": images(30), "y": np.arange(30) % 10})


def adds_up(profile: BatchProfile) -> None:
    total = sum(node.us for node in profile.nodes)
    assert profile.nodes_us == pytest.approx(total)
    assert profile.explained == pytest.approx(total / profile.wall_us)
    for groups in (profile.operators, profile.sections):
        assert sum(group.us for group in groups) == pytest.approx(total)
        assert sum(group.share for group in groups) == pytest.approx(1.0)
        assert sum(group.nodes for group in groups) == len(profile.nodes)
    begins = [node.start_us for node in profile.nodes]
    assert begins == sorted(begins)
    assert all(node.us >= 0 for node in profile.nodes)


def test_every_figure_of_a_profile_is_a_sum_of_its_nodes(every_exit: OnnxRuntimeBuild) -> None:
    assert [profile.batch for profile in every_exit.profile.batches] == [1, 3]
    for profile in every_exit.profile.batches:
        adds_up(profile)


def test_an_exit_costs_the_nodes_that_it_needs(every_exit: OnnxRuntimeBuild) -> None:
    """ONNX Runtime renames and fuses nodes, but a convolution stays one: they are counted in both graphs."""
    profile = every_exit.profile.batches[0]
    network = load(DIGITS).model
    needs = {
        value.name: sum(node.op_type == "Conv" for node in ancestors([value]))
        for value in network.graph.outputs
    }
    everything = sum(node.op == "Conv" for node in profile.nodes)
    assert needs["final"] == everything
    alone = {
        name: sum(node.op == "Conv" and node.section == f"only {name}" for node in profile.nodes)
        for name in needs
    }
    # Exits of the digits network leave the trunk one after the other and add no convolution of their own.
    assert alone == {"exit_1": 0, "exit_2": 0, "final": needs["final"] - needs["exit_2"]}
    costs = {cost.name: cost for cost in profile.exits}
    total = sum(node.us for node in profile.nodes)
    for name, cost in costs.items():
        assert cost.us is not None
        assert cost.own_us == pytest.approx(
            sum(node.us for node in profile.nodes if node.section == f"only {name}")
        )
        others = sum(other.own_us or 0.0 for key, other in costs.items() if key != name)
        assert cost.us <= total - others + 1e-6
    assert costs["final"].us == pytest.approx(
        total - (costs["exit_1"].own_us or 0.0) - (costs["exit_2"].own_us or 0.0)
    )


def test_accuracy_is_that_of_the_labels(every_exit: OnnxRuntimeBuild) -> None:
    labels = np.arange(30) % 10
    expected = [float(np.mean(p.argmax(axis=1) == labels)) for p in exits_of(DIGITS, images(30))]
    for profile in every_exit.profile.batches:
        assert [cost.accuracy for cost in profile.exits] == expected


def test_report_json_has_the_fields_that_scripts_rely_on(every_exit: OnnxRuntimeBuild) -> None:
    data = json.loads(every_exit.files["report.json"])
    assert data["target"] == "onnxruntime"
    assert set(data["latency_us"]) >= {"p50", "p90", "p99", "runs"}
    assert data["latency_us"]["runs"] == 20
    assert data["latency_us"]["p50"] <= data["latency_us"]["p90"] <= data["latency_us"]["p99"]
    assert all({"op", "us"} <= set(item) for item in data["operators"])
    assert data["session"] == {
        "threads": 1,
        "provider": "CPUExecutionProvider",
        "graph_optimization": "all",
        "execution_mode": "sequential",
    }
    assert data["profile"]["model_bytes"] == len(every_exit.files["model.onnx"])
    assert data["profile"]["memory"]["peak_bytes"] > data["profile"]["memory"]["runtime_bytes"] > 0
    assert data["macs"] == inspect_model(DIGITS).macs


def test_the_raw_trace_is_that_of_onnx_runtime(every_exit: OnnxRuntimeBuild, tmp_path: Path) -> None:
    assert {"trace_batch_1.json", "trace_batch_3.json"} <= set(every_exit.files)
    path = tmp_path / "trace.json"
    path.write_bytes(bytes(every_exit.files["trace_batch_3.json"]))  # type: ignore[arg-type]
    assert all({"name", "ph", "ts", "dur", "pid", "tid"} <= set(e) for e in json.loads(path.read_text()))
    runs = read_trace(path)
    assert len(runs) == 22
    assert {node.name for node in runs[-1].nodes} == {n.name for n in every_exit.profile.batches[1].nodes}


def two_products(small: int, large: int) -> bytes:
    """x [1, n] times a matrix of n x n, for two sizes of n, next to each other."""
    nodes, constants, inputs, outputs = [], [], [], []
    for name, size in (("small", small), ("large", large)):
        weights = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"w_{name}"))
        inputs.append(helper.make_tensor_value_info(f"x_{name}", TensorProto.FLOAT, [32, size]))
        outputs.append(helper.make_tensor_value_info(f"y_{name}", TensorProto.FLOAT, [32, size]))
        nodes.append(helper.make_node("MatMul", [f"x_{name}", f"w_{name}"], [f"y_{name}"], name))
    graph = helper.make_graph(nodes, "products", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model.SerializeToString()


def test_time_goes_to_the_node_that_has_the_work() -> None:
    """64 times the multiplications: the large product has to have nearly all of the time."""
    feed = {f"x_{name}": np.ones((32, size), np.float32) for name, size in (("small", 64), ("large", 512))}
    profile = profile_nodes(two_products(64, 512), SessionSettings(), [feed], Effort.parse(40, 5))
    us = {node.name: node.us for node in profile.nodes}
    assert us["large"] > 10 * us["small"]
    assert profile.profiler_us > 0


def test_a_dynamic_build_tells_both_forms_and_every_exit() -> None:
    x = images(40)
    each = exits_of(DIGITS, x)
    level = float(np.quantile(each[0].max(axis=1), 0.5))
    build = compiled(
        DIGITS, exits="dynamic", exit_threshold=level, data={"x": x, "y": np.arange(40) % 10}, batch=[1, 4]
    )
    form = build.report.dynamic
    assert form is not None
    assert form.form == ("stages" if form.stages_over_if.ratio < 1 else "if")
    first, *_ = build.profile.batches
    adds_up(first)
    shares = {cost.name: cost.share for cost in first.exits}
    assert shares["exit_1"] == pytest.approx(np.mean(each[0].max(axis=1) >= level), abs=1 / 40)
    assert sum(shares[name] or 0.0 for name in build.report.exits) == pytest.approx(1.0)
    for cost, p in zip(first.exits, each, strict=False):
        assert cost.accuracy == pytest.approx(np.mean(p.argmax(axis=1) == np.arange(40) % 10))
    assert build.report.over_final is not None
    stages = [name for name in build.files if name.startswith("stages/")]
    assert len(stages) == (3 if form.form == "stages" else 0)
    assert len(build.stages) == len(stages)


def test_stages_are_written_and_run_where_they_are_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dataclasses import replace

    from qutec.backends.onnxruntime import compile as driver

    choose = driver.choose_form
    monkeypatch.setattr(driver, "choose_form", lambda *args: replace(choose(*args), form="stages"))
    x = images(12)
    build = compiled(DIGITS, exits="dynamic", calibration=x, exit_threshold=0.5)
    folder = build.save(tmp_path / "net")
    listed = [entry["file"] for entry in json.loads((folder / "report.json").read_text())["stages"]]
    assert listed == [f"stages/stage_{number}.onnx" for number in (1, 2, 3)]
    for entry in build.report.stages:
        model = onnx.load(folder / entry["file"])
        onnx.checker.check_model(model, full_check=True)
        assert [value.name for value in model.graph.input] == entry["inputs"]
        assert {value.name for value in model.graph.output} == set(entry["outputs"])
    adds_up(build.profile.batches[0])
    assert [section.name for section in build.profile.batches[0].sections] == [
        "stage 1",
        "stage 2",
        "stage 3",
    ]
    assert build.run(x)["exit"].shape == (12,)


def test_the_same_compile_gives_the_same_model() -> None:
    x = images(8)
    one, other = (compiled(DIGITS, exits="ensemble", calibration=x) for _ in range(2))
    assert one.files["model.onnx"] == other.files["model.onnx"]


def test_nothing_is_written_before_save_and_an_old_build_is_replaced(
    tmp_path: Path, every_exit: OnnxRuntimeBuild
) -> None:
    folder = every_exit.save(tmp_path / "net")
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(
        every_exit.files
    )
    every_exit.save(folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(qutec.UsageError, match="not a qutec build"):
        every_exit.save(tmp_path / "mine")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"provider": "tpu"}, qutec.ToolMissingError, "no execution provider 'tpu'"),
        ({"threads": 0}, qutec.UsageError, "threads"),
        ({"graph_optimization": "most"}, qutec.UsageError, "graph optimisation 'most'"),
        ({"execution_mode": "random"}, qutec.UsageError, "execution mode 'random'"),
        ({"batch": "1,,2"}, qutec.UsageError, "--batch"),
        ({"data": {"x": np.zeros((3, 2))}}, qutec.DataError, "wanted"),
        ({"data": {"x": np.zeros((3, 1, 8, 8)), "y": np.zeros(2, int)}}, qutec.DataError, "labels"),
        ({"exits": "qute"}, qutec.UsageError, "no early views"),
    ],
)
def test_impossible_wishes_are_one_clear_error(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compiled(DIGITS, **options)


def test_models_side_by_side_have_a_ratio_with_an_interval(tmp_path: Path) -> None:
    large, small = tmp_path / "large.onnx", tmp_path / "small.onnx"
    large.write_bytes(two_products(64, 512))
    small.write_bytes(two_products(64, 64))
    profile = profile_models([small, large, small], runs=20, warmup=2, batch=32)
    assert [model.name for model in profile.report.models] == [
        f"{small} (1)",
        f"{large} (2)",
        f"{small} (3)",
    ]
    larger, same = profile.report.comparisons
    assert larger.ratio.low > 2
    assert larger.ratio.low <= larger.ratio.ratio <= larger.ratio.high
    assert same.ratio.ratio < larger.ratio.low
    assert {"1_trace.json", "2_trace.json", "3_trace.json", "report.html"} <= set(profile.files)


def test_any_model_can_be_profiled_not_only_what_compiles(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (int64[N, 5] ids, float[N, 3] x) => (float[N, 3] y)
        { big = Cast <to = 1> (ids)
          axes = Constant <value_ints = [1]> ()
          sum = ReduceSum (big, axes)
          sine = Sin (x)
          y = Mul (sine, sum) }"""
    )
    path = tmp_path / "odd.onnx"
    onnx.save(model, path)
    profile = profile_models([path], runs=10, warmup=0, batch="1,4")
    assert {item.op for item in profile.report.models[0].batches[1].operators} == {
        "Cast",
        "ReduceSum",
        "Sin",
        "Mul",
    }
    with pytest.raises(qutec.DataError, match="no array 'ids'"):
        profile_models([path], data={"x": np.zeros((2, 3))}, runs=10)


def test_a_fixed_batch_cannot_be_another(tmp_path: Path) -> None:
    path = tmp_path / "fixed.onnx"
    path.write_bytes(two_products(8, 8))
    with pytest.raises(qutec.UsageError, match="fixed at 32"):
        profile_models([path], runs=10)


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "outside.onnx"
    model = onnx.load_from_string(two_products(8, 64))
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert path.stat().st_size < (tmp_path / "weights.bin").stat().st_size
    assert profile_models([path], runs=10, batch=32).report.models[0].model_bytes > 64 * 64 * 4
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(qutec.ModelError, match="external data"):
        profile_models([path], runs=10, batch=32)


def test_an_optimisation_that_changes_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from qutec.backends.onnxruntime import compile as driver
    from qutec.report.profile_data import Equality

    monkeypatch.setattr(driver, "compare_with_network", lambda *args: Equality(1, 0.5, 0.5, 1.0))
    with pytest.raises(qutec.VerificationError, match=r"differ by 0\.5"):
        compiled(DIGITS)
