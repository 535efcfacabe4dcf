"""What goes wrong on the emulated target."""

from __future__ import annotations

from qutec.errors import QutecError

__all__ = ["DEPENDS_ON_OLD_MEMORY", "EmulationError"]

DEPENDS_ON_OLD_MEMORY = "the outputs depend on earlier contents of memory: it is read before it is written"
"""What both emulators say when two runs on differently painted memory disagree."""


class EmulationError(QutecError):
    """The emulated program did what the target does not allow, hung, or returned an error status.

    For a memory fault the text names the access, the address, and the function and offset of the
    instruction.
    """

    exit_code = 5
