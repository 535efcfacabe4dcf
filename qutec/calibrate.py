"""Calibration: sample data, and the range that every activation takes on it (by onnxruntime)."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qutec.errors import DataError, UnsupportedModelError
from qutec.progress_bar import progress_bar

__all__ = ["CalibrationMethod", "Samples", "load_samples", "measure_ranges", "random_samples", "read_arrays"]

Samples: TypeAlias = dict[str, npt.NDArray[np.float32]]
"""Input name -> float32 [samples, *shape without batch]."""

_MOST_SAMPLES = 1000
_CHUNK = 16
_RANDOM_SAMPLES = 64


class CalibrationMethod(StrEnum):
    """How a range is read off the values seen: onnxruntime's calibrators."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"


@dataclass(frozen=True)
class _Input:
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def integers(self) -> tuple[int, int] | None:
        """The least and largest value of an integer input (8-bit pixels that the graph casts)."""
        if not np.issubdtype(self.dtype, np.integer):
            return None
        limits = np.iinfo(self.dtype.name)
        return int(limits.min), int(limits.max)


def load_samples(data: str | Path | npt.ArrayLike | Mapping[str, npt.ArrayLike], model: ir.Model) -> Samples:
    """Samples for every input of a model, from a .npz or .npy file, an array, or arrays by input name.

    A .npz has the array `x`, or one array for each input under its name. An array is
    [samples, *shape without batch] and is read as float32. Raises DataError.
    """
    inputs = _inputs(model)
    arrays = read_arrays(data) if isinstance(data, str | Path) else data
    if not isinstance(arrays, Mapping):
        arrays = {"x": arrays}
    if len(inputs) == 1 and inputs[0].name not in arrays and "x" in arrays:
        arrays = {inputs[0].name: arrays["x"]}
    missing = [entry.name for entry in inputs if entry.name not in arrays]
    if missing:
        wanted = "'x'" if len(inputs) == 1 else ", ".join(f"'{name}'" for name in missing)
        found = ", ".join(f"'{name}'" for name in arrays) or "nothing"
        raise DataError(f"the data has no array {wanted}; it has {found}")
    samples = {entry.name: _checked(_array(arrays[entry.name], entry.name), entry) for entry in inputs}
    counts = {len(array) for array in samples.values()}
    if len(counts) > 1:
        raise DataError(f"the inputs have different numbers of samples: {sorted(counts)}")
    return samples


def random_samples(model: ir.Model, seed: int = 0) -> Samples:
    """Noise for every input: ranges of no meaning, for size and speed only.

    Standard normal; uniform over all codes where the input is of an integer type.
    """
    generator = np.random.default_rng(seed)
    samples = {}
    for entry in _inputs(model):
        shape = (_RANDOM_SAMPLES, *entry.shape[1:])
        if entry.integers is None:
            values = generator.standard_normal(shape)
        else:
            low, high = entry.integers
            values = np.rint(generator.uniform(low, high, shape))
        samples[entry.name] = values.astype(np.float32)
    return samples


def measure_ranges(
    model: ir.Model,
    samples: Samples,
    wanted: Sequence[str],
    method: CalibrationMethod = CalibrationMethod.MINMAX,
    *,
    progress: bool = False,
) -> dict[str, tuple[float, float]]:
    """(min, max) of each wanted value over the samples; at most 1,000 evenly spaced ones are run."""
    from onnxruntime.quantization import calibrate

    options = {"symmetric": False, "percentile": 99.99}
    ort_method = {
        CalibrationMethod.MINMAX: calibrate.CalibrationMethod.MinMax,
        CalibrationMethod.PERCENTILE: calibrate.CalibrationMethod.Percentile,
        CalibrationMethod.ENTROPY: calibrate.CalibrationMethod.Entropy,
    }[method]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model, path)
        calibrator = calibrate.create_calibrator(
            path,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=ort_method,
            extra_options=options,
        )
        types = {entry.name: entry.dtype for entry in _inputs(model)}
        # Onnxruntime's histogram calibrators print to stdout, which belongs to our results.
        with redirect_stdout(io.StringIO()):
            for chunk in _chunks(samples, types, progress=progress):
                calibrator.collect_data(_Reader(chunk))
            data = calibrator.compute_data()
        ranges = {}
        for name in wanted:
            low, high = (float(np.asarray(bound).reshape(-1)[0]) for bound in data[name].range_value)
            if not np.isfinite(low) or not np.isfinite(high):
                raise DataError(f"the value '{name}' is not finite on the calibration data")
            ranges[name] = (low, high)
    return ranges


_Feed: TypeAlias = dict[str, npt.NDArray[np.generic]]


class _Reader:
    """onnxruntime's CalibrationDataReader over a list of feeds."""

    def __init__(self, feeds: list[_Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> _Feed | None:
        return next(self._feeds, None)


def _chunks(
    samples: Samples, types: Mapping[str, np.dtype[np.generic]], *, progress: bool
) -> Iterator[list[_Feed]]:
    count = len(next(iter(samples.values())))
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MOST_SAMPLES)).astype(int))
    with progress_bar("calibrating", len(chosen), shown=progress) as advance:
        for start in range(0, len(chosen), _CHUNK):
            rows = chosen[start : start + _CHUNK]
            yield [
                {name: array[row : row + 1].astype(types[name]) for name, array in samples.items()}
                for row in rows
            ]
            advance(len(rows))


def _inputs(model: ir.Model) -> list[_Input]:
    found = []
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:
            continue
        assert value.name is not None
        assert value.shape is not None
        shape = value.shape.numpy()
        if shape[:1] != (1,):
            raise UnsupportedModelError(
                f"the input '{value.name}' has shape {list(shape)}; its first axis must be a batch of 1"
            )
        dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
        found.append(_Input(value.name, shape, dtype))
    return found


def read_arrays(path: str | Path) -> Mapping[str, npt.NDArray[np.generic]]:
    """The arrays of a .npz by name, or the one of a .npy as `x`. Raises DataError."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file '{path}'")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        with loaded as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError) as error:
        raise DataError(f"'{path}' is not a .npy or .npz file: {error}") from error
    except Exception as error:  # zipfile, lzma and numpy raise their own kinds on damaged files
        raise DataError(f"'{path}' cannot be read: {error}") from error


def _array(data: npt.ArrayLike, name: str) -> npt.NDArray[np.generic]:
    try:
        return np.asarray(data)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"the data for '{name}' is not an array of numbers: {error}") from error


def _checked(array: npt.NDArray[np.generic], entry: _Input) -> npt.NDArray[np.float32]:
    if array.dtype.kind not in "fiub":
        raise DataError(f"the data for '{entry.name}' is of type {array.dtype}, not numbers")
    shape = entry.shape[1:]
    if array.shape == shape and shape:
        array = array[None]
    if array.shape[1:] == entry.shape and entry.shape[:1] == (1,):
        array = array[:, 0]
    if array.ndim == 0 or array.shape[1:] != shape:
        wanted = ", ".join(map(str, ("samples", *shape)))
        raise DataError(f"the data for '{entry.name}' has shape {list(array.shape)}; [{wanted}] is wanted")
    if len(array) == 0:
        raise DataError(f"the data for '{entry.name}' has no samples")
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"the data for '{entry.name}' has NaN or infinite values (as float32)")
    if entry.integers is not None:
        low, high = entry.integers
        if values.min() < low or values.max() > high or (values != np.rint(values)).any():
            raise DataError(
                f"the data for '{entry.name}' is not {entry.dtype}: whole numbers {low} to {high}"
            )
    return values
