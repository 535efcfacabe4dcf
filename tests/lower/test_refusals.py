"""What cannot be lowered is said all at once, by node, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from qutec.errors import UnsupportedModelError
from qutec.lower import lower
from tests.lower.harness import Array, compiled, net, weights

node = helper.make_node


def _lowered(
    nodes: Sequence[onnx.NodeProto], output: str, shape: Sequence[int], **constants: npt.ArrayLike
) -> None:
    graph = helper.make_graph(
        list(nodes),
        "qdq",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    lower(ir.from_proto(shape_inference.infer_shapes(model, strict_mode=True)), "net")


def _pair(name: str, scale: str = "s", zero: str = "z", **attributes: int) -> list[onnx.NodeProto]:
    return [
        node("QuantizeLinear", [name, scale, zero], [f"{name}_q"], f"{name}_quantize", **attributes),
        node(
            "DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_d"], f"{name}_dequantize", **attributes
        ),
    ]


S, Z = np.float32(0.05), np.int8(0)


def test_every_reason_is_told_at_once_with_its_node() -> None:
    nodes = [
        *_pair("x"),
        node("MatMul", ["x_d", "x_d"], ["a"], "first"),
        *_pair("a"),
        node("MaxPool", ["x_d"], ["b"], "second", kernel_shape=[2], dilations=[2]),
        *_pair("b"),
        node("ConvTranspose", ["x_d", "w"], ["c"], "third"),
        *_pair("c"),
    ]
    with pytest.raises(UnsupportedModelError) as refused:
        _lowered(nodes, "c_d", (1, 6, 6), s=S, z=Z, w=weights(6, 2, 2))
    lines = str(refused.value).splitlines()
    assert lines[0] == "cannot be compiled:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "MatMul 'first'",
        "MaxPool 'second'",
        "ConvTranspose 'third'",
    ]


def test_matmul_of_two_tensors() -> None:
    with pytest.raises(UnsupportedModelError, match=r"MatMul 'node': its weights are not a constant"):
        compiled(net("(float[1,4,4] x, float[1,4,4] z) => (float y) { y = MatMul(x, z) }"))


def test_activation_quantised_per_channel() -> None:
    scales, zeros = np.array([0.1, 0.2], np.float32), np.zeros(2, np.int8)
    nodes = [*_pair("x", axis=1), node("Relu", ["x_d"], ["r"], "relu"), *_pair("r", "t", "y")]
    with pytest.raises(UnsupportedModelError, match=r"QuantizeLinear 'x_quantize': .* per channel"):
        _lowered(nodes, "r_d", (1, 2, 4), s=scales, z=zeros, t=S, y=Z)


def test_sixteen_bit_activation() -> None:
    nodes = [*_pair("x"), node("Relu", ["x_d"], ["r"], "relu"), *_pair("r")]
    with pytest.raises(UnsupportedModelError, match=r"QuantizeLinear 'x_quantize': .*int16; 8 bits"):
        _lowered(nodes, "r_d", (1, 4), s=S, z=np.int16(0))


def test_sixteen_bit_weights() -> None:
    nodes = [
        *_pair("x"),
        node("DequantizeLinear", ["w", "s", "k"], ["w_d"], "w_dequantize"),
        node("Gemm", ["x_d", "w_d"], ["g"], "dense"),
        *_pair("g"),
    ]
    with pytest.raises(UnsupportedModelError, match="int16; 8 bits are supported"):
        _lowered(nodes, "g_d", (1, 4), s=S, z=Z, k=np.int16(0), w=np.ones((4, 3), np.int16))


@pytest.mark.parametrize("zero_points", [np.array([1, 2, 3], np.int8), np.array([4, 4, 4], np.int8)])
def test_conv_weights_with_zero_points(zero_points: Array) -> None:
    nodes = [
        *_pair("x"),
        node("DequantizeLinear", ["w", "ws", "wz"], ["w_d"], "w_dequantize", axis=0),
        node("Conv", ["x_d", "w_d"], ["c"], "conv"),
        *_pair("c"),
    ]
    scales = np.array([0.1, 0.2, 0.3], np.float32)
    with pytest.raises(UnsupportedModelError, match=r"Conv 'conv': its weights have zero points"):
        _lowered(
            nodes, "c_d", (1, 2, 4, 4), s=S, z=Z, w=np.ones((3, 2, 2, 2), np.int8), ws=scales, wz=zero_points
        )


def test_conv_weights_with_one_zero_point() -> None:
    nodes = [
        *_pair("x"),
        node("DequantizeLinear", ["w", "s", "wz"], ["w_d"], "w_dequantize"),
        node("Conv", ["x_d", "w_d"], ["c"], "conv"),
        *_pair("c"),
    ]
    with pytest.raises(UnsupportedModelError, match=r"Conv 'conv': its weights have a zero point"):
        _lowered(nodes, "c_d", (1, 2, 4, 4), s=S, z=Z, w=np.ones((3, 2, 2, 2), np.int8), wz=np.int8(5))


def test_weights_quantised_along_their_inputs() -> None:
    nodes = [
        *_pair("x"),
        node("DequantizeLinear", ["w", "ws", "wz"], ["w_d"], "w_dequantize", axis=0),
        node("Gemm", ["x_d", "w_d"], ["g"], "dense"),
        *_pair("g"),
    ]
    with pytest.raises(
        UnsupportedModelError, match=r"Gemm 'dense': .* along axis 1, not the output channels"
    ):
        _lowered(
            nodes, "g_d", (1, 4), s=S, z=Z,
            w=np.ones((4, 3), np.int8), ws=np.full(4, 0.1, np.float32), wz=np.zeros(4, np.int8),
        )  # fmt: skip


def test_weights_quantised_in_blocks() -> None:
    nodes = [
        *_pair("x"),
        node("DequantizeLinear", ["w", "ws", "wz"], ["w_d"], "w_dequantize", axis=0, block_size=2),
        node("Gemm", ["x_d", "w_d"], ["g"], "dense"),
        *_pair("g"),
    ]
    with pytest.raises(UnsupportedModelError, match="quantised in blocks"):
        _lowered(
            nodes, "g_d", (1, 4), s=S, z=Z,
            w=np.ones((4, 3), np.int8), ws=np.full((2, 3), 0.1, np.float32), wz=np.zeros((2, 3), np.int8),
        )  # fmt: skip


def test_no_quantisation_between_two_kernels() -> None:
    nodes = [
        *_pair("x"),
        node("Conv", ["x_d", "w"], ["a"], "one"),
        node("Conv", ["a", "v"], ["b"], "two"),
        *_pair("b"),
    ]
    with pytest.raises(
        UnsupportedModelError, match=r"Conv 'two': its input 'a' has no quantisation parameters"
    ):
        _lowered(nodes, "b_d", (1, 2, 4, 4), s=S, z=Z, w=weights(3, 2, 1, 1), v=weights(3, 3, 1, 1))


def test_output_without_parameters() -> None:
    nodes = [*_pair("x"), node("Conv", ["x_d", "w"], ["a"], "conv")]
    with pytest.raises(UnsupportedModelError, match=r"output 'a': it has no quantisation parameters"):
        _lowered(nodes, "a", (1, 2, 4, 4), s=S, z=Z, w=weights(3, 2, 1, 1))


def test_input_without_parameters() -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"Conv 'conv': its input 'x' has no quantisation parameters"
    ):
        _lowered(
            [node("Conv", ["x", "w"], ["a"], "conv"), *_pair("a")],
            "a_d", (1, 2, 4, 4), s=S, z=Z, w=weights(3, 2, 1, 1),
        )  # fmt: skip


def test_scale_that_is_not_positive() -> None:
    with pytest.raises(UnsupportedModelError, match="its scale is not a positive number"):
        _lowered(_pair("x"), "x_d", (1, 4), s=np.float32(0.0), z=Z)


def test_function_that_is_not_a_number() -> None:
    nodes = [
        *_pair("x"),
        node("Pow", ["x_d", "half"], ["r"], "root"),
        *_pair("r"),
    ]
    with pytest.raises(UnsupportedModelError, match=r"Pow 'root': it is not a number for some input"):
        _lowered(nodes, "r_d", (1, 4), s=S, z=Z, half=np.float32(0.5))


def test_scale_factor_that_no_kernel_can_apply_is_told_with_its_node() -> None:
    nodes = [
        *_pair("x"),
        node("Neg", ["x_d"], ["n"]),
        *_pair("n"),
        node("Mul", ["x_d", "n_d"], ["m"], "product"),
        *_pair("m", "tiny"),
    ]
    with pytest.raises(UnsupportedModelError, match=r"Mul 'product': a scale factor of .* too large"):
        _lowered(nodes, "m_d", (1, 4), s=np.float32(1.0), z=Z, tiny=np.float32(1e-12))


def test_what_depends_on_a_refused_node_is_not_told_again() -> None:
    nodes = [
        *_pair("x"),
        node("ConvTranspose", ["x_d", "w"], ["c"], "bad"),
        *_pair("c"),
        node("Relu", ["c_d"], ["r"], "good"),
        *_pair("r"),
    ]
    with pytest.raises(UnsupportedModelError) as refused:
        _lowered(nodes, "r_d", (1, 2, 6), s=S, z=Z, w=weights(2, 2, 2))
    assert len(str(refused.value).splitlines()) == 2
