"""Scratch memory (`ctx->buf`) that a kernel call needs, whichever library is linked.

The size planned for a call is the largest that any of these asks for: the `*_get_buffer_size` functions of
Arm's CMSIS-NN from v4.1.0 on, built for the core or for a host (plain C), and those of the bundled kernels.
Not covered: Arm's library built with armclang, which wants two columns for 1x1 kernels as well, and v4.0.0,
whose getter asks for memory that its 3x3 depthwise kernel does not use. The generated project checks the
linked getters against the plan.

More than that is of use to some of the bundled kernels, which look at `ctx->size`; see
`useful_scratch_bytes`.
"""

from __future__ import annotations

from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.program import AvgPool2D, Call, Conv2D, DepthwiseConv2D, FullyConnected, RowRegion
from qutec.program.row_layout import row_layout
from qutec.targets import Core

__all__ = ["scratch_bytes", "useful_scratch_bytes"]

_MVE_CHANNEL_BLOCK = 124
"""Channels that Arm's depthwise kernel for Helium gathers at a time, whatever the number there is."""
_HELIUM_PIXELS = 3
"""Output pixels that the bundled convolution for Helium computes side by side."""
_DSP_PIXELS = 5
"""The same for cores with DSP instructions, where there is scratch for it."""
_DSP_STACK_COLUMNS = 640
"""Bytes of columns that it has on the stack where there is none."""
_WIDENED_VALUES = 256
"""Of the input of a dense layer, those that are worth scratch: the rest is widened for every three rows."""


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _two_int16_columns(depth: int) -> int:
    return 2 * 2 * _round_up(depth, 4)


def _four_int8_columns(depth: int) -> int:
    return 4 * _round_up(depth, 16)


def _row_conv_mve_bytes(call: Conv2D) -> int:
    """Arm's 1xN kernel for Helium copies the padded ends of the row, all channels."""
    channels, width = call.input_shape[3], call.input_shape[2]
    kernel, stride, pad = int(call.weights.shape[2]), call.stride[1], call.padding[1]
    total_pad = (call.output_shape[2] - 1) * stride + kernel - width
    odd_pad = total_pad % 2 if total_pad >= 0 else -(-total_pad % 2)
    right = max(1, (pad + odd_pad + stride - 1) // stride) if pad + odd_pad else 0
    right_pad = right if odd_pad else pad
    return max((kernel + pad) * channels, (kernel - 1 + right_pad) * channels)


def _conv_bytes(call: Conv2D, core: Core) -> int:
    _, kernel_h, kernel_w, depth = call.weights.shape
    channels = call.input_shape[3]
    unpadded = call.padding == (0, 0) and call.dilation == (1, 1)
    if (kernel_h, kernel_w) == (1, 1) and unpadded and depth == channels:
        return 0
    # Arm's getters count the input channels of all groups; the bundled kernels need one group's.
    window = kernel_h * kernel_w * channels
    sizes = [_two_int16_columns(window)]
    if core.mve:
        sizes += [_four_int8_columns(window), _row_conv_mve_bytes(call)]
        # The bundled kernel: three windows of one group, and where the sums of each channel begin.
        sizes.append(_HELIUM_PIXELS * kernel_h * kernel_w * depth + 4 * call.output_shape[3])
    return max(sizes)


def _depthwise_bytes(call: DepthwiseConv2D, core: Core) -> int:
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
        transposed = out_channels * window
        row_ends = (kernel_w + 2 * call.padding[1]) + call.output_shape[2]
        sizes.append(max(_four_int8_columns(window), row_ends) + transposed)
        # The bundled kernel does the same.
        sizes.append(_HELIUM_PIXELS * window + 4 * out_channels + transposed)
    elif core.mve and call.channel_multiplier == 1:
        # The bundled kernel: three words a channel, pointers to the taps, and a pixel of zero points.
        sizes.append(12 * _round_up(channels, 16) + 4 * window + channels)
    return max(sizes)


def scratch_bytes(call: Call, core: Core) -> int:
    """Bytes of `ctx->buf` to plan for a call on a core, also enough for the same C on a host; 0 means NULL.

    On Helium a fully connected call counts the int32 sums of the filter rows (one an output) that Arm's
    kernel reads from `ctx->buf`.
    """
    match call:
        case Conv2D():
            return _conv_bytes(call, core)
        case DepthwiseConv2D():
            return _depthwise_bytes(call, core)
        case FullyConnected():
            return 4 * int(call.weights.shape[0]) if core.mve else 0
        case AvgPool2D():
            return 4 * call.input_shape[3] if core.dsp and not core.mve else 0
        case RowRegion():
            return row_layout(call).bytes
        case _:
            return 0


def useful_scratch_bytes(call: Call, core: Core, kernels: KernelSet) -> int:
    """`ctx->buf` with which the bundled kernel is faster or needs less stack, bytes; 0 where more is no use.

    Never less than `scratch_bytes` where it is not 0.
    """
    if kernels is not KernelSet.FAST or not core.dsp or core.mve:
        return 0
    match call:
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
    is_short = five <= _DSP_STACK_COLUMNS
    is_strip = width == 3 and call.stride[1] == 1 and call.dilation[1] == 1 and channels % 4 == 0
    is_grouped = channels != call.input_shape[3]
    return 0 if is_grouped or (is_strip and not is_short) else five
