"""Kernel calls that slide a window over an NHWC map: convolutions and pools."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qutec.program.kernel_call import Indices, SingleInputCall
from qutec.program.tensors import Int8Array, Int32Array, Pair, Shape

__all__ = ["AvgPool2D", "Conv2D", "DepthwiseConv2D", "MaxPool2D"]


@dataclass(frozen=True, eq=False)
class _Windowed(SingleInputCall):
    """A kernel that slides over an NHWC map."""

    input_shape: Shape
    output_shape: Shape

    def read_region(self, k: int) -> Indices:
        """The whole input map."""
        return np.arange(math.prod(self.input_shape))

    def written_region(self, k: int = 0) -> Indices:
        """The whole output map."""
        return np.arange(math.prod(self.output_shape))


@dataclass(frozen=True, eq=False)
class Conv2D(_Windowed):
    """`arm_convolve_wrapper_s8`: convolution, grouped where `weights` has fewer channels than the input.

    weights [O, KH, KW, I / groups]; bias, multiplier and shift [O]. Padding is that of the top and the
    left; at the bottom and the right the output shape decides. The accumulator is
    bias + sum (x + input_offset) * w, requantised per channel, plus output_offset, clamped.
    """

    weights: Int8Array
    bias: Int32Array
    multiplier: Int32Array
    shift: Int32Array
    stride: Pair
    padding: Pair
    dilation: Pair
    input_offset: int
    output_offset: int
    activation_min: int
    activation_max: int

    @property
    def macs(self) -> int:
        """One for each weight and output pixel."""
        _, height, width, _ = self.output_shape
        return height * width * int(self.weights.size)


@dataclass(frozen=True, eq=False)
class DepthwiseConv2D(_Windowed):
    """`arm_depthwise_conv_wrapper_s8`: each input channel gives `channel_multiplier` output channels.

    weights [KH, KW, C * channel_multiplier], output channel c * channel_multiplier + m; bias,
    multiplier and shift [C * channel_multiplier]. Arithmetic as Conv2D.
    """

    weights: Int8Array
    bias: Int32Array
    multiplier: Int32Array
    shift: Int32Array
    channel_multiplier: int
    stride: Pair
    padding: Pair
    dilation: Pair
    input_offset: int
    output_offset: int
    activation_min: int
    activation_max: int

    @property
    def macs(self) -> int:
        """One for each weight and output pixel."""
        _, height, width, _ = self.output_shape
        return height * width * int(self.weights.size)


@dataclass(frozen=True, eq=False)
class AvgPool2D(_Windowed):
    """`arm_avgpool_s8`: mean over the valid pixels of the window, rounded half away from zero."""

    kernel: Pair
    stride: Pair
    padding: Pair
    activation_min: int
    activation_max: int


@dataclass(frozen=True, eq=False)
class MaxPool2D(_Windowed):
    """`arm_max_pool_s8`: maximum over the valid pixels of the window."""

    kernel: Pair
    stride: Pair
    padding: Pair
    activation_min: int
    activation_max: int
