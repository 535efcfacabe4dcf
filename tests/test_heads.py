"""Metadata of heads: what is written is read, and what is garbled is refused."""

from __future__ import annotations

import json

import onnx
import onnx_ir as ir
import pytest

from qutec.errors import ModelError
from qutec.heads import METADATA_KEY, Head, read_heads, write_heads
from tests.onnx_models import cnn


def _model(metadata: object = None) -> ir.Model:
    proto = cnn()
    if metadata is not None:
        text = metadata if isinstance(metadata, str) else json.dumps(metadata)
        onnx.helper.set_model_props(proto, {METADATA_KEY: text})
    return ir.from_proto(proto)


def test_heads_come_back_through_a_file(tmp_path: object) -> None:
    heads = (Head("early", "early_exit", 1, "w1", "b1"), Head("final", "final", 0))
    model = _model()
    write_heads(model, heads)
    proto = ir.to_proto(model)
    assert isinstance(proto, onnx.ModelProto)
    again = ir.from_proto(onnx.ModelProto.FromString(proto.SerializeToString()))
    assert read_heads(again) == heads


def test_metadata_is_the_documented_json() -> None:
    model = _model()
    write_heads(model, [Head("early", "early_view", 3, "w")])
    assert json.loads(model.metadata_props[METADATA_KEY]) == [
        {
            "output": "early",
            "kind": "early_view",
            "index": 3,
            "depthwise_weights": "w",
            "depthwise_bias": None,
        }
    ]


def test_no_heads_leave_no_metadata() -> None:
    model = _model([{"output": "final", "kind": "final", "index": 0}])
    write_heads(model, [])
    assert METADATA_KEY not in model.metadata_props
    assert read_heads(model) == ()


_EXIT = {"output": "early", "kind": "early_exit", "index": 1}


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ({}, "not a list"),
        (["early"], "not an object"),
        ([{**_EXIT, "output": "nothing"}], "'nothing' is not an output"),
        ([{**_EXIT, "output": 3}], "no output name"),
        ([{**_EXIT, "kind": "exit"}], "unknown kind 'exit'"),
        ([{**_EXIT, "index": True}], "not a number"),
        ([{**_EXIT, "index": "1"}], "not a number"),
        ([{**_EXIT, "index": 0}], "count from 1"),
        ([{**_EXIT, "kind": "final"}], "count from 1"),
        ([{**_EXIT, "depthwise_bias": 1}], "not an initializer's name"),
        ([_EXIT, _EXIT], "listed twice"),
        ([_EXIT, {**_EXIT, "output": "final"}], "two heads 'early_exit 1'"),
    ],
)
def test_garbled_metadata_is_refused_with_its_reason(metadata: object, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        read_heads(_model(metadata))


def test_heads_of_missing_outputs_are_not_written() -> None:
    model = _model()
    with pytest.raises(ModelError, match="'nothing' is not an output"):
        write_heads(model, [Head("nothing", "final", 0)])
    assert METADATA_KEY not in model.metadata_props
