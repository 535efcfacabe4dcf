"""Why a choice of regions is too large: the few of its segments that no plan below a limit can have.

A choice that is refuted as a whole says nothing of the next one, and there are thousands. So segments are
left out of it as long as what remains is refuted. What is left out may then be anything: its calls may run as
they are or in any regions, so of them is known only

- that they run after what they need and before what needs them (and at any time if nobody needs them);
- that buffers which somebody outside of them writes or reads are whole, whichever regions there are, since
  these are ranges of the order and do not reach over a segment that stays;
- that a result shares memory with what it is made from at most altogether.

Everything else of theirs (scratch, buffers between them) takes no memory. Every buffer that one call writes
may be moved right after that. So what holds for this flow holds for every choice that has the segments that
stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qutec.planner.arena import exceeds
from qutec.planner.effort import Effort
from qutec.planner.flow import Flow, Nearness
from qutec.planner.moves import movable
from qutec.planner.regions import Segment, with_segments
from qutec.program import Program

__all__ = ["Refuter"]

_CALL_STEPS = 4
"""What it costs, for each call, to make a flow."""
_MOST_STEPS = 2_000
"""For one question. Those that are answered yes take few."""


class Refuter:
    """Answers for the choices of one program, in its order; `flow_of` is the flow of a program."""

    def __init__(
        self,
        program: Program,
        scratch: Sequence[int],
        flow_of: Callable[[Program, Sequence[int]], Flow],
    ) -> None:
        self._program = program
        self._scratch = scratch
        self._flow_of = flow_of
        self._last: frozenset[Segment] = frozenset()

    def core(self, segments: Sequence[Segment], limit: int, effort: Effort) -> frozenset[Segment] | None:
        """Segments of these that no plan of at most `limit` bytes has together; None where none are found.

        Few of them: none of them can be left out, as far as the effort goes.
        """
        if not self._is_refuted(segments, segments, limit, effort):
            return None
        # The reason is often where the last one was.
        kept = [s for s in segments if any(s.first < one.end and one.first < s.end for one in self._last)]
        if not kept or not self._is_refuted(segments, kept, limit, effort):
            kept = list(segments)
        pending = [kept]
        while pending and not effort.spent:
            group = pending.pop()
            fewer = [segment for segment in kept if segment not in group]
            if fewer and self._is_refuted(segments, fewer, limit, effort):
                kept = fewer
            elif len(group) > 1:
                half = len(group) // 2
                pending += [group[:half], group[half:]]
        self._last = frozenset(kept)
        return self._last

    def _is_refuted(
        self, segments: Sequence[Segment], kept: Sequence[Segment], limit: int, effort: Effort
    ) -> bool:
        effort.spend(_CALL_STEPS * len(self._program.calls))
        flow = with_all_moves(self._flow(segments, kept))
        return exceeds(flow, limit, effort.at_most(_MOST_STEPS))

    def _flow(self, segments: Sequence[Segment], kept: Sequence[Segment]) -> Flow:
        """The flow in which everything is free but the segments that stay."""
        stays = set(kept)
        gap_of: dict[int, int] = {}
        gap = 0
        for segment in segments:
            if segment in stays:
                gap += 1
            else:
                gap_of |= {id(self._program.calls[i]): gap for i in range(segment.first, segment.end)}
        merged, scratch = with_segments(self._program, self._scratch, kept)
        flow = self._flow_of(merged, scratch)
        gaps = [gap_of.get(id(call)) for call in merged.calls]
        return _freed(flow, gaps)


def _freed(flow: Flow, gaps: Sequence[int | None]) -> Flow:
    """The flow with all that is not known of calls in gaps taken away."""
    flow = _without_idle_reads(flow, gaps)
    used_in: list[set[int | None]] = [set() for _ in flow.sizes]
    for call, gap in enumerate(gaps):
        for buffer in {*flow.reads[call], *flow.writes[call]}:
            used_in[buffer].add(gap)
    sizes = tuple(
        0
        if not flow.held[b] and not flow.is_input[b] and len(used_in[b]) == 1 and None not in used_in[b]
        else size
        for b, size in enumerate(flow.sizes)
    )

    def anyhow(call: int) -> tuple[Nearness, ...]:
        return tuple(
            Nearness(source, target, -sizes[source], -sizes[target])
            for target in flow.writes[call]
            for source in flow.reads[call]
            if source != target
        )

    return replace(
        flow,
        sizes=sizes,
        scratch=tuple(0 if gap is not None else flow.scratch[call] for call, gap in enumerate(gaps)),
        near=tuple(flow.near[call] if gap is None else anyhow(call) for call, gap in enumerate(gaps)),
        beside=tuple(flow.beside[call] if gap is None else () for call, gap in enumerate(gaps)),
    )


def _without_idle_reads(flow: Flow, gaps: Sequence[int | None]) -> Flow:
    """The flow without what calls in gaps read in vain: in a region they do not make anything live longer."""
    wanted = {b for b, held in enumerate(flow.held) if held}
    useful: set[int] = set()
    while fresh := [c for c in range(flow.calls) if c not in useful and wanted & set(flow.writes[c])]:
        useful.update(fresh)
        wanted.update(b for call in fresh for b in flow.reads[call])
    reads = (
        buffers if gap is None or call in useful else ()
        for call, (buffers, gap) in enumerate(zip(flow.reads, gaps, strict=True))
    )
    return replace(flow, reads=tuple(reads))


def with_all_moves(flow: Flow) -> Flow:
    """The flow with every buffer moved that one call writes and another reads.

    No plan of the flow with moves, whichever they are, is smaller than the smallest of this one: a buffer
    that is not moved is one that is moved to where it is.
    """
    moved = [b for b in movable(flow) if flow.sizes[b]]
    copy = {b: len(flow.sizes) + k for k, b in enumerate(moved)}
    mover = {b: flow.calls + k for k, b in enumerate(moved)}
    writer = {b: call for call, written in enumerate(flow.writes) for b in written}

    def here(b: int) -> int:
        return copy.get(b, b)

    return replace(
        flow,
        names=(*flow.names, *(f"{flow.names[b]}.moved" for b in moved)),
        sizes=(*flow.sizes, *(flow.sizes[b] for b in moved)),
        is_input=(*flow.is_input, *(False for _ in moved)),
        held=(*flow.held, *(False for _ in moved)),
        reads=(*(tuple(map(here, buffers)) for buffers in flow.reads), *((b,) for b in moved)),
        writes=(*flow.writes, *((copy[b],) for b in moved)),
        scratch=(*flow.scratch, *(0 for _ in moved)),
        before=(
            *(
                tuple(sorted({*before, *(mover[b] for b in flow.reads[call] if b in mover)}))
                for call, before in enumerate(flow.before)
            ),
            *((writer[b],) for b in moved),
        ),
        near=(
            *(tuple(replace(pair, source=here(pair.source)) for pair in pairs) for pairs in flow.near),
            *((Nearness(b, copy[b], flow.padded(flow.sizes[b]), 0),) for b in moved),
        ),
        beside=(
            *(tuple((here(b), distance) for b, distance in pairs) for pairs in flow.beside),
            *(() for _ in moved),
        ),
        pinned=(*flow.pinned, *(None for _ in moved)) if flow.pinned else (),
    )
