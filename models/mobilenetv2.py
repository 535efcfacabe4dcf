"""MobileNetV2 (Sandler et al. 2018, table 2) in torch, of any width and resolution.

    image 3xRxR - conv, /2 - 17 inverted residuals - pointwise 1280 - global average - dense

Channels are multiplied by the width and rounded to a multiple of 8, never by more than 10 % down; the 1280
only grow. The classifier has no dropout. Defaults are for TinyImageNet.
`python -m models.mobilenetv2` writes the untrained network.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models._export import GlobalAverage, convolution, export_classifier, parameters
from models._recipe import MOBILENETV2

__all__ = ["CLASSES", "RECIPE", "RESOLUTION", "WIDTH", "MobileNetV2", "export", "main"]

CLASSES = 200
RESOLUTION = 64
WIDTH = 1.0

RECIPE = MOBILENETV2

_MULTIPLE = 8
_STEM_CHANNELS = 32
_LAST_CHANNELS = 1280


@dataclass(frozen=True)
class _Group:
    """A row of table 2: expansion factor t, channels c, repetitions n, stride s of the first."""

    expansion: int
    channels: int
    repetitions: int
    stride: int


_GROUPS = (
    _Group(1, 16, 1, 1),
    _Group(6, 24, 2, 2),
    _Group(6, 32, 3, 2),
    _Group(6, 64, 4, 2),
    _Group(6, 96, 3, 1),
    _Group(6, 160, 3, 2),
    _Group(6, 320, 1, 1),
)


class MobileNetV2(nn.Module):
    """Classifier: images NCHW [n, 3, resolution, resolution] to logits [n, classes].

    The weights do not depend on the resolution; maps of an odd size are rounded up when they are halved.
    """

    def __init__(self, classes: int = CLASSES, width: float = WIDTH) -> None:
        super().__init__()
        inputs = _scaled(_STEM_CHANNELS, width)
        layers: list[nn.Module] = [*convolution(3, inputs, (3, 3), 2), nn.ReLU6()]
        for group in _GROUPS:
            outputs = _scaled(group.channels, width)
            for repetition in range(group.repetitions):
                stride = group.stride if repetition == 0 else 1
                layers.append(_InvertedResidual(inputs, outputs, stride, group.expansion))
                inputs = outputs
        last = _scaled(_LAST_CHANNELS, max(width, 1.0))
        self.trunk = nn.Sequential(*layers, *convolution(inputs, last, (1, 1)), nn.ReLU6())
        self.final = nn.Sequential(GlobalAverage(), nn.Linear(last, classes))

    def forward(self, image: Tensor) -> Tensor:
        """Logits [n, classes]."""
        logits: Tensor = self.final(self.trunk(image))
        return logits


class _InvertedResidual(nn.Module):
    """Expansion, depthwise 3x3 and linear projection; added to the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers = [] if expansion == 1 else [*convolution(inputs, hidden, (1, 1)), nn.ReLU6()]
        self.layers = nn.Sequential(
            *layers,
            *convolution(hidden, hidden, (3, 3), stride, groups=hidden),
            nn.ReLU6(),
            *convolution(hidden, outputs, (1, 1)),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def _scaled(channels: int, width: float) -> int:
    wanted = channels * width
    rounded = max(_MULTIPLE, int(wanted + _MULTIPLE / 2) // _MULTIPLE * _MULTIPLE)
    return rounded + _MULTIPLE if rounded < 0.9 * wanted else rounded


def export(
    path: Path,
    *,
    seed: int = 0,
    classes: int = CLASSES,
    width: float = WIDTH,
    resolution: int = RESOLUTION,
) -> int:
    """Write the untrained network with seeded weights as ONNX (see `export_classifier`); its parameters.

    Input [batch, 3, resolution, resolution].
    """
    torch.manual_seed(seed)
    network = MobileNetV2(classes, width)
    export_classifier(network, (3, resolution, resolution), path)
    return parameters(network)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(prog="python -m models.mobilenetv2", description="MobileNetV2")
    parser.add_argument("output", type=Path, metavar="ONNX", help="where to export to")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights")
    parser.add_argument("--classes", type=int, default=CLASSES)
    parser.add_argument("--width", type=float, default=WIDTH, help="multiplies the channels")
    parser.add_argument("--resolution", type=int, default=RESOLUTION, help="height and width of the input")
    options = parser.parse_args(arguments)
    count = export(
        options.output,
        seed=options.seed,
        classes=options.classes,
        width=options.width,
        resolution=options.resolution,
    )
    print(f"{options.output}: {count:,} parameters")


if __name__ == "__main__":
    main()
