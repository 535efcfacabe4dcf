"""The QDQ model is valid, runs, keeps its outputs, and follows the int8 specification."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, numpy_helper

from qutec.calibrate import measure_ranges
from qutec.load import load
from qutec.passes.quantize import QuantizePass, is_quantized, values_to_calibrate
from qutec.program import Quantization
from qutec.quantization import activation_parameters, quantize_bias, symmetric_per_channel
from tests.lower.harness import compiled, net, noise, rows, run_onnx, weights

Array = npt.NDArray[np.generic]


def _network() -> onnx.ModelProto:
    return net(
        """(float[1,3,8,8] x) => (float early, float map, float y) {
            c = Conv<pads=[1,1,1,1]>(x, w, b)  r = Relu(c)
            p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r)
            d = Conv<group=4,pads=[1,1,1,1]>(p, v)  map = Clip(d, zero, six)
            s = Add(map, p)  g = GlobalAveragePool(s)  f = Flatten(g)
            m = MatMul(f, h)  a = Add(m, k)  y = Softmax<axis=1>(a)
            q = Flatten(p)  e = Gemm<transB=1>(q, u, j)  early = Softmax<axis=1>(e) }""",
        w=weights(4, 3, 3, 3),
        b=weights(4, seed=1),
        v=weights(4, 1, 3, 3),
        h=weights(4, 5),
        k=weights(5),
        u=weights(5, 64),
        j=weights(5, seed=2),
        zero=np.float32(0),
        six=np.float32(6),
    )


def _constants(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _parameters(model: onnx.ModelProto, value: str) -> Quantization:
    """What the QuantizeLinear behind a value says; an output of the float model is the pair's result."""
    known = _constants(model)
    back = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    if value in back:
        node = back[value]
    else:
        node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == value)
    return Quantization(float(known[node.input[1]]), int(known[node.input[2]]))


@pytest.fixture(scope="module")
def quantized() -> onnx.ModelProto:
    return compiled(_network()).quantized


def test_model_is_valid_and_runs(quantized: onnx.ModelProto) -> None:
    onnx.checker.check_model(quantized, full_check=True)
    samples = {"x": np.zeros((2, 3, 8, 8), np.float32)}
    assert set(run_onnx(quantized, rows(samples))) == {"early", "map", "y"}


def test_every_output_stays_under_its_name_in_its_place(quantized: onnx.ModelProto) -> None:
    assert [output.name for output in quantized.graph.output] == ["early", "map", "y"]
    assert [value.name for value in quantized.graph.input] == ["x"]


def test_dequantised_outputs_are_near_the_float_ones(quantized: onnx.ModelProto) -> None:
    samples = noise(ir.from_proto(_network()), 8, seed=5)
    ours, truth = run_onnx(quantized, rows(samples)), run_onnx(_network(), rows(samples))
    for name, values in truth.items():
        step = _parameters(quantized, name).scale
        error = np.abs(ours[name].astype(float) - values.astype(float))
        assert error.mean() <= 2 * step, name


def test_every_weight_is_int8_symmetric_and_every_bias_int32(quantized: onnx.ModelProto) -> None:
    known = _constants(quantized)
    producers = {node.output[0]: node for node in quantized.graph.node}
    seen = 0
    for node in quantized.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        data, filters = producers[node.input[0]], producers[node.input[1]]
        integers, scale, zero = (known[name] for name in filters.input)
        assert integers.dtype == np.int8
        assert integers.min() >= -127
        assert not zero.any()
        if len(node.input) > 2:
            bias, bias_scale, bias_zero = (known[name] for name in producers[node.input[2]].input)
            assert bias.dtype == np.int32
            assert not bias_zero.any()
            np.testing.assert_array_equal(bias_scale, known[data.input[1]] * scale)
            seen += 1
    assert seen == 2


def test_bias_add_behind_matmul_is_int32_too(quantized: onnx.ModelProto) -> None:
    producers = {node.output[0]: node for node in quantized.graph.node}
    add = next(
        n for n in quantized.graph.node if n.op_type == "Add" and producers[n.input[0]].op_type == "MatMul"
    )
    assert _constants(quantized)[producers[add.input[1]].input[0]].dtype == np.int32


def test_value_before_a_fused_relu_is_not_quantised(quantized: onnx.ModelProto) -> None:
    readers = [node.op_type for node in quantized.graph.node if "c" in node.input]
    assert readers == ["Relu"]


def test_pool_and_reshape_keep_parameters(quantized: onnx.ModelProto) -> None:
    assert _parameters(quantized, "r") == _parameters(quantized, "p") == _parameters(quantized, "q")
    assert _parameters(quantized, "s") == _parameters(quantized, "g") == _parameters(quantized, "f")
    assert _parameters(quantized, "s") != _parameters(quantized, "p")


def test_softmax_has_the_parameters_of_the_specification(quantized: onnx.ModelProto) -> None:
    assert _parameters(quantized, "y") == _parameters(quantized, "early") == Quantization(1 / 256, -128)


def test_activations_cover_their_range_and_hold_zero_exactly() -> None:
    model = load(_network().SerializeToString(), simplify=False).model
    samples = noise(model, 6)
    ranges = measure_ranges(model, samples, values_to_calibrate(model))
    QuantizePass(ranges)(model)
    proto = ir.to_proto(model)
    for name, (low, high) in ranges.items():
        p = _parameters(proto, name)
        assert (-128 - p.zero_point) * p.scale <= min(low, 0.0) + 0.51 * p.scale
        assert (127 - p.zero_point) * p.scale >= max(high, 0.0) - 0.51 * p.scale
        assert -128 <= p.zero_point <= 127


def test_same_input_gives_the_same_bytes() -> None:
    first, second = compiled(_network()).quantized, compiled(_network()).quantized
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_quantised_values_have_types_and_shapes(quantized: onnx.ModelProto) -> None:
    known = {info.name: info for info in (*quantized.graph.value_info, *quantized.graph.output)}
    for node in quantized.graph.node:
        if node.op_type == "QuantizeLinear":
            assert known[node.output[0]].type.tensor_type.elem_type == TensorProto.INT8
            assert known[node.output[0]].type.tensor_type.HasField("shape")


def test_missing_range_and_quantised_models_are_preconditions() -> None:
    model = load(_network().SerializeToString(), simplify=False).model
    with pytest.raises(ir.passes.PreconditionError, match="no range for"):
        QuantizePass({})(model)
    loaded = load(compiled(_network()).quantized.SerializeToString(), simplify=False).model
    assert is_quantized(loaded)
    with pytest.raises(ir.passes.PreconditionError, match="quantised already"):
        QuantizePass({})(loaded)


def test_values_of_fixed_parameters_are_not_calibrated() -> None:
    model = load(_network().SerializeToString(), simplify=False).model
    wanted = values_to_calibrate(model)
    assert {"y", "early", "c", "d", "m"}.isdisjoint(wanted)
    assert {"x", "r", "p", "map", "s", "a"} <= set(wanted)


def test_concat_shares_parameters_with_inputs_that_nothing_else_reads() -> None:
    model = net(
        """(float[1,3,4,4] x) => (float y) {
            a = Conv(x, w)  b = Conv(x, v)  r = MaxPool<kernel_shape=[1,1]>(b)  y = Concat<axis=1>(a, r) }""",
        w=weights(2, 3, 1, 1),
        v=weights(2, 3, 1, 1, gain=3.0),
    )
    proto = compiled(model).quantized
    assert _parameters(proto, "a") == _parameters(proto, "b") == _parameters(proto, "y")


def test_concat_does_not_coarsen_what_others_read_through_a_pool() -> None:
    """The pool's result is read by the Concat alone, but the convolution behind it by another branch too."""
    model = net(
        """(float[1,3,4,4] x) => (float y, float z) {
            a = Conv(x, w)  z = Conv(a, u)  p = MaxPool<kernel_shape=[1,1]>(a)
            b = Conv(x, v)  y = Concat<axis=1>(p, b) }""",
        w=weights(2, 3, 1, 1, gain=0.01),
        u=weights(2, 2, 1, 1),
        v=weights(2, 3, 1, 1, gain=30.0),
    )
    proto = compiled(model).quantized
    assert _parameters(proto, "a").scale < _parameters(proto, "b").scale / 100


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 255.0, Quantization(1.0, -128)),
        (-128.0, 127.0, Quantization(1.0, 0)),
        (-255.0, -1.0, Quantization(1.0, 127)),
        (3.0, 255.0, Quantization(1.0, -128)),
        (0.0, 0.0, Quantization(1.0, -128)),
        (0.0, 1e-45, Quantization(1.0, -128)),
    ],
)
def test_activation_parameters(low: float, high: float, expected: Quantization) -> None:
    assert activation_parameters(low, high) == expected


def test_weights_are_nearest_multiples_of_their_channels_scale() -> None:
    w = weights(5, 3, 2)
    for axis in (0, 1, 2):
        integers, scale = symmetric_per_channel(w, axis)
        assert scale.shape == (w.shape[axis],)
        along = [1, 1, 1]
        along[axis] = -1
        steps = scale.reshape(along).astype(float)
        assert np.abs(integers * steps - w).max() <= 0.5001 * scale.max()
        assert (np.abs(integers).max(axis=tuple(i for i in range(3) if i != axis)) == 127).all()


def test_bias_saturates_at_int32() -> None:
    huge = quantize_bias(np.array([1e12, -1e12, 0.5]), np.array([1e-3, 1e-3, 1.0]))
    assert huge.tolist() == [2**31 - 1, -(2**31), 0]
