"""A typed front to the parts of Unicorn that the simulator uses; its Python binding has hardly any types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qutec.errors import ToolMissingError

__all__ = ["PAGE_BYTES", "Cpu", "CpuError"]

PAGE_BYTES = 1024
"""Granularity of Unicorn's memory maps on Armv6-M to Armv8-M."""

_WIDEST_ACCESS = 8


class CpuError(Exception):
    """Emulation stopped because of what the program did; the text is Unicorn's."""


class Cpu:
    """A Cortex-M core in Thumb state with empty memory.

    `model` is the suffix of a UC_CPU_ARM_* constant. Raises ToolMissingError without the package unicorn.
    """

    def __init__(self, model: str) -> None:
        try:
            import unicorn
            from unicorn import arm_const
        except ImportError:
            raise ToolMissingError(
                "the package 'unicorn' is missing; install it: pip install 'qutec[sim]'"
            ) from None
        self._unicorn: Any = unicorn
        self._registers: Any = arm_const
        self._uc: Any = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self._uc.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_{model}"))

    def map_flash(self, address: int, size: int) -> None:
        """Map readable and executable memory; both numbers multiples of PAGE_BYTES."""
        self._uc.mem_map(address, size, self._unicorn.UC_PROT_READ | self._unicorn.UC_PROT_EXEC)

    def map_ram(self, address: int, size: int) -> None:
        """Map readable and writable memory; both numbers multiples of PAGE_BYTES."""
        self._uc.mem_map(address, size, self._unicorn.UC_PROT_READ | self._unicorn.UC_PROT_WRITE)

    def write(self, address: int, contents: bytes) -> None:
        """Write mapped memory of either kind."""
        self._uc.mem_write(address, contents)

    def read(self, address: int, size: int) -> bytes:
        """Read mapped memory."""
        return bytes(self._uc.mem_read(address, size))

    def set_register(self, name: str, value: int) -> None:
        """Set a register by its architectural name: R0, SP, LR."""
        self._uc.reg_write(getattr(self._registers, f"UC_ARM_REG_{name}"), value)

    def register(self, name: str) -> int:
        """The value of a register by its architectural name."""
        return int(self._uc.reg_read(getattr(self._registers, f"UC_ARM_REG_{name}")))

    def run(self, begin: int, end: int, timeout_seconds: int) -> None:
        """Run from address `begin` until the program counter is `end`, or the time is over, or `stop`.

        Raises CpuError where memory that is not there is touched, or an instruction is undefined.
        """
        try:
            self._uc.emu_start(begin | 1, end, timeout=timeout_seconds * 1_000_000)
        except self._unicorn.UcError as error:
            raise CpuError(str(error)) from None

    def stop(self) -> None:
        """End `run`; for use in hooks."""
        self._uc.emu_stop()

    def on_block(self, hook: Callable[[int, int], None]) -> None:
        """Call `hook(address, size)` before every straight run of instructions, from now on."""

        def adapter(_uc: object, address: int, size: int, _data: object) -> None:
            hook(address, size)

        # Blocks that were translated before the hook came would run without it.
        self._uc.ctl_flush_tb()
        self._uc.hook_add(self._unicorn.UC_HOOK_BLOCK, adapter)

    def on_execute(self, address: int, hook: Callable[[], None]) -> None:
        """Call `hook()` before every execution of the instruction at `address`, from now on."""

        def adapter(_uc: object, _address: int, _size: int, _data: object) -> None:
            hook()

        self._uc.ctl_flush_tb()
        self._uc.hook_add(self._unicorn.UC_HOOK_CODE, adapter, begin=address, end=address)

    def on_access(self, low: int, high: int, hook: Callable[[bool, int, int], None]) -> None:
        """Call `hook(is_write, address, size)` on accesses of mapped bytes in [low, high).

        Any such hook makes all memory accesses of the core slower.
        """

        def adapter(_uc: object, access: int, address: int, size: int, _value: int, _data: object) -> None:
            # Unicorn compares the bounds of a hook with the first byte of an access only.
            if address < high and address + size > low:
                hook(access == self._unicorn.UC_MEM_WRITE, address, size)

        self._uc.ctl_flush_tb()
        kinds = self._unicorn.UC_HOOK_MEM_READ | self._unicorn.UC_HOOK_MEM_WRITE
        self._uc.hook_add(kinds, adapter, begin=low - _WIDEST_ACCESS + 1, end=high - 1)

    def on_fault(self, hook: Callable[[str, int, int], None]) -> None:
        """Call `hook(kind, address, size)` before `run` fails; kind is "read", "write" or "fetch"."""
        names = {
            self._unicorn.UC_MEM_READ_UNMAPPED: "read",
            self._unicorn.UC_MEM_READ_PROT: "read",
            self._unicorn.UC_MEM_FETCH_UNMAPPED: "fetch",
            self._unicorn.UC_MEM_FETCH_PROT: "fetch",
        }

        def adapter(_uc: object, access: int, address: int, size: int, _value: int, _data: object) -> bool:
            hook(names.get(access, "write"), address, size)
            return False

        self._uc.hook_add(self._unicorn.UC_HOOK_MEM_INVALID, adapter)
