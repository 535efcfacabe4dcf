"""Builds for ONNX Runtime answer as their networks do, in every form and for every batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

import qutec
from qutec.attach import attach, write_training_graph
from qutec.backends.onnxruntime import OnnxRuntimeBuild
from qutec.backends.onnxruntime.exit_graphs import read_exits
from qutec.backends.onnxruntime.plain_model import free_batch, inline_functions, serialized
from qutec.backends.onnxruntime.runners import SessionRunner, StageRunner
from qutec.backends.onnxruntime.session import Arrays, GraphOptimization, SessionSettings
from qutec.exits import ExitOptions, choose_exits
from qutec.heads import EXIT_RESULTS, RESULTS
from qutec.load import load
from qutec.passes.unsigned_activations import UnsignedActivationsPass
from qutec.quantize import quantize
from tests.onnxruntime_backend.oracle import DIGITS, exits_of, first_sure, images, mean_answer

SETTINGS = SessionSettings()


def compiled(source: Any, **options: Any) -> OnnxRuntimeBuild:
    return qutec.compile(source, target="onnxruntime", runs=10, warmup=1, **options)


def session(build: OnnxRuntimeBuild) -> ort.InferenceSession:
    return ort.InferenceSession(build.model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def early_views(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Training graphs with three early views, with and without a ReLU in them."""
    folder = tmp_path_factory.mktemp("attached")
    found = {}
    for activation in ("none", "relu"):
        found[activation] = folder / f"{activation}.onnx"
        write_training_graph(attach(DIGITS, heads=3, activation=activation), found[activation])
    return found


def test_all_exits_answer_as_in_the_source() -> None:
    x = images(7)
    build = compiled(DIGITS)
    found = build.run(x)
    for name, expected in zip(("exit_1", "exit_2", "final"), exits_of(DIGITS, x), strict=True):
        np.testing.assert_allclose(found[name], expected, atol=1e-5)
    assert build.report.equality.largest_difference < 1e-5
    assert {domain.domain for domain in build.model.opset_import} == {""}
    assert not build.model.functions


@pytest.mark.parametrize("batch", [1, 5])
def test_the_mean_over_exits_has_its_uncertainty_for_any_batch(batch: int) -> None:
    x = images(10)
    expected = mean_answer(exits_of(DIGITS, x))
    build = compiled(DIGITS, exits="ensemble", abstain=0.5)
    assert [value.name for value in build.model.graph.output] == list(RESULTS)
    opened = session(build)
    name = opened.get_inputs()[0].name
    rows = [opened.run(None, {name: x[i : i + batch]}) for i in range(0, len(x), batch)]
    found = {key: np.concatenate([row[k] for row in rows]) for k, key in enumerate(RESULTS)}
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, atol=2e-5, err_msg=key)
    np.testing.assert_array_equal(found["abstain"], found["confidence"] < 0.5)


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_early_views_are_merged_for_any_batch(early_views: dict[str, Path], activation: str) -> None:
    x = images(6)
    source = onnx.load(early_views[activation])
    views = [k for k, output in enumerate(source.graph.output) if output.name.startswith("early_view")]
    assert len(views) == 3
    expected = mean_answer(exits_of(source, x)[views])
    build = compiled(early_views[activation])
    assert build.report.heads == ("early_view_1", "early_view_2", "early_view_3")
    found = build.run(x)
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, atol=2e-5, err_msg=key)
    convolutions = Counter(node.op_type for node in build.model.graph.node)["Conv"]
    final_only = Counter(node.op_type for node in compiled(DIGITS, exits="final").model.graph.node)["Conv"]
    assert convolutions == final_only + 3


def thresholds_that_take_all_exits(each: np.ndarray) -> list[float]:
    """Of three exits, each is taken by about a third of the samples."""
    first = float(np.quantile(each[0].max(axis=1), 0.66))
    rest = each[1].max(axis=1)[each[0].max(axis=1) < first]
    return [first, float(np.quantile(rest, 0.5))]


@pytest.mark.parametrize("precision", ["float", "int8"])
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("form", ["stages", "if"])
def test_both_forms_of_dynamic_exits_take_the_exits_of_the_rule(
    precision: str, batch: int, form: str
) -> None:
    x = images(64) / 2
    network = load(DIGITS).model
    each = exits_of(ir.to_proto(network), x)
    levels = thresholds_that_take_all_exits(each)
    if precision == "int8":
        each = exits_of(ir.to_proto(quantize(network, x)), x)
    chosen = choose_exits(load(DIGITS), ExitOptions("dynamic", 0.6, levels)).loaded.model
    if precision == "int8":
        chosen = quantize(chosen, x)
    if batch > 1:
        chosen = free_batch(chosen)
    exits = read_exits(chosen)
    # Unoptimised, so that ONNX Runtime's rounding in fused int8 layers cannot flip a threshold.
    settings = SessionSettings(graph_optimization=GraphOptimization.DISABLED)
    runner = (
        StageRunner(exits.stages(), settings)
        if form == "stages"
        else SessionRunner(exits.if_model(), settings)
    )
    rows = [runner.run({"image": x[i : i + batch]}) for i in range(0, len(x), batch)]
    found = {name: np.concatenate([row[name] for row in rows]) for name in EXIT_RESULTS}
    if precision == "float":
        taken = first_sure(each, levels)
        expected = each[taken, np.arange(len(x))]
    else:
        # An exit that is an output stores its logits in int8; the answer's are not rounded.
        reference = SessionRunner(serialized(inline_functions(chosen)), settings)
        answers = [reference.run({"image": x[i : i + batch]}) for i in range(0, len(x), batch)]
        taken = np.concatenate([row["exit"] for row in answers])
        expected = np.concatenate([row["probabilities"] for row in answers])
        assert np.abs(expected - each[taken, np.arange(len(x))]).mean() < 0.01
    assert set(taken) == {0, 1, 2}
    np.testing.assert_array_equal(found["exit"], taken)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    answer = mean_answer(expected[None])
    for name in ("label", "confidence", "entropy"):
        np.testing.assert_allclose(found[name], answer[name], atol=2e-5, err_msg=name)
    np.testing.assert_array_equal(found["disagreement"], np.zeros(len(x)))
    np.testing.assert_array_equal(found["abstain"], found["confidence"] < np.float32(0.6))


def test_int8_values_cross_from_stage_to_stage_in_int8() -> None:
    chosen = choose_exits(load(DIGITS), ExitOptions("dynamic")).loaded.model
    converted = UnsignedActivationsPass()(quantize(chosen, images(32))).model
    for stage in read_exits(converted).stages()[1:]:
        graph = onnx.load_from_string(stage.model).graph
        types = {value.type.tensor_type.elem_type for value in graph.input}
        assert types == {onnx.TensorProto.UINT8}, [value.name for value in graph.input]


def test_only_rows_that_go_on_reach_the_next_stage() -> None:
    """Counted by the rows that later stages are given, for a batch of which half leaves at each exit."""
    x = images(32)
    levels = thresholds_that_take_all_exits(exits_of(DIGITS, x))
    chosen = free_batch(choose_exits(load(DIGITS), ExitOptions("dynamic", 0.0, levels)).loaded.model)
    runner = StageRunner(read_exits(chosen).stages(), SETTINGS)
    given: list[int] = []
    for opened in runner._sessions:
        original = opened.run

        def counting(names: Sequence[str], feed: Arrays, original: Any = original) -> Any:
            given.append(len(next(iter(feed.values()))))
            return original(names, feed)

        opened.run = counting
    taken = runner.run({"image": x})["exit"]
    assert given == [32, int((taken > 0).sum()), int((taken > 1).sum())]


@pytest.mark.parametrize("exits", ["all", "ensemble", "dynamic"])
def test_int8_answers_are_those_of_float_but_for_rounding(exits: str) -> None:
    x = images(100)
    build = compiled(DIGITS, exits=exits, calibration=x, exit_threshold=0.5 if exits == "dynamic" else None)
    assert build.report.precision == "int8"
    assert build.report.equality.top1_agreement is not None
    assert build.report.equality.top1_agreement > 0.9
    counts = Counter(node.op_type for node in build.model.graph.node)
    assert counts["QuantizeLinear"] > 0
    assert counts["DequantizeLinear"] > counts["QuantizeLinear"]


def test_unsigned_activations_are_the_same_numbers() -> None:
    x = images(20)
    quantized = quantize(load(DIGITS).model, x)
    unsigned = UnsignedActivationsPass()(ir.from_proto(ir.to_proto(quantized)))
    assert unsigned.modified
    np.testing.assert_array_equal(
        exits_of(ir.to_proto(quantized), x), exits_of(ir.to_proto(unsigned.model), x)
    )
    for node in unsigned.model.graph:
        if node.op_type == "QuantizeLinear":
            assert node.outputs[0].dtype == ir.DataType.UINT8
    assert not UnsignedActivationsPass()(unsigned.model).modified


def test_a_network_that_stores_its_output_in_int8_keeps_its_type() -> None:
    stored = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[1, 4] x) => (int8[1, 4] y)
        <float s = {0.1}, int8 z = {3}> { y = QuantizeLinear (x, s, z) }"""
    )
    assert not UnsignedActivationsPass()(ir.from_proto(stored)).modified


def test_a_fixed_batch_stays_and_a_symbolic_one_too() -> None:
    fixed = onnx.load(DIGITS)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    for output in fixed.graph.output:
        output.type.tensor_type.shape.dim[0].dim_value = 1
    assert compiled(fixed).report.inputs[0]["shape"] == [1, 1, 8, 8]
    symbolic = compiled(DIGITS)
    assert symbolic.report.inputs[0]["shape"] == ["N", 1, 8, 8]
    x = images(70)
    np.testing.assert_allclose(compiled(fixed).run(x)["final"], symbolic.run(x)["final"], atol=1e-6)


def test_a_deep_ensemble_is_the_mean_of_its_members(tmp_path: Path) -> None:
    other = onnx.load(DIGITS)
    for tensor in other.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(0.9), tensor.name))
    x = images(5)
    expected = mean_answer(np.stack([exits_of(DIGITS, x)[2], exits_of(other, x)[2]]))
    found = compiled([DIGITS, other]).run(x)
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, atol=2e-5, err_msg=key)
