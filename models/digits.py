"""Data and command line of the demo network: 8x8 handwritten digits, a QUTE network with two early views.

    python -m models.digits                             train, report, write models/digits.onnx
    python -m models.digits --samples build/digits.npz  write calibration, validation and test data instead
    python -m models.digits --image build/digit.npy     write one test image instead
    python -m models.digits --scores                    report on the network that is there instead

The data are the 1,797 images that scikit-learn carries (the test part of the UCI "Optical Recognition of
Handwritten Digits" set), so nothing is downloaded. Only training needs torch; the network and its recipe
are in `models.digits_network`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qutec.metrics import FloatArray
from qutec.train import terminal_progress
from qutec.train.result import Scores, score

__all__ = [
    "CLASSES",
    "FINAL",
    "MODEL",
    "VIEWS",
    "Digits",
    "load_digits",
    "main",
    "scores",
    "write_image",
    "write_samples",
]

CLASSES = 10
MODEL = Path(__file__).with_name("digits.onnx")
"""The trained network that is committed."""

FINAL = "probabilities"
"""Its final exit: the base network."""

VIEWS = ("early_view_1", "early_view_2")
"""Its early views, whose mean is the answer with uncertainty."""

_PIXEL_MAX = 16.0
_TEST_SHARE = 0.25
_VALIDATION_IMAGES = 200
_SPLIT_SEED = 20261122
_CALIBRATION_IMAGES = 200
_SEED = 0


@dataclass(frozen=True)
class Digits:
    """The three disjoint parts of the data: images NCHW [n, 1, 8, 8] in 0..1, labels [n] in 0..9."""

    x_train: npt.NDArray[np.float32]
    y_train: npt.NDArray[np.int64]
    x_val: npt.NDArray[np.float32]
    y_val: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32]
    y_test: npt.NDArray[np.int64]


def load_digits() -> Digits:
    """Load scikit-learn's digits, scale pixels by 1/16; hold out a quarter to test and 200 to choose by.

    The split is seeded and stratified: the images that `write_samples` calls training images are those that
    the network in `models/digits.onnx` was trained on, and its validation and test images are not.
    """
    from sklearn.datasets import load_digits as sklearn_digits
    from sklearn.model_selection import train_test_split

    data = sklearn_digits()
    images = (data.images / _PIXEL_MAX).astype(np.float32)[:, np.newaxis]
    labels = data.target.astype(np.int64)
    x_rest, x_test, y_rest, y_test = train_test_split(
        images, labels, test_size=_TEST_SHARE, random_state=_SPLIT_SEED, stratify=labels
    )
    x_train, x_val, y_train, y_val = train_test_split(
        x_rest, y_rest, test_size=_VALIDATION_IMAGES, random_state=_SPLIT_SEED, stratify=y_rest
    )
    return Digits(x_train, y_train, x_val, y_val, x_test, y_test)


def scores(
    model: Path | bytes, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> Mapping[str, Scores]:
    """Of the float network on images [n, 1, 8, 8]: BASE, its final exit, and QUTE, the mean of its views."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    final, *views = session.run([FINAL, *VIEWS], {"image": images})
    mean: FloatArray = np.mean(views, axis=0, dtype=np.float64)
    return {"BASE": score(final.astype(np.float64), labels), "QUTE": score(mean, labels)}


def write_samples(path: Path) -> None:
    """Write an .npz: calibration images `x` [200, 1, 8, 8], and validation and test images with labels.

    Names are `x_val` and `y_val`, `x_test` and `y_test`. Only training images calibrate, so that figures on
    the others stay honest. Images are float32.
    """
    digits = load_digits()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        x=digits.x_train[:_CALIBRATION_IMAGES],
        x_val=digits.x_val,
        y_val=digits.y_val,
        x_test=digits.x_test,
        y_test=digits.y_test,
    )
    print(
        f"{path}: {_CALIBRATION_IMAGES} calibration, {len(digits.y_val)} validation"
        f" and {len(digits.y_test)} test images"
    )


def write_image(path: Path, index: int = 0) -> None:
    """Write test image `index` as an .npy, float32 [1, 1, 8, 8], and print its label."""
    digits = load_digits()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, digits.x_test[index : index + 1])
    print(f"{path}: test image {index}, a handwritten {digits.y_test[index]}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and do what it asks for; without options, train and export."""
    parser = argparse.ArgumentParser(prog="python -m models.digits", description="The demo network.")
    parser.add_argument("--samples", type=Path, metavar="NPZ", help="write calibration and test data")
    parser.add_argument("--image", type=Path, metavar="NPY", help="write one test image")
    parser.add_argument("--scores", action="store_true", help="report on the network in --output")
    parser.add_argument("--output", type=Path, metavar="ONNX", default=MODEL, help="where to export to")
    parser.add_argument("--seed", type=int, default=_SEED, help="of weights, order and augmentation")
    parser.add_argument("--epochs", type=int, help="fewer than the recipe's, for a trial")
    options = parser.parse_args(arguments)
    if options.samples is not None:
        write_samples(options.samples)
    if options.image is not None:
        write_image(options.image)
    if options.scores:
        print(_table(options.output))
    if options.samples is None and options.image is None and not options.scores:
        _train_and_export(options.output, options.seed, options.epochs)


def _train_and_export(output: Path, seed: int, epochs: int | None) -> None:
    # Imported here because data and samples must not need torch.
    from models import digits_network

    result = digits_network.train_heads(load_digits(), seed=seed, epochs=epochs, progress=terminal_progress())
    result.save(output)
    print(f"{output}: {result.parameters:,} parameters, {output.stat().st_size:,} bytes")
    print(_table(output))


def _table(model: Path) -> str:
    digits = load_digits()
    lines = [f"{'':<26}accuracy     NLL  Brier/10     ECE"]
    for part, x, y in (
        ("validation", digits.x_val, digits.y_val),
        ("test", digits.x_test, digits.y_test),
    ):
        lines += [
            f"{name} on {len(y)} {part:<14} {s.accuracy:8.4f}  {s.nll:6.4f}  {s.brier:8.5f}  {s.ece:6.4f}"
            for name, s in scores(model, x, y).items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
