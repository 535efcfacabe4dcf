"""Which layers run row by row: the cuts of a network, and the regions between them.

A cut is a place in the order of calls. The calls between two cuts may run as one region
(`qutec.program.RowRegion`), which then needs its inputs, its outputs, the rows that it holds, and whatever
else is live there. Calls between them that cannot run row by row, such as the dense layer of an exit, run
behind the region where nothing in it waits for them. `qutec.planner.choices` picks segments that together
hold all calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from qutec.program import BufferKind, Call, ExitCheck, InputRows, Program, RowRegion, Tensor
from qutec.program.row_layout import best_turns, row_layout
from qutec.program.row_stages import row_stage

__all__ = [
    "Segment",
    "row_region",
    "segments",
    "with_segments",
]

_CALL_COST = 150
"""Instructions, about, of one more call of a kernel: what it prepares, and what asks for it."""
_MOVE_COST = 0.6
"""Instructions, about, for each byte that moves up when a row goes."""
_MOST_CUTS = 24
"""Places that are looked at: the number of segments grows with the square."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Calls between two cuts: run as a region, or one block as it is."""

    first: int
    end: int
    region: RowRegion | None
    """None for a block of calls as they are."""
    alone: tuple[int, ...]
    """Numbers of the calls that are not in the region."""
    peak: int
    cost: float


def segments(program: Program, scratch: Sequence[int]) -> list[Segment]:
    """Every block of calls that may run as one, as a region or as it is, by their first calls.

    The same objects for the same calls: a network is planned several times until it fits.
    """
    buffers = frozenset((buffer.name, buffer.bytes, buffer.kind) for buffer in program.buffers.values())
    ports = tuple(port.tensor for port in (*program.inputs, *program.outputs))
    return list(_segments(_Network(program.calls, tuple(scratch), buffers, ports, program)))


@dataclass(frozen=True)
class _Network:
    """What the segments of a program depend on."""

    calls: tuple[Call, ...]
    scratch: tuple[int, ...]
    buffers: frozenset[tuple[str, int, BufferKind]]
    ports: tuple[Tensor, ...]
    program: Program = field(compare=False)


@lru_cache(maxsize=8)
def _segments(network: _Network) -> tuple[Segment, ...]:
    program, scratch = network.program, network.scratch
    lives = _Lives(program)
    cuts = _cuts(program, lives)
    found: list[Segment] = []
    for a, first in enumerate(cuts[:-1]):
        end = cuts[a + 1]
        calls = program.calls[first:end]
        # The rows of a streamed input are taken in by a region, and there is no other way.
        if not any(isinstance(call, InputRows) for call in calls):
            peak = lives.peak(calls, scratch[first:end], first, end)
            found.append(Segment(first, end, None, tuple(range(first, end)), peak, 0.0))
        for end in cuts[a + 1 :]:
            found_region = row_region(program, scratch, first, end)
            if found_region is not None:
                region, behind = found_region
                calls = (region, *(program.calls[i] for i in behind))
                shared = lives.shared(region, [program.calls[i] for i in behind], end)
                sizes = [row_layout(region).bytes - shared, *(scratch[i] for i in behind)]
                peak = lives.peak(calls, sizes, first, end)
                found.append(Segment(first, end, region, behind, peak, _cost(region)))
    return tuple(found)


class _Lives:
    """What is live between the calls of a program, in its order."""

    def __init__(self, program: Program) -> None:
        self._bytes = {buffer.name: buffer.bytes for buffer in program.arena_buffers()}
        self.calls = len(program.calls)
        born = {port.tensor.buffer: -1 for port in program.inputs}
        dies: dict[str, int] = {}
        for i, call in enumerate(program.calls):
            for tensor in (*call.reads, *call.writes):
                dies[tensor.buffer] = i
            for tensor in call.writes:
                born.setdefault(tensor.buffer, i)
        dies |= {b.name: self.calls for b in program.arena_buffers() if b.kind is BufferKind.OUTPUT}
        self._span = {name: (born[name], dies.get(name, 0)) for name in self._bytes if name in born}

    def before(self, place: int) -> set[str]:
        """The buffers that are live before call `place`."""
        return {name for name, (born, dies) in self._span.items() if born < place <= dies}

    def bytes_before(self, place: int) -> int:
        return sum(self._bytes[name] for name in self.before(place))

    def shared(self, region: RowRegion, behind: Sequence[Call], end: int) -> int:
        """What the region's scratch has in common with an input that ends with it."""
        kept = self.before(end).union(t.buffer for call in behind for t in call.reads)
        layout = row_layout(region)
        found = (
            min(layout.bytes - distance, self._bytes[name])
            for name, distance in layout.distance.items()
            if name not in kept
        )
        return max(found, default=0)

    def peak(self, calls: Sequence[Call], scratch: Sequence[int], first: int, end: int) -> int:
        """Bytes that these calls, which stand for those from `first` to `end`, need in their order."""
        kept = self.before(end)
        live = self.before(first)
        uses = [{t.buffer for t in (*call.reads, *call.writes) if t.buffer in self._bytes} for call in calls]
        peak = 0
        for i, size in enumerate(scratch):
            live |= uses[i]
            peak = max(peak, sum(self._bytes[name] for name in live) + size)
            live &= kept.union(*uses[i + 1 :])
        return peak


def _cuts(program: Program, lives: _Lives) -> list[int]:
    """Places in the order of calls, both ends among them; of very many those where least is live.

    One is behind the last call that reads the rows of a streamed input: where the first region may end.
    """
    inner = sorted(range(1, lives.calls), key=lambda place: (lives.bytes_before(place), place))
    taken = program.input_rows
    readers = [i for i, call in enumerate(program.calls, 1) if taken and taken.output in call.reads]
    return sorted({0, lives.calls, *inner[:_MOST_CUTS], *readers[-1:]})


def row_region(
    program: Program, scratch: Sequence[int], first: int, end: int
) -> tuple[RowRegion, tuple[int, ...]] | None:
    """Of the calls from `first` to `end` those that run row by row, and the numbers of those behind them.

    None where there are no two such calls, or the first or the last is none, so that a smaller segment does
    as well; where an exit lies between, since what follows it must not run before it.
    """
    calls = program.calls[first:end]
    if any(isinstance(call, ExitCheck) for call in calls):
        return None
    writers = Counter(tensor.buffer for call in program.calls for tensor in call.writes)
    kinds = {buffer.name: buffer.kind for buffer in program.buffers.values()}
    rows_of: dict[str, tuple[int, int]] = {}
    inside: list[int] = []
    behind: list[int] = []
    waiting: set[str] = set()
    for i, call in enumerate(calls, first):
        read = {tensor.buffer for tensor in call.reads}
        alone = all(writers[t.buffer] == 1 and kinds[t.buffer] is not BufferKind.INPUT for t in call.writes)
        arena = all(kinds[name] is not BufferKind.CONSTANT for name in read)
        if alone and arena and not read & waiting and row_stage(call, rows_of) is not None:
            inside.append(i)
        else:
            behind.append(i)
            waiting |= {tensor.buffer for tensor in call.writes}
    if len(inside) < 2 or inside[0] != first or inside[-1] != end - 1:
        return None
    chosen = tuple(program.calls[i] for i in inside)
    made = {call.writes[0].buffer for call in chosen}
    others = (call for i, call in enumerate(program.calls) if i not in set(inside))
    wanted = {tensor.buffer for call in others for tensor in call.reads}
    wanted |= {port.tensor.buffer for port in program.outputs}
    outputs = {name for name in made if name in wanted or kinds[name] is not BufferKind.INTERNAL}
    if any(isinstance(call, InputRows) and call.output.buffer in outputs for call in chosen):
        # Somebody reads the input after the region: all of it would be held.
        return None
    name = f"{chosen[0].name} .. {chosen[-1].name}"
    region = RowRegion(name, chosen, tuple(scratch[i] for i in inside), frozenset(outputs))  # type: ignore[arg-type]
    try:
        return best_turns(region), tuple(behind)
    except ValueError:
        return None


def _cost(region: RowRegion) -> float:
    schedule = row_layout(region).schedule
    calls = sum(stage.turns for stage in schedule.stages)
    moved = 0
    for stage in schedule.stages:
        held = schedule.held.get(stage.call.output.buffer)
        moved += (held.rows - 1) * stage.row_bytes * stage.rows if held is not None else 0
    return _CALL_COST * calls + _MOVE_COST * moved


def with_segments(
    program: Program, scratch: Sequence[int], path: Sequence[Segment]
) -> tuple[Program, tuple[int, ...]]:
    """The program with the regions of these segments, in order, and the scratch of its calls."""
    calls: list[Call] = []
    sizes: list[int] = []
    buffers = dict(program.buffers)
    place = 0
    for segment in path:
        if segment.region is None:
            continue
        calls += program.calls[place : segment.first]
        sizes += scratch[place : segment.first]
        place = segment.end
        calls += [segment.region, *(program.calls[i] for i in segment.alone)]
        sizes += [row_layout(segment.region).bytes, *(scratch[i] for i in segment.alone)]
        for name in segment.region.inner_buffers:
            del buffers[name]
    calls += program.calls[place:]
    sizes += scratch[place:]
    return replace(program, calls=tuple(calls), buffers=buffers), tuple(sizes)
