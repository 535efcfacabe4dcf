"""Placement in the order of time, as an allocator that gives memory back would do it.

For programs with so many buffers live at a time that their pairs cannot be listed: n log n whatever the
lifetimes. Outputs do not overlap inputs. Each buffer goes into some hole that is large enough.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from qutec.planner.problem import Item

__all__ = ["place_by_time"]


def place_by_time(items: Sequence[Item]) -> tuple[int, ...]:
    """Byte offset of each item; items that are live at a common time are disjoint."""
    granule = max((item.alignment for item in items), default=1)
    holes = _Holes(len(items) + 1)
    offsets = [0] * len(items)
    ends: list[tuple[int, int]] = []
    for i in sorted(range(len(items)), key=lambda i: (items[i].first_use, -items[i].bytes, i)):
        item = items[i]
        while ends and ends[0][0] < item.first_use:
            _, gone = heapq.heappop(ends)
            holes.give(offsets[gone], _padded(items[gone].bytes, granule))
        if item.bytes:
            offsets[i] = holes.take(_padded(item.bytes, granule))
            heapq.heappush(ends, (item.last_use, i))
    return tuple(offsets)


def _padded(size: int, granule: int) -> int:
    return -(-size // granule) * granule


class _Holes:
    """Free runs of memory, the last one without end; a tree over slots finds one that is large enough.

    Which hole sits in which slot depends on what was given back before, not on its place. Each step is O(log
    n).
    """

    def __init__(self, capacity: int) -> None:
        self._leaves = 1 << max(capacity - 1, 1).bit_length()
        self._largest = [0] * (2 * self._leaves)
        self._start_of: dict[int, int] = {}
        self._slot_by_start: dict[int, int] = {}
        self._slot_by_end: dict[int, int] = {}
        self._free_slots = list(range(self._leaves))
        self._top = 0

    def take(self, size: int) -> int:
        """The start of `size` bytes that are free."""
        if self._largest[1] < size:
            start = self._top
            self._top += size
            return start
        node = 1
        while node < self._leaves:
            node *= 2
            if self._largest[node] < size:
                node += 1
        slot = node - self._leaves
        start, length = self._remove(slot)
        if length > size:
            self._insert(start + size, length - size)
        return start

    def give(self, start: int, size: int) -> None:
        """Free what was taken, and join it with free neighbours."""
        if (slot := self._slot_by_end.get(start)) is not None:
            start, length = self._remove(slot)
            size += length
        if (slot := self._slot_by_start.get(start + size)) is not None:
            _, length = self._remove(slot)
            size += length
        if start + size == self._top:
            self._top = start
        else:
            self._insert(start, size)

    def _insert(self, start: int, size: int) -> None:
        slot = heapq.heappop(self._free_slots)
        self._start_of[slot] = start
        self._slot_by_start[start] = slot
        self._slot_by_end[start + size] = slot
        self._set(slot, size)

    def _remove(self, slot: int) -> tuple[int, int]:
        start, size = self._start_of.pop(slot), self._largest[self._leaves + slot]
        del self._slot_by_start[start], self._slot_by_end[start + size]
        self._set(slot, 0)
        heapq.heappush(self._free_slots, slot)
        return start, size

    def _set(self, slot: int, size: int) -> None:
        node = self._leaves + slot
        self._largest[node] = size
        while node > 1:
            node //= 2
            self._largest[node] = max(self._largest[2 * node], self._largest[2 * node + 1])
