"""The smallest arena by trying everything: every order of the calls and every offset of every buffer.

Written a second time, straight from the rules: which calls wait for each other, when a buffer lives, what
excludes what, the search. Of the planner it has the safe distances of a call (`safe_overlap`); of a region
the rows that it holds and the distances from its input to them (`row_layout`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations

from qutec.planner import safe_overlap
from qutec.program import Buffer, BufferKind, Call, Concat, Move, Program, RowRegion, Tensor
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
    overlap: bool = True,
    at_most: int = 1 << 30,
    pinned: Mapping[str, int] | None = None,
) -> int:
    """Bytes, rounded up to the granule, or `at_most` where nothing smaller is possible.

    `any_order` False keeps the program's order; `overlap` False keeps buffers that live at one call apart.
    """
    calls = list(enumerate(net.calls))
    orders = orders_of(calls) if any_order else iter([calls])
    best = at_most
    for order in orders:
        in_order = [call for _, call in order], [scratch[i] for i, _ in order]
        best = smallest_in_order(net, *in_order, best, pinned or {}, overlap)
    return best


def with_any_moves(net: Program, scratch: Sequence[int]) -> Iterator[tuple[Program, list[int]]]:
    """The program with every subset of its internal buffers moved as soon as they are made."""
    written = [tensor.buffer for call in net.calls for tensor in call.writes]
    internal = [
        name for name in written if written.count(name) == 1 and net.buffers[name].kind is BufferKind.INTERNAL
    ]
    for count in range(len(internal) + 1):
        for names in combinations(internal, count):
            yield moved(net, scratch, names)


def moved(net: Program, scratch: Sequence[int], names: Sequence[str]) -> tuple[Program, list[int]]:
    buffers = dict(net.buffers)
    calls: list[Call] = []
    sizes: list[int] = []
    gone: dict[str, Tensor] = {}
    for call, size in zip(net.calls, scratch, strict=True):
        calls.append(with_tensors(call, gone, "input"))
        sizes.append(size)
        for tensor in call.writes:
            if tensor.buffer in names:
                target = Tensor(f"{tensor.buffer}.at_its_new_place")
                gone[tensor.buffer] = target
                count = net.buffers[tensor.buffer].bytes
                buffers[target.buffer] = Buffer(target.buffer, count, BufferKind.INTERNAL)
                calls.append(Move("move", Tensor(tensor.buffer), target, count))
                sizes.append(0)
    return replace(net, buffers=buffers, calls=tuple(calls)), sizes


def joined_in_place(net: Program, scratch: Sequence[int]) -> tuple[Program, list[int]]:
    """The program without the concatenations of whole internal buffers: these are parts of the result."""
    sizes = list(scratch)
    for number, call in enumerate(net.calls):
        if not isinstance(call, Concat) or call.outer != 1:
            continue
        names = [tensor.buffer for tensor in call.inputs]
        internal = all(net.buffers[name].kind is BufferKind.INTERNAL for name in names)
        whole = [net.buffers[name].bytes for name in names] == list(call.inner)
        if internal and whole and len(set(names)) == len(names):
            starts = [call.output.offset + sum(call.inner[:k]) for k in range(len(names))]
            places = {n: Tensor(call.output.buffer, at) for n, at in zip(names, starts, strict=True)}
            others = [one for one in net.calls if one is not call]
            calls = tuple(with_tensors(one, places, ("input", "output")) for one in others)
            buffers = {name: buffer for name, buffer in net.buffers.items() if name not in names}
            del sizes[number]
            return joined_in_place(replace(net, buffers=buffers, calls=calls), sizes)
    return net, sizes


def with_tensors(call: Call, places: Mapping[str, Tensor], fields: str | tuple[str, ...]) -> Call:
    """The call with other places for some buffers, in the fields whose names begin so."""
    if isinstance(call, RowRegion):
        return replace(call, calls=tuple(with_tensors(one, places, fields) for one in call.calls))  # type: ignore[misc]

    def placed(tensor: Tensor) -> Tensor:
        place = places.get(tensor.buffer)
        return tensor if place is None else Tensor(place.buffer, place.offset + tensor.offset)

    changed: dict[str, object] = {}
    for field, value in vars(call).items():
        if not field.startswith(fields):
            continue
        if isinstance(value, Tensor):
            changed[field] = placed(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Tensor):
            changed[field] = tuple(map(placed, value))
    return replace(call, **changed)  # type: ignore[arg-type]


def orders_of(calls: Sequence[tuple[int, Call]]) -> Iterator[list[tuple[int, Call]]]:
    """Every order in which calls that touch a common byte, one of them writing, stay in order."""
    if not calls:
        yield []
    for k, (number, call) in enumerate(calls):
        if not any(depends(earlier, call) for _, earlier in calls[:k]):
            for rest in orders_of([*calls[:k], *calls[k + 1 :]]):
                yield [(number, call), *rest]


def depends(earlier: Call, later: Call) -> bool:
    written, read = bytes_of(earlier)
    written_later, read_later = bytes_of(later)
    return bool(written & (written_later | read_later) or written_later & read)


@lru_cache(maxsize=4096)
def bytes_of(call: Call) -> tuple[frozenset[tuple[str, int]], frozenset[tuple[str, int]]]:
    """The bytes of buffers that a call writes, and those that it reads."""
    written = {
        (t.buffer, t.offset + int(i)) for k, t in enumerate(call.writes) for i in call.written_region(k)
    }
    read = {(t.buffer, t.offset + int(i)) for k, t in enumerate(call.reads) for i in call.read_region(k)}
    return frozenset(written), frozenset(read)


def smallest_in_order(
    net: Program,
    calls: Sequence[Call],
    scratch: Sequence[int],
    best: int,
    pinned: Mapping[str, int],
    overlap: bool,
) -> int:
    boxes = [Box(size, i, i, f"scratch of call {i}") for i, size in enumerate(scratch) if size]
    for name, (first, last) in lifetimes(net, calls).items():
        boxes.append(Box(net.buffers[name].bytes, first, last, name, pinned.get(name)))
    boxes.sort(key=lambda box: (box.pinned is None, -box.size))
    near = distances(calls, {box.name: box for box in boxes}) if overlap else {}
    ends = max((box.pinned + box.size for box in boxes if box.pinned is not None), default=0)
    best = min(best, ends + sum(-(-box.size // GRANULE) * GRANULE for box in boxes))
    least = max(ends, least_sum(boxes, near))
    while best - GRANULE >= least and fits(boxes, near, best - GRANULE):
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
        if len(call.writes) != 1 and not isinstance(call, RowRegion):
            continue
        for output, written in enumerate(call.writes):
            target = written.buffer
            if boxes[target].first != i:
                continue
            for tensor, safe in zip(call.reads, safe_overlap(call, None, output), strict=True):
                if boxes[tensor.buffer].last == i and tensor.buffer != target:
                    # Safe are distances of tensors, which may begin within their buffers.
                    shift = written.offset - tensor.offset
                    old = found.get((tensor.buffer, target), (-(1 << 30), -(1 << 30)))
                    below, above = safe.below + shift, safe.above - shift
                    found[tensor.buffer, target] = max(old[0], below), max(old[1], above)
    return found


def fits(boxes: Sequence[Box], near: dict[tuple[str, str], tuple[int, int]], limit: int) -> bool:
    """Whether there are offsets for all boxes below a limit; a set of offsets is the bits of an integer."""
    free = [
        sum(1 << n for n in range((limit - box.size) // GRANULE + 1) if box.pinned in (None, n * GRANULE))
        for box in boxes
    ]
    together = [
        (i, j)
        for i, box in enumerate(boxes)
        for j, other in enumerate(boxes)
        if i != j and box.first <= other.last and other.first <= box.last
    ]
    most = limit // GRANULE
    # beside[i, j][n]: where j may be while i is at n, as far up as `most`.
    gaps = {
        (i, j): [may_stay(boxes[j], k * GRANULE, boxes[i], near) for k in range(-most, most + 1)]
        for i, j in together
    }
    beside = {
        pair: [sum(1 << m for m in range(most + 1) if good[m - n + most]) for n in range(most + 1)]
        for pair, good in gaps.items()
    }
    return can_place(set(range(len(boxes))), free, beside)


def can_place(
    waiting: set[int], free: Sequence[int], beside: Mapping[tuple[int, int], Sequence[int]]
) -> bool:
    """Every offset of every box that waits is tried, the box with the fewest first."""
    if not waiting:
        return True
    box = min(waiting, key=lambda i: (free[i].bit_count(), i))
    rest = waiting - {box}
    for n in range(free[box].bit_length()):
        if free[box] >> n & 1:
            left = [free[j] & beside[box, j][n] if (box, j) in beside else free[j] for j in range(len(free))]
            if all(left[j] for j in rest) and can_place(rest, left, beside):
                return True
    return False


def may_stay(box: Box, gap: int, other: Box, near: dict[tuple[str, str], tuple[int, int]]) -> bool:
    """Whether boxes that live at a common time may be so far from each other: `box` begins `gap` above."""
    if gap + box.size <= 0 or other.size <= gap:
        return True
    for source, target, above in ((box, other, gap), (other, box, -gap)):
        if (source.name, target.name) in near:
            least_below, least_above = near[source.name, target.name]
            return above >= least_below or -above >= least_above
    return False
