"""What the definitions in torch share: layers that export without shape arithmetic, and the export itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir
import torch
from onnx_ir.passes import common
from onnxscript import optimizer
from torch import Tensor, nn

__all__ = ["INPUT", "OUTPUT", "GlobalAverage", "convolution", "export_classifier", "parameters"]

INPUT = "image"
"""Name of the input of every exported network."""

OUTPUT = "probabilities"
"""Name of its output [batch, classes]."""

_OPSET = 18


class GlobalAverage(nn.Module):
    """Mean over height and width: [n, c, h, w] to [n, c]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.mean(x, dim=(2, 3))


def convolution(
    inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, *, groups: int = 1
) -> list[nn.Module]:
    """Convolution without bias and its batch normalisation; odd kernels keep the size over the stride."""
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    return [
        nn.Conv2d(
            inputs,
            outputs,
            (height, width),
            stride=stride,
            padding=(height // 2, width // 2),
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(outputs),
    ]


def parameters(network: nn.Module) -> int:
    """Number of trained parameters, batch normalisation's scale and bias included."""
    return sum(p.numel() for p in network.parameters())


class _WithSoftmax(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return torch.softmax(self.network(image), dim=1)


def export_classifier(network: nn.Module, shape: tuple[int, int, int], path: Path) -> None:
    """Write a network as ONNX: `image` [batch, *shape] (NCHW) to `probabilities` [batch, classes].

    Batch normalisation stays as nodes, so that the graph can be trained; folding it is the compiler's work.
    Names and traces that the exporter takes from the machine are removed: the file depends on the weights.
    The network is left in the mode that it was in.
    """
    was_training = network.training
    # optimize=True would fold batch normalisation away; below, only constants are folded.
    exported = torch.onnx.export(
        _WithSoftmax(network).eval(),
        (torch.zeros(2, *shape),),
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=_OPSET,
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    network.train(was_training)
    assert exported is not None
    model = exported.model
    optimizer.fold_constants_ir(model, onnx_shape_inference=True)
    common.RemoveUnusedNodesPass()(model)
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
