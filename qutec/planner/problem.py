"""The placement problem of a program: what needs arena, when, and what may share a place.

An item is live over an interval of calls; two items that are live at the same call may not overlap. The
one exception is a chain of in-place calls: an output that may take the very bytes of an input is
merged with it into one block, which is live as long as either. Which of two possible inputs it
takes, if any, is a choice of the solver.

Lower bound: the blocks that are live at one call are disjoint and start at multiples of the granule g, so
they need at least sum(ceil(bytes / g) * g), less the padding of the topmost, which rounding the arena up
to its own alignment (a multiple of g) restores. Merging wherever possible can only lower that sum, and at
a call with two possible sources of the same size the sum does not depend on which is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qutec.planner.plan import Alignment, PlanError
from qutec.program import Buffer, BufferKind, Call, Program, Tensor

__all__ = ["Block", "InPlace", "Item", "Problem", "build_problem", "live_bytes", "lower_bound", "merge"]


@dataclass(frozen=True)
class Item:
    """A buffer or a call's scratch; `first_use` and `last_use` are as in `Allocation`."""

    name: str
    bytes: int
    first_use: int
    last_use: int
    scratch_of: int | None = None


@dataclass(frozen=True)
class InPlace:
    """`call` may write item `target` over item `source`: same size, same start."""

    call: int
    source: int
    target: int


@dataclass(frozen=True)
class Problem:
    """Items to place. Of the in-place pairs with the same target at most one can be chosen."""

    items: tuple[Item, ...]
    in_place: tuple[InPlace, ...]
    calls: int
    alignment: Alignment = field(default_factory=Alignment)

    @property
    def sources(self) -> dict[int, tuple[int, ...]]:
        """For each item that may be written in place, the items whose place it may take."""
        found: dict[int, tuple[int, ...]] = {}
        for pair in self.in_place:
            found[pair.target] = (*found.get(pair.target, ()), pair.source)
        return found

    def arena_bytes(self, peak: int) -> int:
        """The size of an arena whose highest used byte is `peak` - 1."""
        return _round_up(peak, self.alignment.arena)


@dataclass(frozen=True)
class Block:
    """Items that share one place: one item, or a chain of in-place writes."""

    items: tuple[int, ...]
    bytes: int
    first_use: int
    last_use: int
    alignment: int


def _round_up(value: int, to: int) -> int:
    return -(-value // to) * to


def merge(problem: Problem, chosen: Mapping[int, int]) -> tuple[Block, ...]:
    """The blocks that remain when each target in `chosen` takes the place of its source."""
    following = {source: target for target, source in chosen.items()}
    blocks: list[Block] = []
    for root, item in enumerate(problem.items):
        if root in chosen:
            continue
        chain = [root]
        while (target := following.get(chain[-1])) is not None:
            chain.append(target)
        last_use = max(problem.items[i].last_use for i in chain)
        alignment = problem.alignment.buffer if item.scratch_of is None else problem.alignment.scratch
        blocks.append(Block(tuple(chain), item.bytes, item.first_use, last_use, alignment))
    return tuple(blocks)


def live_bytes(problem: Problem, blocks: Sequence[Block]) -> npt.NDArray[np.int64]:
    """Bytes live at each time from -1 (index 0) to the number of calls, blocks padded to the granule."""
    change = np.zeros(problem.calls + 3, dtype=np.int64)
    for block in blocks:
        padded = _round_up(block.bytes, problem.alignment.granule)
        change[block.first_use + 1] += padded
        change[block.last_use + 2] -= padded
    return np.cumsum(change)[:-1]


def lower_bound(problem: Problem) -> int:
    """No placement of the problem, with any choice of in-place pairs, has a smaller arena. Bytes."""
    chosen = {target: sources[0] for target, sources in problem.sources.items()}
    return problem.arena_bytes(int(live_bytes(problem, merge(problem, chosen)).max()))


@dataclass
class _Uses:
    """When a buffer is used: calls, -1 for the caller before them and `calls` for the caller after."""

    writers: list[int] = field(default_factory=list)
    readers: list[int] = field(default_factory=list)


def _collect_uses(program: Program) -> dict[str, _Uses]:
    uses = {buffer.name: _Uses() for buffer in program.arena_buffers()}
    for name, buffer in program.buffers.items():
        if buffer.kind is BufferKind.INPUT:
            uses[name].writers.append(-1)
            uses[name].readers.append(0)
    for i, call in enumerate(program.calls):
        for tensor in call.reads:
            if _buffer(program, tensor.buffer, call).kind is not BufferKind.CONSTANT:
                uses[tensor.buffer].readers.append(i)
        output = _buffer(program, call.writes.buffer, call)
        if output.kind is BufferKind.CONSTANT:
            raise PlanError(f"call {i} ({call.name}) writes the constant {output.name}")
        uses[output.name].writers.append(i)
    held = {b.name for b in program.arena_buffers() if b.kind is BufferKind.OUTPUT}
    held |= {port.tensor.buffer for port in program.outputs} & uses.keys()
    for name in held:
        uses[name].readers.append(len(program.calls))
    return uses


def _buffer(program: Program, name: str, call: Call) -> Buffer:
    if name not in program.buffers:
        raise PlanError(f"{call.name} uses the buffer {name}, which the program does not have")
    return program.buffers[name]


def _reader(program: Program, time: int) -> str:
    return f"call {time} ({program.calls[time].name})" if time < len(program.calls) else "the caller"


def _buffer_items(program: Program, uses: Mapping[str, _Uses]) -> list[Item]:
    items: list[Item] = []
    for buffer in program.arena_buffers():
        use = uses[buffer.name]
        if not use.writers and not use.readers:
            continue
        first_read = min(use.readers, default=len(program.calls))
        if not use.writers or first_read <= min(use.writers):
            raise PlanError(f"{_reader(program, first_read)} reads {buffer.name} before any call wrote it")
        items.append(Item(buffer.name, buffer.bytes, min(use.writers), max(use.readers + use.writers)))
    return items


def _read_only_there(call: Call, source: Tensor) -> bool:
    """Whether the call reads no other part of the buffer of `source`."""
    return all(tensor == source for tensor in call.reads if tensor.buffer == source.buffer)


def _in_place_pairs(program: Program, uses: Mapping[str, _Uses], items: Sequence[Item]) -> list[InPlace]:
    """The pairs in which a call may write one whole buffer over another that nobody needs afterwards.

    The target has no other writer, so that its whole content comes from this call, and the lifetimes
    meet at this call: the source ends here, the target begins here. An output is never a source, since
    the caller reads it after the last call.
    """
    index = {item.name: i for i, item in enumerate(items)}
    pairs: list[InPlace] = []
    for i, call in enumerate(program.calls):
        target = call.writes
        if target.offset != 0 or uses[target.buffer].writers != [i]:
            continue
        for source in dict.fromkeys(call.reads):
            if source.buffer == target.buffer or source.buffer not in index or source.offset != 0:
                continue
            before, after = items[index[source.buffer]], items[index[target.buffer]]
            if (
                before.bytes == after.bytes
                and before.last_use == i
                and call.may_write_in_place(source)
                and _read_only_there(call, source)
            ):
                pairs.append(InPlace(i, index[source.buffer], index[target.buffer]))
    return pairs


def build_problem(program: Program, scratch: Sequence[int], alignment: Alignment | None = None) -> Problem:
    """Lifetimes and in-place pairs of a program; `scratch[i]` is the kernel scratch of call i in bytes.

    An input is live from -1 to its last reader, and at least to call 0; an output from its first writer
    to the number of calls; any other buffer from its first writer to its last reader or, when nobody
    reads it, its last writer. A buffer that an output port refers to counts as an output.

    Raises:
        PlanError: scratch does not match the calls; a call reads what nobody wrote or writes a constant.
    """
    if len(scratch) != len(program.calls):
        raise PlanError(f"{len(program.calls)} calls, but scratch sizes for {len(scratch)}")
    uses = _collect_uses(program)
    items = _buffer_items(program, uses)
    pairs = _in_place_pairs(program, uses, items)
    for i, (call, size) in enumerate(zip(program.calls, scratch, strict=True)):
        if size < 0:
            raise PlanError(f"call {i} ({call.name}) has a scratch size of {size} bytes")
        if size:
            items.append(Item(f"{call.name}.scratch", size, i, i, scratch_of=i))
    return Problem(tuple(items), tuple(pairs), len(program.calls), alignment or Alignment())
