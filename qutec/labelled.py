"""Labelled data for training and evaluation, read by name and checked in one place; no torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qutec.calibrate import read_arrays
from qutec.errors import DataError

__all__ = ["Arrays", "DataSource", "Part", "checked_inputs", "labelled_part", "read_data"]

Arrays: TypeAlias = Mapping[str, npt.ArrayLike]

DataSource: TypeAlias = str | Path | Arrays
"""A .npz file, or arrays by name."""

_FINITE_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Part:
    """Inputs [samples, *shape of the graph's input without batch] in their own type, and labels int64."""

    x: npt.NDArray[np.generic]
    y: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)


def read_data(source: DataSource) -> Arrays:
    """The arrays of a source by name. Raises DataError where a file cannot be read."""
    return read_arrays(source) if isinstance(source, str | Path) else source


def labelled_part(arrays: Arrays, name: str, shape: tuple[int, ...], classes: int) -> Part | None:
    """Arrays x_name and y_name (x and y without a name), checked; None where there is neither.

    x has numbers of any type and `shape` behind its samples, axes of length 1 left out or not; y has integers
    from 0 to classes - 1, [samples] or [samples, 1].

    Raises:
        DataError: one of the two is missing, wrong shapes or types, labels out of range, values that are not
            finite, no samples. The message names the array.
    """
    x_name, y_name = (f"{letter}_{name}" if name else letter for letter in "xy")
    if x_name not in arrays and y_name not in arrays:
        return None
    for wanted, other in ((x_name, y_name), (y_name, x_name)):
        if wanted not in arrays:
            raise DataError(f"the data have '{other}' but no '{wanted}'")
    x = checked_inputs(arrays[x_name], x_name, shape)
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


def checked_inputs(data: npt.ArrayLike, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """Inputs [samples, *shape] in their own type, floats as float32.

    Raises:
        DataError: not numbers, another shape, no samples, or a value that is not finite; it names the array.
    """
    x = _array(data, name)
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
