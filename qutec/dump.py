"""`--dump`: one numbered .onnx for each step of the graph, which opens in Netron."""

from __future__ import annotations

import re
from pathlib import Path

import onnx_ir as ir

from qutec.errors import UsageError

__all__ = ["Dump"]


class Dump:
    """Writes models into a folder, numbered in the order of the calls."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder '{folder}': {error.strerror}") from error

    def write(self, step: str, model: ir.Model) -> None:
        """Write the model as NN_step.onnx."""
        name = re.sub(r"[^A-Za-z0-9]+", "_", step).strip("_")
        ir.save(model, self._folder / f"{self._count:02d}_{name}.onnx")
        self._count += 1
