"""Random shifts, flips and rotations of a batch, on the device where the batch is."""

from __future__ import annotations

import math

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from qutec.errors import UsageError
from qutec.train.options import Augmentation, Layout

__all__ = ["Augmenter", "image_layout"]

_MOST_CHANNELS = 4
"""Where the graph does not tell, an axis of at most so many elements is taken for channels."""


class Augmenter:
    """Changes batches [batch, *shape] of one layout.

    What is drawn depends on the generator (of host memory) alone, not on the device. Inputs of rank 3 are
    [batch, channels, length]: they can be shifted and flipped along their length.

    Raises:
        UsageError: the rank of the input does not allow what is asked for.
    """

    def __init__(self, augmentation: Augmentation, rank: int, layout: Layout) -> None:
        if augmentation.is_active and rank not in (3, 4):
            raise UsageError(f"inputs of rank {rank} cannot be augmented; images of rank 4 can")
        if augmentation.rotate and rank != 4:
            raise UsageError("only images (inputs of rank 4) can be rotated")
        self._augmentation = augmentation
        self._channels_last = rank == 4 and layout is Layout.NHWC
        self._rank = rank

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The batch changed, each sample on its own; float in, float out, same shape."""
        chosen = self._augmentation
        if not chosen.is_active:
            return x
        image = x.movedim(-1, 1) if self._channels_last else x
        if self._rank == 3:
            image = image.unsqueeze(2)
        if chosen.rotate:
            image = _rotated(image, chosen.rotate, generator)
        if chosen.shift:
            image = _shifted(image, chosen.shift, generator)
        if chosen.flip:
            turned = torch.rand(len(image), generator=generator) < 0.5
            image = torch.where(turned.to(image.device)[:, None, None, None], image.flip(-1), image)
        if self._rank == 3:
            image = image.squeeze(2)
        return (image.movedim(1, -1) if self._channels_last else image).contiguous()


def image_layout(model: ir.Model, chosen: Layout) -> Layout:
    """The layout of the first input: as chosen, else as its consumers show, else by the number of channels.

    A convolution reads NCHW; a Transpose to (0, 3, 1, 2) says that NHWC comes in.
    """
    value = next(value for value in model.graph.inputs if not value.is_initializer())
    if chosen is not Layout.AUTO:
        return chosen
    lengths = [] if value.shape is None else list(value.shape)
    while True:
        nodes = [use.node for use in value.uses()]
        operators = {node.op_type for node in nodes}
        if operators & {"Conv", "MaxPool", "AveragePool", "BatchNormalization"}:
            return Layout.NCHW
        if "Transpose" in operators:
            perms = [list(n.attributes.get_ints("perm", ())) for n in nodes if n.op_type == "Transpose"]
            return Layout.NHWC if [0, 3, 1, 2] in perms else Layout.NCHW
        if len(nodes) != 1 or operators.isdisjoint({"Add", "Cast", "Div", "Identity", "Mul", "Pad", "Sub"}):
            break
        value = nodes[0].outputs[0]
    if len(lengths) == 4 and isinstance(lengths[3], int) and lengths[3] <= _MOST_CHANNELS and lengths[1] != 1:
        return Layout.NHWC
    return Layout.NCHW


def _shifted(image: Tensor, most: int, generator: torch.Generator) -> Tensor:
    count, channels, height, width = image.shape
    # One-dimensional inputs come as images of height 1, which do not move up or down.
    vertical = most if height > 1 else 0
    offsets = [torch.randint(0, 2 * limit + 1, (count, 1), generator=generator) for limit in (vertical, most)]
    rows = (offsets[0] + torch.arange(height)).to(image.device)
    columns = (offsets[1] + torch.arange(width)).to(image.device)
    padded = functional.pad(image, (most, most, vertical, vertical))
    rows = rows[:, None, :, None].expand(-1, channels, -1, padded.shape[3])
    columns = columns[:, None, None, :].expand(-1, channels, height, -1)
    return padded.gather(2, rows).gather(3, columns)


def _rotated(image: Tensor, most_degrees: float, generator: torch.Generator) -> Tensor:
    """Bilinear rotation about the centre of the image, by up to so many degrees either way."""
    count, _, height, width = image.shape
    angle = (2 * torch.rand(count, generator=generator) - 1) * math.radians(most_degrees)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros(count)
    # affine_grid measures both axes in -1..1: the ratio keeps the angle right where height is not width.
    ratio = height / width
    matrix = torch.stack([cosine, -sine * ratio, zero, sine / ratio, cosine, zero], dim=1).view(count, 2, 3)
    grid = functional.affine_grid(matrix.to(image), list(image.shape), align_corners=False)
    return functional.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
