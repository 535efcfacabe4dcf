"""Arm's CMSIS-NN without the files that no int8 network needs: building it takes a third of the time."""

from __future__ import annotations

import os
import re
from pathlib import Path

from qutec.errors import UsageError

__all__ = ["int8_library", "library_from_environment"]

_RECURRENT = re.compile(r"lstm|svdf")


def library_from_environment() -> Path | None:
    """The folder that CMSIS_NN_PATH names, None where it is not set. Raises UsageError."""
    named = os.environ.get("CMSIS_NN_PATH")
    if not named:
        return None
    root = Path(named)
    if not (root / "Include" / "arm_nnfunctions.h").is_file():
        raise UsageError(f"CMSIS_NN_PATH: '{root}' is not a copy of CMSIS-NN")
    return root


def int8_library(root: Path, folder: Path) -> Path:
    """A tree of links in `folder` (which must not exist) to the int8 part of the library at `root`.

    Recurrent kernels and files for other types are left out, but for support functions, which serve several.
    """
    folder.mkdir(parents=True)
    (folder / "Include").symlink_to(root.resolve() / "Include")
    for source in sorted((root.resolve() / "Source").glob("*/*.c")):
        wanted = source.parent.name == "NNSupportFunctions" or "_s8" in source.stem
        if wanted and not _RECURRENT.search(source.stem):
            link = folder / "Source" / source.parent.name / source.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)
    return folder
