"""DS-CNN for keywords (Zhang et al., "Hello Edge", 2017; small), as in MLPerf Tiny, in torch.

    MFCC 1x49x10 - conv 10x4, 64, /2 - 4 x (depthwise 3x3 - pointwise 64) - global average - dense

Every convolution is followed by batch normalisation and ReLU. The first pads by 5 frames and 1 coefficient on
both sides, where TensorFlow pads by 4 and 5 frames; feature maps are 25x5 either way.
`python -m models.dscnn` writes the untrained network.
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
from models._recipe import DSCNN

__all__ = ["CLASSES", "RECIPE", "SHAPE", "DsCnn", "export", "main"]

CLASSES = 12
"""MLPerf Tiny's: ten words, silence and unknown. The paper has the ten words only."""

SHAPE: Shape = (1, 49, 10)
"""One channel, frames, coefficients."""

RECIPE = DSCNN

_CHANNELS = 64
_LAYERS = 4


class DsCnn(nn.Module):
    """Classifier: MFCC [n, 1, 49, 10] to logits [n, classes]."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        layers = [*convolution(SHAPE[0], _CHANNELS, (10, 4), 2, padding=(5, 1)), nn.ReLU()]
        for _ in range(_LAYERS):
            layers += [*convolution(_CHANNELS, _CHANNELS, (3, 3), groups=_CHANNELS), nn.ReLU()]
            layers += [*convolution(_CHANNELS, _CHANNELS, (1, 1)), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.final = nn.Sequential(GlobalAverage(), nn.Linear(_CHANNELS, classes))

    def forward(self, features: Tensor) -> Tensor:
        """Logits [n, classes]."""
        logits: Tensor = self.final(self.trunk(features))
        return logits


def export(path: Path, *, seed: int = 0, classes: int = CLASSES) -> int:
    """Write the untrained network with seeded weights as ONNX (see `export_classifier`); its parameters."""
    torch.manual_seed(seed)
    network = DsCnn(classes)
    export_classifier(network, SHAPE, path)
    return parameters(network)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and export."""
    export_command("dscnn", "DS-CNN for keywords", DsCnn, SHAPE, arguments)


if __name__ == "__main__":
    main()
