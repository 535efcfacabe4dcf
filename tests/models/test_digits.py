"""The demo network that is committed as models/digits.onnx, and the data it is tried on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from models import digits
from qutec.heads import METADATA_KEY, read_heads

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "digits.onnx"
OUTPUTS = ["probabilities", "early_exit_1", "early_view_1", "early_exit_2", "early_view_2"]


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return onnx.load(MODEL)


def _shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_model_is_valid_small_and_readable_by_older_runtimes(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert MODEL.stat().st_size < 100_000
    assert model.ir_version <= 10
    (opset,) = model.opset_import
    assert opset.domain == ""
    assert 17 <= opset.version <= 21


def test_model_has_early_exits_and_early_views_on_one_map(model: onnx.ModelProto) -> None:
    assert {value.name: _shape(value) for value in model.graph.input} == {"image": ["N", 1, 8, 8]}
    assert [value.name for value in model.graph.output] == OUTPUTS
    assert all(_shape(value) == ["N", 10] for value in model.graph.output)
    heads = {head.output: head for head in read_heads(ir.from_proto(model))}
    assert {name: head.kind for name, head in heads.items()} == {
        "early_exit_1": "early_exit",
        "early_exit_2": "early_exit",
        "early_view_1": "early_view",
        "early_view_2": "early_view",
        "probabilities": "final",
    }
    depthwise = {node.input[1]: node for node in model.graph.node if node.op_type == "Conv"}
    maps = {depthwise[heads[name].depthwise_weights].input[0] for name in digits.VIEWS}
    assert len(maps) == 1


def test_model_leaves_batch_normalisation_of_the_trunk_to_the_compiler(model: onnx.ModelProto) -> None:
    operators = [node.op_type for node in model.graph.node]
    attached = 6  # pointwise and depthwise layers of the early exits, depthwise layers of the early views
    assert operators.count("BatchNormalization") == operators.count("Conv") - attached > 0
    assert "Shape" not in operators


def test_model_has_at_most_8500_constants(model: onnx.ModelProto) -> None:
    arrays = [w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT]
    assert 0 < sum(int(np.prod(w.dims)) for w in arrays) <= 8500


def test_model_tells_nothing_of_the_machine_it_was_made_on(model: onnx.ModelProto) -> None:
    assert [entry.key for entry in model.metadata_props] == [METADATA_KEY]
    assert not model.doc_string
    parts = [
        model.graph,
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
    ]
    assert not any(part.metadata_props or part.doc_string for part in parts)
    content = MODEL.read_bytes()
    assert not any(mark in content for mark in (b"/home", b"/root", b"/tmp", b"/usr", b"site-packages"))


def test_the_mean_over_early_views_generalises_as_well_as_the_final_exit() -> None:
    pytest.importorskip("sklearn")
    data = digits.load_digits()
    found = digits.scores(MODEL, data.x_test, data.y_test)
    base, qute = found["BASE"], found["QUTE"]
    assert base.accuracy > 0.96
    assert qute.accuracy > base.accuracy - 0.01
    assert qute.nll < 1.1 * base.nll
    assert qute.brier < 1.1 * base.brier
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    for rows in session.run(OUTPUTS, {"image": data.x_test}):
        np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-5)


def test_no_image_is_in_two_parts_of_the_data() -> None:
    pytest.importorskip("sklearn")
    data = digits.load_digits()
    parts = [{image.tobytes() for image in x} for x in (data.x_train, data.x_val, data.x_test)]
    assert len(data.x_train) + len(data.x_val) + len(data.x_test) == 1797
    assert len(set.union(*parts)) == sum(map(len, parts))
    for y in (data.y_train, data.y_val, data.y_test):
        assert np.bincount(y).min() >= 0.85 * len(y) / digits.CLASSES


def test_samples_are_training_images_and_need_no_torch(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    # A torch that cannot be imported stands in for a torch that is not installed.
    (tmp_path / "torch.py").write_text("raise ImportError('torch is not needed here')\n")
    samples, image = tmp_path / "new" / "digits.npz", tmp_path / "new" / "digit.npy"
    subprocess.run(
        [sys.executable, "-m", "models.digits", "--samples", samples, "--image", image],
        cwd=ROOT,
        env={"PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
    )
    data = digits.load_digits()
    with np.load(samples) as saved:
        assert sorted(saved) == ["x", "x_test", "x_val", "y_test", "y_val"]
        assert saved["x"].shape == (200, 1, 8, 8)
        assert saved["x"].dtype == np.float32
        assert saved["x"].min() == 0.0
        assert saved["x"].max() == 1.0
        np.testing.assert_array_equal(saved["x"], data.x_train[:200])
        np.testing.assert_array_equal(saved["x_val"], data.x_val)
        np.testing.assert_array_equal(saved["y_val"], data.y_val)
        np.testing.assert_array_equal(saved["x_test"], data.x_test)
        np.testing.assert_array_equal(saved["y_test"], data.y_test)
    np.testing.assert_array_equal(np.load(image), data.x_test[:1])


def _trained(path: Path, seed: int) -> bytes:
    """Two epochs in a process of its own, as the command line trains."""
    command = [sys.executable, "-m", "models.digits", "--epochs", "2", "--seed", str(seed), "--output", path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return path.read_bytes()


@pytest.mark.slow
def test_training_again_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    first, second = (_trained(tmp_path / f"{k}.onnx", seed=3) for k in range(2))
    assert first == second
    assert _trained(tmp_path / "other.onnx", seed=4) != first


def test_training_makes_the_graph_that_is_committed(model: onnx.ModelProto) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from models import digits_network

    result = digits_network.train_heads(digits.load_digits(), seed=0, epochs=1)
    made = onnx.load_from_string(result.to_bytes())
    assert [(node.op_type, node.input, node.output) for node in made.graph.node] == [
        (node.op_type, node.input, node.output) for node in model.graph.node
    ]
    shapes = [{w.name: tuple(w.dims) for w in m.graph.initializer} for m in (made, model)]
    assert shapes[0] == shapes[1]
    assert list(made.metadata_props) == list(model.metadata_props)
