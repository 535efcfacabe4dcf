"""Multi-exit networks in torch, exported to ONNX in memory: graphs as a user's own script makes them."""

from __future__ import annotations

import io
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def export(network: nn.Module, shape: Sequence[int], outputs: Sequence[str], *, dynamo: bool) -> bytes:
    """The ONNX file of a network in evaluation mode, by the newer or the older exporter of torch."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -0.3, 0.3)
    example = (torch.zeros(1, *shape),)
    if dynamo:
        program = torch.onnx.export(
            network.eval(), example, output_names=list(outputs), dynamo=True, optimize=True, verbose=False
        )
        assert program is not None
        data: bytes = program.model_proto.SerializeToString()
        return data
    buffer = io.BytesIO()
    torch.onnx.export(
        network.eval(), example, buffer, output_names=list(outputs), dynamo=False, opset_version=17
    )
    return buffer.getvalue()


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Conv, batch normalisation, ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


class Head(nn.Module):
    """Adaptive average pool, flatten, linear."""

    def __init__(self, channels: int, classes: int = 10) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))
        return y


class ResidualNetwork(nn.Module):
    """Three residual blocks; exits inside the second and after the first; the final one is returned first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8)
        self.first = nn.ModuleList([conv(8, 8) for _ in range(3)])
        self.second = nn.ModuleList([conv(8, 8) for _ in range(3)])
        self.heads = nn.ModuleList([Head(8) for _ in range(3)])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        taps = []
        for first, second in zip(self.first, self.second, strict=True):
            inner = first(x)
            x = torch.relu(x + second(inner))
            taps.append((inner, x))
        return (
            self.heads[2](taps[2][1]),
            torch.softmax(self.heads[1](taps[1][0]), dim=1),
            torch.softmax(self.heads[0](taps[0][1]), dim=-1),
            taps[2][1].mean(dim=(2, 3)),
        )


class SharedHeadNetwork(nn.Module):
    """Two early exits through one and the same depthwise layer and linear layer, then the final exit."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([conv(3, 8), conv(8, 8), conv(8, 8), conv(8, 16)])
        self.shared = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.ReLU(), Head(8))
        self.final = Head(16)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        first = self.blocks[0](x)
        second = self.blocks[1](first)
        last = self.blocks[3](self.blocks[2](second))
        return self.shared(first), self.shared(second), self.final(last)


class MobileNetwork(nn.Module):
    """Inverted residuals as MobileNetV2, ReLU6, one early exit between two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8, stride=2)
        self.first = _Inverted(8, 12, stride=2)
        self.second = _Inverted(12, 12, stride=1)
        self.third = _Inverted(12, 16, stride=1)
        self.last = conv(16, 24, kernel=1)
        self.early, self.final = Head(12), Head(24)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        early = self.second(self.first(self.stem(x)))
        return self.early(early), self.final(self.last(self.third(early)))


class _Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = 4 * inputs
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class AudioNetwork(nn.Module):
    """One-dimensional convolutions over [batch, 4, 64] with max pools; logits of two exits."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv1d(4, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2)
        )
        self.second = nn.Sequential(nn.Conv1d(8, 12, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2))
        self.third = nn.Sequential(nn.Conv1d(12, 16, 3, padding=1), nn.ReLU())
        self.early, self.final = nn.Linear(8 * 32, 6), nn.Linear(16 * 16, 6)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        first = self.first(x)
        last = self.third(self.second(first))
        return self.final(last.flatten(1)), self.early(first.flatten(1))
