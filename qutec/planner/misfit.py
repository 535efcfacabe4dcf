"""Why a plan does not fit, in words that help to change the network."""

from __future__ import annotations

from qutec.planner.plan import Allocation, Plan
from qutec.program import Program

__all__ = ["explain_misfit"]

_LISTED = 5
_NAME_LENGTH = 48


def explain_misfit(program: Program, plan: Plan, available_bytes: int) -> str:
    """Say how much memory is missing, which calls and buffers need it, and what size would be enough.

    Returns several lines without a final line break. Sizes are bytes. A plan that fits says so.
    """
    missing = plan.arena_bytes - available_bytes
    if missing <= 0:
        return f"The arena of {plan.arena_bytes} bytes fits into {available_bytes} bytes."
    lines = [
        f"The arena needs {plan.arena_bytes} bytes, but {available_bytes} are available: {missing} too many.",
        *_too_large(program, plan, available_bytes),
    ]
    for call in plan.peak_calls[:1]:
        lines += _peak(program, plan, call)
    return "\n".join([*lines, *_what_fits(plan, available_bytes)])


def _label(program: Program, call: int) -> str:
    layer = program.calls[call]
    return f"call {call} ({_short(layer.name)}, {type(layer).__name__})"


def _short(name: str) -> str:
    """Names of converted models are long, and differ at their ends."""
    return name if len(name) <= _NAME_LENGTH else f"...{name[3 - _NAME_LENGTH :]}"


def _too_large(program: Program, plan: Plan, available_bytes: int) -> list[str]:
    """The calls that no placement can make fit, the largest first."""
    over = [i for i, live in enumerate(plan.live_bytes) if live > available_bytes]
    if not over:
        return ["Each call alone would fit; the rest is lost in gaps between buffers that live long."]
    over.sort(key=lambda i: (-plan.live_bytes[i], i))
    lines = [f"{len(over)} of {len(plan.live_bytes)} calls need more than there is:"]
    lines += [f"  {_label(program, i)}: {plan.live_bytes[i]} bytes live" for i in over[:_LISTED]]
    if len(over) > _LISTED:
        lines.append(f"  and {len(over) - _LISTED} more")
    return lines


def _role(allocation: Allocation, call: int) -> str:
    if allocation.scratch_of is not None:
        return "kernel scratch"
    if allocation.first_use == call:
        return "written here"
    since = "the caller" if allocation.first_use < 0 else f"call {allocation.first_use}"
    return f"from {since}" + (", last used here" if allocation.last_use == call else ", needed later")


def _peak(program: Program, plan: Plan, call: int) -> list[str]:
    """What is live when most is, the largest first; buffers that share a place are said to."""
    live = plan.live_at(call)
    lines = [f"Live at {_label(program, call)}, where the peak is:"]
    for a in sorted(live, key=lambda a: (-a.bytes, a.offset, a.first_use)):
        shared = next((b for b in live if _ends_under(b, a, call)), None)
        in_place = f", over {_short(shared.name)}" if shared else ""
        lines.append(f"  {a.bytes:>9} bytes  {_short(a.name)} ({_role(a, call)}{in_place})")
    return lines


def _ends_under(one: Allocation, other: Allocation, call: int) -> bool:
    """Whether `other` begins at this call on bytes of `one`, which ends here."""
    meet = one.offset < other.offset + other.bytes and other.offset < one.offset + one.bytes
    return meet and one.first_use < call == one.last_use and other.first_use == call


def _what_fits(plan: Plan, available_bytes: int) -> list[str]:
    lines = [f"An arena of {plan.arena_bytes} bytes would fit."]
    if plan.optimal:
        return [f"{lines[0]} No {plan.scope} needs less: that is proven."]
    lines.append(f"At least {plan.lower_bound_bytes} bytes are needed.")
    if plan.lower_bound_bytes <= available_bytes:
        lines.append("A longer search (--plan-seconds) may find a placement that fits.")
    return lines
