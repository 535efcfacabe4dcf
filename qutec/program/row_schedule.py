"""When each row of a region is computed, and which rows have to be held for it.

The calls take turns, in the order of the data or another. In its turn a call does its next step, to make a
row of its output or to take in one of its input, if the rows that this needs are there; the turns go on until
all calls are done. What a map has to hold follows from playing this through: from the oldest row that a call
will still read to the newest. A map whose every row is used up in the turns that follow at once, before its
maker's next turn, is a *passing* row: it needs no place of its own for longer than that. An elementwise call
one of whose operands is a passing row that nobody else reads works in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qutec.program.elementwise_calls import Add, Mul
from qutec.program.flat_calls import Lookup
from qutec.program.row_region import RowRegion
from qutec.program.row_stages import RowStage, row_stages

__all__ = ["HeldRows", "RowSchedule", "row_schedule", "turns_taken"]


@dataclass(frozen=True)
class HeldRows:
    """How many rows of a map are held, and where they may lie."""

    rows: int
    passing: bool
    """Whether each row is used up within the round in which it is made."""
    last_reader: int
    """Turn, counted from 0 within a round, of the last call that reads the map."""
    within: str | None
    """The buffer in whose next row this passing row is made, for a call that works in place."""


@dataclass(frozen=True, eq=False)
class RowSchedule:
    """The stages, and for each buffer that belongs to the region what is held of it."""

    stages: tuple[RowStage, ...]
    held: Mapping[str, HeldRows]
    rounds: int
    """How often every call has its turn."""
    begun: tuple[tuple[int, ...], ...]
    """For each call when each row of its output begins: with the first that is made in its place, or with
    itself. Time counts turns, in all rounds."""
    sums_begun: tuple[int, ...]
    """When each call has its first turn."""
    read_until: Mapping[str, tuple[int, ...]]
    """When each row of each input is read for the last time."""


def row_schedule(region: RowRegion) -> RowSchedule:
    """Play the region through.

    Raises:
        ValueError: a call of the region cannot run by rows, or the calls wait for each other.
    """
    stages = row_stages(region.calls)
    if stages is None:
        raise ValueError(f"{region.name} holds a call that cannot run row by row")
    play = _Play(stages)
    inner = [number for number, call in enumerate(region.calls) if call.output.buffer not in region.outputs]
    names = {number: stages[number].call.output.buffer for number in inner}
    most = dict.fromkeys(inner, 0)
    passing = dict.fromkeys(inner, True)
    rounds = 0
    begun: list[list[int]] = [[] for _ in stages]
    first_turns = [0] * len(stages)
    read_until = {
        w.buffer: [-1] * w.rows for stage in stages for w in stage.windows if w.buffer in play.inputs
    }
    while not play.over:
        rounds += 1
        before = list(play.turns)
        for position, number in enumerate(region.order):
            if not play.is_ready(number):
                continue
            now = rounds * len(stages) + position
            made, turn_number = play.made[number], play.turns[number]
            for window in stages[number].windows:
                if window.buffer in read_until:
                    begin, end = window.of(turn_number)
                    read_until[window.buffer][begin:end] = [now] * (end - begin)
            play.take_turn(number)
            if turn_number == 0:
                first_turns[number] = now
            if play.made[number] > made:
                begun[number].append(now)
            if number in most:
                most[number] = max(most[number], play.made[number] - play.oldest(number))
        if play.turns == before:
            raise ValueError(f"{region.name}: no call can go on")
        for number in inner:
            if passing[number] and play.oldest(number) < play.made[number]:
                passing[number] = False
    turn = {number: position for position, number in enumerate(region.order)}
    held_rows: dict[str, HeldRows] = {}
    alone = {number for number in inner if passing[number] and most[number] <= 1}
    within = _in_place(stages, turn, play.readers, alone)
    for number in inner:
        last = max((turn[reader] for reader in play.readers[number]), default=turn[number])
        root = within.get(number)
        held_rows[names[number]] = HeldRows(
            max(most[number], 1),
            number in alone,
            last,
            None if root is None else stages[root].call.output.buffer,
        )
    for number, root in within.items():
        begun[root] = [min(rows) for rows in zip(begun[root], begun[number], strict=True)]
    last_reads = {name: tuple(np.maximum.accumulate(rows).tolist()) for name, rows in read_until.items()}
    times = tuple(tuple(rows) for rows in begun)
    return RowSchedule(stages, held_rows, rounds, times, tuple(first_turns), last_reads)


def turns_taken(region: RowRegion, schedule: RowSchedule) -> Iterator[int]:
    """The numbers of the calls that have a turn, one after the other."""
    play = _Play(schedule.stages)
    while not play.over:
        for number in region.order:
            if play.is_ready(number):
                play.take_turn(number)
                yield number


class _Play:
    """The state of a region while its calls take turns."""

    def __init__(self, stages: Sequence[RowStage]) -> None:
        self._stages = stages
        made_by = {stage.call.output.buffer: number for number, stage in enumerate(stages)}
        self._needs: list[list[tuple[int, list[int]]]] = [[] for _ in stages]
        """For each call, of each map that it reads: who makes it, and the rows that each turn needs."""
        self._reads: list[list[tuple[int, list[int]]]] = [[] for _ in stages]
        """For each call, by whom its output is read, and the first row that each of their turns reads."""
        for number, stage in enumerate(stages):
            for window in stage.windows:
                if window.buffer in made_by:
                    rows = [window.of(turn) for turn in range(stage.turns)]
                    source = made_by[window.buffer]
                    self._needs[number].append((source, [end for _, end in rows]))
                    self._reads[source].append((number, [*(begin for begin, _ in rows), _BEYOND]))
        self.inputs = {w.buffer for stage in stages for w in stage.windows} - set(made_by)
        self.readers = [[number for number, _ in reads] for reads in self._reads]
        self.turns = [0] * len(stages)
        self.made = [0] * len(stages)

    @property
    def over(self) -> bool:
        return all(turns == stage.turns for turns, stage in zip(self.turns, self._stages, strict=True))

    def is_ready(self, number: int) -> bool:
        turn = self.turns[number]
        if turn == self._stages[number].turns:
            return False
        made = self.made
        return all(made[source] >= rows[turn] for source, rows in self._needs[number])

    def take_turn(self, number: int) -> None:
        self.turns[number] += 1
        self.made[number] = self._stages[number].made(self.turns[number])

    def oldest(self, number: int) -> int:
        """The oldest row of a call's output that somebody will still read; beyond all rows where nobody."""
        turns = self.turns
        return min((rows[turns[reader]] for reader, rows in self._reads[number]), default=_BEYOND)


_BEYOND = 1 << 40


def _in_place(
    stages: Sequence[RowStage],
    turn: Mapping[int, int],
    readers: Sequence[Sequence[int]],
    alone: set[int],
) -> dict[int, int]:
    """For passing rows that are made where an elementwise call writes: the call whose next row that is.

    A chain of such calls makes all its rows in that of its last. Nobody may read the last one's map between:
    its oldest row may go when the first row of the chain is made.
    """
    into: dict[int, int] = {}
    for number in sorted(alone):
        by = readers[number]
        if len(by) == 1 and by[0] not in into.values() and isinstance(stages[by[0]].call, Add | Mul | Lookup):
            into[number] = by[0]
    found: dict[int, int] = {}
    for number, reader in into.items():
        root = reader
        while root in into:
            root = into[root]
        if not any(turn[number] < turn[other] < turn[root] for other in readers[root]):
            found[number] = root
    return found
