"""The target onnxruntime and `qutec profile` on the command line: what is printed, written, and refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.test_cli import DONE, INVALID_MODEL, MODEL, TOOL_MISSING, USAGE, one_error, qutec

FAST = ("--runs", "10", "--warmup", "1")


def test_compile_writes_the_model_the_trace_and_three_reports(tmp_path: Path) -> None:
    data = tmp_path / "d.npz"
    np.savez(data, x=np.random.default_rng(0).random((20, 1, 8, 8), np.float32), y=np.arange(20) % 10)
    ended = qutec(
        "compile", MODEL, "--target", "onnxruntime", "--exits", "ensemble", "--calibration", data,
        "--batch", "1,4", "--threads", "2", "--graph-optimization", "extended", *FAST,
        "-o", tmp_path / "net", "--json",
    )  # fmt: skip
    assert ended.code == DONE, ended
    report = ended.json()
    assert report == json.loads((tmp_path / "net" / "report.json").read_text())
    assert report["precision"] == "int8"
    assert report["session"]["threads"] == 2
    assert report["session"]["graph_optimization"] == "extended"
    assert [batch["batch"] for batch in report["profile"]["batches"]] == [1, 4]
    names = {path.name for path in (tmp_path / "net").iterdir()}
    assert names == {
        *("model.onnx", "report.json", "report.txt", "report.html"),
        *("trace_batch_1.json", "trace_batch_4.json"),
    }
    text = qutec("report", tmp_path / "net")
    assert text.output == (tmp_path / "net" / "report.txt").read_text()
    assert "to the network: " in text.output


def test_profile_prints_a_ratio_and_writes_reports(tmp_path: Path) -> None:
    ended = qutec("profile", MODEL, MODEL, *FAST, "-o", tmp_path / "profile")
    assert ended.code == DONE, ended
    assert "ratio" in ended.output
    assert {"report.json", "report.txt", "report.html", "1_trace.json", "2_trace.json"} == {
        path.name for path in (tmp_path / "profile").iterdir()
    }
    printed = qutec("profile", MODEL, *FAST, "--json").json()
    assert printed["models"][0]["name"] == "digits"
    assert printed["comparisons"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--provider", "tensorrt"), TOOL_MISSING, "no execution provider 'tensorrt'"),
        (("--sram", "64k"), USAGE, "--sram cannot be used with the target onnxruntime"),
        (("--stream-input",), USAGE, "--stream-input cannot be used with the target onnxruntime"),
        (("--verify",), USAGE, "--verify cannot be used"),
        (("--threads", "0"), USAGE, "threads"),
        (("--runs", "3"), USAGE, "too few"),
        (("--batch", "two"), USAGE, "--batch 'two'"),
        (("--data", "nowhere.npz"), USAGE, "no file 'nowhere.npz'"),
        (("--exit-threshold", "0.5"), USAGE, "for --exits dynamic"),
    ],
)
def test_wrong_options_are_one_line_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ended = qutec("compile", MODEL, "--target", "onnxruntime", *arguments, "-o", tmp_path / "net")
    message = one_error(ended, code)
    assert words in message
    assert message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_options_of_onnxruntime_mean_nothing_for_a_microcontroller(tmp_path: Path) -> None:
    ended = qutec("compile", MODEL, "--calibration", "random", "--runs", "10", "-o", tmp_path / "net")
    assert "--runs cannot be used with the target cortex-m4" in one_error(ended, USAGE)


def test_a_model_that_onnx_runtime_refuses_is_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(Path(MODEL).read_bytes()[:2000])
    message = one_error(qutec("profile", damaged, "-o", tmp_path / "out"), INVALID_MODEL)
    assert "ONNX Runtime refuses the model" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_run_says_that_this_is_no_build_for_a_microcontroller(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    assert qutec("compile", MODEL, "--target", "onnxruntime", *FAST, "-o", folder).code == DONE
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
    message = one_error(qutec("run", folder, "--input", tmp_path / "x.npy"), USAGE)
    assert "build for ONNX Runtime" in message
