"""Pools, means over axes and softmax, against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from qutec.errors import UnsupportedModelError
from qutec.program import AvgPool2D, MaxPool2D, Softmax
from qutec.quantization import SOFTMAX_OUTPUT
from tests.lower.harness import assert_layers_agree, check, compiled, net, weights

WINDOWS = {
    "2x2": "kernel_shape=[2,2],strides=[2,2]",
    "3x3_overlapping": "kernel_shape=[3,3],strides=[1,1]",
    "3x2_stride_2_1": "kernel_shape=[3,2],strides=[2,1]",
    "padded": "kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]",
    "asymmetric_pads": "kernel_shape=[3,3],strides=[2,2],pads=[0,1,1,0]",
    "ceil": "kernel_shape=[2,2],strides=[2,2],ceil_mode=1",
    "ceil_padded": "kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1],ceil_mode=1",
    "same_upper": 'kernel_shape=[2,2],auto_pad="SAME_UPPER"',
    "same_lower": 'kernel_shape=[3,2],strides=[2,2],auto_pad="SAME_LOWER"',
    "valid": 'kernel_shape=[3,3],strides=[2,2],auto_pad="VALID"',
    "whole_map": "kernel_shape=[9,7]",
}


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("attributes", WINDOWS.values(), ids=WINDOWS.keys())
def test_pool_window(operator: str, attributes: str) -> None:
    model = net(f"(float[1,3,9,7] x) => (float y) {{ y = {operator}<{attributes}>(x) }}")
    case = check(model)
    assert case.calls == ["MaxPool2D" if operator == "MaxPool" else "AvgPool2D"]


@pytest.mark.parametrize("pads", ["pads=[1,1,1,1]", "pads=[0,1,1,0]", "pads=[0,0,2,2]", "pads=[0,0,0,0]"])
def test_average_pool_that_counts_its_padding(pads: str) -> None:
    model = net(
        f"""(float[1,3,9,7] x) => (float y) {{
            y = AveragePool<kernel_shape=[3,3],strides=[2,2],count_include_pad=1,{pads}>(x) }}"""
    )
    check(model)


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(
    "attributes",
    [
        "kernel_shape=[2],strides=[2]",
        "kernel_shape=[3],pads=[1,1]",
        "kernel_shape=[3],strides=[2],ceil_mode=1",
    ],
)
def test_pool_1d(operator: str, attributes: str) -> None:
    check(net(f"(float[1,3,16] x) => (float y) {{ y = {operator}<{attributes}>(x) }}"))


def test_average_pool_1d_that_counts_its_padding() -> None:
    check(
        net(
            """(float[1,3,16] x) => (float y) {
                y = AveragePool<kernel_shape=[3],pads=[1,1],count_include_pad=1>(x) }"""
        )
    )


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_relu_around_a_pool_is_part_of_it(operator: str) -> None:
    after = net(
        f"""(float[1,3,8,8] x) => (float y) {{
            p = {operator}<kernel_shape=[2,2],strides=[2,2]>(x)  y = Relu(p) }}"""
    )
    assert check(after).calls == ["MaxPool2D" if operator == "MaxPool" else "AvgPool2D"]


def test_pool_keeps_the_parameters_of_its_input() -> None:
    model = net("(float[1,3,8,8] x) => (float y) { y = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x) }")
    case = check(model)
    assert case.program.inputs[0].quantization == case.program.outputs[0].quantization


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(1, 3, 8, 6), (1, 3, 12), (1, 5, 1, 1), (1, 1, 4, 4)])
def test_global_pool(operator: str, shape: tuple[int, ...]) -> None:
    case = check(net(f"(float{list(shape)} x) => (float y) {{ y = {operator}(x) }}"))
    assert case.calls == ["AvgPool2D" if operator == "GlobalAveragePool" else "MaxPool2D"]


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [1], [3], [1, 2], [1, 2, 3], [2]])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reduce_mean(axes: list[int], keepdims: int) -> None:
    model = net(
        f"(float[1,4,6,5] x) => (float y) {{ y = ReduceMean<keepdims={keepdims}>(x, axes) }}",
        axes=np.array(axes, np.int64),
    )
    assert check(model).calls[-1] == "AvgPool2D"


def test_reduce_mean_with_axes_attribute() -> None:
    model = net("(float[1,4,6,5] x) => (float y) { y = ReduceMean<axes=[2,3],keepdims=0>(x) }", opset=13)
    assert check(model).calls == ["AvgPool2D"]


def test_reduce_mean_over_everything() -> None:
    check(net("(float[1,4,6,5] x) => (float y) { y = ReduceMean<keepdims=1>(x) }"))


def test_reduce_mean_over_the_map_of_an_nhwc_graph_moves_nothing() -> None:
    model = net(
        """(float[1,8,8,3] x) => (float y) {
            t = Transpose<perm=[0,3,1,2]>(x)  c = Conv(t, w)  u = Transpose<perm=[0,2,3,1]>(c)
            m = ReduceMean<keepdims=0>(u, axes)  y = MatMul(m, d) }""",
        w=weights(4, 3, 3, 3),
        d=weights(4, 5),
        axes=np.array([1, 2]),
    )
    assert check(model).calls[:2] == ["Conv2D", "AvgPool2D"]
    assert len(check(model).calls) == 3


def test_reduce_mean_of_no_axes_is_nothing() -> None:
    model = net("(float[1,4,6] x) => (float y) { r = Relu(x) y = ReduceMean<noop_with_empty_axes=1>(r) }")
    assert check(model).calls == ["Lookup"]


def test_mean_of_channels_as_a_spatial_attention() -> None:
    model = net(
        """(float[1,3,6,6] x) => (float y) {
            c = Conv(x, w)  m = ReduceMean(c, axes)  s = Sigmoid(m)  y = Mul(c, s) }""",
        w=weights(4, 3, 1, 1),
        axes=np.array([1]),
    )
    check(model)


@pytest.mark.parametrize("axis", [1, 2, 3, -1, -2])
def test_softmax_over_any_axis(axis: int) -> None:
    model = net(f"(float[1,4,5,6] x) => (float y) {{ y = Softmax<axis={axis}>(x) }}")
    case = check(model)
    assert case.program.outputs[0].quantization == SOFTMAX_OUTPUT


@pytest.mark.parametrize("shape", [(1, 10), (1, 3, 7), (1, 1), (1, 2), (1, 400)])
@pytest.mark.parametrize("gain", [0.1, 1.0, 8.0])
def test_softmax_of_vectors(shape: tuple[int, ...], gain: float) -> None:
    generator = np.random.default_rng(4)
    data = generator.standard_normal((6, *shape[1:])) * gain
    case = compiled(net(f"(float{list(shape)} x) => (float y) {{ y = Softmax<axis=-1>(x) }}"), data)
    assert_layers_agree(case)
    (call,) = case.program.calls
    assert isinstance(call, Softmax)
    assert call.row_size == shape[-1]


def test_softmax_before_opset_13_flattens() -> None:
    check(net("(float[1,4,3] x) => (float y) { y = Softmax<axis=1>(x) }", opset=11))


def test_class_map_softmax_after_conv_moves_nothing() -> None:
    model = net(
        "(float[1,3,6,6] x) => (float y) { c = Conv(x, w) y = Softmax<axis=1>(c) }", w=weights(4, 3, 1, 1)
    )
    assert check(model).calls == ["Conv2D", "Softmax"]


def test_indices_of_max_pool_are_refused() -> None:
    model = net(
        "(float[1,3,8,8] x) => (float y, int64 i) { y, i = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x) }"
    )
    with pytest.raises(UnsupportedModelError):
        compiled(model)


def test_dilated_pool_is_refused() -> None:
    model = net("(float[1,3,8,8] x) => (float y) { y = MaxPool<kernel_shape=[2,2],dilations=[2,2]>(x) }")
    with pytest.raises(UnsupportedModelError, match="its window is dilated"):
        compiled(model)


def test_pool_over_three_axes_is_refused() -> None:
    model = net("(float[1,3,4,4,4] x) => (float y) { y = MaxPool<kernel_shape=[2,2,2]>(x) }")
    with pytest.raises(UnsupportedModelError, match="3 axes"):
        compiled(model)


def test_pool_after_another_keeps_parameters_through_both() -> None:
    model = net(
        """(float[1,3,16,16] x) => (float y) {
            c = Conv<pads=[1,1,1,1]>(x, w)  r = Relu(c)
            p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r)
            y = AveragePool<kernel_shape=[3,3],strides=[2,2]>(p) }""",
        w=weights(4, 3, 3, 3),
    )
    case = check(model)
    assert case.calls == ["Conv2D", "MaxPool2D", "AvgPool2D"]
    kinds = [type(call) for call in case.program.calls]
    assert kinds[1:] == [MaxPool2D, AvgPool2D]
