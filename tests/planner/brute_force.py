"""The smallest arena by trying everything: every order of the calls and every offset of every buffer.

Written a second time, straight from the rules, with nothing of the planner but the safe distances.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from qutec.planner import safe_overlap
from qutec.program import Buffer, BufferKind, Call, Move, Program, RowRegion, Tensor
from qutec.program.row_layout import row_layout

GRANULE = 4


@dataclass(frozen=True)
class Box:
    """Something that takes arena from one time to another."""

    size: int
    first: int
    last: int
    name: str = ""
    pinned: int | None = None


def smallest_arena(
    net: Program,
    scratch: Sequence[int],
    *,
    any_order: bool = True,
    at_most: int = 1 << 30,
    pinned: Mapping[str, int] | None = None,
) -> int:
    """Bytes, rounded up to the granule, or `at_most` where nothing smaller is possible.

    `any_order` False keeps the program's order.
    """
    calls = list(enumerate(net.calls))
    orders = orders_of(calls) if any_order else iter([calls])
    best = at_most
    for order in orders:
        in_order = [call for _, call in order], [scratch[i] for i, _ in order]
        best = smallest_in_order(net, *in_order, best, pinned or {})
    return best


def with_any_moves(net: Program, scratch: Sequence[int]) -> Iterator[tuple[Program, list[int]]]:
    """The program with every subset of its internal buffers moved as soon as they are made."""
    internal = [
        call.writes[0].buffer
        for call in net.calls
        if len(call.writes) == 1 and net.buffers[call.writes[0].buffer].kind is BufferKind.INTERNAL
    ]
    for count in range(len(internal) + 1):
        for names in combinations(internal, count):
            yield moved(net, scratch, names)


def moved(net: Program, scratch: Sequence[int], names: Sequence[str]) -> tuple[Program, list[int]]:
    buffers = dict(net.buffers)
    calls: list[Call] = []
    sizes: list[int] = []
    gone: list[str] = []
    for call, size in zip(net.calls, scratch, strict=True):
        calls.append(reading_moved(call, gone))
        sizes.append(size)
        for tensor in call.writes:
            if tensor.buffer in names:
                gone.append(tensor.buffer)
                target = f"{tensor.buffer}.at_its_new_place"
                count = net.buffers[tensor.buffer].bytes
                buffers[target] = Buffer(target, count, BufferKind.INTERNAL)
                calls.append(Move("move", tensor, Tensor(target), count))
                sizes.append(0)
    return replace(net, buffers=buffers, calls=tuple(calls)), sizes


def reading_moved(call: Call, names: Sequence[str]) -> Call:
    if isinstance(call, RowRegion):
        return replace(call, calls=tuple(reading_moved(one, names) for one in call.calls))  # type: ignore[misc]
    changed = {
        field: Tensor(f"{value.buffer}.at_its_new_place", value.offset)
        for field, value in vars(call).items()
        if field.startswith("input") and isinstance(value, Tensor) and value.buffer in names
    }
    return replace(call, **changed)


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


def smallest_in_order(
    net: Program, calls: Sequence[Call], scratch: Sequence[int], best: int, pinned: Mapping[str, int]
) -> int:
    boxes = [Box(size, i, i, f"scratch of call {i}") for i, size in enumerate(scratch) if size]
    for name, (first, last) in lifetimes(net, calls).items():
        boxes.append(Box(net.buffers[name].bytes, first, last, name, pinned.get(name)))
    boxes.sort(key=lambda box: (box.pinned is None, -box.size))
    near = distances(calls, {box.name: box for box in boxes})
    ends = max((box.pinned + box.size for box in boxes if box.pinned is not None), default=0)
    best = min(best, ends + sum(-(-box.size // GRANULE) * GRANULE for box in boxes))
    least = max(ends, least_sum(boxes, near))
    while best - GRANULE >= least and fits(boxes, near, best - GRANULE, []):
        best -= GRANULE
    return best


def least_sum(boxes: Sequence[Box], near: dict[tuple[str, str], tuple[int, int]]) -> int:
    """What the boxes of some time take even where those that may overlap do so altogether."""
    sums = []
    for time in {box.first for box in boxes}:
        live = {box.name or str(i): box.size for i, box in enumerate(boxes) if box.first <= time <= box.last}
        shared = sum(min(live[a], live[b]) for a, b in near if a in live and b in live)
        sums.append(sum(live.values()) - shared)
    return max(sums, default=0)


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
        if isinstance(call, RowRegion) and f"scratch of call {i}" in boxes:
            for name, above in row_layout(call).distance.items():
                if boxes[name].last == i:
                    # Rows lie on what is dead of the input where it begins so far above them, or below it.
                    found[name, f"scratch of call {i}"] = above, boxes[name].size
        if len(call.writes) != 1:
            continue
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
        if box.pinned in (None, offset)
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
