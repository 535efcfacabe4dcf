"""Scratch memory (`ctx->buf`) that a kernel call needs, with the bundled kernels and with Arm's CMSIS-NN.

What is planned is what the bundled kernels ask for, of either set and built for the core or for a host (plain
C). Where Arm's library asks for more, `qutec.backends.cmsis_nn.arm_scratch` finds a place for it in an arena
that only builds with that library make larger. What it asks for is the largest that the `*_get_buffer_size`
functions from v4.1.0 on return. Not covered: Arm's library built with armclang, which wants two columns for
1x1 kernels as well, and v4.0.0, whose getter asks for memory that its 3x3 depthwise kernel does not use. The
generated project checks the linked getters against these sizes.

More than that is of use to some of the bundled kernels, which look at `ctx->size`; see
`useful_scratch_bytes`.
"""

from __future__ import annotations

from qutec.backends.cmsis_nn.head_features import feature_tile_bytes
from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.program import (
    AvgPool2D,
    Call,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    HeadFeatures,
    RowRegion,
)
from qutec.program.row_layout import row_layout
from qutec.targets import Core

__all__ = ["STACK_COLUMN_BYTES", "arm_scratch_bytes", "scratch_bytes", "useful_scratch_bytes"]

_MVE_CHANNEL_BLOCK = 124
"""Channels that Arm's depthwise kernel for Helium gathers at a time, whatever the number there is."""
_HELIUM_PIXELS = 3
"""Output pixels that the bundled convolution for Helium computes side by side."""
_DSP_PIXELS = 5
"""The same for cores with DSP instructions, where there is scratch for it."""
STACK_COLUMN_BYTES = 640
"""Bytes of columns that it has on the stack where there is none; more are not put there."""
_WIDENED_VALUES = 256
"""Of the input of a dense layer, those that are worth scratch: the rest is widened for every three rows."""
_TAPS_ON_STACK = 9
"""Taps for which the bundled depthwise kernel of the DSP path keeps weights on the stack."""
_DEPTHWISE_CHANNELS = 4
"""Channels that it computes side by side, as int16 weights in scratch."""


def scratch_bytes(call: Call, core: Core) -> int:
    """Bytes of `ctx->buf` to plan for a call of a bundled kernel on a core; 0 means NULL.

    Enough for the same C on a host, too.
    """
    match call:
        case Conv2D():
            return _conv_bytes(call, core)
        case DepthwiseConv2D():
            return _depthwise_bytes(call, core)
        case RowRegion():
            return row_layout(call).bytes
        case _:
            return 0


def arm_scratch_bytes(call: Call, core: Core) -> int:
    """Bytes of `ctx->buf` that Arm's kernel of a call needs on a core, or on a host; 0 means NULL.

    On Helium a fully connected call counts the int32 sums of the filter rows (one an output) that Arm's
    kernel reads from `ctx->buf`. Calls in a region run one at a time: of a region, the most that one needs.
    """
    match call:
        case Conv2D():
            return _arm_conv_bytes(call, core)
        case DepthwiseConv2D():
            return _arm_depthwise_bytes(call, core)
        case FullyConnected():
            return 4 * int(call.weights.shape[0]) if core.mve else 0
        case AvgPool2D():
            return 4 * call.input_shape[3] if core.dsp and not core.mve else 0
        case RowRegion():
            return max(arm_scratch_bytes(one, core) for one in call.calls)
        case _:
            return 0


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _two_int16_columns(depth: int) -> int:
    return 2 * 2 * _round_up(depth, 4)


def _four_int8_columns(depth: int) -> int:
    return 4 * _round_up(depth, 16)


def _needs_columns(call: Conv2D) -> bool:
    """Whether windows are copied: not where they are pixels of the map, whatever the stride."""
    _, kernel_h, kernel_w, depth = call.weights.shape
    unpadded = call.padding == (0, 0) and call.dilation == (1, 1)
    return not ((kernel_h, kernel_w) == (1, 1) and unpadded and depth == call.input_shape[3])


def _conv_bytes(call: Conv2D, core: Core) -> int:
    if not _needs_columns(call):
        return 0
    _, kernel_h, kernel_w, depth = call.weights.shape
    window = kernel_h * kernel_w * depth
    # With Helium, three windows of one group, and where the sums of each channel begin.
    helium = _HELIUM_PIXELS * window + 4 * call.output_shape[3] if core.mve else 0
    return max(_two_int16_columns(window), helium)


def _arm_conv_bytes(call: Conv2D, core: Core) -> int:
    if not _needs_columns(call):
        return 0
    _, kernel_h, kernel_w, _ = call.weights.shape
    # Of all groups.
    window = kernel_h * kernel_w * call.input_shape[3]
    sizes = [_two_int16_columns(window)]
    if core.mve:
        sizes += [_four_int8_columns(window), _row_conv_mve_bytes(call)]
    return max(sizes)


def _row_conv_mve_bytes(call: Conv2D) -> int:
    """Arm's 1xN kernel for Helium copies the padded ends of the row, all channels."""
    channels, width = call.input_shape[3], call.input_shape[2]
    kernel, stride, pad = int(call.weights.shape[2]), call.stride[1], call.padding[1]
    total_pad = (call.output_shape[2] - 1) * stride + kernel - width
    odd_pad = total_pad % 2 if total_pad >= 0 else -(-total_pad % 2)
    right = max(1, (pad + odd_pad + stride - 1) // stride) if pad + odd_pad else 0
    right_pad = right if odd_pad else pad
    return max((kernel + pad) * channels, (kernel - 1 + right_pad) * channels)


def _depthwise_bytes(call: DepthwiseConv2D, core: Core) -> int:
    kernel_h, kernel_w, out_channels = call.weights.shape
    channels = call.input_shape[3]
    window = kernel_h * kernel_w
    sizes = [0]
    is_wide = call.channel_multiplier == 1 and channels >= _DEPTHWISE_CHANNELS
    if core.dsp and is_wide and call.dilation == (1, 1) and window > _TAPS_ON_STACK:
        sizes.append(2 * _DEPTHWISE_CHANNELS * window)
    if core.mve and channels == 1 and out_channels > 1:
        # A convolution, whose filter is transposed behind that one's scratch.
        sizes.append(_HELIUM_PIXELS * window + 4 * out_channels + out_channels * window)
    elif core.mve and call.channel_multiplier == 1:
        # Three words a channel, pointers to the taps, and a pixel of zero points.
        sizes.append(12 * _round_up(channels, 16) + 4 * window + channels)
    return max(sizes)


def _arm_depthwise_bytes(call: DepthwiseConv2D, core: Core) -> int:
    kernel_h, kernel_w, out_channels = call.weights.shape
    channels = call.input_shape[3]
    window = kernel_h * kernel_w
    sizes = [0]
    if call.channel_multiplier == 1 and call.dilation == (1, 1):
        if core.mve:
            sizes.append(4 * _MVE_CHANNEL_BLOCK * window)
        elif core.dsp and not ((kernel_h, kernel_w) == (3, 3) and max(call.padding) <= 1):
            sizes.append(2 * channels * window)
    if core.mve and channels == 1 and out_channels > 1:
        # v7 turns it into a convolution, and transposes the filter behind that one's scratch.
        row_ends = (kernel_w + 2 * call.padding[1]) + call.output_shape[2]
        sizes.append(max(_four_int8_columns(window), row_ends) + out_channels * window)
    return max(sizes)


def useful_scratch_bytes(call: Call, core: Core, kernels: KernelSet) -> int:
    """`ctx->buf` with which the bundled kernel is faster or needs less stack, bytes; 0 where more is no use.

    Never less than `scratch_bytes` where it is not 0.
    """
    if kernels is not KernelSet.FAST or not core.dsp:
        return 0
    match call:
        case HeadFeatures():
            return feature_tile_bytes(call)
        case _ if core.mve:
            return 0
        case Conv2D():
            return _five_columns(call)
        case FullyConnected():
            depth = int(call.weights.shape[1])
            return 2 * min(depth, _WIDENED_VALUES) if call.input_offset == 0 and depth % 4 == 0 else 0
        case _:
            return 0


def _five_columns(call: Conv2D) -> int:
    """`qute_five_bytes` of kernels/qute_convolve.h, for calls that arm_convolve_wrapper_s8 uses it in."""
    _, height, width, channels = call.weights.shape
    depth = int(height * width * channels)
    length = _round_up(depth, 4)
    five = 2 * _DSP_PIXELS * length + (length if length != depth else 0)
    is_short = five <= STACK_COLUMN_BYTES
    is_strip = width == 3 and call.stride[1] == 1 and call.dilation[1] == 1 and channels % 4 == 0
    is_grouped = channels != call.input_shape[3]
    return 0 if is_grouped or (is_strip and not is_short) else five
