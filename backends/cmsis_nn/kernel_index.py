"""Which files of the bundled kernels a sequence of calls needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from qutec.backends.cmsis_nn.head_calls import feature_kernel
from qutec.program import (
    Add,
    AvgPool2D,
    Call,
    Concat,
    Conv2D,
    Copy,
    DepthwiseConv2D,
    FullyConnected,
    Gather,
    HeadFeatures,
    HeadLogits,
    HeadUncertainty,
    Lookup,
    MaxPool2D,
    Move,
    Mul,
    RowRegion,
    Softmax,
)
from qutec.program.row_region import is_global_pool
from qutec.targets import Core

__all__ = ["KERNEL_DIRECTORY", "kernel_files", "own_sources"]

KERNEL_DIRECTORY = Path(__file__).parent / "kernels"
"""Where the files named by `kernel_files` are."""

_PUBLIC_HEADERS = ("arm_nnfunctions.h", "qute_kernels.h")
_OWN_HEADERS = frozenset({"qute_kernels.h", "qute_monitor.h"})
"""Headers of functions that CMSIS-NN lacks."""

_HELIUM = "qute_helium"
"""How the names of files begin that only cores with Helium need."""

_SOURCES: dict[type[Call], tuple[str, ...]] = {
    Conv2D: (
        "arm_convolve_wrapper_s8.c",
        "arm_convolve_wrapper_s8_get_buffer_size.c",
        "qute_clamp_s8.c",
        "qute_convolve_1x1_s8.c",
        "qute_convolve_s8.c",
        "qute_dot_s8.c",
        "qute_helium_convolve_1x1_s8.c",
        "qute_helium_convolve_s8.c",
        "qute_helium_product_s8.c",
        "qute_multiply_pair_s16.c",
        "qute_multiply_single_s16.c",
        "qute_window_columns_s16.c",
    ),
    DepthwiseConv2D: (
        "arm_depthwise_conv_wrapper_s8.c",
        "arm_depthwise_conv_wrapper_s8_get_buffer_size.c",
        "qute_depthwise_row_s8.c",
        "qute_depthwise_row_s8x4.c",
        "qute_depthwise_store_s8x4.c",
        "qute_helium_convolve_s8.c",
        "qute_helium_depthwise_1_s8.c",
        "qute_helium_depthwise_s8.c",
        "qute_helium_product_s8.c",
    ),
    FullyConnected: (
        "arm_fully_connected_s8.c",
        "arm_fully_connected_s8_get_buffer_size.c",
        "arm_vector_sum_s8.c",
        "qute_clamp_s8.c",
        "qute_dot_s8.c",
    ),
    AvgPool2D: ("arm_avgpool_s8.c", "arm_avgpool_s8_get_buffer_size.c", "qute_helium_mean_s8.c"),
    MaxPool2D: ("arm_max_pool_s8.c", "qute_helium_max_s8.c"),
    Softmax: ("arm_softmax_s8.c",),
    Add: ("arm_elementwise_add_s8.c", "qute_helium_add_s8.c"),
    Mul: ("arm_elementwise_mul_s8.c", "qute_helium_mul_s8.c"),
    Concat: ("arm_concatenation_s8_x.c",),
    Lookup: ("qute_lookup_s8.c",),
    Copy: ("qute_copy_s8.c",),
    Gather: ("qute_gather_s8.c",),
    Move: ("qute_move_s8.c",),
    HeadUncertainty: ("qute_head_uncertainty_s32.c", "qute_monitor.c"),
}

_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def _with_includes(names: Iterable[str], folder: Path = KERNEL_DIRECTORY) -> set[str]:
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            if (folder / name).is_file():
                pending += _INCLUDE.findall((folder / name).read_text(encoding="utf-8"))
    return found


def kernel_files(calls: Sequence[Call], core: Core | None = None) -> list[str]:
    """Names in KERNEL_DIRECTORY, sorted, of the sources and headers that the calls need to compile and link.

    Those for Helium are left out where `core` has none; None is any core. What a core with Helium gets
    compiles without it too, for a host.

    The two public headers are always among them. `Fill` is memset, `ExitCheck` a
    comparison: they need none. The accuracy-drop monitor goes with every network that has an uncertainty, for
    the application to call.
    """
    sources = {name for call in calls for name in _sources(call)}
    names = _with_includes((*_PUBLIC_HEADERS, *sources))
    return sorted(name for name in names if core is None or core.mve or not name.startswith(_HELIUM))


def own_sources(folder: Path) -> list[str]:
    """Names, sorted, of the C files in `folder` to link next to Arm's library: functions that it lacks.

    They include a header that declares such functions, directly or not. The other files implement, or help to
    implement, functions of CMSIS-NN.
    """
    names = (path.name for path in folder.glob("*.c"))
    return sorted(name for name in names if _OWN_HEADERS & _with_includes([name], folder))


def _sources(call: Call) -> tuple[str, ...]:
    match call:
        case HeadFeatures():
            return (f"{feature_kernel(call)}.c",)
        case HeadLogits():
            return (f"qute_head_logits_s{call.input_bits}.c",)
        case RowRegion():
            inner = {name for one in call.calls if not is_global_pool(one) for name in _sources(one)}
            ends = ("qute_average_end_s8.c", "qute_average_row_s8.c")
            return ("qute_rows.h", *sorted(inner), *(ends if is_global_pool(call.calls[-1]) else ()))
        case _:
            return _SOURCES.get(type(call), ())
