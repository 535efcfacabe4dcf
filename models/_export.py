"""What the definitions in torch share: layers that export without shape arithmetic, and the export itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import onnx_ir as ir
import torch
from onnx_ir.passes import common
from onnxscript import optimizer
from torch import Tensor, nn

__all__ = [
    "INPUT",
    "OUTPUT",
    "GlobalAverage",
    "Shape",
    "convolution",
    "export_classifier",
    "export_command",
    "parameters",
]

INPUT = "image"
"""Name of the input of every exported network."""

OUTPUT = "probabilities"
"""Name of its output [batch, classes]."""

Shape: TypeAlias = tuple[int, int, int]
"""Channels, height and width."""

_OPSET = 18


class GlobalAverage(nn.Module):
    """Mean over height and width: [n, c, h, w] to [n, c]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.mean(x, dim=(2, 3))


def convolution(
    inputs: int,
    outputs: int,
    kernel: tuple[int, int],
    stride: int = 1,
    *,
    padding: tuple[int, int] | None = None,
    groups: int = 1,
) -> list[nn.Module]:
    """Convolution without bias and its batch normalisation; by default half the kernel is padded."""
    if padding is None:
        padding = kernel[0] // 2, kernel[1] // 2
    return [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=False),
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


def export_classifier(network: nn.Module, shape: Shape, path: Path) -> None:
    """Write a network as ONNX: `image` [batch, *shape] (NCHW) to `probabilities` [batch, classes].

    Batch normalisation stays as nodes, so that the graph can be trained; folding it is the compiler's work.
    Names and traces that the exporter takes from the machine are removed: the file depends on the weights.
    The outputs of ReLU are named relu_1, relu_2, ... in their order. The network is left in the mode that it
    was in.
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
    _name_places(model.graph)
    ir.save(model, path)


def export_command(
    module: str, what: str, build: Callable[[], nn.Module], shape: Shape, arguments: Sequence[str] | None
) -> None:
    """The command line `python -m models.<module> ONNX [--seed N]`: writes the untrained network."""
    parser = argparse.ArgumentParser(prog=f"python -m models.{module}", description=what)
    parser.add_argument("output", type=Path, metavar="ONNX", help="where to export to")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights")
    options = parser.parse_args(arguments)
    torch.manual_seed(options.seed)
    network = build()
    export_classifier(network, shape, options.output)
    print(f"{options.output}: {parameters(network):,} parameters")


def _name_places(graph: ir.Graph) -> None:
    """Names the outputs of the ReLU nodes relu_1, relu_2, ...: recipes say where exits are by these names."""
    relus = [node for node in graph if node.op_type in ("Relu", "Clip")]
    for number, node in enumerate(relus, 1):
        node.outputs[0].name = f"relu_{number}"


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs
