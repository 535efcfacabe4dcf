"""Names of unknown origin as labels of drawings, tables and terminals."""

from __future__ import annotations

import html
import re

__all__ = ["CHARACTER", "escaped", "fitting", "plain", "shortened"]

CHARACTER = 0.62
"""Width of an average character of a sans-serif face over its font size, rounded up."""


def plain(name: str) -> str:
    """A name on one line, without characters that XML forbids or a terminal would obey."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", name)


def escaped(value: str) -> str:
    """A name as text of HTML or SVG."""
    return html.escape(plain(value), quote=True)


def shortened(name: str, characters: int) -> str:
    """At most so many characters, dots where the rest is missing."""
    return name if len(name) <= characters else name[: max(characters - 2, 0)] + ".."[: max(characters, 0)]


def fitting(name: str, width: float, size: float, fewest: int) -> str:
    """What of a name fits into a width at a font size; nothing if less than `fewest` characters do."""
    characters = int(width / (size * CHARACTER))
    return "" if characters < min(fewest, len(name)) else shortened(name, characters)
