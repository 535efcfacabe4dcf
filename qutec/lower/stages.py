"""The order of calls in a network that may stop early: before an exit runs only what it needs."""

from __future__ import annotations

from collections.abc import Sequence

from qutec.program import Call, ExitCheck

__all__ = ["by_stage"]


def by_stage(calls: Sequence[Call]) -> list[Call]:
    """The calls of exit 0, then those that exit 1 needs besides, and so on; the order within is kept.

    A call belongs to the first exit that depends on what it writes. Calls that no exit needs come last.
    Without an `ExitCheck` nothing changes.
    """
    checks = [i for i, call in enumerate(calls) if isinstance(call, ExitCheck)]
    if not checks:
        return list(calls)
    stage = [len(checks)] * len(calls)
    for number, check in enumerate(checks):
        for i in _needed(calls, check):
            stage[i] = min(stage[i], number)
    order = sorted(range(len(calls)), key=lambda i: stage[i])
    return [calls[i] for i in order]


def _needed(calls: Sequence[Call], last: int) -> set[int]:
    """What call `last` depends on, itself included: every earlier writer of a buffer that is read."""
    found = {last}
    for i in range(last, -1, -1):
        if i in found:
            buffers = {tensor.buffer for tensor in calls[i].reads}
            found |= {j for j in range(i) if any(tensor.buffer in buffers for tensor in calls[j].writes)}
    return found
