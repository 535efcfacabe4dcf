"""From a network with early views to the device's answer with its uncertainty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import qutec
from qutec.attach import attach, write_training_graph
from qutec.executions import verify_build
from qutec.heads import RESULTS, write_heads
from qutec.passes.select_exits import SelectExitsPass

DIGITS = Path(__file__).parents[2] / "models" / "digits.onnx"


def base(folder: Path) -> Path:
    """The network of the repository without its heads."""
    path = folder / "base.onnx"
    model = SelectExitsPass("final")(ir.load(DIGITS)).model
    write_heads(model, [])
    ir.save(model, path)
    return path


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_early_views_answer_with_uncertainty_on_the_device(tmp_path: Path, activation: str) -> None:
    pytest.importorskip("unicorn")
    path = tmp_path / "train.onnx"
    write_training_graph(attach(base(tmp_path), heads=3, activation=activation), path)
    build = qutec.compile(path, calibration="random", abstain=0.4)
    assert [port.name for port in build.program.outputs] == list(RESULTS)
    assert build.report.heads == ("early_view_1", "early_view_2", "early_view_3")
    assert "reference = host C" in verify_build(build)
    results = build.run(np.random.default_rng(0).standard_normal((20, 1, 8, 8)).astype(np.float32))
    np.testing.assert_allclose(results["probabilities"].sum(axis=-1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(results["abstain"] == 1, results["confidence"] < 0.4)


def test_all_exits_can_be_averaged() -> None:
    pytest.importorskip("unicorn")
    build = qutec.compile(DIGITS, calibration="random", exits="ensemble")
    assert sorted(build.report.heads) == [
        "early_exit_1",
        "early_exit_2",
        "early_view_1",
        "early_view_2",
        "probabilities",
    ]
    assert "reference = host C" in verify_build(build)


@pytest.mark.parametrize("exits", ["ensemble", "dynamic"])
def test_exits_of_a_quantised_network_answer_from_their_logits(exits: str) -> None:
    """Not from the probabilities that such a graph stores, of which a second softmax would make a blur."""
    x = np.random.default_rng(0).standard_normal((50, 1, 8, 8)).astype(np.float32)
    every = qutec.compile(DIGITS, calibration=x, exits="all")
    answers = every.run(x)
    quantised = bytes(every.files["model.onnx"])  # type: ignore[arg-type]
    build = qutec.compile(quantised, exits=exits)
    results = build.run(x)
    each = np.stack([answers[name] for name in build.report.heads])
    expected = each.mean(axis=0)
    if exits == "dynamic":
        expected = each[results["exit"].ravel().astype(int), np.arange(len(x))]
    np.testing.assert_allclose(results["probabilities"], expected, atol=0.01)


def test_the_report_has_the_price_of_the_uncertainty() -> None:
    heads = qutec.compile(DIGITS, calibration="random").report
    final = qutec.compile(DIGITS, calibration="random", exits="final").report
    assert final.uncertainty_overhead is None
    assert heads.uncertainty_overhead == {
        "macs": heads.macs - final.macs,
        "flash_bytes": heads.flash_total_bytes - final.flash_total_bytes,
        "arena_bytes": heads.arena_bytes - final.arena_bytes,
    }


def test_heads_take_no_more_arena_than_the_final_exit_alone() -> None:
    heads = qutec.compile(DIGITS, calibration="random")
    final = qutec.compile(DIGITS, calibration="random", exits="final")
    assert heads.report.arena_bytes == final.report.arena_bytes


def test_the_c_api_has_the_result() -> None:
    build = qutec.compile(DIGITS, calibration="random", abstain=0.25, name="digits")
    header = str(build.files["digits.h"])
    assert "digits_get_result" in header
    assert "below 0.25" in header
    assert "kernels/qute_monitor.h" in build.files


def test_a_temperature_changes_confidence_and_costs_nothing() -> None:
    x = np.random.default_rng(1).random((40, 1, 8, 8), np.float32)
    plain, warm = (qutec.compile(DIGITS, calibration=x, temperature=t) for t in (1.0, 2.0))
    before, after = plain.run(x), warm.run(x)
    assert after["confidence"].mean() < before["confidence"].mean() - 0.05
    assert after["entropy"].mean() > before["entropy"].mean() + 0.1
    for name in ("arena_bytes", "macs", "flash_bytes"):
        assert getattr(plain.report, name) == getattr(warm.report, name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exits": "final", "abstain": 0.5}, "abstain needs an answer with a confidence"),
        ({"exits": "qute"}, "no early views"),
        ({"exits": "ensemble", "abstain": 1.5}, "between 0 and 1"),
        ({"exits": "final", "temperature": 0.0}, "positive, finite"),
    ],
)
def test_impossible_wishes_are_usage_errors(
    arguments: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(qutec.UsageError, match=message):
        qutec.compile(base(tmp_path), calibration="random", **arguments)  # type: ignore[arg-type]
