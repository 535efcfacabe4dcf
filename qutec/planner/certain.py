"""What excludes each other in every order of the calls: a bound that no order beats.

A buffer is live during a call, whatever the order, if something that must come before the call (or the
caller) wrote it and the call itself or something that must come after it (or the caller) reads it. Buffers
that are certainly live at one call exclude each other as in any order. A pair that may overlap at its call
does so here, unless some other call certainly sees both. Every placement in every order satisfies these
conflicts, so a limit that they exclude is excluded for the network.
"""

from __future__ import annotations

from dataclasses import replace
from graphlib import TopologicalSorter
from itertools import combinations

from qutec.planner.conflicts import Conflict
from qutec.planner.flow import Flow
from qutec.planner.problem import Item

__all__ = ["certain_conflicts", "last_readers", "masks", "reach"]


def certain_conflicts(flow: Flow) -> tuple[list[Item], list[list[Conflict]]]:
    """Buffers and scratch, and their conflicts in every order; lifetimes of the items mean nothing."""
    items = [
        Item(name, size, 0, 0, flow.alignment.buffer, pinned=flow.pin(number))
        for number, (name, size) in enumerate(zip(flow.names, flow.sizes, strict=True))
    ]
    pairs: dict[tuple[int, int], tuple[int, int]] = {}

    def exclude(i: int, j: int, over: int, under: int) -> None:
        """Item i lies `over` above item j or `under` below; the stricter one stays."""
        if items[i].bytes and items[j].bytes:
            old = pairs.get((i, j), (over, under))
            pairs[i, j] = max(old[0], over), max(old[1], under)

    def apart(i: int, j: int) -> None:
        i, j = max(i, j), min(i, j)
        exclude(i, j, items[j].bytes, items[i].bytes)

    for ends in (flow.is_input, flow.held):
        for i, j in combinations([b for b, is_there in enumerate(ends) if is_there], 2):
            apart(i, j)
    ancestors, descendants = reach(flow)
    users, writers = masks(flow)
    for call in range(flow.calls):
        targets = flow.writes[call]
        later = descendants[call]
        before = [
            b
            for b in range(len(flow.sizes))
            if (flow.is_input[b] or writers[b] & ancestors[call])
            and (flow.held[b] or users[b] & (later | 1 << call))
        ]
        live = sorted({*before, *targets})
        near = {
            (pair.source, pair.target): pair
            for pair in flow.near[call]
            if not flow.held[pair.source] and not users[pair.source] & later and pair.target not in before
        }
        for i, j in combinations(live, 2):
            pair = near.get((i, j)) or near.get((j, i))
            if pair is None:
                apart(i, j)
                continue
            high, low = max(i, j), min(i, j)
            if high == pair.source:
                exclude(high, low, pair.below, pair.above)
            else:
                exclude(high, low, pair.above, pair.below)
        if flow.scratch[call]:
            items.append(Item(f"scratch {call}", flow.scratch[call], 0, 0, flow.alignment.scratch))
            beside = dict(flow.beside[call])
            for b in live:
                if b in beside and not flow.held[b] and not users[b] & later:
                    exclude(len(items) - 1, b, flow.sizes[b], beside[b])
                else:
                    apart(len(items) - 1, b)
    conflicts: list[list[Conflict]] = [[] for _ in items]
    for (i, j), (over, under) in pairs.items():
        conflicts[i].append(Conflict(j, over, under))
        conflicts[j].append(Conflict(i, under, over))
    return items, conflicts


def last_readers(flow: Flow) -> list[Flow]:
    """The flow in a few parts that together hold all its orders, none where there is nothing to tell apart.

    A buffer that one call may overlap and that others may still read after it is in doubt; in each part
    another of its readers is the last.
    """
    _, descendants = reach(flow)
    users, _ = masks(flow)
    doubtful = (
        pair.source
        for call, pairs in enumerate(flow.near)
        for pair in pairs
        if not flow.held[pair.source]
        and not users[pair.source] & descendants[call]
        and users[pair.source].bit_count() > 1
        and any(
            users[pair.source] >> other & 1 and not descendants[other] >> call & 1 and other != call
            for other in range(flow.calls)
        )
    )
    source = max(doubtful, key=lambda b: (flow.sizes[b], -b), default=None)
    if source is None:
        return []
    readers = [call for call in range(flow.calls) if users[source] >> call & 1]
    return [
        replace(
            flow,
            before=tuple(
                tuple(sorted({*before, *readers} - {last})) if call == last else before
                for call, before in enumerate(flow.before)
            ),
        )
        for last in readers
        if not users[source] & descendants[last]
    ]


def reach(flow: Flow) -> tuple[list[int], list[int]]:
    """For each call the calls that must come before it and after it, as bits."""
    order = list(TopologicalSorter(dict(enumerate(flow.before))).static_order())
    ancestors, descendants = [0] * flow.calls, [0] * flow.calls
    for call in order:
        for earlier in flow.before[call]:
            ancestors[call] |= ancestors[earlier] | 1 << earlier
    for call in reversed(order):
        for earlier in flow.before[call]:
            descendants[earlier] |= descendants[call] | 1 << call
    return ancestors, descendants


def masks(flow: Flow) -> tuple[list[int], list[int]]:
    """The calls that use each buffer, and those that write it."""
    users, writers = [0] * len(flow.sizes), [0] * len(flow.sizes)
    for call in range(flow.calls):
        for buffer in {*flow.reads[call], *flow.writes[call]}:
            users[buffer] |= 1 << call
        for buffer in flow.writes[call]:
            writers[buffer] |= 1 << call
    return users, writers
