"""ResNet-8 of MLPerf Tiny for CIFAR-10 (Banbury et al. 2021; He et al. 2016), in torch.

    image 3x32x32 - conv 16 - stack 16 - stack 32, /2 - stack 64, /2 - global average - dense

A stack is two 3x3 convolutions added to its input, which passes through a 1x1 convolution with bias where
the shape changes. 3x3 convolutions have batch normalisation and no biases, which it would make idle (MLPerf
has both); those with stride pad on both sides, where TensorFlow pads after the last row and column.
`python -m models.resnet8` writes the untrained network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models._export import (
    GlobalAverage,
    Shape,
    convolution,
    export_classifier,
    export_command,
    parameters,
)
from models._recipe import RESNET8

__all__ = ["CLASSES", "RECIPE", "SHAPE", "ResNet8", "export", "main"]

CLASSES = 10
SHAPE: Shape = (3, 32, 32)
"""Channels, height and width of the input."""

RECIPE = RESNET8

_CHANNELS = (16, 32, 64)


class ResNet8(nn.Module):
    """Classifier: images NCHW [n, 3, 32, 32] to logits [n, classes]."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        layers: list[nn.Module] = [*convolution(SHAPE[0], _CHANNELS[0], (3, 3)), nn.ReLU()]
        inputs = _CHANNELS[0]
        for outputs in _CHANNELS:
            layers.append(_Stack(inputs, outputs))
            inputs = outputs
        self.trunk = nn.Sequential(*layers)
        self.final = nn.Sequential(GlobalAverage(), nn.Linear(inputs, classes))

    def forward(self, image: Tensor) -> Tensor:
        """Logits [n, classes]."""
        logits: Tensor = self.final(self.trunk(image))
        return logits


class _Stack(nn.Module):
    """Two convolutions and the addition; the size is halved where the channels change."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.layers = nn.Sequential(
            *convolution(inputs, outputs, (3, 3), stride),
            nn.ReLU(),
            *convolution(outputs, outputs, (3, 3)),
        )
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride=stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.layers(x) + self.shortcut(x))
        return y


def export(path: Path, *, seed: int = 0, classes: int = CLASSES) -> int:
    """Write the untrained network with seeded weights as ONNX (see `export_classifier`); its parameters."""
    torch.manual_seed(seed)
    network = ResNet8(classes)
    export_classifier(network, SHAPE, path)
    return parameters(network)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and export."""
    export_command("resnet8", "ResNet-8 for CIFAR-10", ResNet8, SHAPE, arguments)


if __name__ == "__main__":
    main()
