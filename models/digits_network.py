"""The demo network in torch: definition, training recipe and ONNX export.

    image 1x8x8 - stem - separable 16, residual -+- separable 24, /2 -+- separable 24, residual - separable 32
                                                 |                    |                             |
                                              exit_1                exit_2                        final

Every convolution is followed by batch normalisation and ReLU; blocks are depthwise-separable (Howard et
al. 2017). An exit is average pool, dense, softmax. All exits train jointly from scratch, as in BranchyNet
(Teerapittayanon et al. 2016). Seeded and single-threaded: repeated on one machine, it gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime
import torch
from onnx_ir.passes import common
from onnxscript import optimizer
from torch import Tensor, nn

from models.digits import CLASSES, Digits

__all__ = ["EXITS", "DigitsNet", "export", "onnx_accuracy", "parameters", "train"]

EXITS = ("exit_1", "exit_2", "final")

_SEED = 7
_EPOCHS = 60
_BATCH = 64
_LEARNING_RATE = 1e-2
_EXIT_WEIGHTS = (0.5, 0.75, 1.0)
"""The deeper the exit, the more it shapes the shared trunk."""
_OPSET = 18


class DigitsNet(nn.Module):
    """Early-exit classifier: images NCHW [n, 1, 8, 8] in 0..1 to one row of 10 logits per exit."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.block_1 = _Separable(16, 16, stride=1)
        self.block_2 = _Separable(16, 24, stride=2)
        self.block_3 = nn.Sequential(_Separable(24, 24, stride=1), _Separable(24, 32, stride=1))
        self.exit_1 = _exit_head(channels=16, pool=4, positions=4)
        self.exit_2 = _exit_head(channels=24, pool=2, positions=4)
        self.final = _exit_head(channels=32, pool=4, positions=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [n, 10] of exit_1, exit_2 and final."""
        early = self.block_1(self.stem(image))
        middle = self.block_2(early)
        late = self.block_3(middle)
        return self.exit_1(early), self.exit_2(middle), self.final(late)


class _Separable(nn.Module):
    """Depthwise 3x3 then pointwise convolution, added to the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def _exit_head(channels: int, pool: int, positions: int) -> nn.Sequential:
    features = channels * positions
    return nn.Sequential(nn.AvgPool2d(pool), _Flatten(features), nn.Linear(features, CLASSES))


class _Flatten(nn.Module):
    """nn.Flatten for a known size, which exports without computing the shape of the batch in the graph."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.features)


class _WithSoftmax(nn.Module):
    """What is exported: probabilities instead of logits."""

    def __init__(self, network: DigitsNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.softmax(logits, dim=1) for logits in self.network(image))


def parameters(network: DigitsNet) -> int:
    """Number of trained parameters, batch normalisation's scale and bias included."""
    return sum(p.numel() for p in network.parameters())


def train(digits: Digits) -> DigitsNet:
    """Train on the training part for 60 epochs (seconds on a CPU); return the network in evaluation mode.

    Adam with a one-cycle learning rate, shifts of up to one pixel, the weighted sum of the exits' cross
    entropies. The test part is not looked at.
    """
    torch.manual_seed(_SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    images, labels = torch.from_numpy(digits.x_train), torch.from_numpy(digits.y_train)
    network = DigitsNet()
    adam = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    # The last, incomplete batch is dropped: batch statistics of a few images would disturb the running ones.
    steps = len(labels) // _BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, _LEARNING_RATE, total_steps=_EPOCHS * steps)
    network.train()
    for _ in range(_EPOCHS):
        order = torch.randperm(len(labels))
        for batch in order[: steps * _BATCH].view(steps, _BATCH):
            loss = _joint_loss(network(_shifted(images[batch])), labels[batch])
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
    network.eval()
    return network


def _joint_loss(logits: tuple[Tensor, ...], labels: Tensor) -> Tensor:
    losses = [nn.functional.cross_entropy(rows, labels) for rows in logits]
    return sum((w * loss for w, loss in zip(_EXIT_WEIGHTS, losses, strict=True)), start=torch.zeros(()))


def _shifted(images: Tensor) -> Tensor:
    """Each image [n, 1, 8, 8] moved by -1, 0 or 1 pixels in both directions; what enters is 0."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    rows = torch.randint(0, 3, (count, 1, 1)) + torch.arange(height)[:, None]
    columns = torch.randint(0, 3, (count, 1, 1)) + torch.arange(width)
    return padded[torch.arange(count)[:, None, None], 0, rows, columns][:, None]


def export(network: DigitsNet, path: Path) -> None:
    """Write the network as ONNX: input `image` [batch, 1, 8, 8], outputs exit_1, exit_2, final [batch, 10].

    Batch normalisation stays as nodes: folding it is the compiler's work. Names and traces that the
    exporter takes from the machine are removed, so that the file depends on the weights only.
    """
    # optimize=True would fold batch normalisation away; below, only constants are folded.
    exported = torch.onnx.export(
        _WithSoftmax(network).eval(),
        (torch.zeros(2, 1, 8, 8),),
        input_names=["image"],
        output_names=list(EXITS),
        opset_version=_OPSET,
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    assert exported is not None
    model = exported.model
    optimizer.fold_constants_ir(model, onnx_shape_inference=True)
    common.RemoveUnusedNodesPass()(model)
    common.DeduplicateInitializersPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    model.producer_version = torch.__version__.partition("+")[0]
    for value in _values(model.graph):
        value.metadata_props.clear()
    ir.save(model, path)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def onnx_accuracy(
    path: Path, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> dict[str, float]:
    """Share of images [n, 1, 8, 8] that each exit of the exported model gets right, by ONNX Runtime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = session.run(EXITS, {"image": images})
    return {
        name: float(np.mean(np.argmax(probabilities, axis=1) == labels))
        for name, probabilities in zip(EXITS, outputs, strict=True)
    }
