"""What the simulator reads from a linked ELF file: sizes, loadable bytes, functions."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from pathlib import Path

from qutec.errors import QutecError, ToolMissingError

__all__ = ["ElfFile", "Function", "Segment", "function_at", "read_elf"]

_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR = 1, 2, 4
_HARNESS_SECTIONS = (".vectors", ".sim_io")


@dataclass(frozen=True)
class Function:
    """A function symbol; `address` has the Thumb bit cleared."""

    name: str
    address: int
    size: int


@dataclass(frozen=True)
class Segment:
    """Bytes for `address`, kept in flash at `load_address`; zeros follow, `memory_bytes` in all."""

    address: int
    load_address: int
    data: bytes
    memory_bytes: int


@dataclass(frozen=True)
class ElfFile:
    """Section sizes in bytes, segments, function symbols by address, and every symbol's value."""

    text_bytes: int
    rodata_bytes: int
    data_bytes: int
    bss_bytes: int
    segments: tuple[Segment, ...]
    functions: tuple[Function, ...]
    symbols: dict[str, int]


def function_at(functions: tuple[Function, ...], address: int) -> str:
    """'name+0x1c' of the function that holds `address`, or the bare address."""
    index = bisect.bisect_right([function.address for function in functions], address) - 1
    if index >= 0:
        function = functions[index]
        # Assembly functions may come without a size: take them to reach up to the next symbol.
        end = function.address + function.size
        if function.size == 0:
            end = functions[index + 1].address if index + 1 < len(functions) else function.address + 1
        if address < end:
            return f"{function.name}+0x{address - function.address:x}"
    return f"0x{address:08x}"


def read_elf(path: Path) -> ElfFile:
    """Read a 32-bit ELF image. Raises ToolMissingError where pyelftools is not installed."""
    try:
        from elftools.elf.elffile import ELFFile
        from elftools.elf.sections import SymbolTableSection
    except ImportError:
        message = "the package 'pyelftools' is missing; install it: pip install 'qutec[sim]'"
        raise ToolMissingError(message) from None
    sizes = dict.fromkeys(("text", "rodata", "data", "bss"), 0)
    functions: list[Function] = []
    symbols: dict[str, int] = {}
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        for section in elf.iter_sections():
            flags = int(section["sh_flags"])
            if flags & _SHF_ALLOC and section.name not in _HARNESS_SECTIONS:
                sizes[_section_class(flags, str(section["sh_type"]))] += int(section["sh_size"])
        table = elf.get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            raise QutecError(f"'{path}' has no symbols")
        for symbol in table.iter_symbols():
            value = int(symbol["st_value"])
            symbols[str(symbol.name)] = value
            if symbol["st_info"]["type"] == "STT_FUNC":
                functions.append(Function(str(symbol.name), value & ~1, int(symbol["st_size"])))
        segments = tuple(
            Segment(int(s["p_vaddr"]), int(s["p_paddr"]), bytes(s.data()), int(s["p_memsz"]))
            for s in elf.iter_segments("PT_LOAD")
        )
    ordered = tuple(
        sorted(set(functions), key=lambda function: (function.address, function.size, function.name))
    )
    return ElfFile(sizes["text"], sizes["rodata"], sizes["data"], sizes["bss"], segments, ordered, symbols)


def _section_class(flags: int, kind: str) -> str:
    if flags & _SHF_EXECINSTR:
        return "text"
    if not flags & _SHF_WRITE:
        return "rodata"
    return "bss" if kind == "SHT_NOBITS" else "data"
