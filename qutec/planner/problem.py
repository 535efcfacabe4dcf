"""The placement problem of a flow in one order: what needs arena, when, and which offsets exclude each other.

Two items that are live at the same call lie apart, one below the other. The exception is a pair that an input
and an output of the call make, where the input dies: `Nearness` says how far they may overlap. Written as

    offset(j) >= offset(i) + apart(i, j)   or   offset(i) >= offset(j) + apart(j, i)

with apart(i, j) = bytes(i) in general. An output written in place of its input is the case where one of the
two numbers is 0.

Lower bound: items live at one call that may not overlap take the sum of their sizes, padded to the granule
that all offsets are multiples of, less the padding of the topmost, which rounding the arena up to its own
alignment restores. The output of the call saves at most what it can have in common with each dying input, and
no more than its own size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qutec.planner.flow import Flow, Nearness, most_saved

__all__ = ["Item", "Problem", "build_problem", "call_need", "lifetimes"]


@dataclass(frozen=True)
class Item:
    """A buffer or a call's scratch; `first_use` and `last_use` are as in `Allocation`."""

    name: str
    bytes: int
    first_use: int
    last_use: int
    alignment: int
    scratch_of: int | None = None
    pinned: int | None = None
    """The only offset that it may have."""


@dataclass(frozen=True)
class Problem:
    """Items to place: the flow's buffers in their order, then scratch. Times count calls in this order."""

    items: tuple[Item, ...]
    near: tuple[Nearness, ...]
    needs: tuple[int, ...]
    """What each call needs at least, and at both ends what the caller does: [1 + calls + 1] bytes."""
    flow: Flow

    @property
    def lower_bound(self) -> int:
        """No placement in this order has a smaller arena. Bytes."""
        return self.flow.arena_bytes(max(*self.needs, self.flow.pinned_end))


def lifetimes(flow: Flow, order: Sequence[int]) -> list[tuple[int, int]]:
    """First and last use of each buffer as positions in `order`.

    An input is live from -1 to its last reader, and at least to the first call; a held buffer to the number
    of calls; any other from its first writer to its last use.
    """
    first = [-1 if is_input else flow.calls for is_input in flow.is_input]
    last = [0 if is_input else -1 for is_input in flow.is_input]
    for position, call in enumerate(order):
        for target in flow.writes[call]:
            first[target] = min(first[target], position)
        for buffer in (*flow.reads[call], *flow.writes[call]):
            last[buffer] = max(last[buffer], position)
    last = [flow.calls if held else end for held, end in zip(flow.held, last, strict=True)]
    return list(zip(first, last, strict=True))


def build_problem(flow: Flow, order: Sequence[int]) -> Problem:
    """The problem of running the calls of a flow in an order that respects `flow.before`."""
    life = lifetimes(flow, order)
    items = [
        Item(name, size, first, last, flow.alignment.buffer, pinned=flow.pin(number))
        for number, (name, size, (first, last)) in enumerate(zip(flow.names, flow.sizes, life, strict=True))
    ]
    near: list[Nearness] = []
    change = [0] * (flow.calls + 3)
    for item in items:
        change[item.first_use + 1] += flow.padded(item.bytes)
        change[item.last_use + 2] -= flow.padded(item.bytes)
    needs = [change[0]]
    for step in change[1:-1]:
        needs.append(needs[-1] + step)
    for position, call in enumerate(order):
        pairs = [
            pair
            for pair in flow.near[call]
            if life[pair.source][1] == position and life[pair.target][0] == position
        ]
        near += pairs
        needs[position + 1] -= most_saved(flow, pairs)
        if flow.scratch[call]:
            needs[position + 1] += flow.padded(flow.scratch[call])
            items.append(
                Item(
                    f"call {position}",
                    flow.scratch[call],
                    position,
                    position,
                    flow.alignment.scratch,
                    scratch_of=position,
                )
            )
            ends = [b for b, _ in flow.beside[call] if life[b][1] == position]
            needs[position + 1] -= _saved_by_scratch(flow, call, ends)
            near += [
                Nearness(source, len(items) - 1, distance, flow.sizes[source])
                for source, distance in flow.beside[call]
                if source in ends
            ]
    return Problem(tuple(items), tuple(near), tuple(needs), flow)


def call_need(flow: Flow, live: int, call: int, dying: Iterable[int], is_first_write: bool) -> int:
    """What a call needs when `live` padded bytes are live besides its scratch, output included."""
    saved = 0
    if is_first_write and flow.near[call]:
        ends = set(dying)
        saved = most_saved(flow, [pair for pair in flow.near[call] if pair.source in ends])
    saved += _saved_by_scratch(flow, call, dying)
    return live + flow.padded(flow.scratch[call]) - saved


def _saved_by_scratch(flow: Flow, call: int, dying: Iterable[int]) -> int:
    """What the scratch of a call has in common, at most, with the buffers that end there."""
    scratch = flow.padded(flow.scratch[call])
    ends = set(dying) if flow.beside[call] else set()
    shared = (
        min(scratch - distance, flow.padded(flow.sizes[b])) for b, distance in flow.beside[call] if b in ends
    )
    return min(scratch, sum(shared))
