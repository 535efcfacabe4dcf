"""Exits, trunks and branch points of networks that were built with known ones."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from qutec.errors import ModelError, UsageError
from qutec.heads import Head, write_heads
from qutec.load import load
from qutec.passes.find_exits import find_exits
from qutec.passes.trunk import DataFlow
from tests.passes.exit_networks import Network, chain

_MODELS = Path(os.environ.get("QUTEC_SHARED", Path(__file__).parents[3] / "shared")) / "models"

_IC_MACS, _KWS_MACS = (5_160_960, 8_830_976, 12_500_992), (904_000, 1_488_000, 2_072_000, 2_656_000)
"""MACs after the stacks of ResNet-8 and the blocks of DS-CNN, counted by hand from the layers' shapes."""

_T_RECX: dict[str, dict[str, tuple[int, str | None]]] = {
    # exit -> (MACs of its branch point, learning layer's output channels or None)
    "ic_resnet8_ev_b1": {"ee_out": (_IC_MACS[0], "32"), "ef_out": (_IC_MACS[2], "32")},
    "ic_resnet8_ev_bn_b1": {"ee_out": (_IC_MACS[0], "32"), "ef_out": (_IC_MACS[2], "32")},
    "ic_resnet8_ev_dyn": {"ee_out": (_IC_MACS[0], "32"), "ef_out": (_IC_MACS[2], "32")},
    "ic_resnet8_ev_evtap_b1": {"ee_out": (_IC_MACS[0], "32"), "ef_out": (_IC_MACS[2], "32")},
    "ic_resnet8_noev_b1": {"ee_out": (_IC_MACS[0], "32"), "ef_out": (_IC_MACS[2], None)},
    "ic_resnet8_branchynet_b1": {
        "ee_1": (_IC_MACS[0], "16"),
        "ee_2": (_IC_MACS[1], "16"),
        "ef_out": (_IC_MACS[2], None),
    },
    "ic_resnet8_sdn_b1": {
        "ee_1": (_IC_MACS[0], None),
        "ee_2": (_IC_MACS[1], None),
        "ef_out": (_IC_MACS[2], None),
    },
    "kws_dscnn_ev_b1": {"ee_out": (_KWS_MACS[1], "32"), "ef_out": (_KWS_MACS[3], "32")},
    "kws_dscnn_ev_bn_b1": {"ee_out": (_KWS_MACS[1], "32"), "ef_out": (_KWS_MACS[3], "32")},
    "kws_dscnn_ev_dyn": {"ee_out": (_KWS_MACS[1], "32"), "ef_out": (_KWS_MACS[3], "32")},
    "kws_dscnn_ev_evtap_b1": {"ee_out": (_KWS_MACS[1], "32"), "ef_out": (_KWS_MACS[3], "32")},
    "kws_dscnn_noev_b1": {"ee_out": (_KWS_MACS[1], "32"), "ef_out": (_KWS_MACS[3], None)},
    "kws_dscnn_eefmaps_concat_b1": {"ee_out": (_KWS_MACS[1], "32"), "ef_out": (_KWS_MACS[3], "32")},
    "kws_dscnn_branchynet_b1": {
        "ee_1": (_KWS_MACS[0], "32"),
        "ee_2": (_KWS_MACS[1], "32"),
        "ef_out": (_KWS_MACS[3], None),
    },
    "kws_dscnn_sdn_b1": {
        "ee_1": (_KWS_MACS[0], None),
        "ee_2": (_KWS_MACS[1], None),
        "ee_3": (_KWS_MACS[2], None),
        "ef_out": (_KWS_MACS[3], None),
    },
}


@pytest.mark.skipif(not _MODELS.is_dir(), reason=f"no reference networks in {_MODELS} (set QUTEC_SHARED)")
@pytest.mark.parametrize("name", _T_RECX)
def test_published_early_exit_networks(name: str) -> None:
    model = load(_MODELS / f"trecx_{name}.onnx", simplify=False).model
    found = find_exits(model)
    learned = {
        item.name: str(item.head.learning.outputs[0].shape[1])
        if item.head.learning is not None and item.head.learning.outputs[0].shape is not None
        else None
        for item in found.exits
    }
    expected = _T_RECX[name]
    assert [item.name for item in found.exits] == list(expected)
    assert [item.branch_macs for item in found.exits] == [macs for macs, _ in expected.values()]
    assert learned == {exit_: channels for exit_, (_, channels) in expected.items()}
    assert [value.name for value in found.auxiliary] == (["ev_features"] if "evtap" in name else [])
    assert found.trunk_end is not None
    assert found.trunk_end.producer() is not None
    assert not any(item.inside_block for item in found.exits)
    for item in found.exits:
        assert item.kind == ("final" if item.name == "ef_out" else "early_exit")
        head = item.head
        assert head.softmax in head.nodes
        assert head.dense in head.nodes
        assert head.pool in head.nodes
        assert not set(head.nodes) & set(found.trunk)


@pytest.mark.skipif(not _MODELS.is_dir(), reason=f"no reference networks in {_MODELS} (set QUTEC_SHARED)")
def test_a_costly_early_head_is_told_not_taken_for_the_final_one() -> None:
    model = load(_MODELS / "trecx_kws_dscnn_branchynet_b1.onnx", simplify=False).model
    found = find_exits(model)
    assert found.exits[1].macs > found.exits[2].macs
    assert any("'ee_2' has more MACs" in text for text in found.messages)


@pytest.mark.skipif(not _MODELS.is_dir(), reason=f"no reference networks in {_MODELS} (set QUTEC_SHARED)")
@pytest.mark.parametrize("name", ["mlperf_resnet8_ic_int8_qdq_b1", "mlperf_dscnn_kws_bn_b1"])
def test_single_exit_classifiers_have_a_trunk_with_places(name: str) -> None:
    found = find_exits(load(_MODELS / f"{name}.onnx", simplify=False).model)
    blocks = _IC_MACS if "resnet8" in name else _KWS_MACS
    stem = 442_368 if "resnet8" in name else 320_000
    assert [item.kind for item in found.exits] == ["final"]
    assert [place.macs for place in found.places if not place.inner] == [stem, *blocks]
    assert found.messages == ()


def _early(net: Network, at: str, name: str) -> str:
    return net.head(net.op("Relu", [net.depthwise(net.conv(at, 8, kernel=1))]), name)


def test_outputs_in_any_order_give_the_same_exits() -> None:
    net = chain(2, 16, 16)
    _early(net, "b1", "zzz")
    net.head("b3", "aaa")
    for order in itertools.permutations(["zzz", "aaa", "final"]):
        found = find_exits(net.model(order))
        assert [(item.name, item.branch.name) for item in found.exits] == [
            ("zzz", "b1"),
            ("aaa", "b3"),
            ("final", "b4"),
        ]
        assert [item.kind for item in found.exits] == ["early_exit", "early_exit", "final"]


def _residual_network() -> Network:
    net = Network(2, 8, 8)
    stem = net.block(net.x, 4, name="stem")
    first = net.residual(stem, inner="inside", name="between")
    net.head(net.residual(first, name="last"), "final")
    return net


def test_exits_inside_and_between_residual_blocks() -> None:
    net = _residual_network()
    net.head("between", "after")
    net.head("inside", "within")
    found = find_exits(net.model())
    assert [(item.name, item.branch.name, item.inside_block) for item in found.exits] == [
        ("within", "inside", True),
        ("after", "between", False),
        ("final", "last", False),
    ]
    assert [place.value.name for place in found.places] == ["stem", "between", "last"]


def test_logits_and_probabilities_mixed() -> None:
    net = chain(2, 16, 16)
    net.output(net.dense(net.pooled("b2"), 5, name="scores"))
    found = find_exits(net.model())
    scores, final = found.exits
    assert scores.name == "scores"
    assert scores.head.softmax is None
    assert scores.head.dense is not None
    assert scores.head.dense.op_type == "Gemm"
    assert final.head.softmax is not None


def test_dense_layer_behind_bias_temperature_and_reshape() -> None:
    net = chain(2, 16, 16)
    features = net.pooled("b2")
    product = net.op("MatMul", [features, net.weights(6, 5)], channels=5)
    biased = net.op("Add", [net.weights(5), product], channels=5)
    cooled = net.op("Div", [biased, net.constant(np.array(2.0, np.float32))])
    target = net.constant(np.array([-1, 5], np.int64))
    net.output(net.op("Reshape", [net.softmax(cooled), target], name="early"))
    early = find_exits(net.model()).exits[0]
    assert early.name == "early"
    assert early.head.dense is not None
    assert early.head.dense.op_type == "MatMul"
    assert early.head.softmax is not None


def test_features_embeddings_labels_and_twins_are_auxiliary() -> None:
    net = chain(2, 16, 16)
    features = net.output(net.pooled("b4", name="features"))
    logits = net.output(net.dense(features, 5, name="logits"))
    net.output(net.softmax(logits, "again"))
    net.output(net.op("ArgMax", ["again"], name="label", axis=1), TensorProto.INT64)
    embedding = net.output(net.dense(net.pooled("b2"), 7, name="embedding"))
    net.output(net.softmax(net.dense(embedding, 5), "early"))
    found = find_exits(net.model())
    assert [item.name for item in found.exits] == ["early", "final", "again"]
    assert {value.name for value in found.auxiliary} == {"features", "logits", "label", "embedding"}
    assert any("'logits' is the exit 'again' once more" in text for text in found.messages)
    assert any("'embedding' has 7 elements and is part of the way to 'early'" in t for t in found.messages)


def test_overrides_decide() -> None:
    net = chain(2, 16, 16)
    net.output(net.pooled("b2", name="scores"))
    net.head("b3", "early")
    model = net.model()
    assert [item.name for item in find_exits(model).exits] == ["early", "final"]
    told = find_exits(model, {"scores": "exit", "early": "aux"})
    assert [item.name for item in told.exits] == ["scores", "final"]
    assert [value.name for value in told.auxiliary] == ["early"]
    assert told.exits[0].classes == 6


def test_an_impossible_override_says_why() -> None:
    net = chain(2, 16, 16)
    net.output("b2")
    model = net.model()
    with pytest.raises(UsageError, match=r"'b9' is not an output; the outputs are final, b2"):
        find_exits(model, {"b9": "aux"})
    with pytest.raises(UsageError, match=r"'b2' .* has no class dimension"):
        find_exits(model, {"b2": "exit"})


def test_different_numbers_of_classes_are_reported() -> None:
    net = chain(2, 16, 16)
    net.head("b2", "early", classes=3)
    found = find_exits(net.model())
    assert [item.classes for item in found.exits] == [3, 5]
    assert any("different numbers of classes ('final' 5, 'early' 3)" in text for text in found.messages)


def test_shared_head_parts_belong_to_both_heads() -> None:
    net = chain(2, 16, 16)
    side = net.block("b2", 8, name="side")
    net.head(side, "one")
    net.head(net.op("MaxPool", [side], kernel_shape=[2, 2]), "two")
    found = find_exits(net.model())
    exits = {item.name: item for item in found.exits}
    assert exits["one"].branch.name == exits["two"].branch.name == "b2"
    shared = set(exits["one"].head.nodes) & set(exits["two"].head.nodes)
    assert {node.op_type for node in shared} == {"Conv", "Relu"}


def test_a_final_head_that_reads_early_features_does_not_shorten_the_trunk() -> None:
    net = Network(2, 16, 16)
    b2 = net.block(net.block(net.x, 4), 6, name="b2")
    early = net.pooled(net.block(b2, 8))
    net.output(net.softmax(net.dense(early, 5), "early"))
    last = net.block(net.block(b2, 8), 8, name="last")
    both = net.op("Concat", [net.pooled(last), early], channels=16, axis=1)
    net.output(net.softmax(net.dense(both, 5), "final"))
    found = find_exits(net.model())
    assert [(item.name, item.branch.name) for item in found.exits] == [("early", "b2"), ("final", "last")]
    assert any("'final' reads" in text and "'last' is its branch point" in text for text in found.messages)


def test_heads_side_by_side_on_one_map_leave_the_trunk_at_it() -> None:
    net = chain(2, 16, 16)
    for index in (1, 2):
        net.head(net.depthwise("b4"), f"view_{index}")
    found = find_exits(net.model())
    assert found.trunk_end is not None
    assert found.trunk_end.name == "b4"
    assert found.exits[-1].name == "final"
    assert {item.branch.name for item in found.exits} == {"b4"}


def test_metadata_says_what_outputs_are() -> None:
    net = chain(2, 16, 16)
    net.head(net.depthwise("b4"), "view")
    net.head("b2", "unlisted")
    model = net.model()
    write_heads(model, [Head("view", "early_view", 1), Head("final", "final", 0)])
    found = find_exits(model)
    assert [(item.name, item.kind) for item in found.exits] == [("view", "early_view"), ("final", "final")]
    assert [value.name for value in found.auxiliary] == ["unlisted"]
    assert found.trunk_end is not None
    assert found.trunk_end.name == "b4"
    model.metadata_props["qutec.heads"] = "[3]"
    with pytest.raises(ModelError):
        find_exits(model)


def test_a_lone_early_view_is_not_part_of_the_trunk() -> None:
    net = chain(2, 16, 16)
    net.head(net.depthwise("b4"), "view")
    model = net.model(["view"])
    write_heads(model, [Head("view", "early_view", 1)])
    found = find_exits(model)
    assert found.trunk_end is not None
    assert found.trunk_end.name == "b4"


def test_pooled_class_maps_are_an_exit_where_they_fit() -> None:
    net = Network(2, 8, 8)
    last = net.block(net.x, 8, name="last")
    net.output(net.pooled(net.conv(last, 5, kernel=1), name="scores"))
    found = find_exits(net.model())
    assert [item.name for item in found.exits] == ["scores"]
    assert found.trunk_end is not None
    assert found.trunk_end.name == "last"
    assert found.exits[0].head.dense is not None
    assert found.exits[0].head.dense.op_type == "Conv"
    assert any("'scores' is the pool of a convolution" in text for text in found.messages)


def test_networks_without_feature_maps_end_before_the_last_dense_layer() -> None:
    net = Network(6)
    hidden = net.op("Relu", [net.dense(net.x, 8)], name="hidden")
    net.output(net.softmax(net.dense(hidden, 3), "early"))
    later = net.op("Relu", [net.dense(hidden, 9)], name="later")
    net.output(net.softmax(net.dense(later, 3), "final"))
    found = find_exits(net.model(["final", "early"]))
    assert [(item.name, item.branch.name) for item in found.exits] == [
        ("early", "hidden"),
        ("final", "later"),
    ]
    assert found.places == ()


def test_towers_that_share_nothing_are_reported() -> None:
    net = chain(2, 16, 16)
    net.head(net.block(net.x, 4), "other")
    found = find_exits(net.model())
    assert [(item.name, item.branch.name) for item in found.exits] == [("other", "x"), ("final", "b4")]
    assert any("'other' shares nothing with the trunk" in text for text in found.messages)


def test_a_model_without_classifier_has_no_exits() -> None:
    net = Network(2, 8, 8)
    net.output(net.block(net.x, 4, name="map"))
    found = find_exits(net.model())
    assert (found.exits, found.final, found.trunk) == ((), None, ())
    assert [value.name for value in found.auxiliary] == ["map"]


@pytest.mark.parametrize(("shape", "channels_last"), [((3, 32), False), ((3, 16, 16), True), ((3, 32), True)])
def test_one_dimensional_and_channels_last_inputs(shape: tuple[int, ...], channels_last: bool) -> None:
    net = chain(*shape, channels_last=channels_last, batch="N")
    net.head("b2", "early")
    found = find_exits(net.model())
    assert [place.value.name for place in found.places] == ["b1", "b2", "b3", "b4"]
    assert [item.branch.name for item in found.exits] == ["b2", "b4"]
    assert found.exits[1].macs > found.exits[0].macs > 0


def test_separable_and_bottleneck_blocks_have_inner_places() -> None:
    net = Network(2, 8, 8)
    a = net.separable(net.block(net.x, 4, name="stem"), 8, name="a")
    wide = net.op("Relu", [net.conv(a, 24, kernel=1)], name="wide")
    narrow = net.conv(net.op("Relu", [net.depthwise(wide)], name="filtered"), 10, kernel=1, name="narrow")
    net.head(net.block(narrow, 8, name="last"), "final")
    found = find_exits(net.model())
    inner = {place.value.name: place.inner for place in found.places}
    relu = next(name for name in inner if name not in ("stem", "a", "wide", "filtered", "narrow", "last"))
    expected = {"stem": False, relu: True, "a": False, "wide": True, "filtered": True, "narrow": False}
    assert inner == {**expected, "last": False}


def _dominates_by_removal(model: ir.Model, node: ir.Node, end: ir.Value) -> bool:
    """Whether no path from the input reaches `end` once `node` is gone."""
    reached: set[ir.Value] = set(model.graph.inputs)
    for other in model.graph:
        if other is not node and any(value in reached for value in other.inputs):
            reached.update(other.outputs)
    return end not in reached


@pytest.mark.parametrize("seed", range(6))
def test_dominators_are_those_that_cut_every_path(seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = Network(2, 4, 4)
    values = [net.conv(net.x, 2)]
    for _ in range(14):
        first, second = (values[max(len(values) - 1 - int(rng.integers(0, 3)), 0)] for _ in range(2))
        values.append(net.conv(first, 2) if rng.random() < 0.5 else net.op("Add", [first, second]))
    net.output(values[-1])
    model = net.model()
    flow, end = DataFlow(model.graph), model.graph.outputs[0]
    needed = [node for node in model.graph if flow.depends(end, node.outputs[0])]
    assert needed
    for node in needed:
        assert flow.dominates(node.outputs[0], end) == _dominates_by_removal(model, node, end)


def test_the_model_is_not_changed() -> None:
    net = chain(2, 16, 16)
    net.head("b2", "early")
    model = net.model()
    before = ir.to_proto(model)
    assert isinstance(before, onnx.ModelProto)
    text = before.SerializeToString(deterministic=True)
    assert len(find_exits(model).exits) == 2
    after = ir.to_proto(model)
    assert isinstance(after, onnx.ModelProto)
    assert after.SerializeToString(deterministic=True) == text
