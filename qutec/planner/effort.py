"""How much a search may do, counted in steps rather than in seconds: the same plan on every machine."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["STEPS_PER_SECOND", "Effort"]

STEPS_PER_SECOND = 40_000
"""What one second of planning is worth. A step is one buffer placed or one pair of buffers looked at by an
exact search; a machine of 2023 does about this many in a second."""


@dataclass
class Effort:
    """Steps that are left; a search asks before it goes on, and always completes what it began."""

    steps: int
    _whole: Effort | None = None

    @staticmethod
    def of_seconds(seconds: float) -> Effort:
        """The steps that `seconds` are worth."""
        return Effort(round(seconds * STEPS_PER_SECOND))

    @property
    def spent(self) -> bool:
        """Whether there is nothing left."""
        return self.steps <= 0

    def spend(self, steps: int = 1) -> None:
        """Take steps away, even those that are not there."""
        self.steps -= steps
        if self._whole is not None:
            self._whole.spend(steps)

    def share(self, part: float) -> Effort:
        """A budget for one stage: `part` of what is left, and what it spends is spent here too."""
        return Effort(max(0, round(self.steps * part)), self)

    def at_most(self, steps: int) -> Effort:
        """The same with a number of steps, or what is left if that is less."""
        return Effort(max(0, min(steps, self.steps)), self)
