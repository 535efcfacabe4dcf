"""Where the image of a core lies in memory, and the QEMU machine that has memory there.

SRAM is anchored at its end: [stack, growing down | .data .bss | arena], so that with an SRAM of exactly n
bytes a stack overflow leaves it at the low end and an arena overrun at the high end. Addresses are those
of Arm's MPS2 and MPS3 FPGA images (application notes AN385, AN386, AN500, AN505, AN547) as QEMU models
them; machines with TrustZone start in the secure state and use the secure aliases.
"""

from __future__ import annotations

from dataclasses import dataclass

from qutec.errors import UsageError
from qutec.targets import Core

__all__ = ["Machine", "machine_for"]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A memory map (addresses and sizes in bytes) and the emulators' names for it."""

    qemu_machine: str
    unicorn_model: str | None
    """Suffix of UC_CPU_ARM_*, None where Unicorn has no such core."""
    instructions_per_tick: float
    """With -icount shift=0 an instruction is 1 ns; this is the period of SysTick in ns."""
    vectors: int
    """The vector table; it is not mapped in Unicorn, so that a null pointer faults there."""
    code: int
    code_limit: int
    sram_top: int
    """One past the last byte of SRAM."""
    sram_limit: int
    """How much memory lies below `sram_top`."""
    guard_bytes: int = 0
    """Memory from `sram_top` on, to be painted where QEMU does not fault on what lies past SRAM."""
    io: int
    """16 MiB for QEMU's requests and results; not part of the target's SRAM."""
    aligned_only: bool = False
    """The core faults on unaligned accesses (Armv6-M), which neither emulator does by itself."""


_MIB = 1024 * 1024
_GUARD = 64 * 1024


def _mps2(number: str, core: str, *, io: int = 0x21000000, aligned_only: bool = False) -> Machine:
    """QEMU's MPS2 ignores accesses to nowhere, so SRAM ends before its memory does, with a guard behind."""
    return Machine(
        qemu_machine=f"mps2-{number}",
        unicorn_model=core,
        instructions_per_tick=40.0,
        vectors=0,
        code=0x1000,
        code_limit=4 * _MIB - 0x1000,
        sram_top=0x20400000 - _GUARD,
        sram_limit=4 * _MIB - _GUARD,
        guard_bytes=0x1000,
        io=io,
        aligned_only=aligned_only,
    )


_AN505 = Machine(
    qemu_machine="mps2-an505",
    unicorn_model="CORTEX_M33",
    instructions_per_tick=50.0,
    vectors=0x10000000,
    code=0x10001000,
    code_limit=4 * _MIB - 0x1000,
    sram_top=0x38400000,
    sram_limit=4 * _MIB,
    io=0x80000000,
)

_AN547 = Machine(
    qemu_machine="mps3-an547",
    unicorn_model=None,
    instructions_per_tick=31.25,
    vectors=0,
    code=0x70000000,
    code_limit=16 * _MIB,
    sram_top=0x31400000,
    sram_limit=4 * _MIB,
    io=0x72000000,
)

_MACHINES = {
    "cortex-m0": _mps2("an385", "CORTEX_M0", aligned_only=True),
    "cortex-m0plus": _mps2("an385", "CORTEX_M0", aligned_only=True),
    "cortex-m3": _mps2("an385", "CORTEX_M3"),
    "cortex-m4": _mps2("an386", "CORTEX_M4"),
    "cortex-m7": _mps2("an500", "CORTEX_M7", io=0x60000000),
    "cortex-m33": _AN505,
    "cortex-m55": _AN547,
    "cortex-m85": _AN547,
}


def machine_for(core: Core) -> Machine:
    """The memory map that images of `core` are linked for. Raises UsageError for an unknown core."""
    try:
        return _MACHINES[core.name]
    except KeyError:
        known = ", ".join(_MACHINES)
        raise UsageError(f"no emulated machine for core '{core.name}'; there are: {known}") from None
