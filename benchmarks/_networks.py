"""The networks that benchmarks and end-to-end tests compile, with the real inputs that belong to each.

Networks and data come from a folder outside the repository (environment variable QUTEC_SHARED, by default
`../shared` beside it): MLPerf Tiny and T-RecX models, whose inputs are

    keywords  kws01_eembc_1000_int8_mfcc.npz   1,000 labelled MFCC images; the first 200 calibrate
    images    cifar10_test_jpeg_200.npz        200 labelled CIFAR-10 test images; every fifth calibrates,
                                               because the file is ordered by class

Calibration never sees a label. There are no training inputs in these files, so the calibration inputs are
labelled test inputs too: accuracy is told over all samples, and over those alone that did not calibrate.
The repository's own `models/digits.onnx` needs scikit-learn for its data and gets noise without it.
"""

from __future__ import annotations

import importlib.util
import io
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from qutec.errors import DataError, ToolMissingError

__all__ = [
    "DIGITS",
    "Network",
    "Samples",
    "Task",
    "find_networks",
    "jpeg_images",
    "noise",
    "read_samples",
    "shared_folder",
]

_ROOT = Path(__file__).resolve().parents[1]
_MODELS = ("mlperf_dscnn_kws", "mlperf_resnet8_ic", "trecx_ic", "trecx_kws")
_KEYWORDS = "kws01_eembc_1000_int8_mfcc.npz"
_IMAGES = "cifar10_test_jpeg_200.npz"
_JPEGS = "cifar10_jpeg.npz"
_CALIBRATION_KEYWORDS = 200
_CALIBRATION_IMAGE_STEP = 5
_CALIBRATION_JPEGS = 200
_CALIBRATION_DIGITS = 200
_NOISE_SAMPLES = 16


class Task(StrEnum):
    """What a network was trained for, which decides its data."""

    KEYWORDS = "keywords"
    IMAGES = "images"
    DIGITS = "digits"


@dataclass(frozen=True)
class Network:
    """One ONNX file."""

    path: Path
    task: Task

    @property
    def name(self) -> str:
        """The file's name without suffix."""
        return self.path.stem

    @property
    def is_int8(self) -> bool:
        """Whether the file is quantised already, with int8 inputs."""
        return "_int8_" in self.name


DIGITS = Network(_ROOT / "models" / "digits.onnx", Task.DIGITS)


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs [samples, *shape of the network without batch] as the ONNX file takes them.

    `x` is float32, or int8 for a network with int8 input; `labels` [samples] is None for noise, which
    measures no accuracy. `calibration` is None for a quantised network. `held_out` [samples] says which rows
    of `x` did not calibrate.
    """

    x: npt.NDArray[np.float32] | npt.NDArray[np.int8]
    labels: npt.NDArray[np.int64] | None
    calibration: npt.NDArray[np.float32] | None
    held_out: npt.NDArray[np.bool_]


def shared_folder() -> Path:
    """Where networks and data are looked for; it may not exist."""
    return Path(os.environ.get("QUTEC_SHARED") or _ROOT.parent / "shared")


def find_networks(names: Sequence[str] = ()) -> list[Network]:
    """The networks that there are, by name, the demo last; those whose name has one of `names` in it."""
    folder = shared_folder() / "models"
    paths = sorted(path for stem in _MODELS for path in folder.glob(f"{stem}_*.onnx"))
    found = [Network(path, Task.KEYWORDS if "kws" in path.stem else Task.IMAGES) for path in paths]
    found.append(DIGITS)
    return [network for network in found if not names or any(name in network.name for name in names)]


def noise(path: Path, samples: int) -> npt.NDArray[np.float32]:
    """Uniform noise from 0 to 1, [samples, *shape], for the one input of a float network."""
    (value,) = onnx.load(path, load_external_data=False).graph.input
    shape = [length.dim_value for length in value.type.tensor_type.shape.dim][1:]
    return np.random.default_rng(0).random((samples, *shape), dtype=np.float32)


def read_samples(network: Network) -> Samples | None:
    """The network's data; None where the file is missing."""
    match network.task:
        case Task.KEYWORDS:
            return _keywords(network)
        case Task.IMAGES:
            return _images(network)
        case Task.DIGITS:
            return _digits()


@cache
def _archive(name: str) -> dict[str, npt.NDArray[np.generic]] | None:
    path = shared_folder() / "data" / name
    if not path.is_file():
        return None
    with np.load(path) as archive:
        return {key: archive[key] for key in archive.files}


def _keywords(network: Network) -> Samples | None:
    data = _archive(_KEYWORDS)
    if data is None:
        return None
    stored, labels = data["x_int8"].astype(np.int8), data["y"].astype(np.int64)
    if network.is_int8:
        return Samples(stored, labels, None, np.ones(len(stored), np.bool_))
    scale, zero_point = float(data["scale"]), float(data["zero_point"])
    real = ((stored.astype(np.float64) - zero_point) * scale).astype(np.float32)
    held_out = np.arange(len(real)) >= _CALIBRATION_KEYWORDS
    return Samples(real, labels, real[~held_out], held_out)


def _images(network: Network) -> Samples | None:
    data = _archive(_IMAGES)
    if data is None:
        return None
    pixels, labels = data["x"].astype(np.int16), data["y"].astype(np.int64)
    x = _as_input(network, pixels)
    if x.dtype == np.int8:
        return Samples(x, labels, None, np.ones(len(x), np.bool_))
    held_out = np.arange(len(x)) % _CALIBRATION_IMAGE_STEP != 0
    return Samples(x, labels, x[~held_out].astype(np.float32), held_out)


def jpeg_images(network: Network, count: int) -> Samples:
    """`count` test images of cifar10_jpeg.npz; 200 of its training images calibrate.

    Raises ToolMissingError without Pillow, DataError where there is no such file.
    """
    test, labels = _decoded("test", count)
    x = _as_input(network, test)
    calibration = None
    if not network.is_int8:
        calibration = _as_input(network, _decoded("train", _CALIBRATION_JPEGS)[0]).astype(np.float32)
    return Samples(x, labels, calibration, np.ones(len(x), np.bool_))


def _as_input(
    network: Network, pixels: npt.NDArray[np.int16]
) -> npt.NDArray[np.float32] | npt.NDArray[np.int8]:
    """Pixels [images, H, W, C] in 0..255 as the network takes them."""
    if network.is_int8:
        return (pixels - 128).astype(np.int8)
    real = pixels.astype(np.float32)
    return np.ascontiguousarray(real.transpose(0, 3, 1, 2)) if network.name.endswith("_nchw") else real


@cache
def _decoded(part: str, count: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
    """The first `count` images of a part ("train", "test"): one JPEG header, then each image's scan."""
    try:
        from PIL import Image
    except ImportError:
        raise ToolMissingError("decoding JPEG images needs Pillow: pip install pillow") from None
    path = shared_folder() / "data" / _JPEGS
    if not path.is_file():
        raise DataError(f"there is no file '{path}'")
    with np.load(path) as archive:
        header, scans = archive["header"].tobytes(), archive[f"scan_{part}"].tobytes()
        ends, labels = archive[f"offset_{part}"][: count + 1], archive[f"y_{part}"][:count]
    images = [
        np.asarray(Image.open(io.BytesIO(header + scans[begin:end])))
        for begin, end in itertools.pairwise(ends)
    ]
    return np.stack(images).astype(np.int16), labels.astype(np.int64)


def _digits() -> Samples:
    if importlib.util.find_spec("sklearn") is None:
        x = noise(DIGITS.path, _NOISE_SAMPLES)
        return Samples(x, None, x, np.zeros(len(x), np.bool_))
    from models.digits import load_digits

    digits = load_digits()
    everything = np.ones(len(digits.x_test), np.bool_)
    return Samples(digits.x_test, digits.y_test, digits.x_train[:_CALIBRATION_DIGITS], everything)
