"""Inferences in Unicorn: measured ones, with every instruction counted, and fast ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qutec.simulate.emulation import Emulation, resolve_sram
from qutec.simulate.errors import DEPENDS_ON_OLD_MEMORY, EmulationError
from qutec.simulate.image import Image
from qutec.simulate.painting import written
from qutec.simulate.ports import Int8Array, join_inputs, split_outputs
from qutec.simulate.unicorn_machine import InstructionCounter, UnicornMachine

__all__ = ["run_image_unicorn", "run_many_unicorn"]


def run_image_unicorn(
    image: Image, inputs: Sequence[Int8Array], *, sram_bytes: int | None, count: bool
) -> Emulation:
    """One inference, measured. See `qutec.simulate.run_image`.

    It runs twice, on memory painted in two ways: first without layer callback, for the total, then with
    it, for the layers.
    """
    contents = join_inputs(image.project, inputs)
    machine = UnicornMachine(image, resolve_sram(image, sram_bytes))
    machine.watch_guards()
    counter = machine.count_instructions() if count else None

    first = _measured_pass(machine, contents, painting=0, watch_layers=False, counter=counter)
    if image.machine.aligned_only:
        machine.watch_alignment()
    second = _measured_pass(machine, contents, painting=1, watch_layers=count, counter=counter)
    if first.outputs != second.outputs:
        raise EmulationError(DEPENDS_ON_OLD_MEMORY)

    arena = np.flatnonzero(first.arena | second.arena)
    stack = np.flatnonzero(first.stack | second.stack)
    return Emulation(
        outputs=split_outputs(image.project, first.outputs),
        instructions=first.instructions,
        layers=_per_layer(counter.layers) if counter else (),
        stack_bytes=machine.stack_bytes - int(stack[0]) if stack.size else 0,
        arena_high_water_bytes=int(arena[-1]) + 1 if arena.size else 0,
    )


def run_many_unicorn(
    image: Image, samples: Iterable[Sequence[Int8Array]], *, sram_bytes: int | None
) -> list[tuple[Int8Array, ...]]:
    """The outputs of many inferences, uncounted. See `qutec.simulate.run_many`."""
    machine = UnicornMachine(image, resolve_sram(image, sram_bytes))
    machine.start(painting=0)
    results = []
    for inputs in samples:
        machine.set_inputs(join_inputs(image.project, inputs))
        machine.invoke()
        results.append(split_outputs(image.project, machine.outputs()))
        if machine.guards_changed(painting=0):
            # Once more with every access watched, which names the culprit.
            run_image_unicorn(image, inputs, sram_bytes=sram_bytes, count=False)
            raise EmulationError("the program wrote past the end of the arena or below its stack")
    return results


@dataclass(frozen=True)
class _Traces:
    """What an inference left behind: its length, outputs, and which bytes of arena and stack it wrote."""

    instructions: int | None
    outputs: bytes
    arena: npt.NDArray[np.bool_]
    stack: npt.NDArray[np.bool_]


def _measured_pass(
    machine: UnicornMachine,
    contents: bytes,
    *,
    painting: int,
    watch_layers: bool,
    counter: InstructionCounter | None,
) -> _Traces:
    image = machine.image
    machine.start(painting)
    if watch_layers:
        machine.watch_layers()
    machine.set_inputs(contents)
    machine.paint_stack(painting)
    if counter is not None:
        counter.reset()
    machine.invoke()
    instructions = counter.total if counter else None
    arena = machine.read(image.arena_address, image.project.arena_bytes)
    stack = machine.read(machine.sram_low, machine.stack_bytes)
    return _Traces(
        instructions=instructions,
        outputs=machine.outputs(),
        arena=written(image.arena_address, arena, painting),
        stack=written(machine.sram_low, stack, painting),
    )


def _per_layer(ends: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    begins = [0, *(end for _, end in ends)]
    return tuple((layer, end - begin) for (layer, end), begin in zip(ends, begins, strict=False))
