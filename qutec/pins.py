"""Inputs and outputs that a caller wants at a place of the arena that it names."""

from __future__ import annotations

from collections.abc import Mapping

from qutec.errors import UsageError
from qutec.planner import Alignment
from qutec.program import Program

__all__ = ["pinned_buffers"]


def pinned_buffers(program: Program, pin: Mapping[str, int]) -> dict[str, int]:
    """Arena offsets, in bytes, of the buffers that the ports named in `pin` lie in.

    Raises UsageError for a name that is no input or output, and for an offset that no buffer can have.
    """
    ports = {port.name: port.tensor for port in (*program.inputs, *program.outputs)}
    alignment = Alignment()
    offsets: dict[str, int] = {}
    for name, offset in pin.items():
        if name not in ports:
            raise UsageError(f"'{name}' cannot be pinned: there are {', '.join(map(repr, ports))}")
        start = offset - ports[name].offset
        if start < 0 or start % alignment.buffer:
            raise UsageError(
                f"'{name}' cannot be pinned to {offset}: offsets in the arena are 0 or more, multiples of "
                f"{alignment.buffer}"
            )
        if offsets.setdefault(ports[name].buffer, start) != start:
            raise UsageError(f"'{name}' cannot be pinned to {offset}: it lies in one buffer with another")
    return offsets
