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
from qutec.program import Call, RowRegion
from qutec.targets import Core

__all__ = ["code_bytes", "stack_bytes"]


_STACK_MARGIN = 32
"""Frames differ by some words from compiler to compiler, and an overflow is worse than a few idle bytes."""


_REGION_CODE_BYTES = 120
_ROW_CODE_BYTES = 190
"""Code of a region's loop, and of each layer in it besides its kernel: what asks for the rows."""
_ROW_KERNELS = {"qute_average_end_s8.c": 84, "qute_average_row_s8.c": 64}
"""Kernels of a global pool by rows, which no call outside of a region needs, so that the table lacks them."""
_REGION_STACK_BYTES = 160
_MAP_STACK_BYTES = 24
"""Frame of a region's function, and what it holds of each map."""


def _kernel_calls(calls: Sequence[Call]) -> list[Call]:
    """The calls, and those within regions; the global pool at the end of one has kernels of its own."""
    return [one for call in calls for one in (call.calls if isinstance(call, RowRegion) else (call,))]


def _framed(calls: Sequence[Call]) -> list[tuple[Call, RowRegion | None]]:
    """Every kernel call, with the region that it is in."""
    return [
        (one, call if isinstance(call, RowRegion) else None)
        for call in calls
        for one in _kernel_calls([call])
    ]


def _frame(region: RowRegion | None) -> int:
    return 0 if region is None else _REGION_STACK_BYTES + _MAP_STACK_BYTES * (len(region.calls) + 1)


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
    kinds = [type(call).__name__ for call in _kernel_calls(calls)]
    regions = [call for call in calls if isinstance(call, RowRegion)]
    loops = sum(_REGION_CODE_BYTES + _ROW_CODE_BYTES * len(region.calls) for region in regions)
    sources = [name for name in kernel_files(calls, core) if name.endswith(".c")]
    kernels = sum(_ROW_KERNELS[name] if name in _ROW_KERNELS else sizes["kernels"][name] for name in sources)
    library = {name: size for kind in kinds for name, size in sizes["library"][kind].items()}
    return int(
        sizes["fixed"] + loops + kernels + sum(sizes["calls"][kind] for kind in kinds) + sum(library.values())
    )


def stack_bytes(calls: Sequence[Call], core: Core) -> int:
    """Deepest stack of one inference, gcc's or zig's, with a margin, rounded up to 16 bytes."""
    stack = _table()["cores"][core.name]["stack"]
    deepest = max((stack[type(call).__name__] + _frame(region) for call, region in _framed(calls)), default=0)
    return int(-(-(deepest + stack["fixed"] + _STACK_MARGIN) // 16) * 16)
