"""Flash that the code takes and stack that it uses: figures measured, not compiled, at compile time.

The tables come from `python -m benchmarks.code_size`, which builds networks of each kind of call, weighs
them with arm-none-eabi-gcc -O3 and runs them on painted stacks. They are estimates for the report, for the
bundled kernels; `qutec run` measures the real image.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from qutec.backends.cmsis_nn.kernel_index import kernel_files
from qutec.program import Call
from qutec.targets import Core

__all__ = ["code_bytes", "stack_bytes"]


_STACK_MARGIN = 32
"""Frames differ by some words from compiler to compiler, and an overflow is worse than a few idle bytes."""


@cache
def _table() -> dict[str, Any]:
    text = (Path(__file__).parent / "code_size.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def code_bytes(calls: Sequence[Call], core: Core) -> int:
    """Estimated bytes of code and parameter structs: kernels, one function for each call, the API.

    Counts what the calls need of the compiler's own libraries, such as memcpy.
    """
    sizes = _table()["cores"][core.name]
    kinds = [type(call).__name__ for call in calls]
    kernels = sum(sizes["kernels"][name] for name in kernel_files(calls) if name.endswith(".c"))
    library = {name: size for kind in kinds for name, size in sizes["library"][kind].items()}
    return int(sizes["fixed"] + kernels + sum(sizes["calls"][kind] for kind in kinds) + sum(library.values()))


def stack_bytes(calls: Sequence[Call], core: Core) -> int:
    """Deepest stack of one inference, gcc's or zig's, with a margin, rounded up to 16 bytes."""
    stack = _table()["cores"][core.name]["stack"]
    deepest = max((stack[type(call).__name__] for call in calls), default=0)
    return int(-(-(deepest + stack["fixed"] + _STACK_MARGIN) // 16) * 16)
