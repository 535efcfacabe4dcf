"""What a compile makes the device code good at: one option, two decisions.

Where memory goes is the planner's (`Goal`); which of the bundled kernels a project gets is the backend's
(`KernelSet`). Either may be asked for without the other by calling those stages themselves.
"""

from __future__ import annotations

from enum import StrEnum

from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.planner import Goal

__all__ = ["Optimize"]


class Optimize(StrEnum):
    """The option `--optimize`."""

    SPEED = "speed"
    """The fastest plan that fits, and the fastest kernels."""
    SRAM = "sram"
    """The smallest arena."""
    FLASH = "flash"
    """The smallest code; memory as for speed."""

    @property
    def plan_goal(self) -> Goal:
        """What the planner is asked for. Moves and rows cost code: flash has them where SRAM is short."""
        return Goal.SRAM if self is Optimize.SRAM else Goal.SPEED

    @property
    def kernels(self) -> KernelSet:
        """The kernels that come with the project."""
        return KernelSet.SMALL if self is Optimize.FLASH else KernelSet.FAST
