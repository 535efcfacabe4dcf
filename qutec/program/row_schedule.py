"""When each row of a region is computed, and which rows have to be held for it.

The calls take turns, in the order of the data or another. In its turn a call computes the next row of its
output if the rows that this needs are there; the turns go on until the last call is done. What a map has to
hold follows from playing this through: from the oldest row that a call will still read to the newest. A map
whose every row is used up in the turns that follow at once, before its maker's next turn, is a *passing* row:
it needs no place of its own for longer than that. An elementwise call whose operand is a passing row that
nobody else reads works in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qutec.program.elementwise_calls import Add, Mul
from qutec.program.flat_calls import Lookup
from qutec.program.input_calls import InputRows
from qutec.program.kernel_call import KernelCall
from qutec.program.row_region import RowCall, RowRegion, RowWindow, is_global_pool
from qutec.program.window_calls import AvgPool2D, Conv2D, DepthwiseConv2D, MaxPool2D

__all__ = ["HeldRows", "RowSchedule", "RowStage", "row_schedule", "row_stages"]


@dataclass(frozen=True, eq=False)
class RowStage:
    """One call of a region, by rows."""

    call: RowCall
    windows: tuple[RowWindow, ...]
    """What it reads for each row, in the order of `call.reads`."""
    rows: int
    """How often it has its turn: rows of its output; of its input where it pools the whole map."""
    row_bytes: int
    """Of its output; the whole of it where it pools the whole map."""
    pools: bool
    """Whether it takes in row after row and gives one pixel at the end."""


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
    """The stages, and for each buffer between them what is held of it."""

    stages: tuple[RowStage, ...]
    held: Mapping[str, HeldRows]
    rounds: int
    """How often every call has its turn."""


def row_stages(calls: Sequence[KernelCall]) -> tuple[RowStage, ...] | None:
    """The calls by rows, None where one of them cannot run so.

    Such calls are convolutions, pools and elementwise calls on maps whose rows are known, elementwise ones by
    what makes their operands. A pool of a whole map may be the last.
    """
    geometry: dict[str, tuple[int, int]] = {}
    stages: list[RowStage] = []
    for number, call in enumerate(calls):
        stage = _stage(call, geometry)
        if stage is None or (stage.pools and number != len(calls) - 1):
            return None
        for window in stage.windows:
            if window.rows < 1 or any(begin >= end for begin, end in map(window.of, range(stage.rows))):
                return None
        stages.append(stage)
        if not stage.pools:
            geometry[stage.call.output.buffer] = (stage.rows, stage.row_bytes)
    return tuple(stages)


def _stage(call: KernelCall, geometry: dict[str, tuple[int, int]]) -> RowStage | None:
    if any(tensor.offset for tensor in (*call.reads, call.writes)):
        return None
    match call:
        case InputRows():
            geometry[call.output.buffer] = (call.rows, call.row_bytes)
            return RowStage(call, (), call.rows, call.row_bytes, False)
        case Conv2D() | DepthwiseConv2D():
            taps = call.weights.shape[1 if isinstance(call, Conv2D) else 0]
            return _window_stage(call, (int(taps) - 1) * call.dilation[0] + 1, geometry)
        case AvgPool2D() | MaxPool2D():
            return _window_stage(call, call.kernel[0], geometry)
        case Add() | Mul():
            whole = call.outer == 1 or call.stride_1 == call.stride_2 == call.inner
            known = geometry.get(call.input_1.buffer) or geometry.get(call.input_2.buffer)
            return _pointwise_stage(call, known, call.outer * call.inner, geometry) if whole else None
        case Lookup():
            return _pointwise_stage(call, geometry.get(call.input.buffer), call.count, geometry)
        case _:
            return None


def _window_stage(
    call: Conv2D | DepthwiseConv2D | AvgPool2D | MaxPool2D, extent: int, geometry: dict[str, tuple[int, int]]
) -> RowStage | None:
    _, height, width, channels = call.input_shape
    _, out_height, out_width, out_channels = call.output_shape
    if geometry.setdefault(call.input.buffer, (height, width * channels)) != (height, width * channels):
        return None
    if is_global_pool(call):
        window = RowWindow(call.input.buffer, height, width * channels, 1, 1, 0)
        return RowStage(call, (window,), height, out_channels, True)
    window = RowWindow(call.input.buffer, height, width * channels, extent, call.stride[0], call.padding[0])
    return RowStage(call, (window,), out_height, out_width * out_channels, False)


def _pointwise_stage(
    call: Add | Mul | Lookup,
    known: tuple[int, int] | None,
    count: int,
    geometry: dict[str, tuple[int, int]],
) -> RowStage | None:
    if known is None or known[0] * known[1] != count:
        return None
    rows, row_bytes = known
    if any(geometry.setdefault(tensor.buffer, known) != known for tensor in call.reads):
        return None
    windows = tuple(RowWindow(tensor.buffer, rows, row_bytes, 1, 1, 0) for tensor in call.reads)
    return RowStage(call, windows, rows, row_bytes, False)


def row_schedule(region: RowRegion) -> RowSchedule:
    """Play the region through.

    Raises:
        ValueError: a call of the region cannot run by rows.
    """
    stages = row_stages(region.calls)
    if stages is None:
        raise ValueError(f"{region.name} holds a call that cannot run row by row")
    made_by = {stage.call.output.buffer: number for number, stage in enumerate(stages[:-1])}
    readers: dict[str, list[tuple[int, RowWindow]]] = {name: [] for name in made_by}
    for number, stage in enumerate(stages):
        for window in stage.windows:
            if window.buffer in readers:
                readers[window.buffer].append((number, window))
    done = [0] * len(stages)
    most = dict.fromkeys(made_by, 0)
    passing = dict.fromkeys(made_by, True)
    rounds = 0
    while done[-1] < stages[-1].rows:
        rounds += 1
        before = list(done)
        for number in region.order:
            stage = stages[number]
            if not _ready(stage, done[number], done, made_by):
                continue
            name = stage.call.output.buffer
            if name in made_by:
                oldest = _oldest(readers[name], stages, done)
                most[name] = max(most[name], done[number] + 1 - min(oldest, done[number]))
            done[number] += 1
        if done == before:
            raise ValueError(f"{region.name}: no call can go on")
        for name, number in made_by.items():
            if done[number] > before[number] and _oldest(readers[name], stages, done) < done[number]:
                passing[name] = False
    turn = {number: position for position, number in enumerate(region.order)}
    held = {}
    for name, number in made_by.items():
        by = [reader for reader, _ in readers[name]]
        alone = passing[name] and most[name] == 1
        held[name] = HeldRows(
            most[name],
            alone,
            max((turn[reader] for reader in by), default=turn[number]),
            # The application may write a row at any time between two rounds: that has a place of its own.
            _in_place_of(name, by, stages)
            if alone and not isinstance(stages[number].call, InputRows)
            else None,
        )
    return RowSchedule(stages, held, rounds)


def _ready(stage: RowStage, row: int, done: Sequence[int], made_by: Mapping[str, int]) -> bool:
    if row >= stage.rows:
        return False
    return all(
        window.buffer not in made_by or done[made_by[window.buffer]] >= window.of(row)[1]
        for window in stage.windows
    )


def _oldest(readers: Sequence[tuple[int, RowWindow]], stages: Sequence[RowStage], done: Sequence[int]) -> int:
    """The oldest row that somebody will still read; beyond all rows where nobody will."""
    rows = [window.of(done[number])[0] for number, window in readers if done[number] < stages[number].rows]
    return min(rows, default=1 << 40)


def _in_place_of(name: str, readers: Sequence[int], stages: Sequence[RowStage]) -> str | None:
    """The output of the elementwise call that alone reads the buffer, once."""
    if len(readers) != 1:
        return None
    call = stages[readers[0]].call
    return call.output.buffer if isinstance(call, Add | Mul | Lookup) else None
