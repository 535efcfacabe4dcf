"""Networks that share an arena, running in turn on the emulated core, and the flash that they take together.

One image holds all of them, each with its context; between two of them the whole arena is overwritten with
noise, so that a network that relied on what it had left there, or on what another leaves, would be found out.
Every network is called from the host as in `qutec.simulate.unicorn_machine`, with no code in between that
would take stack: SRAM can be exactly what the report states.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qutec.errors import UsageError
from qutec.simulate.emulation import resolve_sram
from qutec.simulate.errors import EmulationError
from qutec.simulate.image import Image, build_image
from qutec.simulate.ports import Int8Array, join_inputs, split_outputs
from qutec.simulate.project import EmittedProject
from qutec.simulate.toolchain import Compiler
from qutec.simulate.unicorn_machine import UnicornMachine
from qutec.targets import Core

__all__ = ["build_turns", "run_in_turn"]


def build_turns(
    project: Path, core: Core, *, compiler: Compiler = "auto", cmsis_nn: Path | None = None
) -> Image:
    """All networks of a shared project in one image.

    Raises as `build_image`, and UsageError for other projects.
    """
    image = build_image(project, core, compiler=compiler, cmsis_nn=cmsis_nn)
    if not image.project.networks:
        raise UsageError(f"'{project}' is a project of one network")
    return image


def run_in_turn(
    image: Image, rounds: Sequence[Sequence[Sequence[Int8Array]]], *, sram_bytes: int | None
) -> list[list[tuple[Int8Array, ...]]]:
    """The outputs of each network in each round: `rounds[r][n]` holds the inputs of network n, memory order.

    Runs in Unicorn. Raises UsageError for cores that it lacks, and as `qutec.simulate.run_image`.
    """
    machine = _TurnsMachine(image, resolve_sram(image, sram_bytes))
    machine.watch_guards()
    machine.load()
    noise = np.random.default_rng(0)
    results = []
    for samples in rounds:
        outputs = []
        for number, (network, inputs) in enumerate(zip(image.project.networks, samples, strict=True)):
            machine.spoil(noise)
            contents = machine.infer(number, network, join_inputs(network, inputs))
            outputs.append(split_outputs(network, contents))
        results.append(outputs)
    return results


class _TurnsMachine(UnicornMachine):
    """A machine with several networks; `sim_context_<n>` is the context of network n."""

    def load(self) -> None:
        """Load the image and initialise every network with the one arena."""
        self._load(0)
        for number, network in enumerate(self.image.project.networks):
            self._expect(network, f"{network.prefix}_check_scratch")
            arena = (self.image.arena_address, self.image.project.arena_bytes)
            self._expect(network, f"{network.prefix}_init", self._context(number), *arena)

    def spoil(self, noise: np.random.Generator) -> None:
        """Overwrite all of the arena."""
        self._cpu.write(self.image.arena_address, noise.bytes(self.image.project.arena_bytes))

    def infer(self, number: int, network: EmittedProject, contents: bytes) -> bytes:
        """One inference of a network: its inputs and its outputs, consecutive."""
        position = 0
        for index, size in enumerate(network.input_bytes):
            address = self._address(number, f"{network.prefix}_input", index, size)
            self._cpu.write(address, contents[position : position + size])
            position += size
        self._expect(network, f"{network.prefix}_invoke", self._context(number))
        return b"".join(
            self._cpu.read(self._address(number, f"{network.prefix}_output", index, size), size)
            for index, size in enumerate(network.output_bytes)
        )

    def _context(self, number: int) -> int:
        return self.image.symbols[f"sim_context_{number}"]

    def _expect(self, network: EmittedProject, function: str, *arguments: int) -> None:
        status = self._call(function, *arguments)
        if status != 0:
            raise EmulationError(f"{function} returned {network.status_name(status)}")

    def _address(self, number: int, function: str, index: int, size: int) -> int:
        address = self._call(function, self._context(number), index)
        end = self.image.arena_address + self.image.project.arena_bytes
        if not self.image.arena_address <= address <= end - size:
            raise EmulationError(
                f"{function}({index}) is 0x{address:08x}; its {size} bytes are not in the arena"
            )
        return address
