"""Options that several commands take."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from qutec.errors import UsageError
from qutec.targets import parse_size

__all__ = [
    "AsJson",
    "CmsisNN",
    "ExitThreshold",
    "ExitsName",
    "confidences",
    "listed_names",
    "pinned_offsets",
    "print_json",
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CmsisNN = Annotated[
    Path | None,
    typer.Option(
        "--cmsis-nn",
        envvar="CMSIS_NN_PATH",
        help="Link Arm's CMSIS-NN from this folder, not the bundled kernels.",
    ),
]

ExitThreshold = Annotated[
    str | None,
    typer.Option(
        metavar="C[,C...]", help="Confidence at which a dynamic exit is taken: one, or one for each exit."
    ),
]


class ExitsName(StrEnum):
    """What a compile makes of the exits."""

    AUTO = "auto"
    QUTE = "qute"
    ENSEMBLE = "ensemble"
    DYNAMIC = "dynamic"
    FINAL = "final"
    ALL = "all"


def pinned_offsets(given: list[str]) -> dict[str, int]:
    """--pin image=0 --pin scores=2k: bytes from the arena's start."""
    offsets: dict[str, int] = {}
    for text in given:
        # Names of ONNX values may hold an equals sign, sizes never do.
        name, _, offset = text.rpartition("=")
        if not name:
            raise UsageError(f"--pin {text!r} is not NAME=OFFSET")
        if name in offsets:
            raise UsageError(f"--pin names '{name}' twice")
        offsets[name] = 0 if offset.strip() == "0" else parse_size(offset)
    return offsets


def confidences(given: str | None) -> list[float] | None:
    """--exit-threshold 0.9 or 0.8,0.95."""
    if given is None:
        return None
    try:
        return [float(text) for text in given.split(",")]
    except ValueError as error:
        raise UsageError(f"--exit-threshold {given!r} is not a number, or numbers with commas") from error


def listed_names(given: str | None) -> list[str] | None:
    """Names with commas between them."""
    return None if given is None else [name.strip() for name in given.split(",") if name.strip()]


def print_json(data: object) -> None:
    """All that a command prints with --json."""
    print(json.dumps(data, indent=1))
