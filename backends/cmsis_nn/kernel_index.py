"""Which files of the bundled kernels a sequence of calls needs, in the fast or in the small set.

The small set has files of its own, in kernels/small, for what is large when it is fast; all else is shared. A
project gets the files of one set, so whoever builds it, however, gets what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from qutec.backends.cmsis_nn.head_features import feature_kernel, feature_row_kernels
from qutec.backends.cmsis_nn.kernel_set import KernelSet
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
from qutec.program.row_stages import RowStage, row_stages
from qutec.targets import Core

__all__ = ["KERNEL_DIRECTORY", "SMALL_DIRECTORY", "kernel_files", "kernel_path", "own_sources"]

KERNEL_DIRECTORY = Path(__file__).parent / "kernels"
SMALL_DIRECTORY = KERNEL_DIRECTORY / "small"
"""Files of the small set, which stand in for those of the same name in KERNEL_DIRECTORY, or help them."""

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
        "qute_convolve_five_s8.c",
        "qute_convolve_s8.c",
        "qute_dot_s8.c",
        "qute_helium_convolve_1x1_s8.c",
        "qute_helium_convolve_s8.c",
        "qute_helium_product_s8.c",
        "qute_multiply_five_s16.c",
        "qute_multiply_pair_s16.c",
        "qute_multiply_single_s16.c",
        "qute_multiply_strip_s16.c",
        "qute_sums_can_scale.c",
        "qute_widen_s16.c",
        "qute_window_columns_s16.c",
        "qute_window_strip_s16.c",
    ),
    DepthwiseConv2D: (
        "arm_depthwise_conv_wrapper_s8.c",
        "arm_depthwise_conv_wrapper_s8_get_buffer_size.c",
        "qute_clamp_s8.c",
        "qute_depthwise_row_s8.c",
        "qute_depthwise_row_s8x4.c",
        "qute_depthwise_store_s8x4.c",
        "qute_depthwise_three_columns.c",
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
    Softmax: ("arm_softmax_s8.c", "qute_helium_softmax_s8.c"),
    Add: ("arm_elementwise_add_s8.c", "qute_helium_add_s8.c"),
    Mul: ("arm_elementwise_mul_s8.c", "qute_helium_mul_s8.c"),
    Concat: ("arm_concatenation_s8_x.c",),
    Lookup: ("qute_lookup_s8.c",),
    Copy: ("qute_copy_s8.c",),
    Gather: ("qute_gather_s8.c",),
    Move: ("qute_move_s8.c",),
    HeadUncertainty: ("qute_head_uncertainty_s32.c", "qute_monitor.c"),
}

_SMALL_SOURCES: dict[type[Call], tuple[str, ...]] = {
    Conv2D: (
        "arm_convolve_wrapper_s8.c",
        "arm_convolve_wrapper_s8_get_buffer_size.c",
        "qute_small_multiply_pair.c",
        "qute_small_multiply_pixel.c",
        "qute_small_put.c",
        "qute_small_write_window.c",
    ),
    DepthwiseConv2D: (
        "arm_depthwise_conv_wrapper_s8.c",
        "arm_depthwise_conv_wrapper_s8_get_buffer_size.c",
        "qute_small_put.c",
    ),
    FullyConnected: (
        "arm_fully_connected_s8.c",
        "arm_fully_connected_s8_get_buffer_size.c",
        "arm_vector_sum_s8.c",
        "qute_small_multiply_pixel.c",
        "qute_small_put.c",
    ),
    AvgPool2D: ("arm_avgpool_s8.c", "arm_avgpool_s8_get_buffer_size.c", "qute_small_pool.c"),
    MaxPool2D: ("arm_max_pool_s8.c", "qute_small_pool.c"),
}
"""Where the small set has other files than the fast one."""

_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def kernel_path(name: str, kernels: KernelSet = KernelSet.FAST) -> Path:
    """Where a file of a set is: it may be of both."""
    small = SMALL_DIRECTORY / name
    return small if kernels is KernelSet.SMALL and small.is_file() else KERNEL_DIRECTORY / name


def _with_includes(names: Iterable[str], place: Callable[[str], Path]) -> set[str]:
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            if place(name).is_file():
                pending += _INCLUDE.findall(place(name).read_text(encoding="utf-8"))
    return found


def kernel_files(
    calls: Sequence[Call], kernels: KernelSet = KernelSet.FAST, core: Core | None = None
) -> list[str]:
    """Names, sorted, of the sources and headers that the calls need to compile and link; see `kernel_path`.

    Those for Helium are left out where `core` has none (None is any core), and in the small set. What a core
    with Helium gets compiles without it too, for a host.

    The two public headers are always among them. `Fill` is memset, `ExitCheck` a
    comparison: they need none. The accuracy-drop monitor goes with every network that has an uncertainty, for
    the application to call.
    """
    sources = {name for call in calls for name in _sources(call, kernels)}
    names = _with_includes((*_PUBLIC_HEADERS, *sources), lambda name: kernel_path(name, kernels))
    has_helium = (core is None or core.mve) and kernels is KernelSet.FAST
    return sorted(name for name in names if has_helium or not name.startswith(_HELIUM))


def own_sources(folder: Path) -> list[str]:
    """Names, sorted, of the C files in `folder` to link next to Arm's library: functions that it lacks.

    They include a header that declares such functions, directly or not. The other files implement, or help to
    implement, functions of CMSIS-NN.
    """
    names = (path.name for path in folder.glob("*.c"))
    return sorted(name for name in names if _OWN_HEADERS & _with_includes([name], folder.joinpath))


def _row_sources(stage: RowStage, kernels: KernelSet) -> tuple[str, ...]:
    if not stage.sums_bytes:
        return _sources(stage.call, kernels)
    if isinstance(stage.call, HeadFeatures):
        return tuple(f"{name}.c" for name in feature_row_kernels(stage.call))
    return ("qute_average_end_s8.c", "qute_average_row_s8.c")


def _sources(call: Call, kernels: KernelSet) -> tuple[str, ...]:
    match call:
        case HeadFeatures():
            name = feature_kernel(call, kernels)
            helium = ("qute_helium_head_sums_s8.c",) if name == "qute_head_sums_s8x4" else ()
            return (f"{name}.c", *helium)
        case HeadLogits():
            return (f"qute_head_logits_s{call.input_bits}.c",)
        case RowRegion():
            stages = row_stages(call.calls)
            assert stages is not None
            inner = {name for stage in stages for name in _row_sources(stage, kernels)}
            return ("qute_move_up_s8.c", "qute_rows.h", *sorted(inner))
        case _:
            small = _SMALL_SOURCES if kernels is KernelSet.SMALL else {}
            return small.get(type(call)) or _SOURCES.get(type(call), ())
