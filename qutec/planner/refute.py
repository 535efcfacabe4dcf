"""Why a choice of regions is too large: the few of its segments that no plan below a limit can have.

A choice that is refuted as a whole says nothing of the next one, and there are thousands. So segments are
left out of it as long as what remains is refuted. What is left out may then be anything: its calls may run as
they are or in any regions, so of them is known only

- that they run after what they need and before what needs them (and at any time if nobody needs them);
- that buffers which somebody outside of them writes or reads are whole, whichever regions there are, since
  these are ranges of the order and do not reach over a segment that stays;
- that what they read of others is there until they begin, and what they make for others from then on.

Everything else of theirs (scratch, buffers between them) takes no memory. Every buffer that one call writes
may be moved right after that. So what holds for this flow holds for every choice that has the segments that
stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qutec.planner.arena import exceeds
from qutec.planner.certain import masks, reach
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
    """The flow with all that is not known of calls in gaps taken away.

    What a gap reads of others is read by an idle call in its place: in a region the rest of the gap may write
    over it from then on.
    """
    used_in: list[set[int | None]] = [set() for _ in flow.sizes]
    made_in: list[set[int | None]] = [set() for _ in flow.sizes]
    readers: dict[tuple[int, int], list[int]] = {}
    for call, gap in enumerate(gaps):
        for buffer in {*flow.reads[call], *flow.writes[call]}:
            used_in[buffer].add(gap)
        for buffer in flow.writes[call]:
            made_in[buffer].add(gap)
        if gap is not None:
            for buffer in flow.reads[call]:
                readers.setdefault((buffer, gap), []).append(call)
    ancestors, _ = reach(flow)
    _, writers = masks(flow)
    idle: list[tuple[int, tuple[int, ...]]] = []
    for (buffer, gap), calls in readers.items():
        if gap not in made_in[buffer]:
            earlier = 0
            for call in calls:
                earlier |= ancestors[call]
            # Of what comes earlier all but the gap's own and other gaps' calls, which may be in one region.
            known = [c for c, its_gap in enumerate(gaps) if its_gap is None and earlier >> c & 1]
            made = [c for c in range(flow.calls) if writers[buffer] >> c & 1]
            idle.append((buffer, tuple(sorted({*known, *made}))))
    sizes = (
        0
        if not flow.held[b] and not flow.is_input[b] and len(used_in[b]) == 1 and None not in used_in[b]
        else size
        for b, size in enumerate(flow.sizes)
    )
    stays = [gap is None for gap in gaps]
    none: list[tuple[()]] = [() for _ in idle]
    return replace(
        flow,
        sizes=tuple(sizes),
        reads=(*(flow.reads[c] if stays[c] else () for c in range(flow.calls)), *((b,) for b, _ in idle)),
        writes=(*flow.writes, *none),
        scratch=(*(flow.scratch[c] if stays[c] else 0 for c in range(flow.calls)), *(0 for _ in idle)),
        before=(*flow.before, *(before for _, before in idle)),
        near=(*(flow.near[c] if stays[c] else () for c in range(flow.calls)), *none),
        beside=(*(flow.beside[c] if stays[c] else () for c in range(flow.calls)), *none),
    )


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
