"""From a network with early views to the device's answer with its uncertainty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qutec
from qutec.attach import attach, write_training_graph
from qutec.executions import verify_build
from qutec.heads import RESULTS

DIGITS = Path(__file__).parents[2] / "models" / "digits.onnx"


@pytest.fixture(scope="module")
def training_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attached") / "train.onnx"
    write_training_graph(attach(DIGITS, heads=2), path)
    return path


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_early_views_answer_with_uncertainty_on_the_device(tmp_path: Path, activation: str) -> None:
    pytest.importorskip("unicorn")
    path = tmp_path / "train.onnx"
    write_training_graph(attach(DIGITS, heads=3, activation=activation), path)
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
    assert build.report.heads == ("exit_1", "exit_2", "final")
    assert "reference = host C" in verify_build(build)


@pytest.mark.parametrize("exits", ["ensemble", "dynamic"])
def test_exits_of_a_quantised_network_answer_from_their_logits(exits: str) -> None:
    """Not from the probabilities that such a graph stores, of which a second softmax would make a blur."""
    x = np.random.default_rng(0).standard_normal((50, 1, 8, 8)).astype(np.float32)
    every = qutec.compile(DIGITS, calibration=x, exits="all")
    each = list(every.run(x).values())
    quantised = bytes(every.files["model.onnx"])  # type: ignore[arg-type]
    results = qutec.compile(quantised, exits=exits).run(x)
    expected = np.mean(each, axis=0)
    if exits == "dynamic":
        expected = np.stack(each)[results["exit"].ravel().astype(int), np.arange(len(x))]
    np.testing.assert_allclose(results["probabilities"], expected, atol=0.01)


def test_the_report_has_the_price_of_the_uncertainty(training_graph: Path) -> None:
    heads = qutec.compile(training_graph, calibration="random").report
    final = qutec.compile(training_graph, calibration="random", exits="final").report
    assert final.uncertainty_overhead is None
    assert heads.uncertainty_overhead == {
        "macs": heads.macs - final.macs,
        "flash_bytes": heads.flash_total_bytes - final.flash_total_bytes,
        "arena_bytes": heads.arena_bytes - final.arena_bytes,
    }


def test_heads_take_no_more_arena_than_the_final_exit_alone(training_graph: Path) -> None:
    heads = qutec.compile(training_graph, calibration="random")
    final = qutec.compile(training_graph, calibration="random", exits="final")
    assert heads.report.arena_bytes == final.report.arena_bytes


def test_the_c_api_has_the_result(training_graph: Path) -> None:
    build = qutec.compile(training_graph, calibration="random", abstain=0.25, name="digits")
    header = str(build.files["digits.h"])
    assert "digits_get_result" in header
    assert "below 0.25" in header
    assert "kernels/qute_monitor.h" in build.files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exits": "final", "abstain": 0.5}, "abstain needs an answer with a confidence"),
        ({"exits": "qute"}, "no early views"),
        ({"exits": "ensemble", "abstain": 1.5}, "between 0 and 1"),
    ],
)
def test_impossible_wishes_are_usage_errors(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(qutec.UsageError, match=message):
        qutec.compile(DIGITS, calibration="random", **arguments)  # type: ignore[arg-type]
