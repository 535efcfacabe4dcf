"""Independent check of a region: the loop of `kernels/qute_rows.h`, replayed on the bytes of its scratch.

Every byte carries the number of what was written there last: a row of a map, the sums of a call, or the
scratch of a kernel. A call may read a row only where all its bytes are still there, at the address where the
loop looks for them. The replay follows the C: a full map moves its rows up by one, and a row that is made in
place of another map's next one takes its address when its maker has its turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qutec.planner.plan import PlanError
from qutec.program import Add, Lookup, Mul, RowRegion
from qutec.program.row_layout import RowLayout
from qutec.program.row_stages import RowStage, row_stages

__all__ = ["validate_rows"]

_NOBODY = 0
_KERNEL = -1
_Stamps = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Place:
    """A run of bytes of the region's scratch, or of a buffer outside."""

    memory: str
    offset: int
    bytes: int


@dataclass
class _Map:
    """A `qute_rows`; the stamp of row r is `stamp` + r."""

    name: str
    memory: str
    offset: int | None
    row_bytes: int
    capacity: int
    stamp: int
    first: int = 0
    done: int = 0

    def place(self, row: int, rows: int = 1) -> _Place:
        if self.offset is None:
            raise PlanError(f"row {row} of {self.name} has no place")
        return _Place(self.memory, self.offset + (row - self.first) * self.row_bytes, rows * self.row_bytes)


def validate_rows(
    region: RowRegion, layout: RowLayout, places: Mapping[str, int] | None = None, scratch: int = 0
) -> None:
    """Check that running `region` by rows with `layout` reads only what was written for it.

    `places` has the offset of each of the region's inputs and outputs in an arena, `scratch` that of its
    scratch, so that rows are found that lie on an input which is still read. Without them all lie apart.

    Raises:
        PlanError: names the region, the call, the row and the first byte that is not there.
    """
    stages = row_stages(region.calls)
    if stages is None:
        raise PlanError(f"{region.name} holds a call that cannot run row by row")
    replay = _Replay(region, layout, stages, places, scratch)
    for _ in range(layout.schedule.rounds):
        for number in region.order:
            replay.turn(number)
    replay.finish()


class _Replay:
    def __init__(
        self,
        region: RowRegion,
        layout: RowLayout,
        stages: tuple[RowStage, ...],
        places: Mapping[str, int] | None,
        scratch: int,
    ) -> None:
        self._region = region
        self._layout = layout
        self._stages = stages
        self._turns = [0] * len(stages)
        self._places = places
        self._base = {_SCRATCH: scratch}
        self._size = {_SCRATCH: layout.bytes}
        self._arena: _Stamps = np.full(0, _NOBODY, np.int64)
        self._grow(scratch + layout.bytes)
        self._maps: dict[str, _Map] = {}
        stamp = 1
        for stage in stages:
            for window in stage.windows:
                if window.buffer in {t.buffer for t in region.reads} and window.buffer not in self._maps:
                    source = self._outside(window.buffer, window.rows, window.row_bytes, stamp)
                    source.done = window.rows
                    self._bytes(source.place(0, window.rows))[:] = np.repeat(
                        np.arange(window.rows) + stamp, window.row_bytes
                    )
                    stamp += window.rows
            stamp = self._add_output(stage, stamp)
        self._sums: list[tuple[_Place, int] | None] = [None] * len(stages)
        for number, stage in enumerate(stages):
            offset = layout.sums[number]
            if stage.sums_bytes:
                if offset is None:
                    raise PlanError(f"{self._who(number)} needs sums and has no place for them")
                self._sums[number] = (_Place(_SCRATCH, offset, stage.sums_bytes), stamp)
                stamp += 1

    def _grow(self, size: int) -> None:
        more = np.full(max(size - len(self._arena), 0), _NOBODY, np.int64)
        self._arena = np.concatenate([self._arena, more])

    def _bytes(self, place: _Place) -> _Stamps:
        begin = self._base[place.memory] + place.offset
        return self._arena[begin : begin + place.bytes]

    def _meet(self, one: _Place, other: _Place) -> bool:
        first, second = (self._base[place.memory] + place.offset for place in (one, other))
        return first < second + other.bytes and second < first + one.bytes

    def _outside(self, name: str, rows: int, row_bytes: int, stamp: int) -> _Map:
        """A map of the program: all of it is there, in a buffer of its own."""
        self._base[name] = len(self._arena) if self._places is None else self._places[name]
        self._size[name] = rows * row_bytes
        self._grow(self._base[name] + self._size[name])
        self._maps[name] = _Map(name, name, 0, row_bytes, rows, stamp)
        return self._maps[name]

    def _add_output(self, stage: RowStage, stamp: int) -> int:
        name = stage.call.output.buffer
        held = self._layout.schedule.held.get(name)
        if (held is None) != (name in self._region.outputs):
            raise PlanError(f"{self._region.name}: {name} is an output or held within, not both or neither")
        if held is None:
            self._outside(name, stage.rows, stage.row_bytes, stamp)
        else:
            offset = None if held.within else self._layout.rows.get(name)
            self._maps[name] = _Map(name, _SCRATCH, offset, stage.row_bytes, held.rows, stamp)
        return stamp + stage.rows

    def _who(self, number: int) -> str:
        return f"{self._region.name}: turn {self._turns[number]} of {self._stages[number].call.name}"

    def turn(self, number: int) -> None:
        stage = self._stages[number]
        turn = self._turns[number]
        if turn == stage.turns:
            return
        windows = [(self._maps[w.buffer], *w.of(turn)) for w in stage.windows]
        if any(source.done < end for source, _, end in windows):
            return
        who = self._who(number)
        read = [self._read(who, source, begin, end) for source, begin, end in windows]
        self._turns[number] += 1
        made = stage.made(self._turns[number]) > stage.made(turn)
        written = self._next(who, stage) if made else None
        used = self._own(who, number)
        for place in used:
            for other in [*read, *([written] if written else [])]:
                if self._meet(place, other):
                    raise PlanError(
                        f"{who}: its scratch at byte {place.offset} is on what it reads or writes"
                    )
        if written is None:
            return
        in_place = isinstance(stage.call, Add | Mul | Lookup)
        for place in read:
            if self._meet(place, written) and not (in_place and place == written):
                raise PlanError(f"{who} writes over the rows that it reads, at byte {written.offset}")
        target = self._maps[stage.call.output.buffer]
        self._write(who, written, target.stamp + target.done)
        target.done += 1

    def _read(self, who: str, source: _Map, begin: int, end: int) -> _Place:
        if begin < source.first:
            raise PlanError(f"{who} reads row {begin} of {source.name}, whose rows begin with {source.first}")
        place = source.place(begin, end - begin)
        self._check(
            who, place, np.repeat(np.arange(begin, end) + source.stamp, source.row_bytes), source.name
        )
        return place

    def _own(self, who: str, number: int) -> list[_Place]:
        """The bytes that only this call may touch: its kernel's scratch, or its sums."""
        found = []
        offset, size = self._layout.scratch[number]
        needed = self._region.scratch[number]
        if needed and not self._stages[number].sums_bytes:
            if offset is None or size < needed:
                raise PlanError(f"{who}: its kernel needs {needed} bytes of scratch")
            found.append(_Place(_SCRATCH, offset, needed))
            self._write(who, found[-1], _KERNEL)
        if (sums := self._sums[number]) is not None:
            place, stamp = sums
            if self._turns[number] == 1:
                self._write(who, place, stamp)
            self._check(who, place, np.full(place.bytes, stamp), "its sums")
            found.append(place)
        return found

    def _next(self, who: str, stage: RowStage) -> _Place:
        """`qute_rows_next` of the call's output, after it has taken the place of another's next row."""
        target = self._maps[stage.call.output.buffer]
        held = self._layout.schedule.held.get(target.name)
        if held is not None and held.within is not None:
            root = self._maps[held.within]
            place = self._moved_up(who, root)
            target.memory, target.offset = place.memory, place.offset
        return self._moved_up(who, target)

    def _moved_up(self, who: str, target: _Map) -> _Place:
        if target.done - target.first == target.capacity:
            if target.capacity > 1:
                place = target.place(target.first, target.capacity)
                self._check_inside(who, place)
                memory = self._bytes(place)
                memory[: -target.row_bytes] = memory[target.row_bytes :].copy()
            target.first += 1
        return target.place(target.done)

    def _check(self, who: str, place: _Place, wanted: _Stamps, what: str) -> None:
        self._check_inside(who, place)
        lost = (self._bytes(place) != wanted).nonzero()[0]
        if lost.size:
            raise PlanError(f"{who} reads {what} at byte {place.offset + lost[0]}, which was overwritten")

    def _check_inside(self, who: str, place: _Place) -> None:
        size = self._size[place.memory]
        if place.offset < 0 or place.offset + place.bytes > size:
            raise PlanError(
                f"{who} uses bytes {place.offset} to {place.offset + place.bytes} of {place.memory}, "
                f"which has {size}"
            )

    def _write(self, who: str, place: _Place, stamp: int) -> None:
        self._check_inside(who, place)
        self._bytes(place)[:] = stamp

    def finish(self) -> None:
        """Every call has had all its turns, and the outputs hold all their rows."""
        for number, stage in enumerate(self._stages):
            if self._turns[number] != stage.turns:
                raise PlanError(f"{self._who(number)} never comes: the loop is over")
            name = stage.call.output.buffer
            if name in self._region.outputs:
                self._read(f"{self._region.name}: the end", self._maps[name], 0, stage.rows)


_SCRATCH = "the region's scratch"
