"""Flash that the code takes and stack that it uses: figures measured, not compiled, at compile time.

The tables come from `python -m benchmarks.code_size`, which builds every kernel with
arm-none-eabi-gcc -O3 and the frames with -fstack-usage. They are estimates for the report; `qutec run`
measures the real image.
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


@cache
def _table() -> dict[str, Any]:
    text = (Path(__file__).parent / "code_size.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def code_bytes(calls: Sequence[Call], core: Core) -> int:
    """Estimated bytes of code and parameter structs: kernels, one function for each call, the API."""
    sizes = _table()["cores"][core.name]
    kernels = sum(sizes["kernels"][name] for name in kernel_files(calls) if name.endswith(".c"))
    bodies = sum(sizes["calls"][type(call).__name__] for call in calls)
    return int(sizes["fixed"] + kernels + bodies)


def stack_bytes(calls: Sequence[Call]) -> int:
    """Estimated deepest stack of one inference, rounded up to 64 bytes; the largest over all cores."""
    deepest = max((_table()["stack"][type(call).__name__] for call in calls), default=0)
    return int(-(-(deepest + _table()["stack"]["fixed"]) // 64) * 64)
