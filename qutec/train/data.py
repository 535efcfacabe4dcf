"""Labelled data for training, checked before the first step; nothing here needs torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qutec.calibrate import read_arrays
from qutec.errors import DataError

__all__ = ["DataSource", "Dataset", "Part", "load_dataset"]

DataSource: TypeAlias = str | Path | Mapping[str, npt.ArrayLike]

_HELD_OUT_SHARE = 0.1
_PARTS = ("train", "val", "test")
_FINITE_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Part:
    """Inputs [samples, *shape of the graph's input without batch] in their own type, and labels int64."""

    x: npt.NDArray[np.generic]
    y: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Disjoint parts: what is trained on, and what each epoch is validated on."""

    train: Part
    validation: Part
    validation_name: str
    """Where the validation part comes from: x_val, x_test, or a held-out part of the training data."""

    def digest(self) -> str:
        """SHA-256 over all samples and labels."""
        state = hashlib.sha256()
        for part in (self.train, self.validation):
            for array in (part.x, part.y):
                state.update(f"{array.dtype.str}{array.shape}".encode())
                state.update(np.ascontiguousarray(array).data)
        return state.hexdigest()


def load_dataset(
    source: DataSource, shape: tuple[int, ...], classes: int, *, seed: int, selects: bool = False
) -> Dataset:
    """Read and check labelled data for an input of `shape` (without batch) and so many classes.

    The source is an .npz, or arrays by name: x_train and y_train, or x and y; optional x_val and y_val,
    x_test and y_test. x has numbers of any type and the shape of the input; axes of length 1 may be left out.
    y has integers from 0. Validated is on x_val; else on x_test; else on a seeded, stratified tenth of the
    training data, which is then not trained on. `selects` says that validation chooses the epoch that is
    kept: then test data stay unseen, and the tenth is taken instead.

    Raises:
        DataError: a missing key, wrong shapes or types, labels out of range, values that are not finite, or
            too few samples. The message names the array.
    """
    arrays = read_arrays(source) if isinstance(source, str | Path) else source
    parts = {name: _part(arrays, name, shape, classes) for name in _PARTS}
    train = parts["train"]
    if train is None:
        train = _part(arrays, "", shape, classes)
    if train is None:
        found = ", ".join(f"'{name}'" for name in arrays) or "nothing"
        raise DataError(f"the data have neither x_train and y_train nor x and y; they have {found}")
    if parts["val"] is not None:
        return Dataset(_trainable(train), parts["val"], "x_val")
    if parts["test"] is not None and not selects:
        return Dataset(_trainable(train), parts["test"], "x_test")
    kept, held_out = _split(train, seed)
    return Dataset(_trainable(kept), held_out, "held-out training data")


def _part(
    arrays: Mapping[str, npt.ArrayLike], name: str, shape: tuple[int, ...], classes: int
) -> Part | None:
    x_name, y_name = (f"{letter}_{name}" if name else letter for letter in "xy")
    if x_name not in arrays and y_name not in arrays:
        return None
    for wanted, other in ((x_name, y_name), (y_name, x_name)):
        if wanted not in arrays:
            raise DataError(f"the data have '{other}' but no '{wanted}'")
    x = _inputs(_array(arrays[x_name], x_name), x_name, shape)
    y = _labels(_array(arrays[y_name], y_name), y_name, classes)
    if len(x) != len(y):
        raise DataError(f"'{x_name}' has {len(x)} samples, but '{y_name}' has {len(y)} labels")
    return Part(x, y)


def _array(data: npt.ArrayLike, name: str) -> npt.NDArray[np.generic]:
    try:
        array: npt.NDArray[np.generic] = np.asarray(data)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"'{name}' is not an array of numbers: {error}") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"'{name}' is of type {array.dtype}, not numbers")
    if array.ndim == 0 or array.size == 0:
        raise DataError(f"'{name}' is empty: its shape is {list(array.shape)}")
    return array


def _inputs(x: npt.NDArray[np.generic], name: str, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    if x.shape[1:] != shape:
        if _without_ones(x.shape[1:]) != _without_ones(shape):
            raise DataError(
                f"'{name}' has shape {list(x.shape)}; the graph's input needs [samples, "
                f"{', '.join(map(str, shape))}]{_hint(x.shape[1:], shape)}"
            )
        x = x.reshape(len(x), *shape)
    if x.dtype.kind != "f":
        return x
    x = x.astype(np.float32, copy=False)
    for start in range(0, len(x), _FINITE_CHUNK):
        bad = ~np.isfinite(x[start : start + _FINITE_CHUNK])
        if bad.any():
            row = start + int(np.argwhere(bad)[0][0])
            raise DataError(f"'{name}' has a value that is not a finite float32, in sample {row}")
    return x


def _labels(y: npt.NDArray[np.generic], name: str, classes: int) -> npt.NDArray[np.int64]:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        one_hot = "; one-hot rows are not taken" if y.ndim == 2 and y.shape[1] == classes else ""
        raise DataError(f"'{name}' has shape {list(y.shape)}; one integer a sample is needed{one_hot}")
    if y.dtype.kind not in "iu":
        raise DataError(f"'{name}' is of type {y.dtype}; labels are integers")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise DataError(f"'{name}' has labels {low}..{high}; the network has classes 0..{classes - 1}")
    return y.astype(np.int64)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(length for length in shape if length != 1)


def _hint(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if len(found) == len(wanted) == 3:
        if (found[2], *found[:2]) == wanted:
            return "; the data are NHWC, the graph is NCHW: transpose them to (0, 3, 1, 2)"
        if (*found[1:], found[0]) == wanted:
            return "; the data are NCHW, the graph is NHWC: transpose them to (0, 2, 3, 1)"
    return ""


def _trainable(part: Part) -> Part:
    if len(part) < 2:
        raise DataError(f"there is {len(part)} sample to train on; at least 2 are needed")
    return part


def _split(part: Part, seed: int) -> tuple[Part, Part]:
    """A seeded, stratified split: what is trained on, and about a tenth, one sample at least, held out."""
    generator = np.random.default_rng([seed, len(part)])
    shuffled = generator.permutation(len(part))
    # By class, in random order within one; every tenth of that sequence has all classes in proportion.
    by_class = shuffled[np.argsort(part.y[shuffled], kind="stable")]
    stride = round(1 / _HELD_OUT_SHARE)
    held_out = np.zeros(len(part), np.bool_)
    held_out[by_class[min(stride // 2, len(part) - 1) :: stride]] = True
    return Part(part.x[~held_out], part.y[~held_out]), Part(part.x[held_out], part.y[held_out])
