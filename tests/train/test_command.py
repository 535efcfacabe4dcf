"""`qutec train` and `qutec.train` as users meet them, with and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from qutec.cli import main
from qutec.errors import ToolMissingError, UsageError
from qutec.train import TrainingOptions, train
from tests.train.graphs import by_ort, early_exit_cnn, stripes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(early_exit_cnn(), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", **stripes(60))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _qutec(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["qutec", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert isinstance(left.value.code, int)
    return left.value.code


TRAIN = (
    "train",
    "net.onnx",
    "--data",
    "data.npz",
    "-o",
    "out/trained.onnx",
    "--device",
    "cpu",
    "--epochs",
    "2",
)


def test_command_writes_a_model_and_prints_json(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    more = ("--batch", "16", "--augment", "shift=1,flip", "--optimizer", "sgd", "--lr-decay", "0.5", "--json")
    assert _qutec(monkeypatch, *TRAIN, *more) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert result["schema_version"] == 1
    assert [entry["output"] for entry in result["exits"]] == ["early_exit", "early_view", "final"]
    assert [entry["lr"] for entry in result["history"]] == [1e-3, 5e-4]
    assert result["validation_data"] == "x_test"
    # Where standard error is no terminal: plain lines, one an epoch.
    assert [line.split("  ")[0] for line in printed.err.splitlines()] == ["epoch 1/2", "epoch 2/2"]
    x = stripes(60)["x_test"]
    assert by_ort(onnx.load(files / "out" / "trained.onnx"), x)["final"].shape == (len(x), 3)


def test_command_prints_a_table(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    assert _qutec(monkeypatch, *TRAIN, "--checkpoint", "run") == 0
    assert _qutec(monkeypatch, *TRAIN, "--checkpoint", "run", "--resume") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["early_exit", "early_view", "final", "prediction"]
    assert _qutec(monkeypatch, *TRAIN, "--checkpoint", "run") == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("--augment", "mirror"), 2, "unknown augmentation"),
        (("--epochs", "0"), 2, "epochs is 0"),
        (("--lr", "nan"), 2, "lr is nan"),
        (("--device", "abacus"), 2, "abacus"),
        (("--data", "missing.npz"), 2, "missing.npz"),
        (("--resume",), 2, "checkpoint"),
    ],
)
@pytest.mark.usefixtures("files")
def test_wrong_arguments_are_one_clear_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    reason: str,
) -> None:
    pytest.importorskip("torch")
    assert _qutec(monkeypatch, *TRAIN, *arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert reason in error
    assert len(error.splitlines()) == 1
    assert not Path("out").exists()


@pytest.mark.usefixtures("files")
def test_missing_torch_is_said_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ToolMissingError):
        train("net.onnx", "data.npz")
    assert _qutec(monkeypatch, *TRAIN) == 6
    assert "pip install 'qutec[train]'" in capsys.readouterr().err


def test_nothing_imports_torch_before_training() -> None:
    script = (
        "import sys, qutec, qutec.cli, qutec.metrics, qutec.train.command\n"
        "qutec.train, qutec.TrainingOptions()\n"
        "assert callable(qutec.train)\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch": 1},
        {"lr": 0.0},
        {"lr_decay": 1.5},
        {"momentum": 1.0},
        {"patience": 0},
        {"seed": -1},
        {"scale": 0.0},
        {"weight_decay": -1.0},
        {"frozen_share": 1.1},
        {"exit_weight_targets": (-0.5,)},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong)) if "exit" not in str(wrong) else "loss weight"):
        TrainingOptions(**wrong)  # type: ignore[arg-type]
