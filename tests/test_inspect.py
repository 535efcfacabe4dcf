"""The figures of `inspect_model` against published ones, hand counts and exports that cannot be compiled."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from qutec.errors import ModelError, UsageError
from qutec.inspect import format_inspection, inspect_model

_SHARED = Path(os.environ.get("QUTEC_SHARED", Path(__file__).parents[2] / "shared"))
_MANIFEST = _SHARED / "models" / "MANIFEST.md"


@dataclass(frozen=True)
class _Published:
    file: str
    macs_by_output: dict[str, float]
    parameters: int


def _published() -> list[_Published]:
    """The table of the reference networks' manifest."""
    rows = []
    for line in _MANIFEST.read_text().splitlines() if _MANIFEST.is_file() else ():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 6 and cells[0].endswith(".onnx"):
            macs = {name: float(value) for name, value in re.findall(r"(\w+) ([\d.]+)M", cells[3])}
            rows.append(_Published(cells[0], macs, int(cells[4])))
    return rows


@pytest.mark.skipif(not _published(), reason=f"no reference networks under {_SHARED} (set QUTEC_SHARED)")
@pytest.mark.parametrize("expected", _published(), ids=lambda row: row.file)
def test_reference_networks_have_their_published_macs_and_parameters(expected: _Published) -> None:
    found = inspect_model(_SHARED / "models" / expected.file)
    assert found.parameters == expected.parameters
    assert found.unsupported == ()
    exits = {item.name: item for item in found.exits}
    assert set(exits) == {name for name in expected.macs_by_output if name != "ev_features"}
    for name, item in exits.items():
        assert item.depth_macs == pytest.approx(expected.macs_by_output[name] * 1e6, abs=500)
        assert item.classes in (10, 12)
    assert found.macs >= max(item.depth_macs for item in found.exits)


def _two_exits() -> onnx.ModelProto:
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2, 6, 6] x) => (float[N, 3] early, float[N, 4, 1, 1] features, float[N, 5] final) {
            c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w1, b1)
            r = Relu (c)
            p = GlobalAveragePool (r)
            f = Flatten (p)
            early = Gemm (f, w2)
            d = Conv <kernel_shape = [3, 3], group = 4> (r, w3)
            features = GlobalAveragePool (d)
            h = Flatten (features)
            m = MatMul (h, w4)
            a = Add (m, b4)
            final = Softmax <axis = 1> (a)
        }"""
    )
    shapes = {"w1": (4, 2, 3, 3), "b1": (4,), "w2": (4, 3), "w3": (4, 1, 3, 3), "w4": (4, 5), "b4": (5,)}
    for name, shape in shapes.items():
        model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    return model


def test_hand_counted_network() -> None:
    found = inspect_model(_two_exits())
    first, second = 6 * 6 * 4 * 2 * 9, 4 * 4 * 4 * 9
    assert [(e.name, e.depth_macs, e.classes) for e in found.exits] == [
        ("early", first + 4 * 3, 3),
        ("final", first + second + 4 * 5, 5),
    ]
    assert found.macs == first + 4 * 3 + second + 4 * 5
    assert found.parameters == 72 + 4 + 12 + 36 + 20 + 5
    assert found.arena_lower_bound_bytes == max(2 * 36 + 4 * 36, 4 * 36 + 4 * 16)
    by_op = {(layer.op, layer.output_shape): layer for layer in found.layers}
    assert by_op["Conv", (1, 4, 6, 6)].parameters == 76
    assert by_op["Conv", (1, 4, 4, 4)].macs == second
    assert [value.shape for value in found.inputs] == [(1, 2, 6, 6)]
    assert [value.name for value in found.outputs] == ["early", "features", "final"]


def test_shared_weights_are_counted_once_and_computed_twice() -> None:
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 4] x) => (float[1, 4] y) { h = MatMul (x, w)  y = MatMul (h, w) }"""
    )
    model.graph.initializer.append(numpy_helper.from_array(np.ones((4, 4), np.float32), "w"))
    found = inspect_model(model)
    assert (found.parameters, found.macs) == (16, 32)


def test_unsupported_operators_are_reported_with_what_is_known() -> None:
    model = _two_exits()
    model.opset_import.append(helper.make_opsetid("com.acme", 1))
    model.graph.node.append(helper.make_node("Frobnicate", ["final"], ["z"], "acme", domain="com.acme"))
    model.graph.node.append(helper.make_node("NonZero", ["features"], ["nz"], "nz1"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    model.graph.output.append(helper.make_tensor_value_info("nz", TensorProto.INT64, None))
    found = inspect_model(model)
    assert found.unsupported == ("NonZero", "com.acme.Frobnicate")
    assert {node.node for node in found.unsupported_nodes} == {"'acme'", "'nz1'"}
    assert found.macs == inspect_model(_two_exits()).macs
    assert found.warnings
    text = format_inspection(found)
    assert "NonZero (node 'nz1')" in text


def test_json_has_the_promised_fields_and_plain_types() -> None:
    found = json.loads(json.dumps(inspect_model(_two_exits()).to_json()))
    promised = {"inputs", "outputs", "exits", "parameters", "macs", "unsupported", "arena_lower_bound_bytes"}
    assert promised <= set(found)
    assert {"name", "depth_macs", "classes"} <= set(found["exits"][0])
    assert found["inputs"] == [{"name": "x", "shape": [1, 2, 6, 6], "dtype": "float"}]


def test_exits_have_a_branch_point_and_a_head_on_a_trunk() -> None:
    found = inspect_model(_two_exits())
    assert found.trunk is not None
    assert (found.trunk.end, found.trunk.macs) == ("d", found.exits[1].branch_macs)
    assert found.trunk.places == ("r", "d")
    early, final = found.exits
    assert (early.kind, early.branch, early.branch_macs, early.inside_block) == (
        "early_exit",
        "r",
        2592,
        False,
    )
    assert (final.kind, final.branch) == ("final", "d")
    assert [final.head.dense, final.head.softmax] == [final.head.nodes[2], final.head.nodes[4]]
    assert (early.head.learning_layer, early.head.softmax, early.head.macs) == (None, None, 12)


def test_an_output_is_what_the_user_says() -> None:
    assert [e.name for e in inspect_model(_two_exits(), {"early": "aux"}).exits] == ["final"]
    with pytest.raises(UsageError, match="'nothing' is not an output"):
        inspect_model(_two_exits(), {"nothing": "exit"})


def test_text_shows_layers_exits_and_totals() -> None:
    text = format_inspection(inspect_model(_two_exits()))
    assert re.search(r"exit\s+early\s+2,604 MACs", text)
    assert "Conv" in text
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_invalid_sources_raise_as_in_load(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        inspect_model(tmp_path / "nothing.onnx")
    with pytest.raises(ModelError):
        inspect_model(b"not a model")
