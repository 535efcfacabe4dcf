"""Add, Sub, Mul and Div with every kind of broadcasting; pointwise functions as tables."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from qutec.errors import UnsupportedModelError
from qutec.program import Add, Mul
from tests.lower.harness import assert_layers_agree, check, compiled, net, weights

UNARY = {
    "Relu": "y = Relu(x)",
    "Clip": "y = Clip(x, low, high)",
    "Clip_low": "y = Clip(x, low)",
    "Clip_high": "y = Clip(x, , high)",
    "LeakyRelu": "y = LeakyRelu<alpha=0.2>(x)",
    "PRelu": "y = PRelu(x, slope)",
    "Sigmoid": "y = Sigmoid(x)",
    "Tanh": "y = Tanh(x)",
    "HardSigmoid": "y = HardSigmoid(x)",
    "HardSigmoid_torch": "y = HardSigmoid<alpha=0.16666667>(x)",
    "HardSwish": "y = HardSwish(x)",
    "Gelu": "y = Gelu(x)",
    "Gelu_tanh": 'y = Gelu<approximate="tanh">(x)',
    "Erf": "y = Erf(x)",
    "Elu": "y = Elu<alpha=0.7>(x)",
    "Selu": "y = Selu(x)",
    "Celu": "y = Celu<alpha=1.3>(x)",
    "Mish": "y = Mish(x)",
    "Softplus": "y = Softplus(x)",
    "Softsign": "y = Softsign(x)",
    "Exp": "y = Exp(x)",
    "Abs": "y = Abs(x)",
    "Neg": "y = Neg(x)",
    "SiLU": "s = Sigmoid(x) y = Mul(x, s)",
    "SiLU_swapped": "s = Sigmoid(x) y = Mul(s, x)",
    "decomposed_hard_swish": "a = Add(x, three) k = Clip(a, zero, six) m = Mul(x, k) y = Div(m, six)",
    "decomposed_gelu": ("d = Div(x, root) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)"),
    "square": "y = Mul(x, x)",
    "double": "y = Add(x, x)",
    "power": "y = Pow(x, two)",
    "scaled": "y = Mul(x, half)",
    "shifted": "y = Sub(x, three)",
    "reversed": "y = Sub(three, x)",
    "divided": "y = Div(x, three)",
    "reciprocal": "e = Exp(x) a = Add(e, one) y = Div(one, a)",
    "maximum": "y = Max(x, half)",
    "minimum": "y = Min(half, x)",
    "standardised": "s = Sub(x, half) d = Div(s, six) y = Relu(d)",
}

SCALARS = {
    "low": np.float32(-0.6),
    "high": np.float32(0.9),
    "slope": np.float32(0.3),
    "zero": np.float32(0.0),
    "half": np.float32(0.5),
    "one": np.float32(1.0),
    "two": np.float32(2.0),
    "three": np.float32(3.0),
    "six": np.float32(6.0),
    "root": np.float32(np.sqrt(2.0)),
}


@pytest.mark.parametrize("name", UNARY)
def test_pointwise_function_is_one_table(name: str) -> None:
    model = net(f"(float[1,3,5,4] x) => (float y) {{ {UNARY[name]} }}", **SCALARS)
    case = check(model)
    # A new scale alone changes no code: the input is copied to the output as it is.
    assert case.calls == (["Copy"] if name in ("double", "scaled", "shifted", "divided") else ["Lookup"])


def test_scaling_between_layers_costs_nothing() -> None:
    model = net(
        "(float[1,3,5,4] x) => (float y) { s = Mul(x, k)  c = Conv(s, w)  d = Div(c, k)  y = Conv(d, v) }",
        w=weights(4, 3, 1, 1),
        v=weights(4, 4, 1, 1),
        k=np.float32(0.37),
    )
    assert check(model).calls == ["Conv2D", "Conv2D"]


@pytest.mark.parametrize("body", UNARY.values(), ids=UNARY.keys())
def test_pointwise_function_after_conv(body: str) -> None:
    body = body.replace("(x", "(c").replace(", x)", ", c)")
    model = net(
        f"(float[1,3,5,4] x) => (float y) {{ c = Conv(x, w) {body} }}", w=weights(4, 3, 2, 2), **SCALARS
    )
    case = check(model)
    assert set(case.calls) <= {"Conv2D", "Lookup", "DepthwiseConv2D"}
    assert len(case.calls) <= 2


def test_silu_after_conv_is_conv_and_one_table() -> None:
    model = net(
        "(float[1,3,5,4] x) => (float y) { c = Conv(x, w) s = Sigmoid(c) y = Mul(c, s) }",
        w=weights(4, 3, 2, 2),
    )
    assert check(model).calls == ["Conv2D", "Lookup"]


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("relu", [False, True])
def test_two_tensors(operator: str, relu: bool) -> None:
    body = f"t = {operator}(a, b) y = Relu(t)" if relu else f"y = {operator}(a, b)"
    model = net(f"(float[1,3,5,4] a, float[1,3,5,4] b) => (float y) {{ {body} }}")
    case = check(model)
    assert case.calls == [{"Sub": "Add"}.get(operator, operator)]
    (call,) = case.program.calls
    assert isinstance(call, Add | Mul)
    assert (call.outer, call.inner) == (1, 60)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize(
    "shape",
    [(1, 4, 1, 1), (1, 1, 1, 6), (1, 1, 5, 1), (1, 1, 5, 6), (1, 1, 1, 1), (1, 4, 1, 6), (1, 4, 5, 1)],
)
@pytest.mark.parametrize("first", [False, True])
def test_tensor_broadcast_at_run_time(operator: str, shape: tuple[int, ...], first: bool) -> None:
    operands = "b, c" if first else "c, b"
    model = net(
        f"""(float[1,3,5,6] x, float{list(shape)} b) => (float y) {{
            c = Conv(x, w) y = {operator}({operands}) }}""",
        w=weights(4, 3, 1, 1),
    )
    case = check(model)
    assert case.calls[-1] in ("Add", "Mul")


def test_channel_gate_is_broadcast_by_the_kernel() -> None:
    """Squeeze and excitation: the gate is read again for every pixel, nothing is copied."""
    model = net(
        """(float[1,3,5,6] x) => (float y) {
            c = Conv(x, w)  p = GlobalAveragePool(c)  g = Conv(p, v)  s = Sigmoid(g)  y = Mul(c, s) }""",
        w=weights(4, 3, 1, 1),
        v=weights(4, 4, 1, 1),
    )
    case = check(model)
    assert case.calls == ["Conv2D", "AvgPool2D", "Conv2D", "Lookup", "Mul"]
    gate = case.program.calls[-1]
    assert isinstance(gate, Mul)
    assert (gate.outer, gate.inner, gate.stride_1, gate.stride_2) == (30, 4, 4, 0)


def test_both_tensors_are_broadcast() -> None:
    check(net("(float[1,4,1] a, float[1,1,6] b) => (float y) { y = Mul(a, b) }"))
    check(net("(float[1,4,1,1] a, float[1,1,5,6] b) => (float y) { y = Add(a, b) }"))


def test_tensor_of_lower_rank_is_broadcast() -> None:
    model = net(
        """(float[1,3,5,6] x, float[1,6] b) => (float y) { c = Conv(x, w) y = Add(c, b) }""",
        w=weights(4, 3, 1, 1),
    )
    check(model)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize(
    "shape", [(4, 1, 1), (1, 4, 1, 1), (6,), (5, 1), (5, 6), (4, 5, 6), (1, 4, 1, 6), (1,), (1, 1, 1, 1)]
)
def test_constant_operand(operator: str, shape: tuple[int, ...]) -> None:
    constant = np.abs(weights(*shape)) + 0.3 if operator == "Div" else weights(*shape)
    model = net(f"(float[1,4,5,6] x) => (float y) {{ y = {operator}(x, k) }}", k=constant)
    case = check(model)
    assert len(case.calls) == 1


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("shape", [(4, 1, 1), (6,), (4, 5, 6), (1,)])
def test_constant_operand_first(operator: str, shape: tuple[int, ...]) -> None:
    model = net(f"(float[1,4,5,6] x) => (float y) {{ y = {operator}(k, x) }}", k=weights(*shape))
    assert len(check(model).calls) == 1


def test_constant_divided_by_data_of_one_sign() -> None:
    model = net(
        "(float[1,4,5] x) => (float y) { s = Sigmoid(x) a = Add(s, k) y = Div(k, a) }", k=np.float32(1.0)
    )
    check(model)


def test_vector_divided_by_data_is_refused() -> None:
    model = net("(float[1,4,5] x) => (float y) { e = Exp(x) y = Div(k, e) }", k=weights(5))
    with pytest.raises(UnsupportedModelError, match="its constant is not one number"):
        compiled(model)


def test_division_of_data_by_data_is_refused() -> None:
    model = net("(float[1,4,5] x, float[1,4,5] z) => (float y) { e = Exp(z) y = Div(x, e) }")
    with pytest.raises(UnsupportedModelError, match="both of its inputs are data"):
        compiled(model)


def test_data_broadcast_over_a_larger_constant() -> None:
    model = net("(float[1,4,1] x) => (float y) { y = Mul(x, k) }", k=weights(4, 5))
    check(model)


def test_add_of_one_tensor_twice_in_another_order() -> None:
    """x + transpose(x): the same buffer, but not the same element."""
    model = net("(float[1,4,4] x) => (float y) { t = Transpose<perm=[0,2,1]>(x) y = Add(x, t) }")
    check(model)


def test_residual_add_has_one_call_for_add_and_relu() -> None:
    model = net(
        """(float[1,3,6,6] x) => (float y) {
            a = Conv<pads=[1,1,1,1]>(x, w)  r = Relu(a)  b = Conv<pads=[1,1,1,1]>(r, v)
            s = Add(b, r)  y = Relu(s) }""",
        w=weights(4, 3, 3, 3),
        v=weights(4, 4, 3, 3),
    )
    assert check(model).calls == ["Conv2D", "Conv2D", "Add"]


@pytest.mark.parametrize("axis_constant", [weights(4, 1, 1), weights(6)])
def test_relu_after_channel_constant_is_one_call(axis_constant: npt.NDArray[np.float32]) -> None:
    model = net("(float[1,4,5,6] x) => (float y) { a = Mul(x, k) y = Relu(a) }", k=axis_constant)
    assert check(model).calls == ["DepthwiseConv2D"]


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_batch_normalization_that_stands_alone(rank: int) -> None:
    shape = [1, 4, 5, 6][:rank]
    model = net(
        f"""(float{shape} x) => (float y) {{
            n = BatchNormalization<epsilon=0.001>(x, s, b, m, v)  y = Relu(n) }}""",
        s=weights(4),
        b=weights(4, seed=1),
        m=weights(4, seed=2),
        v=np.abs(weights(4, seed=3)) + 0.5,
    )
    assert check(model).calls == ["DepthwiseConv2D"]


def test_batch_normalization_after_add() -> None:
    model = net(
        """(float[1,4,5,6] x) => (float y) {
            c = Conv(x, w) a = Add(c, x) n = BatchNormalization(a, s, b, m, v) y = Relu(n) }""",
        w=weights(4, 4, 1, 1),
        s=weights(4),
        b=weights(4, seed=1),
        m=weights(4, seed=2),
        v=np.abs(weights(4, seed=3)) + 0.5,
    )
    assert check(model).calls == ["Conv2D", "Add", "DepthwiseConv2D"]


def test_addition_of_very_different_scales() -> None:
    model = net("(float[1,50] a, float[1,50] b) => (float y) { y = Add(a, b) }")
    generator = np.random.default_rng(0)
    data = {
        "a": generator.standard_normal((6, 50)) * 1000,
        "b": generator.standard_normal((6, 50)) * 0.001,
    }
    assert_layers_agree(compiled(model, data))


def test_cancelling_subtraction() -> None:
    """The difference of two nearly equal tensors has a far smaller scale than they have."""
    model = net("(float[1,50] a, float[1,50] b) => (float y) { y = Sub(a, b) }")
    generator = np.random.default_rng(0)
    a = generator.standard_normal((6, 50))
    data = {"a": a, "b": a + 1e-4 * generator.standard_normal((6, 50))}
    assert_layers_agree(compiled(model, data))


def test_prelu_with_a_slope_for_each_channel_is_refused() -> None:
    model = net("(float[1,4,5,6] x) => (float y) { y = PRelu(x, s) }", s=weights(4, 1, 1))
    with pytest.raises(UnsupportedModelError, match="its slope is not one constant"):
        compiled(model)


def test_reciprocal_square_root() -> None:
    model = net(
        "(float[1,20] x) => (float y) { a = Abs(x) b = Add(a, k) s = Sqrt(b) y = Div(k, s) }", k=np.float32(1)
    )
    check(model)


@pytest.mark.parametrize(("shape", "most"), [((1, 1, 1, 1), 32), ((1, 1, 1, 6), 24), ((1, 1, 8, 1), 192)])
def test_broadcast_that_needs_a_copy_copies_one_block(shape: tuple[int, ...], most: int) -> None:
    """A scalar gate, or a row for every column, is spread over as little memory as repeats."""
    model = net(
        f"(float[1,3,8,6] x, float{list(shape)} b) => (float y) {{ c = Conv(x, w) y = Mul(c, b) }}",
        w=weights(4, 3, 1, 1),
    )
    case = check(model)
    assert case.calls == ["Conv2D", "Copy", "Mul"]
    copied = sum(b.bytes for name, b in case.program.buffers.items() if name.endswith("broadcast"))
    assert copied <= most
