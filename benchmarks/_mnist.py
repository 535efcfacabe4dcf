"""MNIST, MNIST-C and FashionMNIST from the shared folder, and the networks that are trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks._networks import shared_folder
from qutec.metrics import FloatArray

__all__ = ["VARIANTS", "Images", "Mnist", "Variant", "float_probabilities", "read_mnist"]

Images = npt.NDArray[np.uint8]

_VALIDATION = 2000
_PIXEL_MAX = np.float32(255)
_BATCH = 1000


@dataclass(frozen=True)
class Variant:
    """One way to train the network: with linear or ReLU heads or none, with weight transfer or without."""

    name: str
    heads: bool = True
    relu: bool = False
    transfer: bool = True


VARIANTS = (
    Variant("base", heads=False),
    Variant("linear+transfer"),
    Variant("relu+transfer", relu=True),
    Variant("linear", transfer=False),
    Variant("relu", relu=True, transfer=False),
)
"""The first two are what is compared; the others show what transfer and activation do."""


@dataclass(frozen=True, eq=False)
class Mnist:
    """Images NCHW [n, 1, 28, 28] of 0..255. `corrupted` has the labels of the test images, `foreign` none."""

    x_train: Images
    y_train: npt.NDArray[np.int64]
    x_test: Images
    y_test: npt.NDArray[np.int64]
    corrupted: Mapping[str, Images]
    foreign: Images

    def training_arrays(self) -> dict[str, npt.ArrayLike]:
        """Data for `qutec.train`: the last 2,000 training images validate; the test images are not seen."""
        return {
            "x_train": self.x_train[:-_VALIDATION],
            "y_train": self.y_train[:-_VALIDATION],
            "x_val": self.x_train[-_VALIDATION:],
            "y_val": self.y_train[-_VALIDATION:],
        }

    def first(self, count: int) -> Mnist:
        """The same with so many training images, for a trial."""
        return replace(self, x_train=self.x_train[-count:], y_train=self.y_train[-count:])


def read_mnist() -> Mnist | str:
    """The data, or why they cannot be had."""
    folder = shared_folder() / "data"
    paths = [folder / name for name in ("mnist.npz", "mnist_c.npz", "fashion_mnist_test.npz")]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        return f"'{folder}' lacks {', '.join(missing)} (QUTEC_SHARED names another folder)"
    with np.load(paths[0]) as clean, np.load(paths[1]) as corrupted, np.load(paths[2]) as foreign:
        return Mnist(
            _nchw(clean["x_train"]),
            clean["y_train"].astype(np.int64),
            _nchw(clean["x_test"]),
            clean["y_test"].astype(np.int64),
            {name: _nchw(corrupted[name]) for name in corrupted.files if corrupted[name].ndim > 1},
            _nchw(foreign["x_test"]),
        )


def float_probabilities(model: Path, images: Images) -> FloatArray:
    """Mean over the early views of a trained network, else its only output, by ONNX Runtime: [n, classes]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    views = [name for name in outputs if name.startswith("early_view_")] or outputs
    name = session.get_inputs()[0].name
    rows = []
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH] / _PIXEL_MAX
        rows.append(np.mean(session.run(views, {name: batch}), axis=0, dtype=np.float64))
    return np.concatenate(rows)


def _nchw(images: Images) -> Images:
    return images[:, np.newaxis]
