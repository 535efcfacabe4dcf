"""Running an emitted project: on an emulated Arm core, counted and confined to its memory, or on the host.

Needs the extra `sim` (a cross compiler, Unicorn and an ELF reader); QEMU is optional, looked up on PATH.
"""

from __future__ import annotations

from qutec.simulate.emulation import Emulation
from qutec.simulate.errors import EmulationError
from qutec.simulate.host import HostImage, build_host
from qutec.simulate.image import Image, build_image, measure_flash
from qutec.simulate.run import Emulator, run_image, run_many
from qutec.simulate.toolchain import Compiler, warning_flags

__all__ = [
    "Compiler",
    "Emulation",
    "EmulationError",
    "Emulator",
    "HostImage",
    "Image",
    "build_host",
    "build_image",
    "measure_flash",
    "run_image",
    "run_many",
    "warning_flags",
]
