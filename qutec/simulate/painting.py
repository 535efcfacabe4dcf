"""Exact high water of memory, by painting it twice.

Memory is filled with a pattern, the network runs, and the bytes that differ were written. A byte that was
overwritten with its own painted value would be missed, so a second run paints the complement: no value
equals both. The pattern depends on the address, so that painted bytes copied elsewhere show up as well.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["pattern", "written"]


def pattern(address: int, size: int, painting: int) -> bytes:
    """`size` bytes of paint for the memory at `address`; painting 1 is the complement of painting 0.

    The formula is that of `pattern` in harness/sim_main.c, word by word (little endian).
    """
    first = address & ~3
    words = np.arange(first, address + size + 3, 4, dtype=np.uint64)
    hashed = ((words * np.uint64(0x9E3779B1)) & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    hashed ^= hashed >> np.uint32(15)
    if painting:
        hashed = ~hashed
    return hashed.astype("<u4").tobytes()[address - first : address - first + size]


def written(address: int, contents: bytes, painting: int) -> npt.NDArray[np.bool_]:
    """For each byte of memory at `address`, whether it no longer has its paint."""
    paint = np.frombuffer(pattern(address, len(contents), painting), dtype=np.uint8)
    return np.not_equal(np.frombuffer(contents, dtype=np.uint8), paint, dtype=np.bool_)
