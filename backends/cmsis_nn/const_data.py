"""The const arrays of an emitted network: equal data is kept once, structs likewise."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qutec.backends.cmsis_nn.text import array_rows

__all__ = ["STRUCT_BYTES", "ConstData"]

_WORD_BYTES = 4
_C_TYPES = {"int8": "int8_t", "int16": "int16_t", "int32": "int32_t", "uint16": "uint16_t"}

STRUCT_BYTES = {
    "cmsis_nn_context": 8,
    "cmsis_nn_conv_params": 40,
    "cmsis_nn_dims": 16,
    "cmsis_nn_dw_conv_params": 44,
    "cmsis_nn_fc_params": 20,
    "cmsis_nn_per_tensor_quant_params": 8,
    "cmsis_nn_pool_params": 24,
    "qute_head_line_class": 8,
    "qute_head_lines": 4,
    "qute_head_logits_params": 36,
    "qute_head_relu_params": 88,
    "qute_head_sums_params": 68,
    "qute_head_sums_row_params": 44,
}
"""Sizes where pointers have 32 bits."""


@dataclass(frozen=True, eq=False)
class _Array:
    name: str
    data: npt.NDArray[np.generic]

    @property
    def declaration(self) -> str:
        return f"const {_C_TYPES[self.data.dtype.name]} {self.name}[{self.data.size}]"


@dataclass
class ConstData:
    """Collects arrays (for <prefix>_weights.c) and file-local structs (for <prefix>.c)."""

    prefix: str
    _arrays: dict[tuple[str, bytes], _Array] = field(default_factory=dict)
    _structs: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def array(self, stem: str, data: npt.NDArray[np.generic]) -> str:
        """The name of a const array with this data; the first user names it."""
        data = np.ascontiguousarray(data)
        key = (data.dtype.name, data.tobytes())
        if key not in self._arrays:
            self._arrays[key] = _Array(f"{self.prefix}_{stem}", data)
        return self._arrays[key].name

    def struct(self, c_type: str, stem: str, fields: str, count: int | None = None) -> str:
        """The name of a static const struct, or of an array of `count` structs, with this initialiser."""
        declaration = c_type, "" if count is None else f"[{count}]"
        return self._structs.setdefault((*declaration, fields), stem)

    @property
    def array_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.data.nbytes for array in self._arrays.values())

    @property
    def struct_bytes(self) -> int:
        """Bytes of all structs on a target."""
        counts = (int(bounds.strip("[]") or 1) for _, bounds, _ in self._structs)
        kinds = (c_type for c_type, _, _ in self._structs)
        return sum(STRUCT_BYTES[kind] * count for kind, count in zip(kinds, counts, strict=True))

    def struct_definitions(self) -> str:
        """C text of the structs, in the order of first use."""
        lines = [
            f"static const {c_type} {name}{bounds} = {fields};"
            for (c_type, bounds, fields), name in self._structs.items()
        ]
        return "\n".join(lines)

    def declarations(self) -> str:
        """C text of the extern declarations of the arrays."""
        return "\n".join(f"extern {array.declaration};" for array in self._arrays.values())

    def definitions(self) -> str:
        """C text of the arrays themselves; those of bytes and half words are marked for word alignment."""
        return "\n\n".join(self._definition(array) for array in self._arrays.values())

    def _definition(self, array: _Array) -> str:
        aligned = f"{self.prefix.upper()}_WORD_ALIGNED " if array.data.itemsize < _WORD_BYTES else ""
        return f"{aligned}{array.declaration} = {{\n{array_rows(array.data)}\n}};"
