"""The result of an emulated inference, and the SRAM that both emulators give it."""

from __future__ import annotations

from dataclasses import dataclass, field

from qutec.errors import DoesNotFitError, UsageError
from qutec.simulate.image import Image
from qutec.simulate.ports import Int8Array

__all__ = ["DEFAULT_STACK_BYTES", "Emulation", "resolve_sram"]

DEFAULT_STACK_BYTES = 64 * 1024
"""Stack that an image gets when no SRAM size is given."""


@dataclass(frozen=True)
class Emulation:
    """One inference on an emulated core. Sizes are bytes."""

    outputs: tuple[Int8Array, ...] = field(compare=False)
    """Flat, one per network output."""
    instructions: int | None
    """Of one `<prefix>_invoke` without layer callback; None when not counted."""
    layers: tuple[tuple[int, int], ...]
    """(layer index, instructions) in the order in which the layers ran, the callback itself left out."""
    stack_bytes: int
    """Deepest stack of the inference below its caller, callees included."""
    arena_high_water_bytes: int
    """One past the highest byte of the arena that the caller or the network wrote."""
    resolution: float = 1.0
    """Instructions are multiples of this, within one of them."""


def resolve_sram(image: Image, sram_bytes: int | None) -> int:
    """The SRAM size to emulate; None gives the arena, the static data and a generous stack.

    Raises DoesNotFitError where not even a stack of one word is left, UsageError where the emulated
    machine has less memory.
    """
    fixed = image.machine.sram_top - image.stack_top
    size = fixed + DEFAULT_STACK_BYTES if sram_bytes is None else sram_bytes
    if size <= fixed:
        raise DoesNotFitError(
            f"the network does not fit {size} bytes of SRAM: its arena takes {image.arena_room} and static "
            f"data {fixed - image.arena_room} bytes, {fixed - size} more than there are, and a stack on top"
        )
    if size > image.machine.sram_limit:
        limit = image.machine.sram_limit
        raise UsageError(f"the emulated machine has {limit} bytes of SRAM, {size} are asked for")
    return size
