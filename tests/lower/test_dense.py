"""Gemm and MatMul with constant weights, and what is folded into them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from qutec.errors import UnsupportedModelError
from tests.lower.harness import check, compiled, net, weights


@pytest.mark.parametrize(
    ("attributes", "shape"),
    [
        ("transB=1", (6, 20)),
        ("transB=0", (20, 6)),
        ("transB=1,alpha=0.5", (6, 20)),
        ("transB=0,alpha=2.0,beta=0.25", (20, 6)),
        ("transB=1,beta=3.0", (6, 20)),
        ("transB=1,alpha=-1.5", (6, 20)),
        ("transB=1,beta=0.0", (6, 20)),
        ("transB=1,beta=-1.0", (6, 20)),
        ("transB=1,alpha=0.0", (6, 20)),
    ],
)
def test_gemm_attributes(attributes: str, shape: tuple[int, int]) -> None:
    model = net(
        f"(float[1,20] x) => (float y) {{ y = Gemm<{attributes}>(x, w, b) }}",
        w=weights(*shape),
        b=weights(6, seed=1),
    )
    assert len(check(model).calls) == 1


@pytest.mark.parametrize(
    "bias",
    [weights(6), weights(1, 6), weights(1), np.float32(0.75), weights(1, 1), np.zeros(6)],
    ids=["vector", "row", "one", "scalar", "one_by_one", "zeros"],
)
def test_gemm_bias_shapes(bias: npt.ArrayLike) -> None:
    model = net("(float[1,20] x) => (float y) { y = Gemm(x, w, b) }", w=weights(20, 6), b=bias)
    assert len(check(model).calls) == 1


def test_gemm_without_bias() -> None:
    model = net("(float[1,20] x) => (float y) { g = Gemm(x, w) y = Relu(g) }", w=weights(20, 6))
    assert len(check(model).calls) == 1


def test_gemm_of_one_output() -> None:
    model = net("(float[1,20] x) => (float y) { y = Gemm(x, w, b) }", w=weights(20, 1), b=weights(1))
    assert check(model).calls == ["FullyConnected"]


def test_gemm_of_one_input() -> None:
    model = net("(float[1,1] x) => (float y) { y = Gemm(x, w, b) }", w=weights(1, 5), b=weights(5))
    check(model)


def test_gemm_with_trans_a_of_a_column() -> None:
    model = net("(float[1,1] x) => (float y) { y = Gemm<transA=1>(x, w, b) }", w=weights(1, 5), b=weights(5))
    with pytest.raises(UnsupportedModelError, match="transA"):
        compiled(model)


@pytest.mark.parametrize("shape", [(1, 20), (1, 5, 20), (1, 3, 4, 20)])
@pytest.mark.parametrize("bias", ["none", "vector", "scalar", "first"])
def test_matmul(shape: tuple[int, ...], bias: str) -> None:
    body = {
        "none": "y = MatMul(x, w)",
        "vector": "m = MatMul(x, w) y = Add(m, b)",
        "scalar": "m = MatMul(x, w) y = Add(m, s)",
        "first": "m = MatMul(x, w) a = Add(b, m) y = Relu(a)",
    }[bias]
    model = net(
        f"(float{list(shape)} x) => (float y) {{ {body} }}",
        w=weights(20, 6),
        b=weights(6, seed=1),
        s=np.float32(0.5),
    )
    assert len(check(model).calls) == 1


def test_matmul_with_weights_of_rank_3() -> None:
    model = net("(float[1,5,20] x) => (float y) { y = MatMul(x, w) }", w=weights(1, 20, 6))
    assert len(check(model).calls) == 1


def test_matmul_with_a_vector_is_refused() -> None:
    model = net("(float[1,5,20] x) => (float y) { y = MatMul(x, w) }", w=weights(20))
    with pytest.raises(UnsupportedModelError, match="not one matrix"):
        compiled(model)


def test_matmul_with_a_matrix_for_each_row_is_refused() -> None:
    model = net("(float[1,2,3,20] x) => (float y) { y = MatMul(x, w) }", w=weights(2, 20, 6))
    with pytest.raises(UnsupportedModelError, match="not one matrix"):
        compiled(model)


def test_matmul_with_constant_on_the_left_is_refused() -> None:
    model = net("(float[1,20,6] x) => (float y) { y = MatMul(w, x) }", w=weights(5, 20))
    with pytest.raises(UnsupportedModelError, match="its weights are not a constant"):
        compiled(model)


def test_flatten_before_dense_costs_nothing() -> None:
    model = net(
        """(float[1,3,6,5] x) => (float y) {
            c = Conv(x, w)  f = Flatten(c)  y = Gemm<transB=1>(f, d, b) }""",
        w=weights(4, 3, 3, 3),
        d=weights(7, 48),
        b=weights(7),
    )
    assert len(check(model).calls) == 2


def test_transpose_and_reshape_before_dense_cost_nothing() -> None:
    model = net(
        """(float[1,3,6,5] x) => (float y) {
            c = Conv(x, w)  t = Transpose<perm=[0,3,1,2]>(c)  f = Reshape(t, s)  y = MatMul(f, d) }""",
        w=weights(4, 3, 3, 3),
        d=weights(48, 7),
        s=np.array([1, 48]),
    )
    assert len(check(model).calls) == 2


def test_dense_on_rows_of_a_map_reads_it_as_it_lies() -> None:
    """NHWC, last axis contracted: what a TensorFlow Dense on a feature map is."""
    model = net(
        """(float[1,3,6,5] x) => (float y) {
            c = Conv(x, w)  t = Transpose<perm=[0,2,3,1]>(c)  m = MatMul(t, d)  y = Add(m, b) }""",
        w=weights(4, 3, 3, 3),
        d=weights(4, 7),
        b=weights(7),
    )
    assert len(check(model).calls) == 2


def test_hidden_layers_with_relu() -> None:
    model = net(
        """(float[1,16] x) => (float y) {
            a = Gemm<transB=1>(x, w1, b1)  r = Relu(a)
            g = Gemm<transB=1>(r, w2, b2)  y = Softmax<axis=-1>(g) }""",
        w1=weights(12, 16),
        b1=weights(12),
        w2=weights(5, 12),
        b2=weights(5),
    )
    assert len(check(model).calls) == 3


def test_bias_add_of_a_whole_row_matrix_is_a_second_call() -> None:
    model = net(
        "(float[1,5,20] x) => (float y) { m = MatMul(x, w) y = Add(m, b) }", w=weights(20, 6), b=weights(5, 6)
    )
    case = check(model)
    assert len(case.calls) == 2


def test_shared_weights_of_two_layers() -> None:
    model = net(
        "(float[1,6] x) => (float y) { a = Gemm(x, w, b) r = Relu(a) y = Gemm(r, w, b) }",
        w=weights(6, 6),
        b=weights(6),
    )
    assert len(check(model).calls) == 2


def test_batch_norm_after_dense() -> None:
    model = net(
        "(float[1,6] x) => (float y) { a = Gemm(x, w) y = BatchNormalization(a, s, b, m, v) }",
        w=weights(6, 8),
        s=np.abs(weights(8)) + 0.5,
        b=weights(8, seed=1),
        m=weights(8, seed=2),
        v=np.abs(weights(8, seed=3)) + 0.5,
    )
    check(model)
