"""Temperature folds into the layer before the logits, and nowhere else; answers follow the definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from typer.testing import CliRunner

import qutec
from qutec.cli import app
from qutec.errors import UnsupportedModelError, UsageError
from qutec.load import load
from qutec.passes.fold_temperature import FoldTemperaturePass
from qutec.passes.merge_heads import MergeHeadsPass
from qutec.quantize import quantize
from tests.onnx_models import run, text
from tests.passes.exit_networks import Network, chain

TOLERANCE = 1e-5
DIGITS = Path(__file__).parents[2] / "models" / "digits.onnx"


def images(*shape: int, count: int = 8) -> npt.NDArray[np.float32]:
    return np.random.default_rng(5).standard_normal((count, *shape)).astype(np.float32)


def softmax(logits: npt.NDArray[np.generic], temperature: float = 1.0) -> npt.NDArray[np.float64]:
    z = logits.astype(np.float64) / temperature
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    result: npt.NDArray[np.float64] = e / e.sum(axis=-1, keepdims=True)
    return result


def op_types(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def dense_model(ops: str, weights: str = "float[6,4] W, float[4] b", out: str = "float[1,4] y") -> ir.Model:
    """x [1, 6] through `ops` to y; weights are random."""
    proto = text(f"g (float[1,6] x, {weights}) => ({out}) {{ {ops} }}")
    random = np.random.default_rng(0)
    for value in list(proto.graph.input)[1:]:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        array = random.uniform(0.5, 2.0, shape).astype(np.float32) * random.choice([-1.0, 1.0], shape)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), value.name))
        proto.graph.input.remove(value)
    return load(proto, simplify=False).model


@pytest.mark.parametrize(
    "ops",
    [
        "l = Gemm (x, W, b) m = Mul (l, s) y = Softmax (m)",
        "l = Gemm (x, W, b) m = Mul (s, l) y = Softmax (m)",
        "l = Gemm (x, W, b) m = Div (l, s) y = Softmax (m)",
        "l = Gemm <alpha = 0.5, beta = 3.0> (x, W, b) m = Div (l, s) y = Softmax (m)",
        "l = MatMul (x, W) m = Div (l, s) y = Softmax (m)",
        "l = MatMul (x, W) a = Add (b, l) m = Mul (a, s) y = Softmax (m)",
        "l = MatMul (x, W) m = Mul (l, s) a = Add (m, b) y = Softmax (a)",
        "l = Gemm (x, W, b) i = Identity (l) f = Flatten (i) m = Mul (f, s) y = Softmax (m)",
        "l = Gemm (x, W, b) m = Mul (l, s) n = Div (m, s) o = Div (n, s) y = Sigmoid (o)",
        "l = Gemm (x, W, b) y = Mul (l, s)",
        "l = Gemm (x, W, b) m = Mul (l, s) y = Identity (m)",
        "y = Gemm (x, W, b) z = Mul (y, s) unused = Softmax (z)",
    ],
)
@pytest.mark.parametrize("factor", ["float[1] s", "float s", "float[4] s", "float[1,4] s"])
def test_constant_factors_of_logits_fold(ops: str, factor: str) -> None:
    model = dense_model(ops, f"float[6,4] W, float[4] b, {factor}")
    x = images(6)
    before = [run(model, x=row[None])[0] for row in x]
    after = FoldTemperaturePass()(model)
    assert not {"Mul", "Div"} & set(op_types(after.model))
    onnx.checker.check_model(ir.to_proto(after.model), full_check=True)
    assert [value.name for value in after.model.graph.outputs] == ["y"]
    for row, wanted in zip(x, before, strict=True):
        np.testing.assert_allclose(run(after.model, x=row[None])[0], wanted, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(
    "moves",
    [
        "r = Reshape (l, shape)",
        "u = Unsqueeze (l, axes) r = Unsqueeze (u, axes_3)",
        "u = Unsqueeze (l, axes) v = Squeeze (u, axes) w = Unsqueeze (v, axes) r = Unsqueeze (w, axes_3)",
    ],
)
@pytest.mark.parametrize("factor", ["float s", "float[4,1,1] s", "float[1,4,1,1] s"])
def test_factors_fold_through_changes_of_shape(moves: str, factor: str) -> None:
    constants = (
        "axes = Constant <value_ints = [2]> () axes_3 = Constant <value_ints = [3]> () "
        "shape = Constant <value_ints = [1, 4, 1, 1]> ()"
    )
    ops = f"{constants} l = Gemm (x, W, b) {moves} m = Mul (r, s) y = Softmax <axis = 1> (m)"
    model = dense_model(ops, f"float[6,4] W, float[4] b, {factor}", "float[1,4,1,1] y")
    x = images(6)
    before = [run(model, x=row[None])[0] for row in x]
    after = FoldTemperaturePass()(model).model
    assert "Mul" not in op_types(after)
    for row, wanted in zip(x, before, strict=True):
        np.testing.assert_allclose(run(after, x=row[None])[0], wanted, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("ops", "factor", "reason"),
    [
        ("l = Gemm (x, W, b) h = Relu (l) m = Mul (h, s) y = Softmax (m)", "float s", "no layer"),
        ("l = Gemm (x, W, b) m = Mul (l, s) y = Softmax (m)", "float[2,1] s", "shape"),
        ("l = Gemm (x, W, b) m = Mul (l, s) y = Softmax (m)", "float[1,1,1] s", "shape"),
        ("l = Gemm (x, W, b) t = Tanh (l) q = Mul (l, s) z = Softmax (q) y = Mul (z, t)", "float s", ""),
        ("h = Relu (x) l = Gemm (h, W, b) m = Mul (l, s) y = Relu (m)", "float s", ""),
        ("l = Gemm (x, W, b) m = Div (s, l) y = Softmax (m)", "float s", ""),
        ("l = Gemm (x, W, b) m = Mul (l, l) y = Softmax (m)", "float s", ""),
        (
            "l = Gemm (x, W, b) u = Relu (l) v = Mul (l, s) w = Softmax (v) y = Concat <axis=0> (u, w)",
            "float s",
            "",
        ),
    ],
)
def test_what_is_no_factor_of_logits_stays(ops: str, factor: str, reason: str) -> None:
    shape = {"float[2,1] s": "float[2,4] y", "float[1,1,1] s": "float[1,1,4] y"}.get(factor, "float[1,4] y")
    shape = "float[2,4] y" if "Concat" in ops else shape
    model = dense_model(ops, f"float[6,4] W, float[4] b, {factor}", shape)
    before = ir.to_proto(model).SerializeToString()
    folding = FoldTemperaturePass()
    assert not folding(model).modified
    assert ir.to_proto(model).SerializeToString() == before
    assert all(reason in message for message in folding.messages)
    assert bool(folding.messages) >= bool(reason)


def test_logits_that_others_read_keep_their_values() -> None:
    ops = "l = Gemm (x, W, b) m = Div (l, s) y = Softmax (m)"
    model = dense_model(ops, "float[6,4] W, float[4] b, float s", "float[1,4] y, float[1,4] l")
    x = images(6)
    before = [run(model, x=row[None]) for row in x]
    folding = FoldTemperaturePass()
    after = folding(model).model
    assert "Div" in op_types(after)
    assert "read by others" in folding.messages[0]
    for row, wanted in zip(x, before, strict=True):
        for result, value in zip(run(after, x=row[None]), wanted, strict=True):
            np.testing.assert_array_equal(result, value)


def test_weights_that_two_exits_share_change_for_one_alone() -> None:
    ops = "l = Gemm (x, W, b) m = Div (l, s) y = Softmax (m) n = Relu (x) k = Gemm (n, W, b) z = Softmax (k)"
    model = dense_model(ops, "float[6,4] W, float[4] b, float s", "float[1,4] y, float[1,4] z")
    x = images(6)
    before = [run(model, x=row[None]) for row in x]
    after = FoldTemperaturePass()(model).model
    assert "Div" not in op_types(after)
    for row, wanted in zip(x, before, strict=True):
        np.testing.assert_allclose(run(after, x=row[None]), wanted, atol=TOLERANCE)


def two_exits() -> Network:
    """An early exit that ends in softmax, a convolutional one in a pool, the final one in logits."""
    net = Network(2, 10, 9)
    first = net.block(net.x, 6)
    net.head(first, "early")
    pooled = net.pooled(net.conv(net.block(first, 6), 5, kernel=1))
    net.output(net.softmax(pooled, "maps"))
    last = net.block(net.block(first, 6, stride=2), 8)
    net.output(net.dense(net.pooled(net.block(last, 8)), 5, "final"))
    net.output(net.op("Tanh", [net.pooled(last)], "features"))
    return net


@pytest.mark.parametrize("temperature", [0.3, 1.7, 20.0])
def test_temperature_divides_the_logits_of_every_classifier(temperature: float) -> None:
    model = load(two_exits().proto(), simplify=False).model
    x = images(2, 10, 9)
    before = [run(model, x=row[None]) for row in x]
    folding = FoldTemperaturePass(temperature)
    after = folding(model).model
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    assert "Div" not in op_types(after)
    assert folding.messages == ()
    assert [value.name for value in after.graph.outputs] == ["early", "maps", "final", "features"]
    for row, (early, maps, final, features) in zip(x, before, strict=True):
        expected = [
            softmax(np.log(early), temperature),
            softmax(np.log(maps), temperature),
            final / temperature,
            features,
        ]
        for result, wanted in zip(run(after, x=row[None]), expected, strict=True):
            np.testing.assert_allclose(result, wanted, atol=TOLERANCE)


def test_a_temperature_of_1_changes_nothing() -> None:
    model = two_exits().model()
    before = ir.to_proto(model).SerializeToString()
    assert not FoldTemperaturePass(1.0)(model).modified
    assert ir.to_proto(model).SerializeToString() == before


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf"), 1e-60])
def test_only_positive_finite_temperatures_are_taken(temperature: float) -> None:
    with pytest.raises(UsageError, match="positive, finite"):
        FoldTemperaturePass(temperature)


def test_without_classifiers_a_temperature_is_a_usage_error() -> None:
    net = Network(2, 8, 8)
    net.output(net.block(net.x, 4, name="map"))
    with pytest.raises(UsageError, match="no output is one"):
        FoldTemperaturePass(2.0)(net.model())


@pytest.mark.parametrize("temperature", [0.6, 3.0])
def test_quantised_logits_keep_their_integers(temperature: float) -> None:
    x = images(2, 16, 16, count=20)
    net = chain(2, 16, 16)
    net.head("b2", "early")
    quantized = quantize(load(net.proto(), simplify=False).model, x)
    proto = ir.to_proto(quantized)
    assert isinstance(proto, onnx.ModelProto)
    plain = qutec.compile(proto, exits="ensemble")
    warm = qutec.compile(proto, exits="ensemble", temperature=temperature)
    heads = []
    for model in (plain.model, warm.model):
        logits = [value for node in model.graph if node.domain == "qutec" for value in node.inputs]
        probe = ir.from_proto(ir.to_proto(model))
        named = {value.name: value for node in probe.graph for value in node.outputs}
        probe.graph.outputs.extend(named[value.name] for value in logits if value is not None)
        heads.append([run(probe, x=row[None])[-len(logits) :] for row in x])
    np.testing.assert_allclose(np.asarray(heads[1]) * temperature, heads[0], rtol=1e-6)
    expected = softmax(np.asarray(heads[0])[:, :, 0], temperature).mean(axis=1)
    # onnxruntime rounds maps of the trunk now and then to the next integer.
    np.testing.assert_allclose(warm.run(x)["probabilities"], expected, atol=0.01)
    assert _constants(plain) == _constants(warm)


def _constants(build: qutec.Build) -> list[bytes]:
    """All weights but the multipliers that turn sums into logits."""
    arrays = [call.constants() for call in build.program.calls]
    return [values.tobytes() for a in arrays for name, values in a.items() if name == "weights"]


def test_quantised_logits_that_others_read_are_refused() -> None:
    x = images(2, 16, 16)
    net = chain(2, 16, 16)
    proto = ir.to_proto(quantize(load(net.proto(), simplify=False).model, x))
    assert isinstance(proto, onnx.ModelProto)
    logits = next(node.input[0] for node in proto.graph.node if node.op_type == "Softmax")
    proto.graph.node.append(onnx.helper.make_node("Relu", [logits], ["positive"]))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("positive", onnx.TensorProto.FLOAT, [1, 5]))
    with pytest.raises(UnsupportedModelError, match="does not fold into its parameters"):
        FoldTemperaturePass(2.0)(load(proto, simplify=False).model)


def test_quantised_layers_without_stored_logits_take_the_temperature_in_their_scales() -> None:
    """Weights in int8 whose sum goes to the softmax in float, as some exporters leave the last layer."""
    x = images(2, 16, 16)
    proto = ir.to_proto(quantize(load(chain(2, 16, 16).proto(), simplify=False).model, x))
    assert isinstance(proto, onnx.ModelProto)
    softmax_node = next(node for node in proto.graph.node if node.op_type == "Softmax")
    gemm = next(node for node in proto.graph.node if node.op_type == "Gemm")
    softmax_node.input[0] = gemm.output[0]
    model = load(proto, simplify=False).model
    before = [run(model, x=row[None])[0] for row in x]
    gemms = [node for node in model.graph if node.op_type == "Gemm"]
    weights = gemms[0].inputs[1].producer().inputs[0].const_value.numpy()
    after = FoldTemperaturePass(2.0)(model).model
    assert "Div" not in op_types(after)
    kept = next(node for node in after.graph if node.op_type == "Gemm").inputs[1].producer()
    np.testing.assert_array_equal(kept.inputs[0].const_value.numpy(), weights)
    for row, wanted in zip(x, before, strict=True):
        # The answer is stored in steps of 1/256 before and after.
        expected = softmax(np.log(np.maximum(wanted, 1e-9)), 2.0)
        np.testing.assert_allclose(run(after, x=row[None])[0], expected, atol=0.02)


@pytest.mark.parametrize("exits", ["qute", "ensemble", "final"])
def test_digits_keep_their_answers_and_lose_confidence(exits: str) -> None:
    pytest.importorskip("sklearn")
    from models.digits import load_digits
    from qutec.passes.select_exits import SelectExitsPass

    x = load_digits().x_test[:50]
    model = SelectExitsPass(exits)(load(DIGITS).model).model  # type: ignore[arg-type]
    before = np.stack([run(model, image=row[None]) for row in x])[:, :, 0]
    after = FoldTemperaturePass(1.9)(model).model
    results = np.stack([run(after, image=row[None]) for row in x])[:, :, 0]
    np.testing.assert_allclose(results, softmax(np.log(np.maximum(before, 1e-38)), 1.9), atol=TOLERANCE)
    np.testing.assert_array_equal(results.argmax(axis=-1), before.argmax(axis=-1))
    if exits != "final":
        merged = MergeHeadsPass()(after).model
        means = np.concatenate([run(merged, image=row[None])[0] for row in x])
        np.testing.assert_allclose(means, results.mean(axis=1), atol=TOLERANCE)


def _compile(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    command = ["compile", str(DIGITS), "--calibration", "random", "-o", str(tmp_path / "net"), *arguments]
    result = CliRunner().invoke(app, command)
    return result.exit_code, str(result.exception)


def test_the_command_line_takes_a_temperature_and_dumps_the_fold(tmp_path: Path) -> None:
    code, message = _compile(tmp_path, "--temperature", "2.5", "--dump", str(tmp_path / "steps"))
    assert code == 0, message
    steps = [path.stem.partition("_")[2] for path in sorted((tmp_path / "steps").iterdir())]
    assert steps.index("select_exits") < steps.index("fold_temperature") < steps.index("merge_heads")


@pytest.mark.parametrize("temperature", ["0", "-2", "inf", "nan"])
def test_the_command_line_refuses_impossible_temperatures(tmp_path: Path, temperature: str) -> None:
    code, message = _compile(tmp_path, f"--temperature={temperature}")
    assert code != 0
    assert "positive, finite" in message
    assert not (tmp_path / "net").exists()
