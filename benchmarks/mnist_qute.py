"""BASE and QUTE on MNIST, trained in one run with the same seeds: calibration and detection in float.

    python -m benchmarks.mnist_qute [--epochs N] [--seeds 0 1 2] [--variants base linear+transfer ...]

The network is that of `models.mnist_cnn`, the recipe that of Ghanathe & Wilton, "QUTE" (arXiv
2404.12599): 20 epochs, batches of 256, Adam 1e-3, x0.99 after each epoch; shifts of up to 2 pixels for all
alike. Every variant of a seed starts from the same trunk. Trained networks and results.json are kept in
--output: what is finished is not trained again, what was interrupted goes on. Without the data, or without
torch (extra `train`), it says so and ends with code 0.
`benchmarks.mnist_qute_int8` goes on from the trained networks.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

import qutec
from benchmarks._mnist import VARIANTS, Mnist, Variant, float_probabilities, read_mnist
from benchmarks._tables import plain_table
from qutec import metrics
from qutec.detection import Answers, accuracy_drop_auprc, failure_auroc
from qutec.errors import DataError, UsageError
from qutec.train import terminal_progress

__all__ = ["OUTPUT", "Row", "main", "model_path", "read_rows"]

OUTPUT = Path("build/mnist_qute")

_SEEDS = (0, 1, 2)
_HEAD = ("variant", "seed", "acc", "NLL", "Brier/10", "ECE", "AUROC wrong", "AUROC OOD", "AUPRC drop")


@dataclass(frozen=True)
class Row:
    """What is measured of one trained network; see `qutec.metrics` and `qutec.detection`.

    `auprc` is the mean over `auprc_by_corruption`, from which corruptions without a dropped window are left
    out.
    """

    accuracy: float
    nll: float
    brier: float
    ece: float
    auroc_wrong: float
    auroc_foreign: float
    auprc: float
    auprc_by_corruption: Mapping[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, measure, print the table; 2 where the results in --output are of other epochs."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mnist_qute", description="BASE and QUTE on MNIST"
    )
    parser.add_argument("--epochs", type=int, help="fewer than the recipe's 20, for a trial")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(_SEEDS))
    names = [variant.name for variant in VARIANTS]
    parser.add_argument("--variants", nargs="+", choices=names, default=names)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder for networks and results.json")
    options = parser.parse_args(arguments)
    data = read_mnist()
    if isinstance(data, str):
        print(f"skipped: {data}", file=sys.stderr)
        return 0
    try:
        import torch
    except ImportError:
        print("skipped: training needs torch: pip install 'qutec[train]'", file=sys.stderr)
        return 0
    from models.mnist_cnn import RECIPE

    torch.set_num_threads(1)
    epochs = options.epochs or RECIPE.epochs
    try:
        rows = read_rows(options.output, epochs)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    for variant, seed in _order(options.variants, options.seeds):
        if (variant.name, seed) in rows:
            continue
        print(f"{variant.name}, seed {seed}", file=sys.stderr, flush=True)
        _train(variant, seed, epochs, data, options.output)
        rows[variant.name, seed] = _measured(model_path(options.output, variant.name, seed), data)
        _write_rows(options.output, epochs, rows)
    print(f"{epochs} epochs; mean over seeds below each variant\n")
    print(plain_table(_HEAD, _cells(rows)))
    return 0


def model_path(folder: Path, variant: str, seed: int) -> Path:
    """Where the trained network of a variant is kept."""
    return folder / f"{variant}-{seed}.onnx"


def read_rows(folder: Path, epochs: int | None = None) -> dict[tuple[str, int], Row]:
    """The results that are kept in a folder, by variant and seed; empty where there are none.

    Raises:
        UsageError: they are of another number of epochs.
    """
    path = folder / "results.json"
    if not path.is_file():
        return {}
    kept = json.loads(path.read_text(encoding="utf-8"))
    if epochs is not None and kept["epochs"] != epochs:
        raise UsageError(
            f"{path} holds results of {kept['epochs']} epochs, not {epochs}: name another --output"
        )
    return {
        (run["variant"], run["seed"]): Row(**{field.name: run[field.name] for field in fields(Row)})
        for run in kept["runs"]
    }


def _order(names: Sequence[str], seeds: Sequence[int]) -> list[tuple[Variant, int]]:
    """What is compared first, for all seeds; then the variants."""
    chosen = [variant for variant in VARIANTS if variant.name in names]
    first, others = chosen[:2], chosen[2:]
    return [(variant, seed) for group in (first, others) for seed in seeds for variant in group]


def _train(variant: Variant, seed: int, epochs: int, data: Mnist, folder: Path) -> None:
    from models import mnist_cnn

    untrained = folder / f"untrained-{seed}.onnx"
    if not untrained.is_file():
        mnist_cnn.export(untrained, seed=seed)
    recipe = mnist_cnn.RECIPE
    model = None
    if variant.heads:
        activation = "relu" if variant.relu else "none"
        model = qutec.attach(untrained, at=recipe.places, activation=activation, seed=seed).model
    checkpoint = folder / f"{variant.name}-{seed}.checkpoint"
    result = qutec.train(
        untrained if model is None else model,
        data.training_arrays(),
        replace(
            recipe.options(seed=seed, epochs=epochs, transfer=variant.transfer), scale=255.0, device="cpu"
        ),
        checkpoint=checkpoint,
        resume=True,
        progress=terminal_progress(),
    )
    result.save(model_path(folder, variant.name, seed))
    shutil.rmtree(checkpoint)


def _measured(model: Path, data: Mnist) -> Row:
    labels = data.y_test
    probabilities = float_probabilities(model, data.x_test)
    clean = Answers.of(probabilities, labels)
    corrupted = {
        name: Answers.of(float_probabilities(model, images), labels)
        for name, images in data.corrupted.items()
    }
    foreign = float_probabilities(model, data.foreign).max(axis=1)
    drops = {}
    for name, answers in corrupted.items():
        # Without a dropped window (or with nothing else) there is nothing to detect.
        with suppress(DataError):
            drops[name] = accuracy_drop_auprc(clean, answers)
    return Row(
        accuracy=metrics.accuracy(probabilities, labels),
        nll=metrics.nll(probabilities, labels),
        brier=metrics.brier(probabilities, labels),
        ece=metrics.ece(probabilities, labels),
        auroc_wrong=failure_auroc(clean, [clean, *corrupted.values()]),
        auroc_foreign=failure_auroc(clean, foreign=[foreign]),
        auprc=float(np.mean(list(drops.values()))),
        auprc_by_corruption=drops,
    )


def _write_rows(folder: Path, epochs: int, rows: Mapping[tuple[str, int], Row]) -> None:
    runs = [{"variant": variant, "seed": seed, **asdict(row)} for (variant, seed), row in rows.items()]
    partial = folder / ".results.json.partial"
    partial.write_text(
        json.dumps({"schema_version": 1, "epochs": epochs, "runs": runs}, indent=1), encoding="utf-8"
    )
    partial.replace(folder / "results.json")


def _cells(rows: Mapping[tuple[str, int], Row]) -> list[list[str]]:
    cells = []
    for variant in VARIANTS:
        own = {seed: row for (name, seed), row in sorted(rows.items()) if name == variant.name}
        values = {str(seed): _values(row) for seed, row in own.items()}
        if len(own) > 1:
            values["mean"] = [float(mean) for mean in np.mean(list(values.values()), axis=0)]
        for label, numbers in values.items():
            accuracy, nll, brier, ece, *areas = numbers
            cells.append(
                [variant.name, label, f"{accuracy:.4f}", f"{nll:.4f}", f"{brier:.5f}", f"{ece:.4f}"]
                + [f"{area:.3f}" for area in areas]
            )
    return cells


def _values(row: Row) -> list[float]:
    areas = [row.auroc_wrong, row.auroc_foreign, row.auprc]
    return [row.accuracy, row.nll, row.brier, row.ece, *areas]


if __name__ == "__main__":
    sys.exit(main())
