"""An image loaded into a core with exactly the target's memory; its functions are called from the host.

No start-up code runs: as a debugger would, the host sets registers and calls the network's functions one by
one. Flash is not writable, SRAM is not executable, and nothing else is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from qutec.errors import UsageError
from qutec.simulate.errors import EmulationError
from qutec.simulate.image import Image
from qutec.simulate.painting import pattern, written
from qutec.simulate.thumb import count_instructions
from qutec.simulate.unicorn_cpu import PAGE_BYTES, Cpu, CpuError

__all__ = ["InstructionCounter", "UnicornMachine"]

_TIMEOUT_SECONDS = 600
_ERASED = b"\xff"


@dataclass
class InstructionCounter:
    """Instructions since the last reset, and their number at each call of the layer callback."""

    total: int = 0
    layers: list[tuple[int, int]] = field(default_factory=list)

    def reset(self) -> None:
        """Start again from nothing."""
        self.total = 0
        self.layers.clear()


class UnicornMachine:
    """Raises UsageError for cores that Unicorn lacks, ToolMissingError without the package."""

    def __init__(self, image: Image, sram_bytes: int) -> None:
        machine = image.machine
        if machine.unicorn_model is None:
            raise UsageError(
                f"Unicorn has no {image.core.name} (no Helium); use the emulator 'qemu' (--emulator qemu)"
            )
        self.image = image
        self.sram_bytes = sram_bytes
        self.sram_low = machine.sram_top - sram_bytes
        self._faults: list[str] = []
        self._inputs: list[int] = []
        self._rows: list[bytes] | None = None
        self._cpu = Cpu(machine.unicorn_model)
        flash_end = max(part.load_address + len(part.data) for part in image.segments if part.data)
        self._flash = (machine.code, -(-flash_end // PAGE_BYTES) * PAGE_BYTES)
        self._cpu.map_flash(self._flash[0], self._flash[1] - self._flash[0])
        self._page = self.sram_low // PAGE_BYTES * PAGE_BYTES
        self._cpu.map_ram(self._page, machine.sram_top - self._page)
        self._cpu.on_fault(self._note)
        if image.project.input_rows is not None:
            self._cpu.on_execute(image.symbols["sim_read_row_hook"] & ~1, self._give_row)
        # Mapped for the granularity of pages and of the arena, but not the target's to touch.
        edges = ((self._page, self.sram_low), (self._arena_end, machine.sram_top))
        self.guards = tuple((low, high) for low, high in edges if low < high)

    def start(self, painting: int) -> None:
        """Load the image, check the kernels' scratch, and initialise the network.

        SRAM is painted except for static data, which is as start-up code leaves it. Raises EmulationError.
        """
        self._load(painting)
        self._require_ok("sim_check_scratch")
        self._require_ok("sim_init", self.image.arena_address)
        if self.image.project.input_rows is None:
            sizes = self.image.project.input_bytes
            self._inputs = [self._port("sim_input", index, size) for index, size in enumerate(sizes)]

    def set_inputs(self, contents: bytes) -> None:
        """Write consecutive inputs to where the network wants them, or have the rows of the one ready."""
        if self.image.project.input_rows is not None:
            size = self.image.project.row_bytes
            self._rows = [contents[start : start + size] for start in range(0, len(contents), size)]
            return
        position = 0
        for address, size in zip(self._inputs, self.image.project.input_bytes, strict=True):
            self._cpu.write(address, contents[position : position + size])
            position += size

    def invoke(self) -> None:
        """One inference with the inputs set. Raises EmulationError."""
        self._require_ok(f"{self.image.project.prefix}_invoke", self.image.symbols["sim_context"])
        if self._rows:
            raise EmulationError(f"the network did not ask for the last {len(self._rows)} rows of its input")

    def outputs(self) -> bytes:
        """The outputs of the last inference, consecutive."""
        sizes = self.image.project.output_bytes
        ports = [(self._port("sim_output", index, size), size) for index, size in enumerate(sizes)]
        return b"".join(self._cpu.read(address, size) for address, size in ports)

    def watch_layers(self) -> None:
        """Let the network call its layer callback, which `count_instructions` sees."""
        self._call("sim_watch_layers")

    def paint_stack(self, painting: int) -> None:
        """Paint the whole stack again."""
        self._cpu.write(self.sram_low, pattern(self.sram_low, self.stack_bytes, painting))

    @property
    def stack_bytes(self) -> int:
        """What SRAM leaves for the stack."""
        return self.image.stack_top - self.sram_low

    def read(self, address: int, size: int) -> bytes:
        """Memory as it is."""
        return self._cpu.read(address, size)

    def count_instructions(self) -> InstructionCounter:
        """Count every instruction from now on, those of the harness's callbacks left out."""
        counter = InstructionCounter()
        lengths: dict[tuple[int, int], int] = {}
        callback = self.image.symbols["sim_on_layer_hook"] & ~1
        rows_callback = self.image.symbols.get("sim_read_row_hook", 0) & ~1

        def on_block(address: int, size: int) -> None:
            if address == callback:
                counter.layers.append((self._cpu.register("R1"), counter.total))
                return
            if address == rows_callback:
                return
            length = lengths.get((address, size))
            if length is None:
                length = lengths[address, size] = count_instructions(self._cpu.read(address, size))
            counter.total += length

        self._cpu.on_block(on_block)
        return counter

    def watch_guards(self) -> None:
        """Fault on any access to guard bytes, at the price of slower memory."""

        def on_access(is_write: bool, address: int, size: int) -> None:
            self._note("write" if is_write else "read", address, size)
            self._cpu.stop()

        for low, high in self.guards:
            self._cpu.on_access(low, high, on_access)

    def watch_alignment(self) -> None:
        """Fault on unaligned accesses, at the price of much slower memory."""

        def on_access(is_write: bool, address: int, size: int) -> None:
            if address % size:
                self._note("unaligned write" if is_write else "unaligned read", address, size)
                self._cpu.stop()

        for low, high in (self._flash, (self.sram_low, self.image.machine.sram_top)):
            self._cpu.on_access(low, high, on_access)

    def watch_arena(self, hook: Callable[[bool, int, int], None]) -> None:
        """Call `hook(is_write, offset, size)` on accesses of the arena from now on, at the price of speed."""
        start = self.image.arena_address
        self._cpu.on_access(
            start, self._arena_end, lambda is_write, address, size: hook(is_write, address - start, size)
        )

    def guards_changed(self, painting: int) -> bool:
        """Whether guard bytes were written since `start`."""
        return any(written(low, self._cpu.read(low, high - low), painting).any() for low, high in self.guards)

    @property
    def _arena_end(self) -> int:
        return self.image.arena_address + self.image.project.arena_bytes

    def _load(self, painting: int) -> None:
        flash_low, flash_high = self._flash
        sram_top = self.image.machine.sram_top
        self._cpu.write(flash_low, _ERASED * (flash_high - flash_low))
        self._cpu.write(self._page, pattern(self._page, sram_top - self._page, painting))
        for part in self.image.segments:
            # A segment may begin with the vector table and the gap behind it, which are not mapped.
            skipped = max(0, flash_low - part.load_address)
            if part.data[skipped:] and part.load_address < flash_high:
                self._cpu.write(part.load_address + skipped, part.data[skipped:])
            if self._page <= part.address < sram_top:
                self._cpu.write(part.address, part.data.ljust(part.memory_bytes, b"\0"))

    def _call(self, function: str, *arguments: int) -> int:
        """Call a function of the image with up to four integers; returns r0 (AAPCS).

        Raises EmulationError.
        """
        idle = self.image.symbols["sim_idle"] & ~1
        for name, value in zip(("R0", "R1", "R2", "R3"), arguments, strict=False):
            self._cpu.set_register(name, value)
        self._cpu.set_register("SP", self.image.stack_top)
        self._cpu.set_register("LR", idle | 1)
        self._faults.clear()
        try:
            self._cpu.run(self.image.symbols[function], idle, _TIMEOUT_SECONDS)
        except CpuError as error:
            pc = self._cpu.register("PC") & ~1
            if self._flash[0] <= pc < self._flash[1]:
                self._faults.append(f"{error}, in {self.image.locate(pc)}")
            else:
                # Where the architecture forbids execution Unicorn calls it an exception, not a fetch.
                self._note("fetch", pc, 0)
        if self._faults:
            # What comes after the first fault follows from it.
            raise EmulationError(self._faults[0])
        pc = self._cpu.register("PC")
        if pc & ~1 != idle:
            where = self.image.locate(pc)
            raise EmulationError(f"{function} did not return within {_TIMEOUT_SECONDS} s; it was in {where}")
        return self._cpu.register("R0")

    def _require_ok(self, function: str, *arguments: int) -> None:
        status = self._call(function, *arguments)
        if status != 0:
            raise EmulationError(f"{function} returned {self.image.project.status_name(status)}")

    def _port(self, function: str, index: int, size: int) -> int:
        address = self._call(function, index)
        if not self.sram_low <= address <= self.image.machine.sram_top - size:
            raise EmulationError(f"{function}({index}) is 0x{address:08x}; its {size} bytes are not in SRAM")
        return address

    def _give_row(self) -> None:
        """Write the row that the network asks for: the next one, to a place in the arena."""
        rows, size = self.image.project.input_rows, self.image.project.row_bytes
        row, address = self._cpu.register("R1"), self._cpu.register("R2")
        due = rows - len(self._rows) if rows is not None and self._rows else rows
        if not self._rows or row != due:
            self._faults.append(f"the network asks for row {row} of its input, and row {due} is due")
        elif not self.image.arena_address <= address <= self._arena_end - size:
            self._faults.append(f"row {row} of the input is to go to 0x{address:08x}, outside the arena")
        else:
            self._cpu.write(address, self._rows.pop(0))
            return
        self._cpu.stop()

    def _note(self, kind: str, address: int, size: int) -> None:
        # After a jump to nowhere the caller is the one to name.
        culprit = self.image.locate(self._cpu.register("LR" if kind == "fetch" else "PC"))
        access = f"jump to 0x{address:08x}"
        if kind != "fetch":
            preposition = "to" if kind.endswith("write") else "from"
            access = f"{kind} of {size} bytes {preposition} 0x{address:08x}"
        reason = f"{self.image.core.name} faults on it" if "unaligned" in kind else self._place(address)
        self._faults.append(f"{access} by {culprit}: {reason}")

    def _place(self, address: int) -> str:
        """Why the program must not touch that address."""
        machine = self.image.machine
        if self._flash[0] <= address < self._flash[1]:
            return "flash is read only"
        if self.sram_low <= address < self._arena_end:
            return "SRAM is not executable"
        if self._arena_end <= address < machine.sram_top + machine.sram_limit:
            past = address - self._arena_end
            return f"{past} bytes past the end of the arena, outside the {self.sram_bytes} bytes of SRAM"
        if machine.sram_top - machine.sram_limit <= address < self.sram_low:
            below = self.sram_low - address
            return f"stack overflow, {below} bytes below the {self.sram_bytes} bytes of SRAM"
        return "null pointer" if address < PAGE_BYTES else "outside flash and SRAM"
