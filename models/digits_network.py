"""The demo network in torch: its definition, and the way to a trained QUTE network.

    image 1x8x8 - conv 16 - separable 16, residual - separable 24, /2 - separable 24, residual - separable 32
        - global average - dense

Every convolution is followed by batch normalisation and ReLU; blocks are depthwise-separable (Howard et
al. 2017). Two early exits and two early views are attached, and all of it is trained together with weight
transfer (Ghanathe & Wilton, "QUTE", arXiv 2404.12599). Early views are linear, so they fold away.
Seeded, on one thread of the CPU: repeated on one machine, it gives the same bytes.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy.typing as npt
import torch
from torch import Tensor, nn

from models._export import GlobalAverage, Shape, convolution, export_classifier, parameters
from models._recipe import DIGITS
from models.digits import CLASSES, Digits
from qutec.attach import attach
from qutec.train import Progress, TrainingResult, train

__all__ = ["RECIPE", "SHAPE", "DigitsNet", "export", "train_heads"]

SHAPE: Shape = (1, 8, 8)
"""Channels, height and width of the input."""

RECIPE = DIGITS


class DigitsNet(nn.Module):
    """Classifier: images NCHW [n, 1, 8, 8] in 0..1 to logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *convolution(SHAPE[0], 16, (3, 3)),
            nn.ReLU(),
            _Separable(16, 16, stride=1),
            _Separable(16, 24, stride=2),
            _Separable(24, 24, stride=1),
            _Separable(24, 32, stride=1),
        )
        self.final = nn.Sequential(GlobalAverage(), nn.Linear(32, CLASSES))

    def forward(self, image: Tensor) -> Tensor:
        """Logits [n, 10]."""
        logits: Tensor = self.final(self.trunk(image))
        return logits


class _Separable(nn.Module):
    """Depthwise 3x3 then pointwise convolution, added to the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            *convolution(inputs, inputs, (3, 3), stride, groups=inputs),
            nn.ReLU(),
            *convolution(inputs, outputs, (1, 1)),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def export(path: Path, *, seed: int = 0) -> int:
    """Write the untrained network with seeded weights as ONNX (see `export_classifier`); its parameters."""
    torch.manual_seed(seed)
    network = DigitsNet()
    export_classifier(network, SHAPE, path)
    return parameters(network)


def train_heads(
    digits: Digits, *, seed: int, epochs: int | None = None, progress: Progress | None = None
) -> TrainingResult:
    """Export, attach early exits and early views, and train on the training part by the recipe.

    The validation part is measured after each epoch, the test part is not looked at.
    """
    data: dict[str, npt.ArrayLike] = {
        "x_train": digits.x_train,
        "y_train": digits.y_train,
        "x_val": digits.x_val,
        "y_val": digits.y_val,
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order are other bytes
    try:
        with tempfile.TemporaryDirectory() as folder:
            untrained = Path(folder) / "untrained.onnx"
            export(untrained, seed=seed)
            graph = attach(untrained, heads=RECIPE.heads, seed=seed)
        options = replace(RECIPE.options(seed=seed, epochs=epochs), device="cpu")
        return train(graph.model, data, options, progress=progress)
    finally:
        torch.set_num_threads(threads)
