"""Calls that read and write other tensors than they did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from qutec.program import Call, RowRegion, Tensor

__all__ = ["retargeted"]


def retargeted(call: Call, change: Callable[[Call, Tensor], Tensor]) -> Call:
    """The call with every tensor that it names as `change` wants it; a region with all the calls within.

    `change` gets the call that names the tensor, to tell what it reads from what it writes.
    """
    if isinstance(call, RowRegion):
        inner = tuple(retargeted(one, change) for one in call.calls)
        return replace(call, calls=inner)  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for field in fields(call):
        value = getattr(call, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = change(call, value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Tensor):
            changes[field.name] = tuple(change(call, tensor) for tensor in value)
    return replace(call, **changes)
