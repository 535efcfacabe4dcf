"""Inputs and outputs as the caller sees them: real or stored values, ONNX order or memory order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qutec.errors import DataError
from qutec.program import Int8Array, Port, StoredArray

__all__ = ["PortInfo"]


@dataclass(frozen=True, eq=False)
class PortInfo:
    """What report.json says of an input or output; enough to read and write it.

    `shape` is the ONNX shape. `order[i]` is the row-major ONNX element at memory position i; None means
    that both agree.
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    order: npt.NDArray[np.int64] | None
    dtype: str = "int8"

    @classmethod
    def of(cls, port: Port) -> PortInfo:
        """The port of a Program."""
        order = None if port.order is None else port.order.astype(np.int64)
        scale, zero_point = port.quantization.scale, port.quantization.zero_point
        return cls(port.name, port.logical_shape, scale, zero_point, order, port.dtype)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> PortInfo:
        """The port of a report.json; KeyError, TypeError or ValueError where an entry is garbled."""
        shape = tuple(int(dim) for dim in entry["shape"])
        order = _order(str(entry["layout"]), shape)
        if entry["layout"] == "permuted":
            order = np.array(entry["order"], np.int64)
        dtype = str(entry["dtype"])
        if dtype not in ("int8", "int32"):
            raise ValueError(f"dtype {dtype}")
        return cls(str(entry["name"]), shape, float(entry["scale"]), int(entry["zero_point"]), order, dtype)

    def to_json(self) -> dict[str, object]:
        """The entry of report.json; `order` only where no word describes it."""
        entry: dict[str, object] = {
            "name": self.name,
            "bytes": self.size * np.dtype(self.dtype).itemsize,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "scale": self.scale,
            "zero_point": self.zero_point,
            "layout": self.layout,
        }
        if self.layout == "permuted" and self.order is not None:
            entry["order"] = self.order.tolist()
        return entry

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def layout(self) -> str:
        """'row_major', 'channels_last' (ONNX axis 1 runs fastest) or 'permuted'."""
        if self.order is None:
            return "row_major"
        last = _order("channels_last", self.shape)
        return "channels_last" if last is not None and np.array_equal(self.order, last) else "permuted"

    def stored(self, values: npt.ArrayLike) -> Int8Array:
        """int8 [samples, *shape] in ONNX order; int8 data is taken as stored, other data as real values.

        Takes one sample with or without a batch axis, or several. Raises DataError.
        """
        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            raise DataError(f"the data for '{self.name}' is of type {array.dtype}, not numbers")
        inner = self.shape[1:] if self.shape[:1] == (1,) else self.shape
        if array.shape == inner:
            array = array[None]
        if array.shape[1:] == self.shape:
            array = array.reshape(len(array), *inner)
        if array.ndim == 0 or array.shape[1:] != inner or len(array) == 0:
            raise DataError(
                f"the data for '{self.name}' has shape {list(array.shape)}; "
                f"{list(inner)} is wanted, or several of them in one array"
            )
        array = array.reshape(len(array), *self.shape)
        if array.dtype == np.int8:
            return array
        real = array.astype(np.float64)
        if not np.isfinite(real).all():
            raise DataError(f"the data for '{self.name}' has NaN or infinite values")
        codes = np.rint(real / self.scale) + self.zero_point
        clipped: Int8Array = np.clip(codes, -128, 127).astype(np.int8)
        return clipped

    def real(self, stored: StoredArray) -> npt.NDArray[np.float32]:
        """The real values of stored ones, same shape."""
        return ((stored.astype(np.float64) - self.zero_point) * self.scale).astype(np.float32)

    def to_memory(self, stored: Int8Array) -> Int8Array:
        """One sample in ONNX order as the flat bytes that the network reads."""
        flat = stored.reshape(-1)
        return np.ascontiguousarray(flat if self.order is None else flat[self.order])

    def from_memory(self, flat: Int8Array) -> StoredArray:
        """The bytes of one output as stored values, [*shape] in ONNX order."""
        result = np.empty(self.size, self.dtype)
        values = np.ascontiguousarray(flat).view(np.dtype(self.dtype).newbyteorder("<"))
        result[slice(None) if self.order is None else self.order] = values
        return result.reshape(self.shape)


def _order(layout: str, shape: tuple[int, ...]) -> npt.NDArray[np.int64] | None:
    if layout != "channels_last" or len(shape) not in (3, 4):
        return None
    elements = np.arange(int(np.prod(shape, dtype=np.int64))).reshape(shape)
    return np.ascontiguousarray(np.moveaxis(elements, 1, -1)).reshape(-1)
