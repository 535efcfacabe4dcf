"""qutec.evaluate against ONNX Runtime on the file itself, the compiled network, and the definitions."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

import qutec
from qutec import metrics
from qutec.detection import Answers, accuracy_drop_auprc, dropped_windows, failure_auroc
from qutec.errors import DataError, UnsupportedModelError, UsageError, VerificationError
from qutec.thresholds import abstain_effect, choose_abstain_level, split_halves
from tests.end_to_end.compiled import require
from tests.train.graphs import CLASSES, SIDE, by_ort, early_exit_cnn

Array = npt.NDArray[Any]
VIEWS, EXITS = ("early_view",), ("early_exit", "early_view", "final")
MODES = [("auto", VIEWS), ("qute", VIEWS), ("ensemble", EXITS), ("final", ("final",)), ("all", ("final",))]


def _inputs(seed: int, count: int, spread: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(0.0, spread, (count, 1, SIDE, SIDE)).astype(np.float32)


def _labels(x: Array, seed: int, right: float) -> Array:
    """What the early view answers, in a share of the samples."""
    rng = np.random.default_rng(seed)
    answers = by_ort(early_exit_cnn(), x)["early_view"].argmax(axis=1)
    return np.where(rng.random(len(x)) < right, answers, (answers + 1) % CLASSES)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    onnx.save(early_exit_cnn(), path)
    return path


@pytest.fixture(scope="module")
def data() -> dict[str, Array]:
    x = _inputs(1, 400)
    return {"x_train": _inputs(2, 700), "x_test": x, "y_test": _labels(x, 3, 0.9)}


@pytest.fixture(scope="module")
def build(model: Path, data: dict[str, Array], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build") / "net"
    return qutec.compile(model, calibration=data["x_train"][:100]).save(folder)


def _averaged(model: Path, x: Array, names: tuple[str, ...]) -> Array:
    outputs = by_ort(onnx.load(model), x)
    return np.mean([outputs[name].astype(np.float64) for name in names], axis=0)


def _assert_scores(found: dict[str, Any], p: Array, y: Array) -> None:
    assert found["samples"] == len(y)
    assert found["accuracy"] == np.mean(p.argmax(axis=1) == y)
    assert found["nll"] == pytest.approx(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean(), abs=1e-6)
    assert found["brier"] == pytest.approx(np.square(p - np.eye(CLASSES)[y]).mean(), abs=1e-6)
    assert found["ece"] == pytest.approx(metrics.ece(p, y), abs=1e-6)
    assert found["f1"] == pytest.approx(metrics.f1_weighted(p, y))
    answers = Answers.of(p, y)
    assert found["auroc"]["id_wrong"] == pytest.approx(failure_auroc(answers, [answers]), abs=1e-6)
    right = int(answers.right.sum())
    assert found["auroc_counts"]["id_wrong"] == {"right": right, "failures": len(y) - right}


@pytest.mark.parametrize(("exits", "heads"), MODES, ids=[mode for mode, _ in MODES])
def test_float_is_onnx_runtime_on_the_file(
    exits: Any, heads: tuple[str, ...], model: Path, data: dict[str, Array]
) -> None:
    x, y = data["x_test"], data["y_test"]
    evaluation = qutec.evaluate(model, {"x": x, "y": y}, exits=exits)
    assert evaluation.exits == heads
    found = evaluation.to_json()
    _assert_scores(found["float"], _averaged(model, x, heads), y)
    outputs = by_ort(onnx.load(model), x)
    kept = EXITS if exits in ("all", "ensemble") else heads
    assert {e["name"]: e["accuracy"] for e in found["float"]["exits"]} == {
        name: np.mean(outputs[name].argmax(axis=1) == y) for name in kept
    }
    assert found["int8"] is None
    assert "calibration" in found["reasons"]["int8"]


def test_dynamic_exits_answer_with_the_first_that_is_sure(model: Path, data: dict[str, Array]) -> None:
    found = qutec.evaluate(model, data, exits="dynamic", exit_threshold=0.5).to_json()
    every = qutec.evaluate(model, data, exits="ensemble").to_json()
    assert {e["name"] for e in found["float"]["exits"]} < {e["name"] for e in every["float"]["exits"]}
    rows = np.linspace(0, len(data["x_train"]), min(500, len(data["x_train"])), endpoint=False).astype(int)
    build = qutec.compile(model, calibration=data["x_train"][rows], exits="dynamic", exit_threshold=0.5)
    p = build.run(data["x_test"])["probabilities"]
    assert found["int8"]["accuracy"] == pytest.approx((p.argmax(axis=1) == data["y_test"]).mean())
    assert abs(found["float"]["accuracy"] - found["int8"]["accuracy"]) < 0.1


@pytest.mark.parametrize("exits", ["qute", "ensemble", "final", "all"])
def test_int8_is_the_compiled_network(exits: Any, model: Path, data: dict[str, Array]) -> None:
    """Calibrated on 500 evenly spaced samples of x_train, which are not the evaluated ones."""
    rows = np.linspace(0, 699, 500).astype(int)
    build = qutec.compile(model, calibration=data["x_train"][rows], exits=exits)
    output = "probabilities" if exits in ("qute", "ensemble") else "final"
    found = qutec.evaluate(model, data, exits=exits).to_json()
    _assert_scores(found["int8"], build.run(data["x_test"])[output].astype(np.float64), data["y_test"])
    assert found["calibration"] == "500 samples of x_train in the given arrays"
    assert (found["int8"]["exits"] is None) == (output == "probabilities")


def test_logits_give_the_same_as_probabilities(model: Path, data: dict[str, Array], tmp_path: Path) -> None:
    proto = onnx.load(model)
    for node in proto.graph.node:
        if node.op_type == "Softmax":
            node.op_type = "Identity"
            del node.attribute[:]
    onnx.save(proto, tmp_path / "logits.onnx")
    expected, found = (
        qutec.evaluate(path, data, exits="final").to_json() for path in (model, tmp_path / "logits.onnx")
    )
    for name in ("accuracy", "nll", "brier", "ece"):
        assert found["float"][name] == pytest.approx(expected["float"][name], abs=1e-6)


def test_images_are_divided_as_in_training(model: Path) -> None:
    """All groups by the scale; calibration data are taken as they are, as by compile."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (4, 300, SIDE, SIDE), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, 300).astype(np.uint8)
    scaled = [(image / np.float32(255))[:, None] for image in images]
    raw = qutec.evaluate(
        model,
        {"x": images[0], "y": labels, "x_train": images[1]},
        corrupted=[{"x": images[2], "y": labels}],
        ood={"x": images[3]},
        scale=255.0,
    )
    floats = qutec.evaluate(
        model,
        {"x": scaled[0], "y": labels},
        corrupted=[{"x": scaled[2], "y": labels}],
        ood={"x": scaled[3]},
        calibration=scaled[1],
    )
    assert raw.executions == floats.executions
    assert raw.warnings == ()
    unscaled = qutec.evaluate(model, {"x": images[0], "y": labels}, calibration=scaled[1])
    assert any("--scale divides" in text for text in unscaled.warnings)
    assert any("calibration samples reach 1, evaluated ones 255" in text for text in unscaled.warnings)


def test_calibrating_on_the_evaluated_samples_is_said(
    model: Path, data: dict[str, Array], tmp_path: Path
) -> None:
    np.savez(tmp_path / "d.npz", x=data["x_test"], y=data["y_test"])
    evaluation = qutec.evaluate(model, tmp_path / "d.npz", calibration=tmp_path / "d.npz")
    assert any("too good" in text for text in evaluation.warnings)


def test_corruptions_and_foreign_samples(model: Path, data: dict[str, Array], tmp_path: Path) -> None:
    """Groups by name and severity, or one a file; every figure from its definition."""
    clean, y = data["x_test"], data["y_test"]
    x = {name: _inputs(seed, 200, 2.0) for seed, name in enumerate(("fog 1", "fog 2", "snow 1", "blur"), 10)}
    labels = {name: _labels(values, 20, 0.3) for name, values in x.items()}
    order = np.random.default_rng(0).permutation(600)
    mixed = {
        "x": np.concatenate([x[name] for name in ("fog 1", "fog 2", "snow 1")])[order],
        "y": np.concatenate([labels[name] for name in ("fog 1", "fog 2", "snow 1")])[order],
        "names": np.repeat(["fog", "snow"], [400, 200])[order],
        "severity": np.repeat([1, 2, 1], 200)[order],
    }
    np.savez(tmp_path / "blur.npz", x=x["blur"], y=labels["blur"])
    foreign = _inputs(30, 150)
    found = qutec.evaluate(
        model, {"x": clean, "y": y}, corrupted=[mixed, tmp_path / "blur.npz"], ood={"x": foreign}, window=50
    ).to_json()["float"]
    usual = Answers.of(_averaged(model, clean, VIEWS), y)
    areas, streams = [], [usual]
    rows = {row["name"]: row for row in found["accuracy_drop"]["corruptions"]}
    assert sorted(rows) == sorted(x)
    for name, values in x.items():
        # The mixed samples are shuffled: within a group they come in the order of the file.
        if name != "blur":
            group = order[(order // 200) == list(x).index(name)] % 200
            values, wanted = values[group], labels[name][group]
        else:
            wanted = labels[name]
        answers = Answers.of(_averaged(model, values, VIEWS), wanted)
        streams.append(answers)
        areas.append(accuracy_drop_auprc(usual, answers, 50))
        row = rows[name]
        assert row["auprc"] == pytest.approx(areas[-1], abs=1e-6)
        assert row["accuracy"] == answers.right.mean()
        assert (row["samples"], row["windows"]) == (200, 551)
        assert row["dropped_windows"] == dropped_windows(usual, answers, 50).sum()
    assert found["auprc_accuracy_drop"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert found["auroc"]["id_corrupted_wrong"] == pytest.approx(failure_auroc(usual, streams), abs=1e-6)
    strangers = _averaged(model, foreign, VIEWS).max(axis=1)
    assert found["auroc"]["ood"] == pytest.approx(failure_auroc(usual, foreign=[strangers]), abs=1e-6)
    assert found["auroc_counts"]["ood"]["failures"] == 150


def test_what_cannot_be_computed_is_null_with_a_reason(model: Path, data: dict[str, Array]) -> None:
    x = data["x_test"]
    perfect = {"x": x, "y": _labels(x, 0, 1.0)}
    evaluation = qutec.evaluate(model, perfect, corrupted=[perfect], suggest_thresholds=True)
    found = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    scores = found["float"]
    assert scores["accuracy"] == 1.0
    assert scores["auroc"] == {"id_wrong": None, "id_corrupted_wrong": None}
    assert scores["reasons"]["auroc.id_wrong"] == "none of 400 answers is wrong"
    assert scores["auprc_accuracy_drop"] is None
    assert "nothing to tell apart" in scores["reasons"]["auprc_accuracy_drop"]
    assert found["suggestions"]["temperature"]["temperature"] is None
    assert "wrong answer" in found["suggestions"]["temperature"]["reason"]
    assert "none" in evaluation.to_text()
    few = qutec.evaluate(model, {"x": x[:20], "y": perfect["y"][:20]}, suggest_thresholds=True).to_json()
    assert few["suggestions"]["monitor"]["threshold"] is None
    assert "10 samples are fewer than the 100" in few["suggestions"]["monitor"]["reason"]


def test_suggestions_are_measured_where_they_were_not_chosen(model: Path, data: dict[str, Array]) -> None:
    build = qutec.compile(model, calibration=data["x_train"])
    evaluation = qutec.evaluate(
        model, data, calibration=data["x_train"], suggest_thresholds=True, false_alarm_share=0.05, window=40
    )
    found = evaluation.to_json()["suggestions"]
    answers = Answers.of(build.run(data["x_test"])["probabilities"], data["y_test"])
    choosing, measuring = split_halves(400)
    assert (found["execution"], found["chosen_on_samples"], found["measured_on_samples"]) == (
        "int8",
        200,
        200,
    )
    abstain = found["abstain"]
    target = 1 - (1 - answers[choosing].right.mean()) / 2
    assert abstain["target_accuracy"] == pytest.approx(target)
    try:
        level = choose_abstain_level(answers[choosing], target)
    except DataError:
        assert abstain["level"] is None
    else:
        assert abstain["option"] == f"--abstain {level:g}"
        effect = abstain_effect(level, answers[measuring])
        assert (abstain["id"]["kept"], abstain["id"]["wrong"]) == (effect.kept, effect.wrong)
    monitor = found["monitor"]
    assert monitor["rule"] == "false_alarms"
    assert monitor["measured"]["clean_windows"] == 161
    assert monitor["c"] == f"qute_monitor_init(&monitor, window, 40, {monitor['threshold']})"
    temperature = found["temperature"]
    p = _averaged(model, data["x_test"], VIEWS)[measuring]
    assert temperature["nll_before"] == pytest.approx(metrics.nll(p, data["y_test"][measuring]), abs=1e-6)
    tempered = p ** (1 / temperature["temperature"])
    tempered /= tempered.sum(axis=1, keepdims=True)
    after = metrics.nll(tempered, data["y_test"][measuring])
    assert temperature["nll_after"] == pytest.approx(after, abs=1e-6)
    text = evaluation.to_text()
    assert monitor["c"] in text
    assert f"{temperature['temperature']:g}" in text


def test_a_network_without_a_mean_has_no_abstain_option(model: Path, data: dict[str, Array]) -> None:
    found = qutec.evaluate(model, data, exits="final", suggest_thresholds=True, target_accuracy=0.01)
    assert found.suggestions is not None
    assert found.suggestions.abstain.level == 0.0
    assert found.suggestions.abstain.option is None


def test_samples_are_evenly_spaced_and_in_order(model: Path, data: dict[str, Array]) -> None:
    rows = np.linspace(0, 399, 37).astype(int)
    few = qutec.evaluate(model, data, samples=37, corrupted=[{"x": data["x_test"], "y": data["y_test"]}])
    scores = few.to_json()["float"]
    _assert_scores(scores, _averaged(model, data["x_test"][rows], VIEWS), data["y_test"][rows])
    assert scores["accuracy_drop"]["corruptions"][0]["samples"] == 37


def test_progress_goes_to_stderr_and_changes_nothing(
    model: Path, data: dict[str, Array], capsys: pytest.CaptureFixture[str]
) -> None:
    shown, quiet = (
        qutec.evaluate(model, data, samples=20, ood={"x": data["x_train"]}, progress=progress)
        for progress in (True, False)
    )
    assert capsys.readouterr().out == ""
    assert shown == quiet


def test_build_folder_is_its_own_int8(build: Path, data: dict[str, Array]) -> None:
    evaluation = qutec.evaluate(build, data, emulated=0, suggest_thresholds=True)
    found = evaluation.to_json()
    assert found["float"] is None
    assert found["device"] is None
    assert found["exits"] == ["early_view"]
    assert found["suggestions"]["execution"] == "int8"
    assert "onnx" in found["suggestions"]["temperature"]["reason"]


@pytest.mark.emulated
@pytest.mark.parametrize("exits", ["qute", "final"])
def test_device_answers_as_the_build(exits: Any, model: Path, data: dict[str, Array], tmp_path: Path) -> None:
    require("zig", "unicorn")
    build = qutec.compile(model, calibration=data["x_train"], exits=exits)
    build.save(tmp_path / "net")
    found = qutec.evaluate(tmp_path / "net", data, emulated=5).to_json()
    p = build.run(data["x_test"])["probabilities" if exits == "qute" else "final"].astype(np.float64)
    _assert_scores(found["int8"], p, data["y_test"])
    rows = np.linspace(0, 399, 5).astype(int)
    device = found["device"]
    assert device["samples"] == 5
    assert device["accuracy"] == np.mean(p[rows].argmax(axis=1) == data["y_test"][rows])
    assert device["nll"] == pytest.approx(metrics.nll(p[rows], data["y_test"][rows]), abs=1e-6)


@pytest.mark.emulated
def test_c_that_is_not_of_the_model_is_found(build: Path, data: dict[str, Array], tmp_path: Path) -> None:
    require("zig", "unicorn")
    folder = shutil.copytree(build, tmp_path / "net")
    proto = onnx.load(folder / "model.onnx")
    biases = [t for t in proto.graph.initializer if t.name.endswith("bias_quantized")]
    for tensor in biases:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 4000, tensor.name))
    onnx.save(proto, folder / "model.onnx")
    with pytest.raises(VerificationError, match=r"differs from the reference in \d+ of 3 samples"):
        qutec.evaluate(folder, data, emulated=3)


def test_a_model_that_is_not_of_the_report_is_refused(
    build: Path, model: Path, data: dict[str, Array], tmp_path: Path
) -> None:
    folder = shutil.copytree(build, tmp_path / "net")
    shutil.copy(model, folder / "model.onnx")
    with pytest.raises(UsageError, match=r"model\.onnx is not the model"):
        qutec.evaluate(folder, data)
    report = json.loads((folder / "report.json").read_text())
    for broken in ({}, [], {**report, "model": "net"}):
        (folder / "report.json").write_text(json.dumps(broken))
        with pytest.raises(UsageError, match="not a compiled project"):
            qutec.evaluate(folder, data)


X, Y = np.zeros((4, 1, SIDE, SIDE), np.float32), np.arange(4) % CLASSES
NAN = np.where(np.arange(4).reshape(4, 1, 1, 1) == 2, np.nan, X)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": X}, "have 'x' but no 'y'"),
        ({"y": Y}, "have 'y' but no 'x'"),
        ({"images": X}, "neither x and y nor x_test and y_test; they have 'images'"),
        ({}, "they have nothing"),
        ({"x_train": X, "y_train": Y}, "they have 'x_train', 'y_train'"),
        ({"x": X[:, :, :5], "y": Y}, "has shape"),
        ({"x": X[:0], "y": Y[:0]}, "empty"),
        ({"x": NAN, "y": Y}, "not a finite float32, in sample 2"),
        ({"x": X, "y": Y[:3]}, "4 samples, but 'y' has 3 labels"),
        ({"x": X, "y": Y + CLASSES}, "classes 0..2"),
        ({"x": X, "y": Y - 1}, "labels -1"),
        ({"x": X, "y": Y.astype(np.float32)}, "labels are integers"),
        ({"x": X.astype(str), "y": Y}, "not numbers"),
    ],
)
def test_unusable_data_are_refused(
    arrays: dict[str, Array], reason: str, model: Path, tmp_path: Path
) -> None:
    """As labelled data and as corrupted data, with the name of the file."""
    np.savez(tmp_path / "d.npz", **arrays)
    np.savez(tmp_path / "good.npz", x=X, y=Y)
    with pytest.raises(DataError, match=rf"d\.npz: .*{re.escape(reason)}"):
        qutec.evaluate(model, tmp_path / "d.npz")
    if "images" not in arrays and arrays and "x_train" not in arrays:
        with pytest.raises(DataError, match=rf"d\.npz: .*{re.escape(reason)}"):
            qutec.evaluate(model, tmp_path / "good.npz", corrupted=[tmp_path / "d.npz"])


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"names": np.array(["fog"] * 3)}, "each of 4 samples"),
        ({"names": np.array("fog")}, "each of 4 samples"),
        ({"severity": np.ones(4)}, "float64"),
        ({"severity": np.ones((4, 1), int)}, "each of 4 samples"),
    ],
)
def test_unusable_names_of_corruptions_are_refused(extra: dict[str, Array], reason: str, model: Path) -> None:
    with pytest.raises(DataError, match=reason):
        qutec.evaluate(model, {"x": X, "y": Y}, corrupted=[{"x": X, "y": Y, **extra}])


def test_two_corruptions_of_one_name_are_refused(model: Path) -> None:
    fog = {"x": X, "y": Y, "names": np.array(["fog"] * 4)}
    with pytest.raises(DataError, match="called 'fog'"):
        qutec.evaluate(model, {"x": X, "y": Y}, corrupted=[fog, fog])


def test_foreign_data_need_inputs(model: Path) -> None:
    with pytest.raises(DataError, match="have no x"):
        qutec.evaluate(model, {"x": X, "y": Y}, ood={"images": X})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"scale": 0.0}, "scale is 0"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"samples": 0}, "0 samples"),
        ({"window": 0}, "window is 0"),
        ({"window": 65536}, "window is 65536"),
        ({"target_accuracy": 1.5}, "target accuracy is 1.5"),
        ({"target_accuracy": 0.0}, "target accuracy is 0"),
        ({"false_alarm_share": 1.0}, "share of false alarms is 1"),
        ({"emulated": 4}, "not for an .onnx"),
        ({"emulated": -1}, "-1 emulated"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], reason: str, model: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)):
        qutec.evaluate(model, {"x": X, "y": Y}, **options)


@pytest.mark.parametrize("options", [{"exits": "final"}, {"calibration": X}, {"method": "entropy"}])
def test_a_build_is_what_it_was_compiled_to(options: dict[str, Any], build: Path) -> None:
    with pytest.raises(UsageError, match="as it was compiled"):
        qutec.evaluate(build, {"x": X, "y": Y}, **options)


def test_an_output_that_is_no_distribution_is_refused(model: Path, tmp_path: Path) -> None:
    proto = onnx.load(model)
    node = next(node for node in proto.graph.node if "final" in node.output)
    node.output[0] = "before"
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(2).reshape(1), "two"))
    proto.graph.node.append(onnx.helper.make_node("Mul", ["before", "two"], ["final"], "doubled"))
    onnx.save(proto, tmp_path / "net.onnx")
    with pytest.raises(UnsupportedModelError, match="adds up to 2"):
        qutec.evaluate(tmp_path / "net.onnx", {"x": X, "y": Y}, exits="final")
