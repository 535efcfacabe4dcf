"""The cores and boards that `--target` names, and the sizes that the command line takes.

Board figures are those of the vendors' data sheets: SRAM that one contiguous arena can use, and flash.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from qutec.errors import UsageError

__all__ = ["Core", "Target", "parse_size", "target", "target_names"]


@dataclass(frozen=True)
class Core:
    """An Arm M-profile core: what the kernels may use and what compilers call it."""

    name: str
    dsp: bool = False
    """The DSP extension: SMLAD, SXTB16 (Armv7E-M, or Armv8-M with DSP)."""
    mve: bool = False
    """Helium, the M-profile vector extension."""
    fpu: bool = False
    """A single-precision floating point unit, so that the hard-float ABI is used."""


@dataclass(frozen=True)
class Target:
    """What is compiled for: a core, and for boards the memory that it has (bytes)."""

    name: str
    core: Core
    sram_bytes: int | None = None
    flash_bytes: int | None = None


_CORES = {
    core.name: core
    for core in (
        Core("cortex-m0"),
        Core("cortex-m0plus"),
        Core("cortex-m3"),
        Core("cortex-m4", dsp=True, fpu=True),
        Core("cortex-m7", dsp=True, fpu=True),
        Core("cortex-m33", dsp=True, fpu=True),
        Core("cortex-m55", dsp=True, mve=True, fpu=True),
        Core("cortex-m85", dsp=True, mve=True, fpu=True),
    )
}

_BOARDS = {
    name: Target(name, _CORES[core], sram_kib * 1024, flash_kib * 1024)
    for name, core, sram_kib, flash_kib in (
        ("arduino-nano-33-ble", "cortex-m4", 256, 1024),
        ("frdm-k64f", "cortex-m4", 256, 1024),
        ("nucleo-f401re", "cortex-m4", 96, 512),
        ("nucleo-f767zi", "cortex-m7", 512, 2048),
        ("nucleo-l031k6", "cortex-m0plus", 8, 32),
        ("nucleo-l432kc", "cortex-m4", 64, 256),
        ("nucleo-l4r5zi", "cortex-m4", 640, 2048),
        ("nucleo-h743zi", "cortex-m7", 512, 2048),
        ("rpi-pico", "cortex-m0plus", 264, 2048),
        ("rpi-pico2", "cortex-m33", 520, 4096),
    )
}


def target_names() -> list[str]:
    """Every name that `target` takes: cores first, then boards."""
    return [*_CORES, *_BOARDS]


def target(name: str) -> Target:
    """The core or board of that name. Raises UsageError, which lists the names there are."""
    if name in _CORES:
        return Target(name, _CORES[name])
    if name in _BOARDS:
        return _BOARDS[name]
    raise UsageError(f"unknown target '{name}'; there are: {', '.join(target_names())}")


def parse_size(text: str | int) -> int:
    """Bytes from '64k', '1m', '256KiB' or '49152' (1k = 1024). Raises UsageError."""
    if isinstance(text, int):
        value = text
    else:
        match = re.fullmatch(r"\s*(\d+)\s*([km]?)(?:i?b)?\s*", text, re.IGNORECASE)
        if match is None:
            raise UsageError(f"'{text}' is not a size; write bytes, or a number with k or m (1k = 1024)")
        value = int(match[1]) * {"": 1, "k": 1024, "m": 1024 * 1024}[match[2].lower()]
    if value <= 0:
        raise UsageError(f"'{text}' is not a size: it must be more than 0")
    return value
