"""Small pieces of C text: comments from untrusted names, numbers, array initialisers."""

from __future__ import annotations

import re
import textwrap

import numpy as np
import numpy.typing as npt

__all__ = ["array_rows", "c_float", "c_identifier", "comment", "initializer"]

_KEYWORDS = frozenset(
    """auto break case char const continue default do double else enum extern float for goto if inline int
    long register restrict return short signed sizeof static struct switch typedef union unsigned void
    volatile while bool class delete new this template typename namespace operator private public try
    catch throw main arm qute""".split()
)


def c_identifier(name: str) -> str:
    """A lower-case C identifier made from any text."""
    identifier = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "network"
    if identifier[0].isdigit() or identifier in _KEYWORDS:
        identifier = f"net_{identifier}"
    return identifier[:48].rstrip("_")


def comment(text: str, limit: int = 120) -> str:
    """Text that is safe inside a C comment of either kind: one line, ASCII, no comment marks."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)
    plain = plain.replace("*/", "* /").replace("/*", "/ *").replace("??/", "?? /").rstrip("\\")
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


def c_float(value: float) -> str:
    """A float32 literal that reads back as exactly this value."""
    text = str(np.float32(value))
    return f"{text}F" if any(c in text for c in ".e") else f"{text}.0F"


def initializer(values: npt.NDArray[np.generic]) -> list[str]:
    """The lines between the braces of an integer array initialiser."""
    numbers = [_integer(int(value)) for value in values.reshape(-1)]
    return textwrap.wrap(", ".join(numbers), 110, break_long_words=False, break_on_hyphens=False)


def array_rows(values: npt.NDArray[np.generic], indent: str = "    ") -> str:
    """`initializer` as one indented block."""
    return "\n".join(indent + line for line in initializer(values))


def _integer(value: int) -> str:
    # The literal -2147483648 is a negated long in C; spell it so that it stays an int.
    return "(-2147483647 - 1)" if value == -(2**31) else str(value)
