"""Options that several commands take."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ExitsName"]


class ExitsName(StrEnum):
    """What a compile makes of the exits."""

    AUTO = "auto"
    QUTE = "qute"
    ENSEMBLE = "ensemble"
    FINAL = "final"
    ALL = "all"
