"""Flash that the code takes, by layer, and stack that it uses: measured beforehand, nothing is compiled here.

The tables come from `python -m benchmarks.code_size`, which builds networks of each kind of call with either
set of kernels, weighs them with arm-none-eabi-gcc at the level of the set and runs them on painted stacks.
They are estimates for the report: code of the bundled kernels, stack with these or with Arm's library;
`qutec run` measures the real image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from qutec.backends.cmsis_nn.kernel_index import kernel_files
from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.backends.cmsis_nn.scratch import STACK_COLUMN_BYTES, useful_scratch_bytes
from qutec.program import Call, InputRows, RowRegion
from qutec.targets import Core

__all__ = [
    "IN_SCRATCH",
    "CodeCost",
    "SharedCode",
    "arm_stack_bytes",
    "code_cost",
    "shared_code_bytes",
    "stack_bytes",
]


_STACK_MARGIN = 64
"""Frames differ by some words from compiler to compiler, and an overflow is worse than a few idle bytes."""


_API = "API"
_CALLS = " calls"
"""How parts of the network's own file are named: its API, and what the first call of a kind brings."""
IN_SCRATCH = " in scratch"
"""How the stack of a kind of call is named whose kernel has all the scratch that is of use to it."""
_REGION_CODE_BYTES = 120
_ROW_CODE_BYTES = 190
"""Code of a region's loop, and of each layer in it besides its kernel: what asks for the rows."""
_STREAM_CODE_BYTES = 150
_RESUME_CODE_BYTES = 30
"""Code of the API of a streamed input, and of each layer in its region for going on where it stopped."""
_ROW_KERNELS = {
    "qute_average_end_s8.c": 84,
    "qute_average_row_s8.c": 236,
    "qute_head_end_s8.c": 98,
    "qute_head_end_s8x4.c": 152,
    "qute_head_relu_3x3_row_s8x4.c": 984,
    "qute_head_relu_row_s8.c": 700,
    "qute_head_relu_row_s8x4.c": 700,
    "qute_move_up_s8.c": 200,
    "qute_head_sums_row_s8.c": 344,
    "qute_head_sums_row_s8x4.c": 372,
}
"""Kernels that take in rows, which no call outside of a region needs, so that the table lacks them."""
_REGION_STACK_BYTES = 120
_LAYER_STACK_BYTES = 18
"""Frame of a region's function, and what it holds of each layer."""


def _kernel_calls(calls: Sequence[Call]) -> list[Call]:
    """The calls, and those within regions, that run a kernel."""
    every = (one for call in calls for one in (call.calls if isinstance(call, RowRegion) else (call,)))
    return [call for call in every if not isinstance(call, InputRows)]


def _framed(calls: Sequence[Call]) -> list[tuple[Call, RowRegion | None]]:
    """Every kernel call, with the region that it is in."""
    return [
        (one, call if isinstance(call, RowRegion) else None)
        for call in calls
        for one in _kernel_calls([call])
    ]


def _frame(region: RowRegion | None) -> int:
    return 0 if region is None else _REGION_STACK_BYTES + _LAYER_STACK_BYTES * len(region.calls)


def _region_code(region: RowRegion) -> int:
    layers = len(_kernel_calls([region]))
    streamed = layers < len(region.calls)
    return (
        _REGION_CODE_BYTES
        + _ROW_CODE_BYTES * layers
        + (_STREAM_CODE_BYTES + _RESUME_CODE_BYTES * layers if streamed else 0)
    )


@cache
def _table(name: str) -> dict[str, Any]:
    text = (Path(__file__).parent / name).read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)["cores"]
    return table


@dataclass(frozen=True)
class SharedCode:
    """Code that is there once, whichever calls need it."""

    file: str
    """A kernel file, a function of the compiler's libraries, or the network's own file."""
    bytes: int
    calls: tuple[int, ...]
    """Numbers of the calls that need it."""

    @property
    def in_own_file(self) -> bool:
        """Whether it is a part of the network's own file, so that every network has its own."""
        return self.file == _API or self.file.endswith(_CALLS)


@dataclass(frozen=True)
class CodeCost:
    """Estimated bytes of code and parameter structs."""

    calls: tuple[int, ...]
    """What each call adds: its function, its structs."""
    shared: tuple[SharedCode, ...]
    """The rest, the largest first."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.calls) + sum(part.bytes for part in self.shared)


def code_cost(
    calls: Sequence[Call], struct_bytes: Sequence[int], core: Core, kernels: KernelSet = KernelSet.FAST
) -> CodeCost:
    """What the calls of a network, the kernels that they need and its API take in flash.

    `struct_bytes` are those of the parameter structs of each call (`EmittedProject`). Counts what the calls
    need of the compiler's own libraries, such as memcpy.
    """
    sizes = _table("code_size.json")[core.name][kernels.value]
    users: dict[tuple[str, int], list[int]] = {}
    for index, call in enumerate(calls):
        needed: dict[str, int] = {}
        for one in _kernel_calls([call]):
            kind = type(one).__name__
            needed |= {f"{kind}{_CALLS}": sizes["once"][kind], **sizes["library"][kind]}
        for name in kernel_files([call], kernels, core):
            if name.endswith(".c"):
                needed[name] = _ROW_KERNELS[name] if name in _ROW_KERNELS else sizes["kernels"][name]
        for name, size in needed.items():
            users.setdefault((name, size), []).append(index)
    largest: dict[str, SharedCode] = {}
    for (name, size), indices in users.items():
        known = largest.get(name, SharedCode(name, 0, ()))
        both = tuple(sorted({*known.calls, *indices}))
        largest[name] = SharedCode(name, max(known.bytes, size), both)
    everyone = SharedCode(_API, sizes["fixed"], tuple(range(len(calls))))
    shared = [part for part in (everyone, *largest.values()) if part.bytes]
    return CodeCost(
        tuple(
            size + _call_bytes(call, sizes["calls"]) for call, size in zip(calls, struct_bytes, strict=True)
        ),
        tuple(sorted(shared, key=lambda part: (-part.bytes, part.file))),
    )


def shared_code_bytes(costs: Sequence[CodeCost]) -> int:
    """Of several networks in one program, which links a kernel once, whoever calls it. Bytes."""
    own = sum(sum(cost.calls) for cost in costs)
    linked_once: dict[str, int] = {}
    for part in (part for cost in costs for part in cost.shared):
        if part.in_own_file:
            own += part.bytes
        else:
            linked_once[part.file] = max(linked_once.get(part.file, 0), part.bytes)
    return own + sum(linked_once.values())


def _call_bytes(call: Call, table: dict[str, int]) -> int:
    own = sum(table[type(one).__name__] for one in _kernel_calls([call]))
    if isinstance(call, RowRegion):
        own += _region_code(call)
    return own


def stack_bytes(
    calls: Sequence[Call], scratch: Sequence[int], core: Core, kernels: KernelSet = KernelSet.FAST
) -> int:
    """Deepest stack of one inference, gcc's or zig's, with a margin, rounded up to 16 bytes.

    `scratch[i]` is what call i has in the arena: a kernel without room there puts its columns on the stack,
    if they are few.
    """
    stack = _table("code_size.json")[core.name][kernels.value]["stack"]
    names = []
    for call, given in zip(calls, scratch, strict=True):
        region = call if isinstance(call, RowRegion) else None
        inner = [(call, given)] if region is None else zip(region.calls, region.scratch, strict=True)
        for one, room in inner:
            if isinstance(one, InputRows):
                continue
            name = type(one).__name__
            inside = f"{name}{IN_SCRATCH}"
            useful = useful_scratch_bytes(one, core, kernels)
            off_stack = inside in stack and (room >= useful or useful > STACK_COLUMN_BYTES)
            names.append((inside if off_stack else name, region))
    return _stack(names, stack)


def arm_stack_bytes(calls: Sequence[Call], core: Core) -> int:
    """The same where Arm's library is linked in place of the bundled kernels."""
    names = [(type(call).__name__, region) for call, region in _framed(calls)]
    return _stack(names, _table("arm_stack.json")[core.name])


def _stack(names: Sequence[tuple[str, RowRegion | None]], stack: Mapping[str, int]) -> int:
    deepest = max((stack[name] + _frame(region) for name, region in names), default=0)
    return int(-(-(deepest + stack["fixed"] + _STACK_MARGIN) // 16) * 16)
