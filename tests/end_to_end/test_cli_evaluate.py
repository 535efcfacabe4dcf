"""`qutec evaluate` as scripts use it: exit codes, JSON, one line for what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from benchmarks._networks import DIGITS
from tests.end_to_end.test_cli import DONE, INVALID_MODEL, MODEL, TOOL_MISSING, USAGE, one_error, qutec

FIGURES = {"samples", "accuracy", "f1", "brier", "nll", "ece", "auroc"}


def _answers(x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(DIGITS.path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    views = ["early_view_1", "early_view_2"]
    return np.concatenate([np.mean(session.run(views, {name: row[None]}), axis=0) for row in x])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise that the demo network answers rightly in three of four samples."""
    path = tmp_path_factory.mktemp("data") / "d.npz"
    x = np.random.default_rng(1).random((240, 1, 8, 8), np.float32)
    y = (_answers(x).argmax(axis=1) + (np.arange(240) % 4 == 0)) % 10
    np.savez(path, x_test=x, y_test=y, x=np.random.default_rng(2).random((40, 1, 8, 8), np.float32))
    return path


@pytest.fixture(scope="module")
def project(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "net"
    ended = qutec("compile", MODEL, "--calibration", data, "-o", folder)
    assert ended.code == DONE, ended.errors
    return folder


def test_json_has_the_figures_of_float_and_int8(data: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(3)
    corrupted = {"x": noise.random((240, 8, 8)) ** 3, "y": noise.integers(0, 10, 240)}
    np.savez(tmp_path / "noise.npz", **corrupted, names=np.repeat(["salt", "pepper"], 120))
    np.savez(tmp_path / "cubed.npz", **corrupted)
    np.savez(tmp_path / "foreign.npz", x_test=noise.random((50, 8, 8)))
    ended = qutec(
        *(
            "evaluate",
            MODEL,
            "--data",
            data,
            "--ood",
            tmp_path / "foreign.npz",
            "--suggest-threshold",
            "--json",
        ),
        *("--corrupted", tmp_path / "noise.npz", "--corrupted", tmp_path / "cubed.npz"),
    )
    assert ended.code == DONE, ended.errors
    found = ended.json()
    assert found["schema_version"] == 1
    for name in ("float", "int8"):
        assert found[name].keys() >= FIGURES | {"auprc_accuracy_drop"}
        assert found[name]["auroc"].keys() == {"id_wrong", "id_corrupted_wrong", "ood"}
        rows = found[name]["accuracy_drop"]["corruptions"]
        assert [row["name"] for row in rows] == ["salt", "pepper", "cubed"]
    assert found["float"]["accuracy"] == 0.75
    assert found["device"] is None
    assert "NaN" not in ended.output
    assert found["suggestions"]["monitor"]["c"].startswith("qute_monitor_init(")


def test_text_has_a_row_for_each_execution(data: Path) -> None:
    ended = qutec("evaluate", MODEL, "--data", data, "--exits", "ensemble", "--suggest-threshold")
    assert ended.code == DONE, ended.errors
    first_words = [line.split()[0] for line in ended.output.splitlines() if line.strip()]
    assert {"float", "int8", "abstain", "monitor", "temperature"} <= set(first_words)


def test_suggested_flag_is_taken_by_compile(data: Path, tmp_path: Path) -> None:
    found = qutec(
        *("evaluate", MODEL, "--data", data, "--exits", "ensemble"),
        *("--suggest-threshold", "--target-accuracy", "0.01", "--json"),
    ).json()
    flag = found["suggestions"]["abstain"]["option"]
    assert flag == "--abstain 0"
    ended = qutec(
        *("compile", MODEL, "--calibration", data, "--exits", "ensemble", *flag.split()),
        *("-o", tmp_path / "net"),
    )
    assert ended.code == DONE, ended.errors


def test_build_is_evaluated_as_it_was_compiled(project: Path, data: Path) -> None:
    from_model = qutec("evaluate", MODEL, "--data", data, "--json").json()
    from_build = qutec("evaluate", project, "--data", data, "--emulated", "0", "--json").json()
    assert from_build["int8"] == from_model["int8"]
    assert from_build["float"] is None
    assert from_build["device"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--data", "missing.npz"],
        ["--data", "text.npz"],
        ["--data", "unlabelled.npz"],
        ["--data", "d.npz", "--no-such-option"],
        ["--data", "d.npz", "--exits", "some"],
        ["--data", "d.npz", "--exit-threshold", "0.5"],
        ["--data", "d.npz", "--scale", "-1"],
        ["--data", "d.npz", "--corrupted", "unlabelled.npz"],
        ["--data", "d.npz", "--ood", "text.npz"],
        ["--data", "d.npz", "--calibration", "text.npz"],
        ["--data", "d.npz", "--emulated", "3"],
        ["--data", "d.npz", "--method", "guess"],
        ["--data", "d.npz", "--window", "0"],
    ],
    ids=" ".join,
)
def test_wrong_use_ends_with_2_in_one_line(arguments: Sequence[str], data: Path, tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(data.read_bytes())
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "unlabelled.npz", x=np.zeros((3, 8, 8), np.float32))
    message = one_error(qutec("evaluate", MODEL, *arguments, folder=tmp_path), USAGE)
    assert message.count("\n") == 1


def test_missing_key_is_named_with_its_file(data: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "unlabelled.npz", x=np.zeros((3, 8, 8), np.float32))
    message = one_error(qutec("evaluate", MODEL, "--data", "unlabelled.npz", folder=tmp_path), USAGE)
    assert message == "error: unlabelled.npz: the data have 'x' but no 'y'\n"


def test_broken_model_and_broken_build(project: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no model")
    one_error(qutec("evaluate", tmp_path / "net.onnx", "--data", data), INVALID_MODEL)
    one_error(qutec("evaluate", tmp_path / "missing.onnx", "--data", data), USAGE)
    one_error(qutec("evaluate", tmp_path, "--data", data), USAGE)
    report = json.loads((project / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "model.onnx").write_bytes((project / "model.onnx").read_bytes()[:-40])
    one_error(qutec("evaluate", tmp_path, "--data", data), INVALID_MODEL)
    report["outputs"][0]["scale"] *= 2
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "model.onnx").write_bytes((project / "model.onnx").read_bytes())
    one_error(qutec("evaluate", tmp_path, "--data", data), USAGE)


def test_emulation_that_was_asked_for_needs_its_tools(project: Path, data: Path, tmp_path: Path) -> None:
    """Without being asked for, a missing tool is a reason in the report; see the core with Helium."""
    folder = tmp_path / "net"
    ended = qutec("compile", MODEL, "--calibration", data, "--target", "cortex-m55", "-o", folder)
    assert ended.code == DONE, ended.errors
    one_error(qutec("evaluate", folder, "--data", data, "--emulated", "2", path=str(tmp_path)), TOOL_MISSING)
    found = qutec("evaluate", folder, "--data", data, "--json", path=str(tmp_path)).json()
    assert found["device"] is None
    assert "qemu-system-arm" in found["reasons"]["device"]
