"""The smallest arena by trying everything: every order of the calls and every offset of every buffer.

Written a second time, straight from the rules, with nothing of the planner but the safe distances.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qutec.planner import safe_overlap
from qutec.program import BufferKind, Call, Program

GRANULE = 4


@dataclass(frozen=True)
class Box:
    """Something that takes arena from one time to another."""

    size: int
    first: int
    last: int
    name: str = ""


def smallest_arena(net: Program, scratch: Sequence[int], *, any_order: bool = True) -> int:
    """Bytes, rounded up to the granule; `any_order` False keeps the program's order."""
    calls = list(enumerate(net.calls))
    orders = orders_of(calls) if any_order else iter([calls])
    best = 1 << 30
    for order in orders:
        best = smallest_in_order(net, [call for _, call in order], [scratch[i] for i, _ in order], best)
    return best


def orders_of(calls: Sequence[tuple[int, Call]]) -> Iterator[list[tuple[int, Call]]]:
    """Every order in which calls that touch a common buffer, one of them writing, stay in order."""
    if not calls:
        yield []
    for k, (number, call) in enumerate(calls):
        if not any(depends(earlier, call) for _, earlier in calls[:k]):
            for rest in orders_of([*calls[:k], *calls[k + 1 :]]):
                yield [(number, call), *rest]


def depends(earlier: Call, later: Call) -> bool:
    written, read = {t.buffer for t in earlier.writes}, {t.buffer for t in earlier.reads}
    written_later = {t.buffer for t in later.writes}
    return bool(written & (written_later | {t.buffer for t in later.reads}) or written_later & read)


def smallest_in_order(net: Program, calls: Sequence[Call], scratch: Sequence[int], best: int) -> int:
    boxes = [Box(size, i, i) for i, size in enumerate(scratch) if size]
    for name, (first, last) in lifetimes(net, calls).items():
        boxes.append(Box(net.buffers[name].bytes, first, last, name))
    boxes.sort(key=lambda box: -box.size)
    near = distances(calls, {box.name: box for box in boxes})
    best = min(best, sum(-(-box.size // GRANULE) * GRANULE for box in boxes))
    while fits(boxes, near, best - GRANULE, []):
        best -= GRANULE
    return best


def lifetimes(net: Program, calls: Sequence[Call]) -> dict[str, tuple[int, int]]:
    end = len(calls)
    used: dict[str, list[int]] = {b.name: [] for b in net.arena_buffers()}
    for name, times in used.items():
        if net.buffers[name].kind is BufferKind.INPUT:
            times += [-1, 0]
        if net.buffers[name].kind is BufferKind.OUTPUT:
            times.append(end)
        times += [i for i, c in enumerate(calls) if name in {t.buffer for t in (*c.reads, *c.writes)}]
    return {name: (min(times), max(times)) for name, times in used.items()}


def distances(calls: Sequence[Call], boxes: dict[str, Box]) -> dict[tuple[str, str], tuple[int, int]]:
    """(below, above) of every dying input and the output that begins there."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for i, call in enumerate(calls):
        target = call.writes[0].buffer
        if boxes[target].first != i:
            continue
        for tensor, safe in zip(call.reads, safe_overlap(call), strict=True):
            if boxes[tensor.buffer].last == i and tensor.buffer != target:
                old = found.get((tensor.buffer, target), (-(1 << 30), -(1 << 30)))
                found[tensor.buffer, target] = max(old[0], safe.below), max(old[1], safe.above)
    return found


def fits(
    boxes: Sequence[Box], near: dict[tuple[str, str], tuple[int, int]], limit: int, offsets: list[int]
) -> bool:
    if len(offsets) == len(boxes):
        return True
    box = boxes[len(offsets)]
    return any(
        all(may_stay(box, offset, boxes[k], other, near) for k, other in enumerate(offsets))
        and fits(boxes, near, limit, [*offsets, offset])
        for offset in range(0, limit - box.size + 1, GRANULE)
    )


def may_stay(
    box: Box, offset: int, other: Box, at: int, near: dict[tuple[str, str], tuple[int, int]]
) -> bool:
    if box.last < other.first or other.last < box.first:
        return True
    if offset + box.size <= at or at + other.size <= offset:
        return True
    for source, target, gap in ((box, other, offset - at), (other, box, at - offset)):
        if (source.name, target.name) in near:
            below, above = near[source.name, target.name]
            return gap >= below or -gap >= above
    return False
