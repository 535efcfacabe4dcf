"""Networks at the edge: no kernel at all, shared and aliased outputs, several inputs, odd ranges."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qutec.errors import UnsupportedModelError
from qutec.lower import lower
from qutec.program import BufferKind, Quantization
from tests.lower.harness import (
    assert_layers_agree,
    assert_plan_is_valid,
    check,
    compiled,
    layer_errors,
    net,
    run_samples,
    weights,
)


def _ints(*values: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    "operator", ["Identity(x)", "Flatten(x)", "Transpose<perm=[0,2,1]>(x)", "Dropout(x)"]
)
def test_network_without_arithmetic(operator: str) -> None:
    case = check(net(f"(float[1,3,4] x) => (float y) {{ y = {operator} }}"))
    assert set(case.calls) <= {"Copy"}
    (port,) = case.program.outputs
    assert case.program.buffers[port.tensor.buffer].kind is BufferKind.OUTPUT


def test_output_that_other_layers_read() -> None:
    model = net(
        """(float[1,3,6,6] x) => (float y, float early) {
            c = Conv(x, w)  early = Relu(c)  d = Conv(early, v)  y = Relu(d) }""",
        w=weights(4, 3, 3, 3),
        v=weights(2, 4, 3, 3),
    )
    case = check(model)
    assert case.calls == ["Conv2D", "Conv2D"]
    assert [port.name for port in case.program.outputs] == ["y", "early"]


def test_output_between_a_layer_and_its_relu() -> None:
    model = net(
        """(float[1,3,6,6] x) => (float logits, float y) { logits = Conv(x, w)  y = Relu(logits) }""",
        w=weights(4, 3, 3, 3),
    )
    assert check(model).calls == ["Conv2D", "Lookup"]


def test_logits_and_probabilities_are_both_outputs() -> None:
    model = net(
        """(float[1,8] x) => (float logits, float y) {
            logits = Gemm(x, w, b)  y = Softmax<axis=1>(logits) }""",
        w=weights(8, 4),
        b=weights(4),
    )
    case = check(model)
    assert len(case.calls) == 2
    scales = {port.name: port.quantization.scale for port in case.program.outputs}
    assert scales["y"] == 1 / 256
    assert scales["logits"] != scales["y"]


def test_output_that_is_a_slice_of_another_output() -> None:
    model = net(
        """(float[1,8] x) => (float all, float part) {
            all = Gemm(x, w)  part = Slice(all, starts, ends, axes) }""",
        w=weights(8, 6),
        starts=_ints(2),
        ends=_ints(5),
        axes=_ints(1),
    )
    case = check(model)
    assert len(case.calls) <= 2
    outputs = run_samples(case.program, case.samples)
    np.testing.assert_array_equal(outputs["part"], outputs["all"][:, :, 2:5])


def test_output_that_is_a_reshape_of_another_output() -> None:
    model = net(
        """(float[1,3,6,6] x) => (float map, float flat) { map = Conv(x, w)  flat = Flatten(map) }""",
        w=weights(4, 3, 3, 3),
    )
    case = check(model)
    outputs = run_samples(case.program, case.samples)
    np.testing.assert_array_equal(outputs["flat"].reshape(-1), outputs["map"].reshape(-1))


def test_one_value_as_two_outputs() -> None:
    model = net("(float[1,8] x) => (float y, float z) { y = Gemm(x, w)  z = Identity(y) }", w=weights(8, 6))
    case = check(model)
    outputs = run_samples(case.program, case.samples)
    assert list(outputs) == ["y", "z"]
    np.testing.assert_array_equal(outputs["y"], outputs["z"])


def test_network_input_that_is_an_output_too() -> None:
    model = net("(float[1,8] x) => (float y, float z) { y = Identity(x)  z = Gemm(x, w) }", w=weights(8, 6))
    case = check(model)
    assert [port.name for port in case.program.outputs] == ["y", "z"]


def test_network_input_by_its_own_name_as_an_output() -> None:
    model = net("(float[1,8] x) => (float x, float z) { z = Gemm(x, w) }", w=weights(8, 6))
    case = compiled(model)
    assert [port.name for port in case.program.inputs] == ["x"]
    assert [port.name for port in case.program.outputs] == ["x", "z"]
    assert [value.name for value in case.quantized.graph.input] == ["x"]
    outputs = run_samples(case.program, case.samples)
    step = case.program.outputs[0].quantization
    np.testing.assert_allclose(
        (outputs["x"][:, 0] - float(step.zero_point)) * step.scale, case.samples["x"], atol=step.scale
    )
    assert_plan_is_valid(case.program)


def test_two_inputs_with_scales_of_their_own() -> None:
    model = net(
        """(float[1,3,6,6] a, float[1,8] b) => (float y) {
            c = Conv(a, w)  g = GlobalAveragePool(c)  f = Flatten(g)
            d = Gemm(b, v)  k = Concat<axis=1>(f, d)  y = Gemm(k, u) }""",
        w=weights(4, 3, 3, 3),
        v=weights(8, 4),
        u=weights(8, 3),
    )
    generator = np.random.default_rng(0)
    data = {
        "a": generator.standard_normal((6, 3, 6, 6)) * 10,
        "b": generator.standard_normal((6, 8)) * 0.1,
    }
    case = compiled(model, data)
    assert_layers_agree(case)
    first, second = (port.quantization.scale for port in case.program.inputs)
    assert first > 20 * second


def test_input_that_nothing_reads() -> None:
    model = net("(float[1,8] x, float[1,4] unused) => (float y) { y = Gemm(x, w) }", w=weights(8, 6))
    case = check(model)
    assert [port.name for port in case.program.inputs] == ["x", "unused"]
    assert case.program.inputs[1].quantization == Quantization(1.0, 0)


def test_symbolic_batch_is_one() -> None:
    case = check(net("(float[N,8] x) => (float y) { y = Gemm(x, w) }", w=weights(8, 6)))
    assert case.program.outputs[0].logical_shape == (1, 6)


def test_layer_that_always_gives_the_same_value() -> None:
    model = net(
        "(float[1,8] x) => (float y) { z = Mul(x, k)  g = Gemm(z, w, b)  y = Relu(g) }",
        k=np.float32(0.0),
        w=weights(8, 6),
        b=np.full(6, -1.0),
    )
    case = compiled(model)
    assert_layers_agree(case)
    values = run_samples(case.program, case.samples)["y"]
    assert (values == case.program.outputs[0].quantization.zero_point).all()


@pytest.mark.parametrize(("low", "high"), [(-9.0, -4.0), (5.0, 6.0), (-1e-6, 1e-6), (-3e4, 1e5)])
def test_ranges_far_from_the_unit_interval(low: float, high: float) -> None:
    model = net(
        "(float[1,3,6,6] x) => (float y) { c = Conv(x, w, b)  y = Relu(c) }",
        w=weights(4, 3, 3, 3),
        b=weights(4),
    )
    data = np.random.default_rng(0).uniform(low, high, (6, 3, 6, 6))
    assert_layers_agree(compiled(model, data))


def test_all_samples_are_zero() -> None:
    model = net("(float[1,8] x) => (float y) { g = Gemm(x, w)  y = Sigmoid(g) }", w=weights(8, 6))
    case = compiled(model, np.zeros((3, 8)))
    assert_layers_agree(case)


def test_one_pixel_and_one_channel() -> None:
    check(
        net(
            "(float[1,1,1,1] x) => (float y) { c = Conv(x, w, b) y = Sigmoid(c) }",
            w=weights(1, 1, 1, 1),
            b=weights(1),
        )
    )


def test_values_and_nodes_with_odd_names() -> None:
    model = net("(float[1,8] x) => (float y) { a = Gemm(x, w)  y = Relu(a) }", w=weights(8, 6))
    for info in model.graph.input:
        info.name = "input/1:0"
    model.graph.node[0].input[0] = "input/1:0"
    for node in model.graph.node:
        node.name = "a b/c;d"
    onnx.checker.check_model(model)
    case = check(model)
    assert case.program.inputs[0].name == "input/1:0"


def test_names_that_quantisation_wants_are_taken_already() -> None:
    model = net(
        """(float[1,8] x) => (float y) {
            x_quantized = Gemm(x, w)  x_scale = Relu(x_quantized)  x_dequantized = Gemm(x_scale, v)
            y = Sigmoid(x_dequantized) }""",
        w=weights(8, 6),
        v=weights(6, 4),
    )
    onnx.checker.check_model(check(model).quantized, full_check=True)


def test_lowering_does_not_change_the_model() -> None:
    case = compiled(
        net("(float[1,3,6,6] x) => (float y) { c = Conv(x, w)  y = Relu(c) }", w=weights(4, 3, 3, 3))
    )
    model = ir.from_proto(case.quantized)
    lower(model, "net")
    again = ir.to_proto(model)
    assert again.SerializeToString(deterministic=True) == ir.to_proto(
        ir.from_proto(case.quantized)
    ).SerializeToString(deterministic=True)


def test_parallel_exits_share_their_trunk() -> None:
    model = net(
        """(float[1,3,8,8] x) => (float e1, float e2, float y) {
            c = Conv<pads=[1,1,1,1]>(x, w)  r = Relu(c)
            p1 = GlobalAveragePool(r)  f1 = Flatten(p1)  g1 = Gemm(f1, h1)  e1 = Softmax<axis=1>(g1)
            d = Conv<pads=[1,1,1,1]>(r, v)  s = Relu(d)
            p2 = GlobalAveragePool(s)  f2 = Flatten(p2)  g2 = Gemm(f2, h2)  e2 = Softmax<axis=1>(g2)
            k = Concat<axis=1>(f1, f2)  g3 = Gemm(k, h3)  y = Softmax<axis=1>(g3) }""",
        w=weights(4, 3, 3, 3),
        v=weights(6, 4, 3, 3),
        h1=weights(4, 5),
        h2=weights(6, 5),
        h3=weights(10, 5),
    )
    case = check(model)
    assert case.calls.count("Conv2D") + case.calls.count("FullyConnected") == 5
    assert case.calls.count("Softmax") == 3
    assert max(layer_errors(case.quantized, case.samples).values()) <= 1


def test_eight_bit_image_that_is_cast_and_scaled() -> None:
    """uint8 pixels, Cast, / 255: the input port has scale 1 and the codes of the image."""
    model = net(
        """(uint8[1,3,6,6] x) => (float y) {
            f = Cast<to=1>(x)  s = Div(f, k)
            sq = QuantizeLinear(s, a, z)  sd = DequantizeLinear(sq, a, z)
            c = Conv(sd, w)  cq = QuantizeLinear(c, b, z)  y = DequantizeLinear(cq, b, z) }""",
        k=np.float32(255),
        a=np.float32(1 / 255),
        z=np.int8(-128),
        b=np.float32(0.02),
        w=weights(4, 3, 3, 3),
    )
    program = lower(ir.from_proto(model), "net")
    assert program.inputs[0].quantization == Quantization(1.0, -128)
    samples = {"x": np.random.default_rng(0).integers(0, 256, (3, 3, 6, 6)).astype(np.uint8)}
    assert max(layer_errors(model, samples).values()) <= 1


def test_float_network_on_eight_bit_pixels() -> None:
    model = net(
        "(uint8[1,3,6,6] x) => (float y) { f = Cast<to=1>(x)  s = Div(f, k)  c = Conv(s, w)  y = Relu(c) }",
        k=np.float32(255),
        w=weights(4, 3, 3, 3),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 6, 6)).astype(np.uint8)
    case = compiled(model, pixels)
    assert case.calls == ["Conv2D"]
    assert case.program.inputs[0].quantization == Quantization(1.0, -128)
    assert max(layer_errors(case.quantized, {"x": pixels}).values()) <= 1


def test_cast_of_data_to_integers_is_refused() -> None:
    model = net("(float[1,8] x) => (float y) { c = Cast<to=6>(x)  d = Cast<to=1>(c)  y = Relu(d) }")
    with pytest.raises(UnsupportedModelError, match=r"Cast 'node': it makes integers of data"):
        compiled(model)


def test_pointwise_chain_on_the_input_leaves_its_order_open() -> None:
    """Pixels go through a table, and the convolution still reads them without a copy."""
    model = net(
        "(float[1,3,6,6] x) => (float y) { s = Abs(x)  d = Div(s, m)  y = Conv(d, w) }",
        m=np.float32(0.25),
        w=weights(4, 3, 3, 3),
    )
    assert check(model).calls == ["Lookup", "Conv2D"]


def test_clamps_that_exclude_each_other() -> None:
    model = net(
        "(float[1,8] x) => (float y) { g = Gemm(x, w)  a = Clip(g, zero, one)  y = Clip(a, two, three) }",
        w=weights(8, 6),
        zero=np.float32(0),
        one=np.float32(1),
        two=np.float32(2),
        three=np.float32(3),
    )
    case = compiled(model)
    assert_layers_agree(case)
    (port,) = case.program.outputs
    values = run_samples(case.program, case.samples)["y"]
    np.testing.assert_allclose(
        (values - float(port.quantization.zero_point)) * port.quantization.scale, 2.0, atol=0.02
    )
