"""The two sets of bundled kernels."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["KernelSet"]


class KernelSet(StrEnum):
    """Which of the bundled kernels a project gets. Their answers are the same."""

    FAST = "fast"
    """The fewest instructions."""
    SMALL = "small"
    """The least flash."""

    @property
    def compiler_level(self) -> str:
        """The optimisation that the emitted build asks of the compiler."""
        return "-Os" if self is KernelSet.SMALL else "-O3"
