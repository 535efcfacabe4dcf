"""Data and command line of the demo network: 8x8 handwritten digits, two early exits and a final one.

    python -m models.digits                             train, report, write models/digits.onnx
    python -m models.digits --samples build/digits.npz  write calibration and test data instead
    python -m models.digits --image build/digit.npy     write one test image instead

The data are the 1,797 images that scikit-learn carries (the test part of the UCI "Optical Recognition of
Handwritten Digits" set), so nothing is downloaded. Only training needs torch; the network and its recipe
are in `models.digits_network`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["CLASSES", "Digits", "load_digits", "main", "write_image", "write_samples"]

CLASSES = 10
_PIXEL_MAX = 16.0
_TEST_SHARE = 0.25
_SPLIT_SEED = 2024
_CALIBRATION_IMAGES = 200
_MODEL = Path(__file__).with_name("digits.onnx")


@dataclass(frozen=True)
class Digits:
    """The two disjoint parts of the data: images NCHW [n, 1, 8, 8] in 0..1, labels [n] in 0..9."""

    x_train: npt.NDArray[np.float32]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32]
    y_test: npt.NDArray[np.int64]


def load_digits() -> Digits:
    """Load scikit-learn's digits, scale pixels by 1/16 and hold out a stratified quarter.

    The split is seeded: the images that `write_samples` calls training images are those that the network
    in `models/digits.onnx` was trained on, and its test images are not.
    """
    from sklearn.datasets import load_digits as sklearn_digits
    from sklearn.model_selection import train_test_split

    data = sklearn_digits()
    images = (data.images / _PIXEL_MAX).astype(np.float32)[:, np.newaxis]
    labels = data.target.astype(np.int64)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=_TEST_SHARE, random_state=_SPLIT_SEED, stratify=labels
    )
    return Digits(x_train, y_train, x_test, y_test)


def write_samples(path: Path) -> None:
    """Write an .npz: calibration images `x` [200, 1, 8, 8], and `x_test` and `y_test` of the held-out part.

    Only training images calibrate, so that figures on the test images stay honest. Images are float32.
    """
    digits = load_digits()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=digits.x_train[:_CALIBRATION_IMAGES], x_test=digits.x_test, y_test=digits.y_test)
    print(f"{path}: {_CALIBRATION_IMAGES} calibration and {len(digits.y_test)} test images")


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
    parser.add_argument("--output", type=Path, metavar="ONNX", default=_MODEL, help="where to export to")
    options = parser.parse_args(arguments)
    if options.samples is not None:
        write_samples(options.samples)
    if options.image is not None:
        write_image(options.image)
    if options.samples is None and options.image is None:
        _train_and_export(options.output)


def _train_and_export(output: Path) -> None:
    # Imported here because data and samples must not need torch.
    from models import digits_network

    digits = load_digits()
    network = digits_network.train(digits)
    digits_network.export(network, output)
    print(f"{output}: {digits_network.parameters(network):,} parameters, {output.stat().st_size:,} bytes")
    for name, accuracy in digits_network.onnx_accuracy(output, digits.x_test, digits.y_test).items():
        print(f"  {name:<7} {accuracy:7.2%} of {len(digits.y_test)} test images")


if __name__ == "__main__":
    main()
