"""Convolution and pooling of ONNX in torch, 1-D to 3-D: tensors are [batch, channels, *spatial]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["average_pool", "convolution", "max_pool"]

_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_AVERAGES = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_MAXIMA = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}


@dataclass(frozen=True)
class _Window:
    """Kernel, strides, dilations and padding of a node for one input size, a number for each spatial axis.

    `extra` is what ceil_mode adds after the last padding; it counts neither as input nor as padding.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    extra: tuple[int, ...]

    @classmethod
    def of(cls, node: ir.Node, size: Sequence[int], kernel: Sequence[int]) -> _Window:
        rank = len(size)
        attributes = node.attributes
        strides = tuple(attributes.get_ints("strides", [1] * rank))
        dilations = tuple(attributes.get_ints("dilations", [1] * rank))
        pads = list(attributes.get_ints("pads", [0] * (2 * rank)))
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        auto_pad = attributes.get_string("auto_pad", "NOTSET")
        if auto_pad.startswith("SAME"):
            total = [
                max((math.ceil(n / s) - 1) * s + r - n, 0)
                for n, s, r in zip(size, strides, reach, strict=True)
            ]
            small, large = [t // 2 for t in total], [t - t // 2 for t in total]
            pads = small + large if auto_pad == "SAME_UPPER" else large + small
        elif auto_pad == "VALID":
            pads = [0] * (2 * rank)
        before, after = tuple(pads[:rank]), tuple(pads[rank:])
        extra = [0] * rank
        if attributes.get_int("ceil_mode", 0) and auto_pad == "NOTSET":
            for axis in range(rank):
                room = size[axis] + before[axis] + after[axis] - reach[axis]
                steps = math.ceil(room / strides[axis])
                # A window that would begin beyond the input and its first padding is left out.
                if steps * strides[axis] >= size[axis] + before[axis]:
                    steps -= 1
                extra[axis] = max(steps * strides[axis] - room, 0)
        return cls(tuple(kernel), strides, dilations, before, after, tuple(extra))

    @property
    def is_padded(self) -> bool:
        return any(self.before) or any(self.after) or any(self.extra)


def convolution(node: ir.Node, x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """Conv; weights [out, in/group, *kernel]."""
    window = _Window.of(node, x.shape[2:], weights.shape[2:])
    group = node.attributes.get_int("group", 1)
    padding = window.before
    if window.before != window.after:
        x = _padded(x, window.before, window.after, 0.0)
        padding = (0,) * len(padding)
    convolve = _CONVOLUTIONS[len(window.kernel)]
    result: Tensor = convolve(x, weights, bias, window.strides, padding, window.dilations, group)
    return result


def max_pool(node: ir.Node, x: Tensor) -> Tensor:
    """MaxPool without indices; padding never wins."""
    window = _Window.of(node, x.shape[2:], node.attributes.get_ints("kernel_shape", ()))
    if window.is_padded:
        x = _padded(x, window.before, _sum(window.after, window.extra), -math.inf)
    pool = _MAXIMA[len(window.kernel)]
    result: Tensor = pool(x, window.kernel, window.strides, 0, window.dilations)
    return result


def average_pool(node: ir.Node, x: Tensor) -> Tensor:
    """AveragePool; with count_include_pad padding counts as zeros, what ceil_mode adds never counts."""
    window = _Window.of(node, x.shape[2:], node.attributes.get_ints("kernel_shape", ()))
    if not window.is_padded:
        return _mean(x, window)
    after = _sum(window.after, window.extra)
    counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    if node.attributes.get_int("count_include_pad", 0):
        counted = _padded(counted, window.before, window.after, 1.0)
        counted = _padded(counted, (0,) * len(after), window.extra, 0.0)
    else:
        counted = _padded(counted, window.before, after, 0.0)
    return _mean(_padded(x, window.before, after, 0.0), window) / _mean(counted, window)


def _mean(x: Tensor, window: _Window) -> Tensor:
    """The mean over each window, where nothing is padded any more."""
    rank = len(window.kernel)
    if all(d == 1 for d in window.dilations):
        result: Tensor = _AVERAGES[rank](x, window.kernel, window.strides)
        return result
    # torch's average pools know no dilation; a depthwise convolution does.
    channels = x.shape[1]
    ones = torch.ones((channels, 1, *window.kernel), dtype=x.dtype, device=x.device)
    total: Tensor = _CONVOLUTIONS[rank](x, ones, None, window.strides, 0, window.dilations, channels)
    return total / math.prod(window.kernel)


def _padded(x: Tensor, before: Sequence[int], after: Sequence[int], value: float) -> Tensor:
    pads: list[int] = []
    for first, last in zip(reversed(before), reversed(after), strict=True):
        pads += [first, last]
    return functional.pad(x, pads, value=value)


def _sum(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))
