"""Running an image in QEMU's system emulation, which has the cores that Unicorn lacks (Helium).

The harness (harness/sim_main.c) reads the file "request" and writes the file "result" by semihosting:

    request  u32 magic, samples, measured, arena address, lowest painted stack address, end of the painted
             arena with what follows it, 2 reserved; the inputs of each sample
    result   if measured, for both paintings: record, u32 stack pointer, u32 lowest changed stack address,
             u64 ticks, painted arena, outputs; then record, u64 first tick,
             u32 callbacks, i32 layer[LAYERS], u64 tick[LAYERS];
             for each sample: record, outputs

A record is u32 0, or one of the error codes below. Instructions come from SysTick under -icount shift=0.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qutec.errors import ToolMissingError
from qutec.simulate.emulation import Emulation, resolve_sram
from qutec.simulate.errors import DEPENDS_ON_OLD_MEMORY, EmulationError
from qutec.simulate.image import Image
from qutec.simulate.painting import written
from qutec.simulate.ports import Int8Array, join_inputs, split_outputs

__all__ = ["run_image_qemu", "run_many_qemu"]

_MAGIC = 0x51525131
_OK, _STATUS, _FAULT, _BAD_REQUEST = range(4)
_REQUEST_BYTES = 12 * 1024 * 1024
_STACK_GUARD = 1024
_TIMEOUT_SECONDS = 600


@dataclass
class _Reader:
    """Takes fields off the front of a result file; an error record raises EmulationError."""

    image: Image
    contents: bytes
    position: int = 0

    def take(self, size: int) -> bytes:
        part = self.contents[self.position : self.position + size]
        if len(part) != size:
            raise EmulationError("the emulated program stopped before it was done")
        self.position += size
        return part

    def word(self) -> int:
        return int(struct.unpack("<I", self.take(4))[0])

    def wide(self) -> int:
        return int(struct.unpack("<Q", self.take(8))[0])

    def outputs(self) -> bytes:
        return self.take(sum(self.image.project.output_bytes))

    def record(self) -> None:
        kind = self.word()
        if kind == _STATUS:
            raise EmulationError(f"the network returned {self.image.project.status_name(self.word())}")
        if kind == _FAULT:
            pc, lr, cfsr, address = self.word(), self.word(), self.word(), self.word()
            at = f" at 0x{address:08x}" if address else ""
            place = f"{self.image.locate(pc)}, called from {self.image.locate(lr)}"
            raise EmulationError(f"fault (CFSR 0x{cfsr:08x}){at} in {place}")
        if kind != _OK:
            raise EmulationError("the emulated program could not read its request")


def run_image_qemu(
    image: Image, inputs: Sequence[Int8Array], *, sram_bytes: int | None, count: bool
) -> Emulation:
    """One inference, measured. See `qutec.simulate.run_image`."""
    contents = join_inputs(image.project, inputs)
    sram_low = image.machine.sram_top - resolve_sram(image, sram_bytes)
    reader = _run(image, [contents], sram_low, measured=True)
    outputs: list[bytes] = []
    painted_bytes = image.arena_room + image.machine.guard_bytes
    touched = np.zeros(painted_bytes, dtype=np.bool_)
    instructions, stack_bytes = 0, 0
    for painting in range(2):
        reader.record()
        stack_pointer, low, ticks = reader.word(), reader.word(), reader.wide()
        stack_bytes = max(stack_bytes, stack_pointer - low)
        touched |= written(image.arena_address, reader.take(painted_bytes), painting)
        outputs.append(reader.outputs())
        instructions = round(ticks * image.machine.instructions_per_tick)
    # The frames of the harness's main lie between the top of the stack and the network's; not its fault.
    room = image.stack_top - sram_low
    if stack_bytes > room:
        raise EmulationError(f"stack overflow: {stack_bytes} bytes or more are used, {room} there are")
    if outputs[0] != outputs[1]:
        raise EmulationError(DEPENDS_ON_OLD_MEMORY)
    high_water = int(np.flatnonzero(touched)[-1]) + 1 if touched.any() else 0
    if high_water > image.project.arena_bytes:
        past = high_water - image.project.arena_bytes
        raise EmulationError(f"the program wrote {past} bytes past the end of the arena")
    return Emulation(
        outputs=split_outputs(image.project, outputs[0]),
        instructions=instructions if count else None,
        layers=_layers(image, reader) if count else (),
        stack_bytes=stack_bytes,
        arena_high_water_bytes=high_water,
        resolution=image.machine.instructions_per_tick,
    )


def run_many_qemu(
    image: Image, samples: Iterable[Sequence[Int8Array]], *, sram_bytes: int | None
) -> list[tuple[Int8Array, ...]]:
    """The outputs of many inferences. See `qutec.simulate.run_many`."""
    sram_low = image.machine.sram_top - resolve_sram(image, sram_bytes)
    contents = [join_inputs(image.project, inputs) for inputs in samples]
    batch = max(1, _REQUEST_BYTES // max(1, sum(image.project.input_bytes)) - 1)
    results = []
    for start in range(0, len(contents), batch):
        part = contents[start : start + batch]
        reader = _run(image, part, sram_low, measured=False)
        for _ in part:
            reader.record()
            results.append(split_outputs(image.project, reader.outputs()))
    return results


def _layers(image: Image, reader: _Reader) -> tuple[tuple[int, int], ...]:
    reader.record()
    begin, count, room = reader.wide(), reader.word(), max(1, image.project.layer_count)
    indices = struct.unpack(f"<{room}i", reader.take(4 * room))
    ends = struct.unpack(f"<{room}Q", reader.take(8 * room))
    layers = []
    for index, end in list(zip(indices, ends, strict=True))[:count]:
        layers.append((int(index), round((end - begin) * image.machine.instructions_per_tick)))
        begin = end
    return tuple(layers)


def _run(image: Image, samples: Sequence[bytes], sram_low: int, *, measured: bool) -> _Reader:
    """Run QEMU on a request and return what the program wrote."""
    qemu = shutil.which("qemu-system-arm")
    if qemu is None:
        raise ToolMissingError("qemu-system-arm is not on PATH; install it: apt install qemu-system-arm")
    floor = image.machine.sram_top - image.machine.sram_limit
    paint_from = max(floor, sram_low - _STACK_GUARD) // 4 * 4
    arena_end = image.machine.sram_top + image.machine.guard_bytes
    header = struct.pack(
        "<8I", _MAGIC, len(samples), int(measured), image.arena_address, paint_from, arena_end, 0, 0
    )
    with tempfile.TemporaryDirectory(prefix="qutec-qemu-") as folder:
        (Path(folder) / "request").write_bytes(header + b"".join(samples))
        command = [qemu, "-machine", image.machine.qemu_machine, "-icount", "shift=0", "-nographic"]
        command += ["-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native"]
        try:
            result = subprocess.run(
                [*command, "-kernel", str(image.elf)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EmulationError(f"the emulated program did not stop within {_TIMEOUT_SECONDS} s") from None
        path = Path(folder) / "result"
        contents = path.read_bytes() if path.exists() else b""
    if result.returncode != 0 or not contents:
        lines = "\n".join(result.stderr.strip().splitlines()[:3])
        raise EmulationError(f"QEMU ended with status {result.returncode}: {lines or 'no result'}")
    return _Reader(image, contents)
