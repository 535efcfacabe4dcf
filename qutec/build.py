"""A finished compile: the program, its plan, the report, and the files of the project."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qutec.errors import DataError, UsageError
from qutec.planner import Plan
from qutec.ports import PortInfo
from qutec.program import Int8Array, Program, StoredArray
from qutec.reference import run_program
from qutec.report import Report
from qutec.targets import Target

__all__ = ["NETWORK_FOLDER", "Build", "save_files"]

NETWORK_FOLDER = "networks"
"""Where a project that several networks share keeps the model and the report of each, by its prefix."""


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

    def run_int8(self, x: npt.ArrayLike | Mapping[str, npt.ArrayLike]) -> dict[str, StoredArray]:
        """As `run`, but the stored integers: int8, or int32 for uncertainty outputs."""
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
        return save_files(self.files, folder)


def save_files(files: Mapping[str, str | bytes], folder: str | Path) -> Path:
    """Write files by relative path into a folder: all of them, or nothing.

    An earlier build in the same place is replaced; any other folder that has files is not touched.
    Raises UsageError.
    """
    target = Path(folder)
    try:
        place = Path(os.path.realpath(target))
        if place.exists() and not _replaceable(place):
            raise UsageError(f"'{target}' exists and is not a qutec build; choose another folder")
        if Path.cwd().is_relative_to(place):
            raise UsageError(f"'{target}' cannot be replaced from inside; choose another folder")
        with _made_parents(place), _temporary_folder(place.parent) as made:
            fresh, old = made / "new", made / "old"
            _write(files, fresh)
            _exchange(fresh, place, old)
    except (OSError, ValueError) as error:
        # ValueError: a path with a null byte.
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UsageError(f"cannot write '{target}': {reason}") from error
    return target


def _write(files: Mapping[str, str | bytes], folder: Path) -> None:
    for relative, contents in files.items():
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
    """Whether it is an empty folder, or one that `save` wrote."""
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(report, dict) and "qutec_version" in report


def _exchange(fresh: Path, place: Path, old: Path) -> None:
    """Put `fresh` in its place; what is there goes to `old`, and comes back if that fails."""
    if not place.exists():
        fresh.rename(place)
        return
    place.rename(old)
    try:
        fresh.rename(place)
    except BaseException:
        old.rename(place)
        raise


@contextmanager
def _made_parents(place: Path) -> Iterator[None]:
    """Makes the folders above `place`, and removes those that it made where the body fails."""
    missing = [parent for parent in place.parents if not parent.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        raise


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder beside the place to write, since only there a rename is atomic."""
    # What remains of an old build because something holds it open is no reason to call the new one unwritten.
    with tempfile.TemporaryDirectory(prefix=".qutec-", dir=parent, ignore_cleanup_errors=True) as made:
        yield Path(made)
