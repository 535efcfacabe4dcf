"""Exit analysis and attachment on graphs that torch's exporters made (extra `train`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import qutec
from qutec.passes.find_exits import find_exits
from tests.onnx_models import run

torch = pytest.importorskip("torch", reason="torch is not installed (extra train)")
pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra train)")

from tests.passes import torch_networks as networks  # noqa: E402 (needs torch)


@dataclass(frozen=True)
class _Case:
    make: Callable[[], torch.nn.Module]
    shape: tuple[int, ...]
    outputs: tuple[str, ...]
    order: tuple[str, ...]
    """The exits by depth."""
    inside: tuple[str, ...]
    places: int
    """Block boundaries of the trunk, its end included."""


_CASES = {
    "residual": _Case(
        networks.ResidualNetwork,
        (3, 16, 16),
        ("alpha", "beta", "gamma", "features"),
        ("gamma", "beta", "alpha"),
        ("beta",),
        4,
    ),
    "shared head": _Case(
        networks.SharedHeadNetwork, (3, 16, 16), ("one", "two", "last"), ("one", "two", "last"), (), 4
    ),
    "mobile": _Case(networks.MobileNetwork, (3, 32, 32), ("early", "final"), ("early", "final"), (), 5),
    "audio": _Case(networks.AudioNetwork, (4, 64), ("z", "a"), ("a", "z"), (), 3),
}


@pytest.mark.parametrize("dynamo", [True, False], ids=["torch.export", "TorchScript"])
@pytest.mark.parametrize("name", _CASES)
@pytest.mark.filterwarnings("ignore")
def test_exits_are_found_and_heads_attached(name: str, dynamo: bool) -> None:
    case = _CASES[name]
    source = networks.export(case.make(), case.shape, case.outputs, dynamo=dynamo)
    found = find_exits(qutec.load(source, simplify=False).model)
    assert [item.name for item in found.exits] == list(case.order)
    assert [item.name for item in found.exits if item.inside_block] == list(case.inside)
    assert len([place for place in found.places if not place.inner]) == case.places
    assert [value.name for value in found.auxiliary] == [n for n in case.outputs if n not in case.order]

    graph = qutec.attach(source, heads=2)
    assert {(head.kind, head.index) for head in graph.heads} >= {("early_view", 1), ("early_view", 2)}
    # No exit of these networks has a depthwise layer of its own: "shared head" has one for two.
    assert sum(head.depthwise_weights is not None for head in graph.heads) == 4
    assert {head.output for head in graph.heads} >= {"early_exit_1", "early_exit_2"}
    x = np.random.default_rng(0).standard_normal((7, *case.shape)).astype(np.float32)
    trained = ir.to_proto(graph.model)
    assert isinstance(trained, onnx.ModelProto)
    onnx.checker.check_model(trained, full_check=True)
    input_name = trained.graph.input[0].name
    together = run(trained, **{input_name: x})
    original = onnx.ModelProto.FromString(source)
    for row in range(7):
        expected = run(original, **{input_name: x[row : row + 1]})
        for value, reference in zip(together, expected, strict=False):
            np.testing.assert_allclose(value[row : row + 1], reference, rtol=1e-4, atol=1e-5)
