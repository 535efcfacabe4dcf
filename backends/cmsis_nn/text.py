"""Small pieces of C text: identifiers, comments and strings from untrusted names, numbers, arrays."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

__all__ = ["array_rows", "c_float", "c_identifier", "c_int", "c_string", "comment"]

_ROW_LENGTH = 110
_IDENTIFIER_LENGTH = 48

_KEYWORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline int long
    register restrict return short signed sizeof static struct switch typedef union unsigned void volatile
    while alignas alignof and and_eq asm bitand bitor bool catch class compl concept constexpr decltype delete
    explicit export false friend module mutable namespace new noexcept not not_eq nullptr operator or or_eq
    private protected public requires template this thread_local throw true try typename typeid typeof using
    virtual wchar_t xor xor_eq main
"""
# <prefix>.h lies on the include path ahead of the system's headers, and would be found in place of these.
_HEADERS = """
    alloca assert complex ctype endian errno features fenv float inttypes iso646 limits locale malloc math
    memory newlib reent setjmp signal stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn
    string strings tgmath threads time uchar unistd wchar wctype sample_input
"""
# Targets that CMake keeps for itself, or that would be taken for a library of the system.
_TARGETS = """
    all clean edit_cache help install list_install_components package package_source rebuild_cache test
    c gcc m
"""
# Names that no file can have on Windows.
_DEVICES = "aux con nul prn " + " ".join(f"com{i} lpt{i}" for i in range(1, 10))

_RESERVED = frozenset(f"{_KEYWORDS} {_HEADERS} {_TARGETS} {_DEVICES}".split())
_RESERVED_PREFIXES = ("arm_", "cmsis_", "qute_", "core_cm")


def c_identifier(name: str) -> str:
    """A lower-case identifier made from any text, at most 48 characters long.

    It can be the name of a header, of a CMake target and the start of every symbol: what means something
    else in one of these places gets 'net_' put in front.
    """
    identifier = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "network"
    identifier = identifier[:_IDENTIFIER_LENGTH].rstrip("_")
    taken = identifier in _RESERVED or f"{identifier}_".startswith(_RESERVED_PREFIXES)
    if taken or identifier[0].isdigit():
        identifier = f"net_{identifier}"[:_IDENTIFIER_LENGTH].rstrip("_")
    return identifier


def comment(text: str, limit: int = 120) -> str:
    """Text that is safe inside a comment of C (either kind) or CMake: one line, ASCII, no comment marks."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)
    plain = plain.replace("*/", "* /").replace("/*", "/ *").replace("??/", "?? /")
    plain = plain if len(plain) <= limit else plain[: limit - 3] + "..."
    return plain.rstrip("\\ ")


def c_string(text: str, limit: int = 60) -> str:
    """The text as a C string literal with its quotes: ASCII, one line, without trigraphs."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text)
    plain = plain if len(plain) <= limit else plain[: limit - 3] + "..."
    plain = plain.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + (plain.replace("?", "\\?") if "??" in plain else plain) + '"'


def c_float(value: float) -> str:
    """A float32 literal that reads back as exactly this value."""
    text = str(np.float32(value))
    return f"{text}F" if any(c in text for c in ".e") else f"{text}.0F"


def c_int(value: int) -> str:
    """An int32 literal. -2147483648 is spelt so that it is an int: in C it is a negated long."""
    return "(-2147483647 - 1)" if value == -(2**31) else str(value)


def array_rows(values: npt.NDArray[np.generic], indent: str = "    ") -> str:
    """What stands between the braces of an integer array initialiser, in indented rows."""
    rows: list[str] = []
    row: list[str] = []
    length = len(indent)
    for number in map(c_int, values.reshape(-1).tolist()):
        if row and length + len(number) > _ROW_LENGTH - 1:
            rows.append(indent + ", ".join(row))
            row, length = [], len(indent)
        row.append(number)
        length += len(number) + 2
    rows.append(indent + ", ".join(row))
    return ",\n".join(rows)
