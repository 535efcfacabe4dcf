"""How the scratch of a call is written in C: where it is, and what to ask the linked kernels about it.

With Arm's library some calls have another scratch than with the bundled kernels (`arm_scratch`). Which one is
linked the C is told by a macro, ARM_LIBRARY_MACRO, which CMakeLists.txt defines.
"""

from __future__ import annotations

from dataclasses import dataclass

from qutec.backends.cmsis_nn.expressions import plus

__all__ = ["ARM_LIBRARY_MACRO", "CallScratch", "ScratchCheck", "by_library"]

ARM_LIBRARY_MACRO = "QUTE_ARM_LIBRARY"
"""Defined where Arm's CMSIS-NN is linked in place of the bundled kernels."""


def by_library(arm: list[str], bundled: list[str]) -> list[str]:
    """Lines for a build with Arm's library or with the bundled kernels; only once where they are the same."""
    if arm == bundled:
        return bundled
    return [f"#if defined({ARM_LIBRARY_MACRO})", *arm, "#else", *bundled, "#endif"]


@dataclass(frozen=True)
class ScratchCheck:
    """A condition on the linked library's buffer-size getter: `getter` <= bytes of scratch."""

    getter: str
    planned: int
    """Bytes with the bundled kernels."""
    arm: int
    """Bytes with Arm's library."""


@dataclass(frozen=True)
class CallScratch:
    """Scratch of a kernel's call in the arena, as planned and as a build with Arm's library has it."""

    offset: int | None = None
    """None without."""
    size: int = 0
    arm_offset: int | None = None
    """None where the planned scratch is Arm's too."""
    arm_sizes: tuple[int, ...] = (0,)
    """Bytes that Arm's kernel wants there, of each layer of a region; 0 where the planned scratch does."""

    @property
    def is_none(self) -> bool:
        """Whether no library wants any."""
        return self.offset is None and self._arm == (None, 0)

    def of_layer(self, number: int, offset: int | None, size: int) -> CallScratch:
        """That of a region's layer, which has `size` bytes at `offset` of the arena."""
        wanted = self.arm_sizes[number]
        return CallScratch(offset, size, self.arm_offset if wanted else None, (wanted,))

    def check(self, getter: str) -> ScratchCheck:
        """What has to hold for the kernel."""
        return ScratchCheck(getter, self.size, self._arm[1])

    def context(self) -> list[str]:
        """Statements that declare the kernel's cmsis_nn_context as `context`."""
        return by_library(_declared(*self._arm), _declared(self.offset, self.size))

    @property
    def planned(self) -> tuple[str, int]:
        """Where it is with the bundled kernels, in C, and its bytes."""
        return _place(self.offset), self.size

    @property
    def _arm(self) -> tuple[int | None, int]:
        (wanted,) = self.arm_sizes
        return (self.arm_offset, wanted) if wanted else (self.offset, self.size)


def _declared(offset: int | None, size: int) -> list[str]:
    return [f"const cmsis_nn_context context = {{{_place(offset)}, {size}}};"]


def _place(offset: int | None) -> str:
    # Where no scratch is needed its pointer must be NULL: some builds use any other.
    return "NULL" if offset is None else plus("arena", offset)
