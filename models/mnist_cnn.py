"""The 4-layer CNN for MNIST in torch, as small as that of Ghanathe & Wilton, "QUTE" (arXiv 2404.12599).

    image 1x28x28 - conv 4, /2 - conv 6, /2 - conv 8 - conv 8 - global average - dense

Every convolution is 3x3, followed by batch normalisation and ReLU: 1,402 parameters.
`python -m models.mnist_cnn` writes the untrained network, which `qutec attach` and `qutec train` go on from.
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
from models._recipe import MNIST_CNN

__all__ = ["CLASSES", "RECIPE", "SHAPE", "MnistCnn", "export", "main"]

CLASSES = 10
SHAPE: Shape = (1, 28, 28)
"""Channels, height and width of the input."""

RECIPE = MNIST_CNN

_LAYERS = ((4, 2), (6, 2), (8, 1), (8, 1))
"""Channels and stride of each convolution."""


class MnistCnn(nn.Module):
    """Classifier: images NCHW [n, 1, 28, 28] in 0..1 to logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = SHAPE[0]
        for outputs, stride in _LAYERS:
            layers += [*convolution(inputs, outputs, (3, 3), stride), nn.ReLU()]
            inputs = outputs
        self.trunk = nn.Sequential(*layers)
        self.final = nn.Sequential(GlobalAverage(), nn.Linear(inputs, CLASSES))

    def forward(self, image: Tensor) -> Tensor:
        """Logits [n, 10]."""
        logits: Tensor = self.final(self.trunk(image))
        return logits


def export(path: Path, *, seed: int = 0) -> int:
    """Write the untrained network with seeded weights as ONNX (see `export_classifier`); its parameters."""
    torch.manual_seed(seed)
    network = MnistCnn()
    export_classifier(network, SHAPE, path)
    return parameters(network)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and export."""
    export_command("mnist_cnn", "4-layer CNN for MNIST", MnistCnn, SHAPE, arguments)


if __name__ == "__main__":
    main()
