"""Counting Thumb instructions."""

from __future__ import annotations

__all__ = ["count_instructions"]


def count_instructions(code: bytes) -> int:
    """Number of instructions in a straight run of Thumb code.

    A halfword whose top five bits are 0b11101, 0b11110 or 0b11111 starts a 32-bit instruction
    (Armv7-M Architecture Reference Manual, A5.1).
    """
    count = position = 0
    while position < len(code):
        position += 4 if code[position + 1] >> 3 in (0b11101, 0b11110, 0b11111) else 2
        count += 1
    return count
