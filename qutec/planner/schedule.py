"""The order of calls that needs least memory.

A state is the set of calls that are done; what is live then depends on nothing else. So the order with the
lowest peak of `call_need` is a path through the states whose highest call is lowest, and best-first search
finds it: states are visited in the order of the peak that leads to them. Chains collapse: a call that needs
no more than the peak so far, leaves no more memory live than it found, and alone writes its output is done at
once, since doing it earlier in any continuation raises nothing that is live later.

The search is given up when its effort is spent; the peak that it had reached by then is a bound that no order
beats. What is found is never worse than the program's own order or the greedy one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qutec.planner.effort import Effort
from qutec.planner.flow import Flow
from qutec.planner.problem import build_problem, call_need

__all__ = ["Order", "States", "best_order", "orders_below"]

_MOST_CALLS = 2_000
"""Larger programs are ordered greedily: a state of theirs takes too long to look at."""


@dataclass(frozen=True)
class Order:
    """Calls in an order that respects the flow, and what any order of them needs at least (bytes, padded)."""

    calls: tuple[int, ...]
    bound: int


class States:
    """Sets of calls done, as bits of an integer, and what the calls that are ready then need."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.done = (1 << flow.calls) - 1
        self._before = [_bits(calls) for calls in flow.before]
        users = [0] * len(flow.sizes)
        writers = [0] * len(flow.sizes)
        for call in range(flow.calls):
            for buffer in {*flow.reads[call], *flow.writes[call]}:
                users[buffer] |= 1 << call
            for buffer in flow.writes[call]:
                writers[buffer] |= 1 << call
        self._users, self._writers = users, writers
        self._sizes = [flow.padded(size) for size in flow.sizes]

    def ready(self, state: int) -> list[int]:
        """The calls that may come next."""
        open_calls = self.done & ~state
        found = []
        while open_calls:
            low = open_calls & -open_calls
            call = low.bit_length() - 1
            if not self._before[call] & ~state:
                found.append(call)
            open_calls ^= low
        return found

    def is_live(self, buffer: int, state: int) -> bool:
        """Whether a buffer holds something that is still needed."""
        flow = self.flow
        if flow.is_input[buffer]:
            begun = True
            # The caller's write and the first call: all inputs are there.
            needed = state == 0 or bool(self._users[buffer] & ~state)
        else:
            begun = bool(self._writers[buffer] & state)
            needed = bool(self._users[buffer] & ~state)
        return begun and (needed or flow.held[buffer])

    def live_bytes(self, state: int) -> int:
        """Padded bytes live between calls."""
        return sum(size for b, size in enumerate(self._sizes) if self.is_live(b, state))

    def need(self, state: int, live: int, call: int) -> tuple[int, int]:
        """What a call needs, and what is live after it; `live` is what is live before it."""
        after = state | 1 << call
        targets = self.flow.writes[call]
        begun = [b for b in targets if not self.is_live(b, state)]
        during = live + sum(self._sizes[b] for b in begun)
        dying = [b for b in self.flow.reads[call] if b not in targets and not self.is_live(b, after)]
        need = call_need(self.flow, during, call, dying, len(begun) == len(targets))
        left = during - sum(self._sizes[b] for b in dying)
        left -= sum(self._sizes[b] for b in targets if not self.is_live(b, after))
        if state == 0:
            unread = (b for b, is_input in enumerate(self.flow.is_input) if is_input and b not in targets)
            left -= sum(self._sizes[b] for b in unread if b not in dying and not self.is_live(b, after))
        return need, left

    def writes_alone(self, call: int) -> bool:
        """Whether no other call writes into this call's outputs."""
        return all(
            self._writers[b] == 1 << call and not self.flow.is_input[b] for b in self.flow.writes[call]
        )


def _bits(calls: Sequence[int]) -> int:
    mask = 0
    for call in calls:
        mask |= 1 << call
    return mask


def best_order(flow: Flow, effort: Effort) -> Order:
    """The order with the lowest peak of needs; the program's own where it is as good as any."""
    own = tuple(range(flow.calls))
    peak, order = _peak(flow, own), own
    greedy = _greedy(flow)
    if (greedy_peak := _peak(flow, greedy)) < peak:
        peak, order = greedy_peak, greedy
    bound = _least(flow)
    if peak <= bound or flow.calls > _MOST_CALLS or effort.spent:
        return Order(order, min(bound, peak))
    found = _search(flow, peak, effort)
    return Order(found.calls or order, max(bound, min(found.bound, peak)))


def _peak(flow: Flow, order: Sequence[int]) -> int:
    return max(build_problem(flow, order).needs, default=0)


def _least(flow: Flow) -> int:
    """What some moment needs in any order: the caller's input or output, or a call alone."""
    sizes = [flow.padded(size) for size in flow.sizes]
    moments = [
        sum(size for size, is_input in zip(sizes, flow.is_input, strict=True) if is_input),
        sum(size for size, held in zip(sizes, flow.held, strict=True) if held),
    ]
    for call in range(flow.calls):
        used = {*flow.reads[call], *flow.writes[call]}
        live = sum(sizes[b] for b in used)
        moments.append(call_need(flow, live, call, flow.reads[call], True))
    return max(moments)


def _greedy(flow: Flow) -> tuple[int, ...]:
    """Of the calls that are ready always one that adds least to what is live. n log n."""
    waiting = [len(calls) for calls in flow.before]
    after: list[list[int]] = [[] for _ in range(flow.calls)]
    for call, calls in enumerate(flow.before):
        for earlier in calls:
            after[earlier].append(call)
    users: list[set[int]] = [set() for _ in flow.sizes]
    for call in range(flow.calls):
        for buffer in flow.reads[call]:
            users[buffer].add(call)
    begun = list(flow.is_input)

    def added(call: int) -> int:
        grows = sum(flow.padded(flow.sizes[b]) for b in flow.writes[call] if not begun[b])
        ends = (b for b in flow.reads[call] if len(users[b]) == 1 and not flow.held[b])
        return grows - sum(flow.padded(flow.sizes[b]) for b in ends)

    heap = [(added(call), call) for call in range(flow.calls) if not waiting[call]]
    heapq.heapify(heap)
    order: list[int] = []
    placed = [False] * flow.calls
    while heap:
        _, call = heapq.heappop(heap)
        if placed[call]:
            continue
        placed[call] = True
        order.append(call)
        for buffer in flow.writes[call]:
            begun[buffer] = True
        for buffer in flow.reads[call]:
            users[buffer].discard(call)
            if len(users[buffer]) == 1:
                last = next(iter(users[buffer]))
                if not waiting[last]:
                    heapq.heappush(heap, (added(last), last))
        for later in after[call]:
            waiting[later] -= 1
            if not waiting[later]:
                heapq.heappush(heap, (added(later), later))
    return tuple(order)


def _search(flow: Flow, below: int, effort: Effort) -> Order:
    """Best first; no calls where no order has a peak under `below`."""
    states = States(flow)
    start_live = states.live_bytes(0)
    came_from: dict[int, tuple[int, int]] = {}
    heap: list[tuple[int, int, int, int]] = [(start_live, 0, 0, start_live)]
    reached = {0: start_live}
    finished: set[int] = set()
    while heap:
        peak, _, state, live = heapq.heappop(heap)
        if state in finished:
            continue
        finished.add(state)
        if state == states.done:
            return Order(_path(came_from, state), peak)
        if effort.spent:
            return Order((), peak)
        effort.spend(1 + flow.calls // 8)
        ready = states.ready(state)
        for call in _worth_trying(states, state, live, peak, ready):
            need, left = states.need(state, live, call)
            after, highest = state | 1 << call, max(peak, need)
            if after == states.done:
                highest = max(highest, left)
            if highest < min(below, reached.get(after, below)):
                reached[after] = highest
                came_from[after] = (state, call)
                heapq.heappush(heap, (highest, -after.bit_count(), after, left))
    return Order((), below)


def _worth_trying(states: States, state: int, live: int, peak: int, ready: list[int]) -> list[int]:
    """The ready calls, or only one of them where doing it now can do no harm."""
    for call in ready:
        if states.writes_alone(call):
            need, left = states.need(state, live, call)
            if need <= peak and left <= live:
                return [call]
    return ready


def _path(came_from: dict[int, tuple[int, int]], state: int) -> tuple[int, ...]:
    calls: list[int] = []
    while state in came_from:
        state, call = came_from[state]
        calls.append(call)
    return tuple(reversed(calls))


def orders_below(flow: Flow, limit: int, effort: Effort) -> Iterator[tuple[int, ...]]:
    """Every order whose needs are at most `limit` padded bytes, until the effort is spent."""
    states = States(flow)
    dead: set[int] = set()

    def walk(state: int, live: int, order: list[int]) -> Iterator[tuple[int, ...]]:
        if state == states.done:
            yield tuple(order)
            return
        found = False
        for call in states.ready(state):
            effort.spend(1 + flow.calls // 8)
            need, left = states.need(state, live, call)
            after = state | 1 << call
            if need > limit or after in dead or effort.spent:
                continue
            for whole in walk(after, left, [*order, call]):
                found = True
                yield whole
        if not found and not effort.spent:
            dead.add(state)

    yield from walk(0, states.live_bytes(0), [])
