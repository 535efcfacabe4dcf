"""What a memory plan is: where everything lives in the arena, and how good that is.

The types here are all that a planner, the validator and the report have in common. They say nothing of
how a plan was found, so that plans with whole buffers, with overlapping inputs and outputs, or with
streamed rows are the same type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from qutec.errors import QutecError, UsageError

__all__ = ["Alignment", "Allocation", "PinError", "Plan", "PlanError", "Scope", "Technique"]


class PlanError(QutecError):
    """A plan that would corrupt data, or a program that no plan can serve; names the call and the byte."""


class PinError(PlanError):
    """Buffers are pinned to places that they cannot have."""

    exit_code = UsageError.exit_code


@dataclass(frozen=True)
class Alignment:
    """Alignments in bytes, powers of two; the arena's is a multiple of the other two.

    Offsets are relative to the base of the arena, so they are only worth something on a base that has
    the arena's alignment.
    """

    arena: int = 16
    """Of the base; the arena's size is rounded up to it. 16 serves 128-bit Helium loads."""
    buffer: int = 4
    """Of every buffer. Kernels accept int8 data at any address, but word loads of aligned data are
    cheaper; aligning every small buffer to 16 would waste SRAM."""
    scratch: int = 4
    """Of kernel scratch, which holds int16 and int32 values."""

    def __post_init__(self) -> None:
        for name, value in (("arena", self.arena), ("buffer", self.buffer), ("scratch", self.scratch)):
            if value < 1 or value & (value - 1):
                raise ValueError(f"{name} alignment must be a power of two, not {value}")
        if self.arena % max(self.buffer, self.scratch):
            raise ValueError(f"arena alignment {self.arena} is below that of buffers or scratch")

    @property
    def granule(self) -> int:
        """Every offset of a plan is a multiple of this many bytes."""
        return min(self.buffer, self.scratch)


@dataclass(frozen=True)
class Allocation:
    """A run of arena bytes and the time during which they belong to one buffer or one call's scratch.

    Time is the index of a call; -1 is the caller's write before the first call, and the number of calls
    is the caller's read after the last one. Both ends are inclusive.
    """

    name: str
    bytes: int
    offset: int
    first_use: int
    last_use: int
    scratch_of: int | None = None
    """The call whose scratch this is; None for a buffer, whose name `name` then is."""


class Scope(StrEnum):
    """What a lower bound was taken over: the plans that none of is smaller."""

    ORDER = "order of layers and placement"
    """Every order of the calls and every placement, outputs over inputs as far as kernels allow."""
    MOVES = "order of layers, placement and moves"
    """The same, with any of the internal buffers moved that one call writes."""
    GIVEN_ROWS = "order and placement with these layers row by row"
    """Every order and placement of this choice of regions and moves, which was taken for its speed."""
    ROWS = "choice of layers that run row by row, order, placement and moves"
    """Every choice of regions that are consecutive in the order that needs least, with the above for each."""


@dataclass(frozen=True)
class Technique:
    """What the smallest arena found would be if the planner used this technique and those before it only."""

    name: str
    arena_bytes: int
    optimal: bool
    """Whether that is proven to be the smallest."""


@dataclass(frozen=True)
class Plan:
    """Offsets into one arena for every buffer and scratch area of a program, in the order of its calls."""

    offsets: Mapping[str, int]
    """Byte offset of each buffer by name. Constants, and internal buffers no call uses, have none."""
    scratch_offsets: tuple[int | None, ...]
    """Byte offset of each call's scratch, None for a call that needs none."""
    arena_bytes: int
    """Size of the arena: one past the highest byte used, rounded up to `alignment.arena`."""
    lower_bound_bytes: int
    """No plan within `scope` needs a smaller arena. Comparable with `arena_bytes`: padding counts
    the same way on both sides."""
    allocations: tuple[Allocation, ...]
    """Everything that takes arena, buffers in program order, then scratch in call order."""
    live_bytes: tuple[int, ...]
    """What each call needs in this order, wherever things are placed: scratch included, every allocation
    padded to `alignment.granule`, less what its output may share with inputs that end there."""
    alignment: Alignment = field(default_factory=Alignment)
    scope: Scope = Scope.ORDER
    """The plans that `lower_bound_bytes` speaks of."""
    techniques: tuple[Technique, ...] = ()
    """What each technique saved, from whole buffers to all; empty where only one plan was made."""

    @property
    def optimal(self) -> bool:
        """Whether `arena_bytes` is proven smallest, which is when it meets the lower bound."""
        return self.arena_bytes == self.lower_bound_bytes

    @property
    def gap(self) -> float:
        """By how much `arena_bytes` may be above the smallest arena, as a fraction of the bound."""
        return self.arena_bytes / self.lower_bound_bytes - 1 if self.lower_bound_bytes else 0.0

    @property
    def peak_calls(self) -> tuple[int, ...]:
        """The calls with the most live bytes; no placement can make the arena smaller than they need."""
        peak = max(self.live_bytes, default=0)
        return tuple(i for i, live in enumerate(self.live_bytes) if live == peak)

    def live_at(self, call: int) -> tuple[Allocation, ...]:
        """The allocations that are live during a call, by offset."""
        live = (a for a in self.allocations if a.first_use <= call <= a.last_use)
        return tuple(sorted(live, key=lambda a: (a.offset, a.first_use, a.name)))

    def free_offset(self, call: int, size: int, over: int | None) -> int:
        """The lowest offset where `size` bytes of scratch belong to nobody while a call runs.

        It may be beyond the arena. They may lie over the scratch of call `over`; None is no call.
        """
        offset = 0
        for taken in self.live_at(call):
            if over is not None and taken.scratch_of == over:
                continue
            if taken.offset >= offset + size:
                break
            end = max(offset, taken.offset + taken.bytes)
            offset = -(-end // self.alignment.scratch) * self.alignment.scratch
        return offset
