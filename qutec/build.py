"""A finished compile: the program, its plan, the report, and the files of the project."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qutec.errors import DataError, UsageError
from qutec.planner import Plan
from qutec.ports import PortInfo
from qutec.program import Int8Array, Program
from qutec.reference import run_program
from qutec.report import Report
from qutec.targets import Target

__all__ = ["Build"]


@dataclass(frozen=True, eq=False)
class Build:
    """What `qutec.compile` returns. Nothing is written before `save`."""

    program: Program
    plan: Plan
    target: Target
    report: Report
    model: ir.Model
    """The QDQ model that was lowered."""
    files: Mapping[str, str | bytes]
    """Contents of the project folder by relative path."""

    def run(self, x: npt.ArrayLike | Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[np.float32]]:
        """Real outputs by name, [samples, *shape without batch], computed with the bytes of the device.

        `x` is [samples, *shape] for a network with one input, or arrays by input name; int8 arrays are
        taken as stored, others are quantised. Runs the integer reference on this machine. Raises DataError.
        """
        ports = [PortInfo.of(port) for port in self.program.outputs]
        return {p.name: p.real(stored) for p, stored in zip(ports, self.run_int8(x).values(), strict=True)}

    def run_int8(self, x: npt.ArrayLike | Mapping[str, npt.ArrayLike]) -> dict[str, Int8Array]:
        """As `run`, but the stored int8 values."""
        outputs = run_program(self.program, self.stored(x))
        results = {}
        for port, values in zip(self.program.outputs, outputs, strict=True):
            shape = port.logical_shape[1:] if port.logical_shape[:1] == (1,) else port.logical_shape
            results[port.name] = values.reshape(len(values), *shape)
        return results

    def stored(self, x: npt.ArrayLike | Mapping[str, npt.ArrayLike]) -> list[Int8Array]:
        """int8 [samples, *shape] for each input in ONNX order. Raises DataError."""
        return stored_inputs([PortInfo.of(port) for port in self.program.inputs], x)

    def save(self, folder: str | Path) -> Path:
        """Write the project folder: all of it, or nothing.

        An earlier build in the same place is replaced; any other folder that has files is not touched.
        Raises UsageError.
        """
        target = Path(folder)
        if target.exists() and not _replaceable(target):
            raise UsageError(f"'{target}' exists and is not a qutec build; choose another folder")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as made:
                fresh, old = Path(made) / "new", Path(made) / "old"
                self._write(fresh)
                if target.exists():
                    target.rename(old)
                fresh.rename(target)
        except OSError as error:
            raise UsageError(f"cannot write '{target}': {error.strerror or error}") from error
        return target

    def _write(self, folder: Path) -> None:
        for relative, contents in self.files.items():
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(contents, bytes):
                path.write_bytes(contents)
            else:
                path.write_text(contents, encoding="utf-8", newline="\n")


def stored_inputs(ports: list[PortInfo], x: npt.ArrayLike | Mapping[str, npt.ArrayLike]) -> list[Int8Array]:
    """int8 [samples, *shape] for each port; one array, or arrays by name ('x' does for one input)."""
    arrays = x if isinstance(x, Mapping) else {"x": x}
    if len(ports) == 1 and ports[0].name not in arrays and "x" in arrays:
        arrays = {ports[0].name: arrays["x"]}
    missing = [port.name for port in ports if port.name not in arrays]
    if missing:
        raise DataError(f"there is no data for {', '.join(repr(name) for name in missing)}")
    stored = [port.stored(arrays[port.name]) for port in ports]
    if len({len(values) for values in stored}) > 1:
        raise DataError("the inputs have different numbers of samples")
    return stored


def _replaceable(folder: Path) -> bool:
    return folder.is_dir() and ((folder / "report.json").is_file() or not any(folder.iterdir()))
