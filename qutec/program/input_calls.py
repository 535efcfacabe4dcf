"""The input of a network that is handed in row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qutec.program.kernel_call import Indices, SingleInputCall

__all__ = ["InputRows"]


@dataclass(frozen=True, eq=False)
class InputRows(SingleInputCall):
    """The application writes `rows` rows of `row_bytes` bytes to `output`, each once, the first one first.

    `input` is the whole input in a buffer of kind STREAMED, which is nowhere in the device's memory. The call
    runs within a `RowRegion` as its first, so that `output` is never there as a whole either.
    """

    rows: int
    row_bytes: int

    def read_region(self, k: int) -> Indices:
        """The whole input."""
        return np.arange(self.rows * self.row_bytes)

    def written_region(self, k: int = 0) -> Indices:
        """All rows."""
        return np.arange(self.rows * self.row_bytes)
