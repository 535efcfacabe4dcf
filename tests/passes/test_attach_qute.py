"""Training graphs: what is attached, where, with what weights, and that nothing else changes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

import qutec
from qutec.attach import TrainingGraph, write_training_graph
from qutec.errors import UnsupportedModelError, UsageError
from qutec.heads import read_heads
from tests.onnx_models import qdq, run
from tests.passes.exit_networks import Network, chain

_MODELS = Path(os.environ.get("QUTEC_SHARED", Path(__file__).parents[3] / "shared")) / "models"
_NETWORKS = ["trecx_ic_resnet8_ev_evtap_b1", "trecx_kws_dscnn_branchynet_b1", "mlperf_resnet8_ic_bn_b1"]
_NETWORKS += ["mlperf_dscnn_kws_dyn"]
Arrays = dict[str, npt.NDArray[np.float32]]


def _proto(graph: TrainingGraph) -> onnx.ModelProto:
    proto = ir.to_proto(graph.model)
    assert isinstance(proto, onnx.ModelProto)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _outputs(proto: onnx.ModelProto, x: npt.NDArray[np.float32]) -> Arrays:
    names = [value.name for value in proto.graph.output]
    results = run(proto, **{proto.graph.input[0].name: x})
    return dict(zip(names, (result.astype(np.float32) for result in results), strict=True))


def _inputs(proto: onnx.ModelProto, batch: int) -> npt.NDArray[np.float32]:
    dims = proto.graph.input[0].type.tensor_type.shape.dim[1:]
    shape = (batch, *(dim.dim_value for dim in dims))
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def _assert_trains(source: onnx.ModelProto, graph: TrainingGraph) -> Arrays:
    """The original outputs are unchanged, heads are distributions, rows do not influence each other."""
    proto = _proto(graph)
    x = _inputs(source, 7)
    together = _outputs(proto, x)
    for row in range(7):
        alone = _outputs(proto, x[row : row + 1])
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][row : row + 1], value, rtol=1e-5, atol=1e-5)
        for name, value in _outputs(source, x[row : row + 1]).items():
            np.testing.assert_allclose(together[name][row : row + 1], value, rtol=1e-5, atol=1e-5)
    for head in graph.heads:
        np.testing.assert_allclose(together[head.output].sum(axis=1), 1, rtol=1e-5)
    producers = {name: node for node in proto.graph.node for name in node.output}
    assert {producers[head.output].op_type for head in graph.heads} == {"Softmax"}
    assert read_heads(ir.from_proto(proto)) == graph.heads
    return together


def _initializers(graph: TrainingGraph) -> Arrays:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in _proto(graph).graph.initializer}


def _roles(graph: TrainingGraph) -> list[tuple[str, int]]:
    return [(head.kind, head.index) for head in graph.heads]


@pytest.mark.skipif(not _MODELS.is_dir(), reason=f"no reference networks in {_MODELS} (set QUTEC_SHARED)")
@pytest.mark.parametrize("name", _NETWORKS)
@pytest.mark.parametrize("plus", [False, True], ids=["qute", "plus"])
def test_reference_networks_become_trainable(name: str, plus: bool) -> None:
    source = onnx.load(_MODELS / f"{name}.onnx")
    graph = qutec.attach(source, heads=2, activation="relu" if plus else "none", plus=plus)
    names = [value.name for value in source.graph.output]
    assert [value.name for value in graph.model.graph.outputs][: len(names)] == names
    _assert_trains(source, graph)
    assert {("early_exit", 1), ("early_exit", 2), ("early_view", 1), ("early_view", 2), ("final", 0)} <= set(
        _roles(graph)
    )


@pytest.mark.parametrize("heads", range(1, 11))
@pytest.mark.parametrize(("shape", "channels_last"), [((2, 16, 16), True), ((3, 40), False)])
def test_one_to_ten_heads_on_two_and_one_dimensional_networks(
    heads: int, shape: tuple[int, ...], channels_last: bool
) -> None:
    source = chain(*shape, norm=True, channels_last=channels_last).proto()
    graph = qutec.attach(source, heads=heads)
    expected = [("early_exit", k + 1) for k in range(heads)] + [("early_view", k + 1) for k in range(heads)]
    assert _roles(graph) == [*expected, ("final", 0)]
    _assert_trains(source, graph)
    assert any("too few places (3)" in text for text in graph.warnings) == (heads > 3)


def test_exits_are_equally_spaced_by_macs_at_block_boundaries() -> None:
    """Places after 0.44, 5.16 and 8.83 of 12.5 million MACs: thirds are nearest to the stacks 1 and 2."""
    net = Network(3, 32, 32)
    x = net.block(net.x, 16, name="stem")
    for channels, name in ((16, "s1"), (32, "s2"), (64, "s3")):
        stride = 1 if channels == 16 else 2
        y = net.conv(net.block(x, channels, stride=stride), channels)
        skip = x if channels == 16 else net.conv(x, channels, kernel=1, stride=stride)
        x = net.op("Relu", [net.op("Add", [skip, y])], name=name)
    net.head(x, "final", classes=10)
    graph = qutec.attach(net.proto(), heads=2)
    assert _branches(graph) == ["s1", "s2"]


def _branches(graph: TrainingGraph) -> list[str]:
    """What the pointwise layer of each new exit reads."""
    return [
        node.inputs[0].name or ""
        for node in graph.model.graph
        if (node.name or "").endswith("_pointwise") and "plus" not in (node.name or "") and node.inputs[0]
    ]


def test_names_place_the_exits_even_inside_residual_blocks() -> None:
    net = Network(2, 8, 8)
    first = net.residual(net.block(net.x, 4, name="stem"), inner="inside", name="first")
    net.head(net.residual(first, name="last"), "final")
    assert _branches(qutec.attach(net.proto(), at=["first_node", "inside"])) == ["inside", "first"]
    with pytest.raises(UsageError, match=r"'nowhere' is not a feature map of the trunk.*'stem', 'first'"):
        qutec.attach(net.proto(), at=["nowhere"])
    with pytest.raises(UsageError, match="'final' has no depthwise layer"):
        qutec.attach(net.proto(), at=["final"])


def _with_depthwise_exit() -> Network:
    net = chain(2, 16, 16)
    net.head(net.op("Relu", [net.depthwise(net.conv("b2", 6, kernel=1), kernel=2, stride=2)]), "early")
    net.head("b3", "plain")
    return net


def test_existing_exits_lead_pairs_where_they_have_a_depthwise_layer() -> None:
    source = _with_depthwise_exit().proto()
    graph = qutec.attach(source, heads=1)
    assert [(head.output, head.kind, head.index) for head in graph.heads] == [
        ("early", "early_exit", 1),
        ("plain", "early_exit", 2),
        ("early_view_1", "early_view", 1),
        ("final", "final", 0),
    ]
    arrays = _initializers(graph)
    exit_head, plain, view, _ = graph.heads
    assert exit_head.depthwise_weights is not None
    assert view.depthwise_weights is not None
    assert arrays[view.depthwise_weights].shape == (6, 1, 2, 2)
    np.testing.assert_array_equal(arrays[exit_head.depthwise_weights], arrays[view.depthwise_weights])
    assert plain.depthwise_weights is None
    assert any("'plain' stays as it is" in text for text in graph.warnings)
    _assert_trains(source, graph)


def test_an_existing_exit_takes_the_nearest_position_and_new_ones_the_others() -> None:
    graph = qutec.attach(_with_depthwise_exit().proto(), heads=2)
    exits = {head.index: head.output for head in graph.heads if head.kind == "early_exit"}
    assert exits == {1: "early", 2: "early_exit_2", 3: "plain"}
    assert _branches(graph) == ["b3"]
    named = qutec.attach(_with_depthwise_exit().proto(), at=["early", "b1"])
    assert [head.output for head in named.heads if head.kind == "early_exit"] == [
        "early_exit_1",
        "early",
        "plain",
    ]
    with pytest.raises(UsageError, match="'early' is named twice"):
        qutec.attach(_with_depthwise_exit().proto(), at=["early", "early"])


def test_depthwise_layers_start_equal_and_the_rest_differs() -> None:
    graph = qutec.attach(chain(2, 16, 16).proto(), heads=2)
    arrays = _initializers(graph)
    for k in (1, 2):
        for part in ("weights", "bias"):
            exits, views = (
                arrays[f"early_exit_{k}_depthwise_{part}"],
                arrays[f"early_view_{k}_depthwise_{part}"],
            )
            np.testing.assert_array_equal(exits, views)
        assert arrays[f"early_exit_{k}_depthwise_weights"].shape == (8, 1, 3, 3)
        assert (
            np.abs(arrays[f"early_exit_{k}_dense_weights"] - arrays[f"early_view_{k}_dense_weights"]).min()
            > 0
        )
    assert (
        np.abs(arrays["early_exit_1_depthwise_weights"] - arrays["early_exit_2_depthwise_weights"]).min() > 0
    )


def test_weights_follow_the_seed_and_not_the_number_of_heads() -> None:
    source = chain(2, 16, 16).proto()
    two, again, other = (_initializers(qutec.attach(source, heads=2, seed=s)) for s in (4, 4, 5))
    three = _initializers(qutec.attach(source, heads=3, seed=4))
    name = "early_view_2_dense_weights"
    np.testing.assert_array_equal(two[name], again[name])
    np.testing.assert_array_equal(two[name], three[name])
    assert np.abs(two[name] - other[name]).min() > 0


@pytest.mark.parametrize(("activation", "gain"), [("none", 1.0), ("relu", 2.0)])
def test_depthwise_weights_have_the_variance_of_their_initialisation(activation: str, gain: float) -> None:
    """Glorot: 2 / (9 + 9); He: 2 / 9."""
    net = Network(2, 8, 8)
    net.head(net.block(net.block(net.x, 8), 1024), "final")
    graph = qutec.attach(net.proto(), heads=1, activation="relu" if activation == "relu" else "none")
    variance = float(_initializers(graph)["early_exit_1_depthwise_weights"].var())
    assert variance == pytest.approx(gain / 9, rel=0.1)


def test_an_early_view_is_the_layers_that_it_should_be() -> None:
    """Against numpy: depthwise with same padding [ReLU], mean, dense, softmax."""
    source = chain(2, 16, 16)
    source.output("b4")
    proto = source.proto()
    for activation in ("none", "relu"):
        graph = qutec.attach(proto, heads=1, activation="relu" if activation == "relu" else "none", seed=3)
        arrays = _initializers(graph)
        arrays["early_view_1_depthwise_bias"] = np.linspace(-1, 1, 8).astype(np.float32)
        model = _proto(graph)
        for tensor in model.graph.initializer:
            if tensor.name == "early_view_1_depthwise_bias":
                tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
        out = _outputs(model, _inputs(proto, 3))
        maps = np.pad(out["b4"], ((0, 0), (0, 0), (1, 1), (1, 1)))
        kernel = arrays["early_view_1_depthwise_weights"][:, 0]
        size = out["b4"].shape[2]
        y = (
            sum(
                maps[:, :, i : i + size, j : j + size] * kernel[:, i, j][None, :, None, None]
                for i in range(3)
                for j in range(3)
            )
            + arrays["early_view_1_depthwise_bias"][None, :, None, None]
        )
        y = np.maximum(y, 0) if activation == "relu" else y
        logits = (
            y.mean(axis=(2, 3)) @ arrays["early_view_1_dense_weights"].T + arrays["early_view_1_dense_bias"]
        )
        expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(out["early_view_1"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "kernel", "stride"), [(8, 3, 1), (16, 3, 2), (64, 3, 2), (64, 5, 4), (64, 1, 1)]
)
def test_an_exit_strides_until_its_map_is_small_but_skips_nothing(
    size: int, kernel: int, stride: int
) -> None:
    net = Network(2, size, size)
    x = net.block(net.x, 4, name="first")
    net.head(net.conv(x, 4, stride=size // 8, name="last"), "final")
    graph = qutec.attach(net.proto(), heads=1, kernel=kernel)
    layers = {node.name: node for node in graph.model.graph}
    exit_layer, view = layers["early_exit_1_depthwise"], layers["early_view_1_depthwise"]
    assert exit_layer.attributes.get_ints("strides") == (stride, stride)
    assert view.attributes.get_ints("strides") == (1, 1)
    assert list(exit_layer.outputs[0].shape or ())[2:] == [size // stride] * 2
    assert list(view.outputs[0].shape or ())[2:] == [8, 8]


def test_logits_get_a_softmax_output_besides() -> None:
    net = Network(2, 8, 8)
    x = net.block(net.block(net.x, 4), 8)
    net.output(net.dense(net.pooled(x), 5, name="logits"))
    graph = qutec.attach(net.proto(), heads=1)
    assert graph.model.graph.outputs[0].name == "logits"
    assert graph.heads[-1].output == "logits_probabilities"
    _assert_trains(net.proto(), graph)


def test_batch_normalisation_stays() -> None:
    graph = qutec.attach(chain(2, 16, 16, norm=True).proto())
    assert sum(node.op_type == "BatchNormalization" for node in graph.model.graph) == 4


def test_plus_adds_two_separable_convolutions_to_each_early_view() -> None:
    def kinds(plus: bool) -> list[str]:
        graph = qutec.attach(chain(2, 16, 16).proto(), heads=2, plus=plus)
        return [node.op_type for node in graph.model.graph if (node.name or "").startswith("early_view_1")]

    assert kinds(False) == ["Conv", "GlobalAveragePool", "Flatten", "Gemm", "Softmax"]
    assert kinds(True) == ["Conv", *["Conv", "Relu"] * 4, "GlobalAveragePool", "Flatten", "Gemm", "Softmax"]


def test_a_fixed_batch_in_reshape_targets_becomes_symbolic() -> None:
    net = Network(2, 8, 8)
    x = net.op("GlobalAveragePool", [net.block(net.block(net.x, 4), 8)])
    flat = net.op("Reshape", [x, net.constant(np.array([1, 8], np.int64))])
    net.output(net.softmax(net.dense(flat, 5), "final"))
    _assert_trains(net.proto(), qutec.attach(net.proto()))


def test_a_batch_that_is_mixed_is_refused() -> None:
    net = Network(2, 8, 8)
    x = net.block(net.block(net.x, 4), 8, name="last")
    axes = net.constant(np.array([0], np.int64))
    centred = net.op("Sub", [x, net.op("ReduceMean", [x, axes], channels=8, keepdims=1)])
    net.head(net.op("Add", [x, centred], name="mixed"), "final")
    with pytest.raises(UnsupportedModelError, match="batch"):
        qutec.attach(net.proto())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"heads": 0}, "0 heads cannot be attached"),
        ({"heads": 1000}, "1000 heads"),
        ({"kernel": 0}, "a kernel of 0"),
        ({"seed": -1}, "negative"),
        ({"heads": 3, "at": ["b1"]}, "1 places are named for 3 heads"),
        ({"at": []}, "no place is named"),
        ({"activation": "gelu"}, "'gelu' is not known"),
        ({"output_is": {"nothing": "exit"}}, "'nothing' is not an output"),
    ],
)
def test_wrong_arguments_are_usage_errors(options: dict[str, object], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        qutec.attach(chain(2, 16, 16).proto(), **options)  # type: ignore[arg-type]


def test_networks_that_cannot_take_heads_say_why() -> None:
    with pytest.raises(UnsupportedModelError, match="quantised"):
        qutec.attach(qdq(per_channel=True))
    net = Network(6)
    net.output(net.softmax(net.dense(net.x, 3), "final"))
    with pytest.raises(UnsupportedModelError, match="feature map"):
        qutec.attach(net.proto())
    net = Network(2, 8, 8)
    net.output(net.block(net.x, 4, name="map"))
    with pytest.raises(UsageError, match="no output is a classifier"):
        qutec.attach(net.proto())
    net = Network(2, 8, 8)
    net.output(net.op("Sigmoid", [net.dense(net.pooled(net.block(net.x, 4)), 3)], name="labels"))
    with pytest.raises(UnsupportedModelError, match="sigmoid"):
        qutec.attach(net.proto())
    with pytest.raises(UsageError, match="heads already"):
        qutec.attach(_proto(qutec.attach(chain(2, 16, 16).proto())))


def test_written_files_are_whole_and_repeatable(tmp_path: Path) -> None:
    source = chain(2, 16, 16).proto()
    for name in ("a.onnx", "b.onnx"):
        write_training_graph(qutec.attach(source), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx"]
    with pytest.raises(UsageError, match="cannot write"):
        write_training_graph(qutec.attach(source), tmp_path / "missing" / "a.onnx")
