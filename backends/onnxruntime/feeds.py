"""Inputs to measure with: samples of a file or noise, in batches, for any ONNX model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from qutec.backends.onnxruntime.session import Arrays
from qutec.calibrate import read_arrays
from qutec.errors import DataError, UnsupportedModelError, UsageError

__all__ = [
    "Data",
    "Labels",
    "Port",
    "batches_of",
    "noise",
    "parse_batches",
    "ports_of",
    "read_labels",
    "read_rows",
]

Data: TypeAlias = str | Path | npt.ArrayLike | Mapping[str, npt.ArrayLike]
"""A .npz or .npy file, an array [samples, *shape], or arrays by input name; `y` are labels [samples]."""

Labels: TypeAlias = npt.NDArray[np.int64]

_MOST_FEEDS = 64
_NOISE_ROWS = 64

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(int16)": np.int16,
    "tensor(uint16)": np.uint16,
    "tensor(int32)": np.int32,
    "tensor(uint32)": np.uint32,
    "tensor(int64)": np.int64,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
}


@dataclass(frozen=True)
class Port:
    """An input of a session. Symbolic dimensions besides the batch count as 1."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    """Without the batch."""
    batch: int | None
    """None where it is symbolic."""


def ports_of(session: ort.InferenceSession) -> list[Port]:
    """The inputs of a session; raises UnsupportedModelError for what is no tensor of numbers."""
    ports = []
    for value in session.get_inputs():
        if value.type not in _TYPES:
            raise UnsupportedModelError(f"input '{value.name}' is a {value.type}, not a tensor of numbers")
        lengths = [length if isinstance(length, int) else None for length in value.shape]
        batch = lengths[0] if lengths else 1
        shape = tuple(length or 1 for length in lengths[1:])
        ports.append(Port(value.name, np.dtype(_TYPES[value.type]), shape, batch))
    return ports


def noise(ports: Sequence[Port]) -> Arrays:
    """Reproducible rows: normal floats, integers over 8 bits."""
    generator = np.random.default_rng(0)
    rows: Arrays = {}
    for port in ports:
        shape = (_NOISE_ROWS, *port.shape)
        if port.dtype.kind == "f":
            rows[port.name] = generator.standard_normal(shape).astype(port.dtype)
        elif port.dtype.kind == "b":
            rows[port.name] = generator.integers(0, 2, shape).astype(port.dtype)
        else:
            limits = np.iinfo(port.dtype.name)
            low, high = max(-128, int(limits.min)), min(127, int(limits.max))
            rows[port.name] = generator.integers(low, high, shape, endpoint=True).astype(port.dtype)
    return rows


def read_rows(data: Data, ports: Sequence[Port]) -> Arrays:
    """Rows [samples, *shape] for each input, in its type. Raises DataError."""
    arrays = _by_name(data)
    rows: Arrays = {}
    for port in ports:
        key = port.name if port.name in arrays else "x" if len(ports) == 1 else None
        if key is None or key not in arrays:
            raise DataError(f"the data has no array '{port.name}'; it has {', '.join(arrays) or 'nothing'}")
        rows[port.name] = _row_array(np.asarray(arrays[key]), port)
    if len({len(array) for array in rows.values()}) > 1:
        raise DataError("the inputs have different numbers of samples")
    return rows


def _by_name(data: Data) -> Mapping[str, npt.ArrayLike]:
    if isinstance(data, str | Path):
        return read_arrays(data)
    return data if isinstance(data, Mapping) else {"x": data}


def _row_array(array: npt.NDArray[np.generic], port: Port) -> npt.NDArray[np.generic]:
    if array.dtype.kind not in "fiub":
        raise DataError(f"the data for '{port.name}' is of type {array.dtype}, not numbers")
    if array.shape == port.shape:
        array = array[None]
    if array.shape[1:] == (1, *port.shape):
        array = array[:, 0]
    if array.ndim == 0 or array.shape[1:] != port.shape or len(array) == 0:
        wanted = ", ".join(map(str, ("samples", *port.shape)))
        raise DataError(f"the data for '{port.name}' has shape {list(array.shape)}; [{wanted}] is wanted")
    if port.dtype.kind in "iu":
        limits = np.iinfo(port.dtype.name)
        if array.min() < limits.min or array.max() > limits.max or (array != np.rint(array)).any():
            raise DataError(f"the data for '{port.name}' does not fit into {port.dtype}")
    return np.ascontiguousarray(array.astype(port.dtype))


def read_labels(data: Data | None, samples: int) -> Labels | None:
    """The array `y` of the data, one class for each sample; None where there is none. Raises DataError."""
    if data is None or not isinstance(data, str | Path | Mapping):
        return None
    arrays = _by_name(data)
    if "y" not in arrays:
        return None
    labels = np.asarray(arrays["y"])
    if labels.shape != (samples,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"the labels 'y' are {labels.dtype} {list(labels.shape)}; [{samples}] whole numbers are wanted"
        )
    return labels.astype(np.int64)


def batches_of(rows: Arrays, batch: int) -> list[Arrays]:
    """Inputs for runs in turn: all rows in batches, at most 64 of them; the last one starts again."""
    samples = len(next(iter(rows.values()), np.zeros(1)))
    count = min(_MOST_FEEDS, -(-samples // batch))
    chosen = [np.arange(start * batch, (start + 1) * batch) % samples for start in range(count)]
    return [{name: array[index] for name, array in rows.items()} for index in chosen]


def parse_batches(text: str | int | Sequence[int] | None) -> tuple[int, ...]:
    """--batch 1,8,32. Raises UsageError."""
    if text is None:
        return (1,)
    items = text.split(",") if isinstance(text, str) else [text] if isinstance(text, int) else list(text)
    try:
        sizes = tuple(dict.fromkeys(int(item) for item in items))
    except ValueError as error:
        raise UsageError(f"--batch {text!r} is not a number, or numbers with commas") from error
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--batch {text!r}: a batch has at least 1 sample")
    return sizes
