"""The demo network that is committed as models/digits.onnx, and the data it is tried on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from models import digits

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "digits.onnx"
EXITS = ["exit_1", "exit_2", "final"]


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


def test_model_has_one_image_in_and_three_exits_out(model: onnx.ModelProto) -> None:
    assert {value.name: _shape(value) for value in model.graph.input} == {"image": ["batch", 1, 8, 8]}
    assert [value.name for value in model.graph.output] == EXITS
    assert all(_shape(value) == ["batch", 10] for value in model.graph.output)
    producers = {node.output[0]: node.op_type for node in model.graph.node}
    assert [producers[name] for name in EXITS] == ["Softmax"] * 3


def test_model_leaves_batch_normalisation_to_the_compiler(model: onnx.ModelProto) -> None:
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("BatchNormalization") == operators.count("Conv") > 0
    assert "Shape" not in operators


def test_model_has_at_most_6000_trained_parameters(model: onnx.ModelProto) -> None:
    trained = [w for w in model.graph.initializer if w.name.endswith((".weight", ".bias"))]
    assert 0 < sum(int(np.prod(w.dims)) for w in trained) <= 6000


def test_model_tells_nothing_of_the_machine_it_was_made_on(model: onnx.ModelProto) -> None:
    parts = [
        model,
        model.graph,
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
    ]
    assert not any(part.metadata_props or part.doc_string for part in parts)
    content = MODEL.read_bytes()
    assert not any(mark in content for mark in (b"/home", b"/root", b"/tmp", b"/usr", b"site-packages"))


def test_every_exit_generalises_to_held_out_digits() -> None:
    pytest.importorskip("sklearn")
    data = digits.load_digits()
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    probabilities = session.run(EXITS, {"image": data.x_test})
    accuracy = [np.mean(np.argmax(rows, axis=1) == data.y_test) for rows in probabilities]
    assert accuracy[0] > 0.95
    assert accuracy[1] > 0.96
    assert accuracy[2] > 0.97
    for rows in probabilities:
        np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-5)


def test_no_image_is_in_both_parts_of_the_data() -> None:
    pytest.importorskip("sklearn")
    data = digits.load_digits()
    train = {image.tobytes() for image in data.x_train}
    assert len(data.x_train) + len(data.x_test) == 1797
    assert not train & {image.tobytes() for image in data.x_test}


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
        assert sorted(saved) == ["x", "x_test", "y_test"]
        assert saved["x"].shape == (200, 1, 8, 8)
        assert saved["x"].dtype == np.float32
        assert saved["x"].min() == 0.0
        assert saved["x"].max() == 1.0
        np.testing.assert_array_equal(saved["x"], data.x_train[:200])
        np.testing.assert_array_equal(saved["x_test"], data.x_test)
        np.testing.assert_array_equal(saved["y_test"], data.y_test)
    np.testing.assert_array_equal(np.load(image), data.x_test[:1])


def test_definition_exports_the_graph_that_is_committed(tmp_path: Path, model: onnx.ModelProto) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from models import digits_network

    torch.manual_seed(0)
    network = digits_network.DigitsNet().eval()
    # Fresh batch normalisations are all alike, and the export stores equal tensors once.
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    digits_network.export(network, tmp_path / "untrained.onnx")
    exported = onnx.load(tmp_path / "untrained.onnx")
    assert [node.op_type for node in exported.graph.node] == [node.op_type for node in model.graph.node]
    shapes = [{w.name: tuple(w.dims) for w in m.graph.initializer} for m in (exported, model)]
    assert shapes[0] == shapes[1]
