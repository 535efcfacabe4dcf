"""The reference networks: sizes that are published, export, attaching heads and training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="the definitions are in torch")
pytest.importorskip("onnxscript", reason="torch.onnx needs onnxscript")

from torch import nn  # noqa: E402

import qutec  # noqa: E402
from models import dscnn, mnist_cnn, mobilenetv2, resnet8  # noqa: E402
from models._recipe import Recipe  # noqa: E402
from qutec.heads import read_heads  # noqa: E402
from qutec.train import Augmentation, OptimizerName  # noqa: E402


@dataclass(frozen=True)
class Reference:
    """A network as it is exported here. `parameters` is derived from a published count, see below."""

    name: str
    export: Callable[[Path], int]
    network: Callable[[], nn.Module]
    recipe: Recipe
    shape: tuple[int, int, int]
    classes: int
    parameters: int
    end: tuple[int, ...]
    """Last feature map, which the early views read."""


def _mobilenet(path: Path) -> int:
    return mobilenetv2.export(path, classes=7, width=0.35, resolution=48)


REFERENCES = (
    # The paper's network has 1,402 parameters.
    Reference(
        "mnist_cnn", mnist_cnn.export, mnist_cnn.MnistCnn, mnist_cnn.RECIPE, (1, 28, 28), 10, 1402, (8, 7, 7)
    ),
    # MLPerf Tiny counts 24,908: with 9 x 64 biases before batch normalisation and its 2 x 9 x 64 statistics.
    Reference(
        "dscnn", dscnn.export, dscnn.DsCnn, dscnn.RECIPE, (1, 49, 10), 12, 24908 - 576 - 1152, (64, 25, 5)
    ),
    # MLPerf Tiny counts 78,666: with 240 biases before batch normalisation and its 2 x 240 statistics.
    Reference(
        "resnet8",
        resnet8.export,
        resnet8.ResNet8,
        resnet8.RECIPE,
        (3, 32, 32),
        10,
        78666 - 240 - 480,
        (64, 8, 8),
    ),
    Reference(
        "mobilenetv2",
        _mobilenet,
        lambda: mobilenetv2.MobileNetV2(7, 0.35),
        mobilenetv2.RECIPE,
        (3, 48, 48),
        7,
        396128 + 1280 * 7 + 7,
        (1280, 2, 2),
    ),
)


@dataclass(frozen=True)
class Exported:
    reference: Reference
    path: Path
    parameters: int


@pytest.fixture(scope="module", params=REFERENCES, ids=lambda reference: reference.name)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    reference: Reference = request.param
    path = tmp_path_factory.mktemp(reference.name) / "network.onnx"
    return Exported(reference, path, reference.export(path))


def _attached(exported: Exported) -> qutec.TrainingGraph:
    recipe = exported.reference.recipe
    if recipe.places:
        return qutec.attach(exported.path, at=recipe.places)
    return qutec.attach(exported.path, heads=recipe.heads)


def _images(reference: Reference, count: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(3).random((count, *reference.shape), dtype=np.float32)


def test_number_of_parameters_is_the_published_one(exported: Exported) -> None:
    assert exported.parameters == exported.reference.parameters


def test_mobilenetv2_of_width_1_has_as_many_parameters_as_published() -> None:
    network = mobilenetv2.MobileNetV2(1000)
    # 3.4 M in the paper; torchvision has exactly this.
    assert sum(p.numel() for p in network.parameters()) == 3_504_872


def test_mobilenetv2_of_width_035_has_as_many_parameters_as_published() -> None:
    # Keras counts 410,208 without the classifier, running statistics included.
    network = mobilenetv2.MobileNetV2(1, 0.35)
    trunk = [*network.trunk.parameters(), *network.trunk.buffers()]
    assert sum(p.numel() for p in trunk if p.ndim) == 410_208


def test_export_computes_what_torch_computes(exported: Exported) -> None:
    reference = exported.reference
    torch.manual_seed(0)
    network = reference.network().eval()
    images = _images(reference, 3)
    with torch.no_grad():
        expected = torch.softmax(network(torch.from_numpy(images)), dim=1).numpy()
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"image": images})
    assert probabilities.shape == (3, reference.classes)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)


def test_export_keeps_batch_normalisation_and_tells_nothing_of_the_machine(exported: Exported) -> None:
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    operators = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" in operators
    assert "Shape" not in operators
    parts = [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer]
    assert not any(part.metadata_props for part in parts)
    assert not any(part.doc_string for part in parts)


def test_export_is_repeatable(exported: Exported, tmp_path: Path) -> None:
    exported.reference.export(tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == exported.path.read_bytes()


def test_network_loads_without_a_warning(exported: Exported) -> None:
    loaded = qutec.load(exported.path)
    assert loaded.warnings == ()
    (value,) = loaded.model.graph.inputs
    assert list(value.shape or ())[1:] == list(exported.reference.shape)


def test_heads_of_the_recipe_are_attached_to_the_last_feature_map(exported: Exported) -> None:
    reference = exported.reference
    graph = _attached(exported)
    kinds = [head.kind for head in graph.heads]
    assert kinds.count("early_exit") == kinds.count("early_view") == reference.recipe.heads
    assert kinds.count("final") == 1
    views = [node for node in graph.model.graph if node.name and node.name.startswith("early_view_")]
    sources = {node.inputs[0] for node in views if node.name and node.name.endswith("_depthwise")}
    (end,) = sources
    assert end is not None
    assert tuple(end.shape or ())[1:] == reference.end


def test_early_exits_of_the_recipe_are_where_the_paper_has_them(exported: Exported) -> None:
    expected = {
        "mnist_cnn": [(4, 14, 14), (6, 7, 7)],
        "dscnn": [(64, 25, 5), (64, 25, 5)],
        "resnet8": [(16, 32, 32), (32, 16, 16)],
    }
    if exported.reference.name not in expected:
        pytest.skip("spread over the trunk by cost")
    nodes = {node.name: node for node in _attached(exported).model.graph}
    branches = [nodes[f"early_exit_{k}_pointwise"].inputs[0] for k in (1, 2)]
    shapes = [tuple(branch.shape or ())[1:] for branch in branches if branch is not None]
    assert shapes == expected[exported.reference.name]


def test_trainer_takes_the_graph_and_lowers_its_loss(exported: Exported) -> None:
    reference = exported.reference
    images = _images(reference, 16)
    labels = np.arange(16) % 2
    images[labels == 1] *= 0.1
    data: dict[str, npt.ArrayLike] = {"x_train": images, "y_train": labels, "x_val": images, "y_val": labels}
    # The same batch in every step, constant weights of the exits, and no frozen trunk (which would go over to
    # running statistics that are far off after six steps): the loss can only fall.
    options = replace(
        reference.recipe.options(seed=1, epochs=6),
        batch=16,
        lr=1e-3,
        augmentation=Augmentation(),
        frozen_share=0.0,
        exit_weight_start=0.5,
        exit_weight_targets=(0.5,) * reference.recipe.heads,
        device="cpu",
    )
    result = qutec.train(_attached(exported).model, data, options)
    losses = [report.train_loss for report in result.history]
    assert losses[-1] < 0.95 * losses[0]
    assert {head.kind for head in read_heads(result.model)} == {"early_exit", "early_view", "final"}
    trained = onnxruntime.InferenceSession(result.to_bytes(), providers=["CPUExecutionProvider"])
    assert trained.run(["early_view_1"], {"image": images})[0].shape == (16, reference.classes)


@pytest.mark.parametrize(
    ("recipe", "epochs", "batch", "rates"),
    [
        (mnist_cnn.RECIPE, 20, 256, [1e-3, 0.99e-3, 0.9801e-3]),
        (dscnn.RECIPE, 10, 100, [5e-4, 5e-4, 2.5e-4]),
        (resnet8.RECIPE, 200, 32, [1e-3, 0.99e-3, 0.9801e-3]),
        (mobilenetv2.RECIPE, 200, 128, [1e-3, 0.99e-3, 0.9801e-3]),
    ],
)
def test_recipe_is_that_of_the_paper(recipe: Recipe, epochs: int, batch: int, rates: list[float]) -> None:
    options = recipe.options()
    assert (options.epochs, options.batch, options.optimizer) == (epochs, batch, OptimizerName.ADAM)
    assert [options.learning_rate(epoch) for epoch in range(3)] == pytest.approx(rates)
    assert options.augmentation.is_active == (recipe is not dscnn.RECIPE)
