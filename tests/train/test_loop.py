"""The training: against a plain implementation of the paper's recipe, and what is promised about runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from qutec import metrics  # noqa: E402
from qutec.errors import DataError, UnsupportedModelError, UsageError  # noqa: E402
from qutec.train import Augmentation, EpochReport, OptimizerName, Progress, TrainingOptions, train  # noqa: E402
from tests.onnx_models import text  # noqa: E402
from tests.train.graphs import Array, by_ort, early_exit_cnn, initializers, stripes  # noqa: E402

ROOT = Path(__file__).parents[2]
DATA = stripes(80)
TRUNK = ("trunk1.w", "trunk2.w", "trunk2.b", "bn.scale", "bn.bias", "bn.mean", "bn.var")


def _options(**changed: object) -> TrainingOptions:
    fields: dict[str, object] = {"epochs": 3, "batch": 16, "device": "cpu", "lr": 0.01}
    return TrainingOptions(**(fields | changed))  # type: ignore[arg-type]


def _trained(model: onnx.ModelProto, options: TrainingOptions) -> dict[str, Array]:
    return initializers(ir.to_proto(train(model, DATA, options).model))


class _Reference(nn.Module):
    """The graph of `early_exit_cnn` once more, written in torch by hand."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        super().__init__()
        self.p = nn.ParameterDict(
            {
                k.replace(".", "_"): nn.Parameter(torch.tensor(v))
                for k, v in arrays.items()
                if k not in TRUNK[-2:]
            }
        )
        self.register_buffer("mean", torch.tensor(arrays["bn.mean"]))
        self.register_buffer("var", torch.tensor(arrays["bn.var"]))

    def forward(self, x: Tensor, frozen: bool) -> list[Tensor]:
        p = self.p
        a = functional.conv2d(x, p["trunk1_w"], padding=1)
        a = functional.batch_norm(a, self.mean, self.var, p["bn_scale"], p["bn_bias"], not frozen, 0.2)
        a = a.relu()
        b = functional.conv2d(a, p["trunk2_w"], p["trunk2_b"], padding=1).relu()
        logits = []
        for name, source in (("ee", functional.conv2d(a, p["ee_w"])), ("ev", b)):
            c = functional.conv2d(source, p[f"{name}_dw"], p[f"{name}_db"], padding=1, groups=4).relu()
            logits.append(c.mean((2, 3)) @ p[f"{name}_fw"] + p[f"{name}_fb"])
        return [*logits, b.mean((2, 3)) @ p["f_w"] + p["f_b"]]


def _reference_run(
    arrays: dict[str, Array], epochs: int, frozen: int, target: float, *, transfer: bool
) -> dict[str, Array]:
    """The recipe as the paper tells it, one batch with all samples an epoch, SGD with momentum."""
    network = _Reference(arrays)
    x, y = torch.tensor(DATA["x_train"]), torch.tensor(DATA["y_train"])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(epochs):
        if transfer:
            with torch.no_grad():
                network.p["ev_dw"].copy_(network.p["ee_dw"])
                network.p["ev_db"].copy_(network.p["ee_db"])
        is_frozen = epoch >= epochs - frozen
        for name in TRUNK[:-2]:
            network.p[name.replace(".", "_")].requires_grad_(not is_frozen)
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * 0.9**epoch
        exit_, view, final = (functional.cross_entropy(rows, y) for rows in network(x, is_frozen))
        tau = 0.01 + (target - 0.01) * epoch / (epochs - 1)
        optimizer.zero_grad(set_to_none=True)
        (tau * exit_ + 3.0 * view + final).backward()
        optimizer.step()
    return {k: v.detach().numpy() for k, v in network.p.items()} | {
        "bn_mean": network.mean.numpy(),
        "bn_var": network.var.numpy(),
    }


@pytest.mark.parametrize("transfer", [True, False])
def test_training_follows_the_recipe(transfer: bool) -> None:
    model = early_exit_cnn()
    options = _options(
        epochs=6,
        batch=60,
        lr=0.05,
        lr_decay=0.9,
        optimizer=OptimizerName.SGD,
        transfer=transfer,
        frozen_share=0.3,
    )
    actual = _trained(model, options)
    # The exit branches off after the first of two convolutions of 9 x 4 and 9 x 16 weights.
    expected = _reference_run(initializers(model), 6, frozen=2, target=36 / (36 + 144), transfer=transfer)
    for name, array in actual.items():
        if transfer and name in ("ev.dw", "ev.db"):
            # The paper's own update of the copy would be overwritten before the next batch.
            np.testing.assert_array_equal(array, actual[name.replace("ev", "ee")])
        else:
            np.testing.assert_allclose(array, expected[name.replace(".", "_")], atol=2e-5)


def test_trunk_is_frozen_for_the_last_tenth() -> None:
    assert TrainingOptions(epochs=20).frozen_epochs == 2
    assert TrainingOptions(epochs=30).frozen_epochs == 3
    assert TrainingOptions(epochs=8).frozen_epochs == 1
    assert TrainingOptions(epochs=1).frozen_epochs == 0
    history = train(early_exit_cnn(), DATA, _options(epochs=4, frozen_share=0.5)).history
    assert [report.trunk_frozen for report in history] == [False, False, True, True]


def test_freeze_trunk_leaves_a_finished_network_bit_identical() -> None:
    model = early_exit_cnn()
    before = initializers(model)
    after = _trained(model, _options(freeze_trunk=True, weight_decay=0.1))
    for name in (*TRUNK, "f.w", "f.b"):
        assert after[name].tobytes() == before[name].tobytes()
    changed = {name for name in before if after[name].tobytes() != before[name].tobytes()}
    assert changed == {name for name in before if name.startswith(("ee", "ev"))}
    expected, actual = by_ort(model, DATA["x_test"]), by_ort(_with(model, after), DATA["x_test"])
    np.testing.assert_array_equal(expected["final"], actual["final"])


def test_freeze_trunk_leaves_shared_constants_shared() -> None:
    model = early_exit_cnn()
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "bn.mean"]
    model.graph.initializer.remove(bias)
    next(node for node in model.graph.node if node.name == "bn").input[3] = "bn.bias"
    after = _trained(model, _options(freeze_trunk=True))
    assert after.keys() == initializers(model).keys()
    assert _trained(model, _options()).keys() > after.keys()


def test_without_a_shared_part_there_is_nothing_to_freeze() -> None:
    model = text("g (float[N, 1, 6, 6] x) => (float[N, 3] y) { f = Flatten(x) y = Gemm(f, w) }")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((36, 3), np.float32), "w"))
    with pytest.raises(UsageError, match="no trunk"):
        train(model, DATA, _options(freeze_trunk=True))


def test_network_learns_and_its_scores_are_those_of_the_written_model() -> None:
    result = train(early_exit_cnn(), DATA, _options(epochs=25, lr=0.02))
    outputs = by_ort(ir.to_proto(result.model), DATA["x_test"])
    last = result.history[-1]
    assert last.prediction.accuracy > 0.9
    assert last.train_loss < 0.5 * result.history[0].train_loss
    for name, scores in last.validation.items():
        assert scores.nll == pytest.approx(metrics.nll(outputs[name], DATA["y_test"]), rel=1e-4)
        assert scores.accuracy == metrics.accuracy(outputs[name], DATA["y_test"])
    assert last.prediction == last.validation["early_view"]  # one view: the mean is the view


def test_network_without_metadata_trains_all_its_classifiers_alike() -> None:
    model = early_exit_cnn(heads=False)
    result = train(model, DATA, _options(epochs=1, batch=60, optimizer=OptimizerName.SGD, lr=1e-6))
    report = result.history[0]
    outputs = by_ort(_with(model, _batch_statistics(model)), DATA["x_train"])
    losses = [metrics.nll(outputs[name], DATA["y_train"]) for name in ("early_exit", "early_view", "final")]
    assert report.train_loss == pytest.approx(sum(losses), rel=1e-4)
    assert not report.trunk_frozen
    # Nothing tells that this output is a view: with its convolution it is the deepest, so the final one.
    assert report.prediction == report.validation["early_view"]


def test_early_exit_network_of_others_trains_in_batches_and_predicts_with_its_final_exit() -> None:
    path = Path(os.environ.get("QUTEC_SHARED", "-")) / "models" / "trecx_kws_dscnn_branchynet_b1.onnx"
    if not path.is_file():
        pytest.skip("QUTEC_SHARED does not name a folder with models/")
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal((40, 49, 10, 1)).astype(np.float32), "y": rng.integers(0, 12, 40)}
    result = train(path, arrays, _options(epochs=1, lr=1e-3))
    report = result.history[0]
    assert list(report.validation) == ["ee_1", "ee_2", "ef_out"]
    assert report.prediction == report.validation["ef_out"]
    before, after = ir.to_proto(ir.load(path)), ir.to_proto(result.model)
    assert before.graph.node == after.graph.node
    assert not _equal(initializers(before), initializers(after))


def _batch_statistics(model: onnx.ModelProto) -> dict[str, Array]:
    """Initializers with the batch norm's statistics set to those of all the training data."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.append(onnx.helper.make_tensor_value_info("t1", onnx.TensorProto.FLOAT, None))
    maps = by_ort(probe, DATA["x_train"])["t1"]
    return initializers(model) | {"bn.mean": maps.mean((0, 2, 3)), "bn.var": maps.var((0, 2, 3))}


def _with(model: onnx.ModelProto, arrays: dict[str, Array]) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.initializer[:]
    result.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()
    )
    return result


def test_fixed_batch_of_one_trains_the_same() -> None:
    assert _equal(_trained(early_exit_cnn(batch=1), _options()), _trained(early_exit_cnn(), _options()))


def test_seed_decides_every_byte() -> None:
    model = early_exit_cnn(dropout=True)
    options = [_options(seed=seed, augmentation=Augmentation(shift=1)) for seed in (1, 1, 2)]
    first, again, other = (train(model, DATA, chosen).to_bytes() for chosen in options)
    assert first == again != other


def test_global_random_state_of_torch_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(early_exit_cnn(), DATA, _options(epochs=1))
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_uint8_data_and_scale_give_what_scaled_floats_give() -> None:
    pixels = {
        k: np.clip(v * 100 + 100, 0, 255).astype(np.uint8) if k[0] == "x" else v for k, v in DATA.items()
    }
    floats = {k: v.astype(np.float32) / np.float32(255) if k[0] == "x" else v for k, v in pixels.items()}
    as_bytes = train(early_exit_cnn(), pixels, _options(scale=255.0)).to_bytes()
    assert as_bytes == train(early_exit_cnn(), floats, _options()).to_bytes()


def test_patience_stops_and_keeps_the_best_epoch() -> None:
    arrays = dict(DATA) | {"x_val": DATA["x_test"], "y_val": DATA["y_test"]}
    result = train(early_exit_cnn(), arrays, _options(epochs=60, lr=0.3, patience=2))
    losses = [report.prediction.nll for report in result.history]
    assert len(losses) < 60
    assert result.kept_epoch == 1 + int(np.argmin(losses)) == len(losses) - 2
    outputs = by_ort(ir.to_proto(result.model), DATA["x_test"])
    assert metrics.nll(outputs["early_view"], DATA["y_test"]) == pytest.approx(min(losses), rel=1e-3)


def test_diverging_loss_is_an_error() -> None:
    with pytest.raises(UsageError, match="no longer finite in epoch"):
        train(early_exit_cnn(), DATA, _options(epochs=8, lr=1e30, optimizer=OptimizerName.SGD))


def test_graph_that_mixes_samples_is_refused() -> None:
    model = text(
        """g (float[N, 1, 6, 6] x) => (float[N, 3] y)
        { f = Flatten(x) m = ReduceMean<axes=[0]>(f) c = Sub(f, m) l = Gemm(c, w) y = Softmax(l) }""",
        opset=13,
    )
    weights = np.random.default_rng(0).standard_normal((36, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    with pytest.raises(UnsupportedModelError, match="mixes the samples"):
        train(model, DATA, _options())


def test_labels_beyond_the_classes_are_found_before_the_first_step() -> None:
    with pytest.raises(DataError, match="y_train"):
        train(early_exit_cnn(), dict(DATA) | {"y_train": DATA["y_train"] + 1}, _options())


def test_exit_weight_targets_must_fit_the_exits() -> None:
    with pytest.raises(UsageError, match="2 exit weights for 1"):
        train(early_exit_cnn(), DATA, _options(exit_weight_targets=(0.1, 0.2)))


class _StoppedError(Exception):
    pass


class _StopAt(Progress):
    """Ends the run by an exception once so many steps were checked."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def is_due(self) -> bool:
        self.left -= 1
        if self.left <= 0:
            raise _StoppedError
        return False


RUN = """
import os, signal, sys
import numpy as np
from qutec.train import Augmentation, Progress, TrainingOptions, train

class Killed(Progress):
    steps = int(sys.argv[2])
    def is_due(self):
        Killed.steps -= 1
        if Killed.steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

options = TrainingOptions(
    epochs=3, batch=16, device="cpu", lr=0.01, patience=2, augmentation=Augmentation(shift=1)
)
result = train(
    "net.onnx", "data.npz", options,
    checkpoint="run", checkpoint_seconds=0.0, resume=True, progress=Killed(),
)
result.save(sys.argv[1])
"""


def test_run_that_is_killed_twice_ends_with_the_same_bytes(tmp_path: Path) -> None:
    model = early_exit_cnn(dropout=True)
    onnx.save(model, tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", **DATA)
    (tmp_path / "run.py").write_text(RUN)

    def run(kill_after: int) -> int:
        # Two checks are made a step, and an epoch has three steps: 3 and 9 fall into the middle of epochs.
        environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command: Sequence[str | Path] = [sys.executable, "run.py", "out.onnx", str(kill_after)]
        return subprocess.run(command, cwd=tmp_path, check=False, env=environment).returncode

    assert run(kill_after=3) == -signal.SIGKILL
    assert run(kill_after=9) == -signal.SIGKILL
    assert not (tmp_path / "out.onnx").exists()
    assert run(kill_after=-1) == 0
    options = _options(patience=2, augmentation=Augmentation(shift=1))
    uninterrupted = train(tmp_path / "net.onnx", tmp_path / "data.npz", options)
    assert (tmp_path / "out.onnx").read_bytes() == uninterrupted.to_bytes()
    # A finished run gives its result again.
    finished = train(
        tmp_path / "net.onnx", tmp_path / "data.npz", options, checkpoint=tmp_path / "run", resume=True
    )
    assert finished.to_bytes() == uninterrupted.to_bytes()
    assert finished.history == uninterrupted.history


@pytest.mark.parametrize("steps", range(1, 12, 3))
def test_run_resumes_bit_identical_from_any_step(tmp_path: Path, steps: int) -> None:
    model, options = early_exit_cnn(), _options(epochs=2)
    with pytest.raises(_StoppedError):
        train(model, DATA, options, checkpoint=tmp_path, checkpoint_seconds=0.0, progress=_StopAt(steps))
    resumed = train(model, DATA, options, checkpoint=tmp_path, resume=True)
    assert resumed.to_bytes() == train(model, DATA, options).to_bytes()


def test_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    model = early_exit_cnn()
    train(model, DATA, _options(epochs=1), checkpoint=tmp_path)
    with pytest.raises(UsageError, match="holds a checkpoint"):
        train(model, DATA, _options(epochs=1), checkpoint=tmp_path)
    with pytest.raises(UsageError, match="another run: the options differ"):
        train(model, DATA, _options(epochs=2), checkpoint=tmp_path, resume=True)
    with pytest.raises(UsageError, match="the model"):
        train(early_exit_cnn(seed=1), DATA, _options(epochs=1), checkpoint=tmp_path, resume=True)
    with pytest.raises(UsageError, match="the data"):
        train(model, stripes(80, seed=1), _options(epochs=1), checkpoint=tmp_path, resume=True)


def test_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    train(early_exit_cnn(), DATA, _options(epochs=1), checkpoint=tmp_path)
    (file,) = tmp_path.iterdir()  # nothing temporary is left
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="damaged"):
        train(early_exit_cnn(), DATA, _options(epochs=1), checkpoint=tmp_path, resume=True)


def test_progress_hears_of_every_epoch() -> None:
    class Heard(Progress):
        def __init__(self) -> None:
            self.reports: list[EpochReport] = []

        def epoch(self, report: EpochReport) -> None:
            self.reports.append(report)

    heard = Heard()
    result = train(early_exit_cnn(), DATA, _options(), progress=heard)
    assert tuple(heard.reports) == result.history
    assert [report.epoch for report in heard.reports] == [1, 2, 3]


def test_cuda_and_cpu_agree() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    options = {"epochs": 2, "augmentation": Augmentation(shift=1, flip=True)}
    cpu, gpu = (_trained(early_exit_cnn(), _options(device=device, **options)) for device in ("cpu", "cuda"))
    for name, array in cpu.items():
        np.testing.assert_allclose(gpu[name], array, atol=1e-2)


def _equal(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)
