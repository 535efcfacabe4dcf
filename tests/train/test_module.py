"""ONNX graphs as torch modules: whole networks against ONNX Runtime, and weights on their way back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

torch = pytest.importorskip("torch")

from qutec.errors import ModelError, UnsupportedModelError  # noqa: E402
from qutec.train.module import OnnxModule, write_back  # noqa: E402
from qutec.train.weights import find_weights, give_own_copies, merge_copies  # noqa: E402
from tests.onnx_models import text  # noqa: E402
from tests.train.graphs import Array, by_ort, early_exit_cnn, initializers, single  # noqa: E402

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("QUTEC_SHARED", "-")) / "models"
NETWORKS = [ROOT / "models" / "digits.onnx", *sorted(SHARED.glob("*.onnx"))]
FLOAT_NETWORKS = [path for path in NETWORKS if "int8" not in path.name]


def _module(model: onnx.ModelProto) -> OnnxModule:
    return OnnxModule(ir.from_proto(model)).eval()


def _answers(module: OnnxModule, x: Array) -> dict[str, Array]:
    with torch.no_grad():
        results = module({module.input_names[0]: torch.from_numpy(x)})
    return {name: result.numpy() for name, result in results.items()}


def _image(model: onnx.ModelProto, batch: int) -> Array:
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][1:]
    # The range of the real data: keyword features and raw pixels are not standard normal.
    spread = 1.0 if shape[0] == 1 else 20.0
    return (spread * np.random.default_rng(0).standard_normal((batch, *shape))).astype(np.float32)


@pytest.mark.parametrize("path", FLOAT_NETWORKS, ids=lambda path: path.stem)
def test_network_answers_as_onnx_runtime_for_one_sample_and_for_five(path: Path) -> None:
    model = onnx.load(path)
    x = _image(model, 5)
    # Most of these graphs fix batch 1, so that ONNX Runtime takes the rows one by one.
    rows = [by_ort(model, row[None]) for row in x]
    module = _module(model)
    for batch in (1, 5):
        for name, actual in _answers(module, x[:batch]).items():
            expected = np.concatenate([row[name] for row in rows[:batch]])
            assert actual.shape == expected.shape
            assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()


def test_shared_networks_are_covered() -> None:
    if not SHARED.is_dir():
        pytest.skip("QUTEC_SHARED does not name a folder with models/")
    assert len(FLOAT_NETWORKS) > 20


def test_batch_from_the_shape_of_the_input_is_followed() -> None:
    model = text(
        """g (float[N, 3, 4] x) => (float[N, 12] y)
        <int64 zero = {0}, int64[1] axis = {0}, int64[1] rest = {12}>
        { s = Shape(x) n = Gather(s, zero) u = Unsqueeze(n, axis) t = Concat<axis=0>(u, rest)
          y = Reshape(x, t) }"""
    )
    x = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(_answers(_module(model), x)["y"], x.reshape(5, 12))


@pytest.mark.parametrize("target", [(1, 12), (1, -1), (-1, 12), (1, 3, 2, 2)])
def test_reshape_to_a_fixed_batch_of_one_takes_any_batch(target: tuple[int, ...]) -> None:
    model = single("Reshape", (3, 4), (np.array(target, np.int64),), batch=1)
    x = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    expected = np.concatenate([by_ort(model, row[None])["y0"] for row in x])
    np.testing.assert_array_equal(_answers(_module(model), x)["y0"], expected)


def test_slice_over_the_fixed_batch_keeps_every_sample() -> None:
    ends = np.array([1, 2, 4], np.int64)
    model = single("Slice", (3, 4), (np.zeros(3, np.int64), ends), batch=1)
    x = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(_answers(_module(model), x)["y0"], x[:, :2])


def test_unsupported_operators_are_all_listed() -> None:
    model = text(
        """g (float[N, 4, 4] x) => (float[N, 4, 4] y, float[N, 4, 4] z)
        { a = Det(x) b = Sin(x) y = Round(b) z = Sin(y) unused = Cos(x) }"""
    )
    with pytest.raises(UnsupportedModelError) as caught:
        _module(model)
    message = str(caught.value)
    assert "Sin (nodes " in message
    assert "Round" in message
    assert "Cos" not in message
    assert "Det" not in message  # no output needs it


def test_unsupported_use_of_a_known_operator_is_named() -> None:
    model = single("MaxPool", (2, 6, 6), outputs=2, kernel_shape=[2, 2])
    model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    with pytest.raises(UnsupportedModelError, match=r"MaxPool.*first output"):
        _module(model)


def test_failing_node_is_named() -> None:
    module = _module(single("Conv", (3, 5, 5), (np.ones((2, 3, 3, 3), np.float32),)))
    with pytest.raises(ModelError, match=r"node 'node' \(Conv\)"):
        module({"x": torch.zeros(1, 4, 5, 5)})


def test_half_precision_weights_are_refused() -> None:
    model = single("MatMul", (4,), (np.ones((4, 2), np.float16),))
    with pytest.raises(UnsupportedModelError, match=r"c0.*FLOAT16"):
        _module(model)


def test_parameters_and_statistics_go_by_the_names_of_their_initializers() -> None:
    model = early_exit_cnn()
    module = _module(model)
    arrays = initializers(model)
    assert module.weights.keys() | module.statistics.keys() == arrays.keys()
    assert module.statistics.keys() == {"bn.mean", "bn.var"}
    for name, weight in module.weights.items():
        np.testing.assert_array_equal(weight.detach().numpy(), arrays[name])
    assert {name.replace("%2E", ".") for name, _ in module.named_parameters()} == module.weights.keys()


@pytest.mark.parametrize("name", ["weights", "forward", "a.b.c", "100%", "statistics", "_nodes", "training"])
def test_initializers_may_have_any_name(name: str) -> None:
    model = single("Gemm", (4,), (np.ones((4, 2), np.float32),))
    model.graph.node[0].input[1] = model.graph.initializer[0].name = name
    module = _module(model)
    assert list(module.weights) == [name]
    assert _answers(module, np.ones((3, 4), np.float32))["y0"].tolist() == [[4.0, 4.0]] * 3


def test_preprocessing_scalars_and_shapes_are_not_trained() -> None:
    model = text(
        """g (float[N, 2] x) => (float[N, 3] y)
        <float[2] mean = {0.5, 0.4}, float[2] std = {0.2, 0.3}, float[2, 3] w = {1, 2, 3, 4, 5, 6},
         float[3] b = {1, 2, 3}, float three = {3.0}, float[3] gain = {1, 2, 3}>
        { c = Sub(x, mean) d = Div(c, std) e = MatMul(d, w) f = Add(e, b) h = Add(f, three)
          y = Mul(h, gain) }"""
    )
    assert set(_module(model).weights) == {"w", "b", "gain"}


def test_weight_behind_a_transpose_is_trained() -> None:
    model = text(
        """g (float[N, 2] x) => (float[N, 3] y)
        <float[3, 2] w = {1, 2, 3, 4, 5, 6}> { t = Transpose<perm=[1, 0]>(w) y = MatMul(x, t) }"""
    )
    module = _module(model)
    module.train()
    module({"x": torch.ones(1, 2)})["y"].sum().backward()
    assert module.weights["w"].grad is not None
    assert module.weights["w"].grad.tolist() == [[1.0, 1.0]] * 3


def test_batch_normalisation_moves_its_statistics_as_onnx_momentum_says() -> None:
    module = _module(early_exit_cnn()).train()
    x = torch.randn(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    before = module({"x": x}, ["t1"])["t1"].transpose(0, 1).flatten(1)  # this call does not reach the BN
    module({"x": x}, ["t2"])
    # momentum 0.8 is the share of the old statistics, which are 0 and 1.
    torch.testing.assert_close(module.statistics["bn.mean"], 0.2 * before.mean(1).detach())
    torch.testing.assert_close(module.statistics["bn.var"], 0.8 + 0.2 * before.var(1).detach())


def test_dropout_is_active_in_training_only() -> None:
    module = _module(early_exit_cnn(dropout=True))
    x = {"x": torch.randn(64, 1, 6, 6)}
    assert torch.equal(module(x, ["f2"])["f2"], module(x, ["f2d"])["f2d"])
    module.train()
    assert float((module(x, ["f2d"])["f2d"] == 0).float().mean()) > 0.2


def test_frozen_nodes_keep_weights_and_statistics_in_training() -> None:
    model = ir.from_proto(early_exit_cnn())
    module = OnnxModule(model).train()
    module.freeze([node for node in model.graph if node.name in ("trunk1", "bn")])
    before = {name: t.clone() for name, t in module.statistics.items()}
    module({"x": torch.randn(8, 1, 6, 6)})["final"].sum().backward()
    assert {name for name, p in module.weights.items() if not p.requires_grad} == {
        "trunk1.w",
        "bn.scale",
        "bn.bias",
    }
    assert all(torch.equal(before[name], tensor) for name, tensor in module.statistics.items())
    module.freeze(())
    assert all(p.requires_grad for p in module.weights.values())


def test_write_back_changes_weights_and_nothing_else() -> None:
    model = early_exit_cnn()
    source = ir.from_proto(model)
    module = OnnxModule(source)
    with torch.no_grad():
        for tensor in (*module.weights.values(), *module.statistics.values()):
            tensor.add_(1.0)
    result = ir.to_proto(write_back(module, source))
    after = initializers(result)
    for name, array in initializers(model).items():
        np.testing.assert_array_equal(after[name], array + np.float32(1.0))
    untouched = ir.to_proto(source)
    np.testing.assert_array_equal(initializers(untouched)["bn.var"], np.ones(4))
    for proto in (untouched, result):
        proto.graph.ClearField("initializer")
    assert result == untouched
    assert result.graph.node == model.graph.node
    assert {p.key: p.value for p in result.metadata_props} == {p.key: p.value for p in model.metadata_props}


def test_written_model_answers_as_the_module_does() -> None:
    source = ir.from_proto(early_exit_cnn())
    module = OnnxModule(source).train()
    x = np.random.default_rng(0).standard_normal((4, 1, 6, 6)).astype(np.float32)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    module({"x": torch.from_numpy(x)})["final"][:, 0].sum().backward()
    optimizer.step()
    expected = by_ort(ir.to_proto(write_back(module, source)), x)
    for name, actual in _answers(module.eval(), x).items():
        np.testing.assert_allclose(actual, expected[name], atol=1e-6)


def test_write_back_of_the_same_weights_gives_the_same_bytes() -> None:
    source = ir.from_proto(early_exit_cnn())
    once, twice = (
        ir.to_proto(write_back(OnnxModule(source), source)).SerializeToString(deterministic=True)
        for _ in range(2)
    )
    assert once == twice == ir.to_proto(source).SerializeToString(deterministic=True)


def test_weights_of_constant_nodes_are_trained_and_written_back() -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    model = single("MatMul", (2,), (weight,))
    del model.graph.initializer[:]
    model.graph.node.insert(
        0, helper.make_node("Constant", [], ["c0"], value=numpy_helper.from_array(weight))
    )
    source = ir.from_proto(model)
    module = OnnxModule(source)
    with torch.no_grad():
        module.weights["c0"].mul_(2.0)
    result = ir.to_proto(write_back(module, source))
    np.testing.assert_array_equal(numpy_helper.to_array(result.graph.node[0].attribute[0].t), 2 * weight)


def test_write_back_into_another_model_is_refused() -> None:
    module = _module(early_exit_cnn())
    with pytest.raises(ModelError, match=r"trunk1\.w"):
        write_back(module, ir.from_proto(single("Relu", (3,))))


def _shared_constants() -> onnx.ModelProto:
    return text(
        """g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
        <float[2] zeros = {0, 0}, float[2] ones = {1, 1}, float[2, 2, 1, 1] w = {1, 2, 3, 4}>
        { a = Conv(x, w, zeros) b = BatchNormalization(a, ones, zeros, zeros, ones)
          c = Conv(b, w, zeros) y = BatchNormalization(c, ones, zeros, zeros, ones) }"""
    )


def test_constants_that_an_exporter_stored_once_get_copies_of_their_own() -> None:
    proto = _shared_constants()
    with pytest.raises(UnsupportedModelError, match="both trained and a running statistic"):
        _module(proto)
    model = ir.from_proto(proto)
    assert give_own_copies(model, frozenset())
    weights = find_weights(model.graph)
    assert (
        len(weights.trained) == 7
    )  # one kernel that is shared on purpose, two biases, two scales, two shifts
    assert len(weights.statistics) == 4
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(by_ort(proto, x)["y"], by_ort(ir.to_proto(model), x)["y"])
    assert not give_own_copies(model, frozenset())
    onnx.checker.check_model(ir.to_proto(model))


def test_copies_that_stayed_equal_are_shared_again() -> None:
    model = ir.from_proto(_shared_constants())
    copies = give_own_copies(model, frozenset())
    one_bias = next(name for name, original in copies.items() if original == "zeros")
    model.graph.initializers[one_bias].const_value = ir.tensor(np.ones(2, np.float32), name=one_bias)
    merge_copies(model, copies)
    assert set(model.graph.initializers) == {"zeros", "ones", "w", one_bias}
    onnx.checker.check_model(ir.to_proto(model))


def test_a_trained_network_needs_no_copies() -> None:
    assert not give_own_copies(ir.from_proto(early_exit_cnn()), frozenset())
