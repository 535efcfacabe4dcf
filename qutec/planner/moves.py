"""Programs as candidates for a plan: solved as they are, or with buffers moved within the arena.

Kernels run from low to high addresses, so an output that overlaps its input lies below it, and a chain of
calls drifts to the start of the arena. There a `Move` takes the buffer back up, at the price of a copy within
the arena.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qutec.planner.arena import Solution, solve
from qutec.planner.effort import Effort
from qutec.planner.flow import Flow, Sharing, build_flow
from qutec.planner.plan import Alignment
from qutec.planner.retarget import retargeted
from qutec.program import Buffer, BufferKind, Call, Move, Program, Tensor
from qutec.targets import Core

__all__ = ["Candidate", "Solver", "movable", "move_bytes"]


@dataclass(frozen=True)
class Candidate:
    """A program, and the best solution found for it; the order is not applied yet."""

    program: Program
    scratch: tuple[int, ...]
    solution: Solution

    @property
    def arena_bytes(self) -> int:
        """The arena's size."""
        return self.solution.arena_bytes

    def bounded(self, lower_bound: int) -> Candidate:
        """The same with another bound on what it is compared with."""
        bound = min(lower_bound, self.arena_bytes)
        return replace(self, solution=replace(self.solution, lower_bound=bound))


@dataclass(frozen=True)
class Solver:
    """What holds for every candidate of one network."""

    core: Core | None
    keep_input: bool
    alignment: Alignment | None
    pinned: Mapping[str, int]

    def flow(self, program: Program, scratch: Sequence[int], sharing: Sharing = Sharing.OVERLAP) -> Flow:
        """The program without its order."""
        return build_flow(
            program,
            scratch,
            alignment=self.alignment,
            sharing=sharing,
            core=self.core,
            keep_input=self.keep_input,
            pinned=self.pinned,
        )

    def solved(self, program: Program, scratch: Sequence[int], effort: Effort, enough: int = 0) -> Candidate:
        """The program as it is, in its best order; the search ends at an arena of `enough` bytes."""
        return Candidate(program, tuple(scratch), solve(self.flow(program, scratch), effort, enough))

    def moved(
        self, without: Candidate, effort: Effort, *, wanted: int | None = None, below: int | None = None
    ) -> Candidate:
        """The candidate with the fewest moves found that need at most `wanted` bytes.

        `wanted` None is as few bytes as possible; what is not below `below` is of no interest then. Halves of
        the moves are left out as long as the arena does not grow beyond what is wanted, large buffers first.
        The program without moves where they save nothing. The bound holds for any of these moves.
        """

        def made(names: Sequence[str], enough: int = 0) -> Candidate:
            changed = _with_moves(without.program, without.scratch, names)
            return self.solved(*changed, effort.share(0.1 if enough else 0.5), enough)

        flow = self.flow(without.program, without.scratch)
        names = [flow.names[b] for b in movable(flow)]
        if not names:
            return without
        best = made(names)
        bound = best.solution.lower_bound
        if best.arena_bytes >= min(without.arena_bytes, below or without.arena_bytes):
            return without.bounded(bound)
        target = best.arena_bytes
        if wanted is not None and wanted > target:
            target = wanted
        kept = list(names)
        pending = [list(names)]
        while pending and not effort.spent:
            group = pending.pop()
            fewer = [name for name in kept if name not in group]
            trial = made(fewer, target)
            if trial.arena_bytes <= target:
                kept, best = fewer, trial
            elif len(group) > 1:
                half = len(group) // 2
                pending += [group[half:], group[:half]]
        # Leaving out moves cannot lower what no plan with all of them is below.
        return best.bounded(bound)


def move_bytes(program: Program) -> int:
    """Bytes that the moves of a program copy."""
    return sum(call.count for call in program.calls if isinstance(call, Move))


def movable(flow: Flow) -> list[int]:
    """Buffers of the network's own that one call writes and another reads, the largest first."""
    writers = Counter(b for written in flow.writes for b in written)
    read = {b for buffers in flow.reads for b in buffers}
    found = [b for b in read if writers[b] == 1 and not flow.held[b] and not flow.is_input[b]]
    return sorted(found, key=lambda b: (-flow.sizes[b], b))


def _with_moves(
    program: Program, scratch: Sequence[int], names: Sequence[str]
) -> tuple[Program, tuple[int, ...]]:
    """The program with each of these buffers moved to a new one, which all its readers read."""
    buffers = dict(program.buffers)
    calls: list[Call] = []
    sizes: list[int] = []
    new_name: dict[str, str] = {}
    for call, size in zip(program.calls, scratch, strict=True):
        calls.append(_reading(call, new_name))
        sizes.append(size)
        for name in (tensor.buffer for tensor in call.writes if tensor.buffer in names):
            moved = f"{name}.moved"
            buffers[moved] = Buffer(moved, buffers[name].bytes, BufferKind.INTERNAL)
            calls.append(Move(f"{call.name}.move", Tensor(name), Tensor(moved), buffers[name].bytes))
            sizes.append(0)
            new_name[name] = moved
    return replace(program, buffers=buffers, calls=tuple(calls)), tuple(sizes)


def _reading(call: Call, new_name: dict[str, str]) -> Call:
    """The call with the inputs that have a new name read from there."""

    def renamed(by: Call, tensor: Tensor) -> Tensor:
        if any(tensor is written for written in by.writes):
            return tensor
        return replace(tensor, buffer=new_name.get(tensor.buffer, tensor.buffer))

    return retargeted(call, renamed) if new_name else call
