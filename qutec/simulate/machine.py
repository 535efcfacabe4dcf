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


@dataclass(frozen=True)
class Machine:
    """A memory map (addresses and sizes in bytes) and the emulators' names for it."""

    qemu_machine: str
    vectors: int
    """The vector table; the page is not mapped in Unicorn, so that a null pointer faults there."""
    code: int
    code_limit: int
    sram_top: int
    """One past the last byte of SRAM."""
    sram_limit: int
    """How much memory lies below `sram_top`."""
    guard: int
    """Painted bytes from `sram_top` on, where QEMU would not fault; 0 where it does."""
    io: int
    """16 MiB for QEMU's requests and results; not part of the target's SRAM."""
    instructions_per_tick: float
    """With -icount shift=0 an instruction is 1 ns; this is the period of SysTick in ns."""
    unicorn_model: str | None
    """Suffix of UC_CPU_ARM_*, None where Unicorn has no such core."""


_MIB = 1024 * 1024


def _mps2(machine: str, io: int, unicorn_model: str) -> Machine:
    # QEMU's MPS2 ignores accesses to nowhere, so SRAM ends before its memory does, with a guard behind it.
    return Machine(
        machine, 0, 0x1000, 4 * _MIB, 0x203F0000, 4 * _MIB - 0x10000, 0x1000, io, 40.0, unicorn_model
    )


_AN385 = "mps2-an385"
_AN547 = Machine("mps3-an547", 0x0, 0x70000000, 16 * _MIB, 0x31400000, 4 * _MIB, 0, 0x72000000, 31.25, None)

_MACHINES = {
    "cortex-m0": _mps2(_AN385, 0x21000000, "CORTEX_M0"),
    "cortex-m0plus": _mps2(_AN385, 0x21000000, "CORTEX_M0"),
    "cortex-m3": _mps2(_AN385, 0x21000000, "CORTEX_M3"),
    "cortex-m4": _mps2("mps2-an386", 0x21000000, "CORTEX_M4"),
    "cortex-m7": _mps2("mps2-an500", 0x60000000, "CORTEX_M7"),
    "cortex-m33": Machine(
        "mps2-an505",
        0x10000000,
        0x10001000,
        4 * _MIB,
        0x38400000,
        4 * _MIB,
        0,
        0x80000000,
        50.0,
        "CORTEX_M33",
    ),
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
