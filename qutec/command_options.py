"""Options that several commands take."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from qutec.errors import UsageError
from qutec.targets import parse_size

__all__ = ["ExitThreshold", "ExitsName", "confidences", "pinned_offsets"]

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
