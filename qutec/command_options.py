"""Options that several commands take."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from qutec.errors import UsageError

__all__ = ["ExitThreshold", "ExitsName", "confidences"]

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


def confidences(given: str | None) -> list[float] | None:
    """--exit-threshold 0.9 or 0.8,0.95."""
    if given is None:
        return None
    try:
        return [float(text) for text in given.split(",")]
    except ValueError as error:
        raise UsageError(f"--exit-threshold {given!r} is not a number, or numbers with commas") from error
