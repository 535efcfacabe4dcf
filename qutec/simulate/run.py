"""Running images: the choice between the two emulators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from qutec.simulate.emulation import Emulation
from qutec.simulate.image import Image
from qutec.simulate.ports import Int8Array
from qutec.simulate.qemu_runner import run_image_qemu, run_many_qemu

__all__ = ["Emulator", "run_image", "run_many"]

Emulator: TypeAlias = Literal["unicorn", "qemu"]


def run_image(
    image: Image,
    inputs: Sequence[Int8Array],
    *,
    sram_bytes: int | None,
    emulator: Emulator = "unicorn",
    count: bool = True,
) -> Emulation:
    """Run one inference and measure it.

    `inputs` holds one int8 array per network input, elements in memory order. `sram_bytes` is the SRAM
    that there is for arena, static data and stack together; None gives as much as the arena needs and a
    generous stack. Instructions are exact in Unicorn, and multiples of `Emulation.resolution` in QEMU.
    The network runs several times on memory with different contents, and must give the same outputs.

    Raises UsageError (wrong inputs, or a core that the emulator lacks), DoesNotFitError (no SRAM left for
    a stack), ToolMissingError, and EmulationError where the program leaves its memory, writes to flash,
    faults, hangs, returns an error, or gives outputs that depend on memory it did not write.
    """
    if emulator == "qemu":
        return run_image_qemu(image, inputs, sram_bytes=sram_bytes, count=count)
    # Imported late: the package works without unicorn as long as nobody asks for it.
    from qutec.simulate.unicorn_runner import run_image_unicorn

    return run_image_unicorn(image, inputs, sram_bytes=sram_bytes, count=count)


def run_many(
    image: Image,
    samples: Iterable[Sequence[Int8Array]],
    *,
    sram_bytes: int | None = None,
    emulator: Emulator = "unicorn",
) -> list[tuple[Int8Array, ...]]:
    """The outputs of many inferences on one machine, without counting; far faster than `run_image`.

    Raises as `run_image`.
    """
    if emulator == "qemu":
        return run_many_qemu(image, samples, sram_bytes=sram_bytes)
    from qutec.simulate.unicorn_runner import run_many_unicorn

    return run_many_unicorn(image, samples, sram_bytes=sram_bytes)
