"""Conv in every form, against onnxruntime: windows, padding, groups, depthwise, 1-D, bias, fused clamps."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qutec.errors import UnsupportedModelError
from qutec.program import Conv2D, DepthwiseConv2D
from tests.lower.harness import check, compiled, layer_errors, net, weights

WINDOWS = {
    "1x1": ("kernel_shape=[1,1]", (1, 1)),
    "2x2": ("", (2, 2)),
    "3x3_same": ("pads=[1,1,1,1]", (3, 3)),
    "4x4_even": ("pads=[1,2,2,1]", (4, 4)),
    "5x5": ("pads=[2,2,2,2]", (5, 5)),
    "1x5_wide": ("pads=[0,2,0,2]", (1, 5)),
    "5x2_tall": ("pads=[2,0,2,1]", (5, 2)),
    "stride_2": ("strides=[2,2],pads=[1,1,1,1]", (3, 3)),
    "stride_2_1": ("strides=[2,1],pads=[1,1,1,1]", (3, 3)),
    "stride_1_3": ("strides=[1,3]", (3, 2)),
    "asymmetric_pads": ("pads=[0,0,1,1],strides=[2,2]", (3, 3)),
    "pads_end_only": ("pads=[0,1,2,0]", (3, 3)),
    "dilated": ("dilations=[2,2],pads=[2,2,2,2]", (3, 3)),
    "dilated_1_3": ("dilations=[1,3],pads=[1,0,1,0]", (3, 2)),
    "same_upper": ('auto_pad="SAME_UPPER"', (3, 3)),
    "same_upper_even": ('auto_pad="SAME_UPPER",strides=[2,2]', (4, 4)),
    "same_lower": ('auto_pad="SAME_LOWER",strides=[2,2]', (3, 3)),
    "same_lower_even": ('auto_pad="SAME_LOWER"', (2, 2)),
    "valid": ('auto_pad="VALID",strides=[2,2]', (3, 3)),
    "whole_map": ("", (9, 8)),
}


@pytest.mark.parametrize(("attributes", "kernel"), WINDOWS.values(), ids=WINDOWS.keys())
def test_conv_window(attributes: str, kernel: tuple[int, int]) -> None:
    model = net(
        f"(float[1,3,9,8] x) => (float y) {{ y = Conv<{attributes or 'group=1'}>(x, w, b) }}",
        w=weights(4, 3, *kernel),
        b=weights(4, seed=1),
    )
    assert check(model).calls == ["Conv2D"]


@pytest.mark.parametrize(("attributes", "kernel"), WINDOWS.values(), ids=WINDOWS.keys())
def test_depthwise_window(attributes: str, kernel: tuple[int, int]) -> None:
    attributes = ",".join(filter(None, ("group=3", attributes)))
    model = net(
        f"(float[1,3,9,8] x) => (float y) {{ y = Conv<{attributes}>(x, w, b) }}",
        w=weights(3, 1, *kernel),
        b=weights(3, seed=1),
    )
    assert check(model).calls == ["DepthwiseConv2D"]


@pytest.mark.parametrize("multiplier", [2, 3])
def test_depthwise_with_channel_multiplier(multiplier: int) -> None:
    model = net(
        "(float[1,4,7,6] x) => (float y) { y = Conv<group=4,pads=[1,1,1,1]>(x, w) }",
        w=weights(4 * multiplier, 1, 3, 3),
    )
    case = check(model)
    (call,) = case.program.calls
    assert isinstance(call, DepthwiseConv2D)
    assert call.channel_multiplier == multiplier


@pytest.mark.parametrize(("groups", "inputs", "outputs"), [(2, 4, 6), (3, 6, 3), (2, 8, 2)])
def test_grouped_conv(groups: int, inputs: int, outputs: int) -> None:
    model = net(
        f"(float[1,{inputs},6,5] x) => (float y) {{ y = Conv<group={groups},pads=[1,0,1,0]>(x, w, b) }}",
        w=weights(outputs, inputs // groups, 3, 2),
        b=weights(outputs, seed=3),
    )
    case = check(model)
    (call,) = case.program.calls
    assert isinstance(call, Conv2D)
    assert call.weights.shape == (outputs, 3, 2, inputs // groups)


@pytest.mark.parametrize(
    ("attributes", "kernel", "group"),
    [
        ("pads=[1,1]", 3, 1),
        ("strides=[2],pads=[0,2]", 4, 1),
        ("dilations=[3]", 3, 1),
        ('auto_pad="SAME_LOWER",strides=[2]', 5, 1),
        ("pads=[2,2]", 5, 4),
        ("strides=[2]", 2, 2),
        ("group=1", 1, 1),
    ],
)
def test_conv_1d(attributes: str, kernel: int, group: int) -> None:
    if group > 1:
        attributes += f",group={group}"
    model = net(
        f"(float[1,4,17] x) => (float y) {{ c = Conv<{attributes}>(x, w, b) y = Relu(c) }}",
        w=weights(4, 4 // group, kernel),
        b=weights(4, seed=1),
    )
    case = check(model)
    assert len(case.calls) == 1


def test_conv_3d_is_refused() -> None:
    model = net("(float[1,2,4,4,4] x) => (float y) { y = Conv(x, w) }", w=weights(2, 2, 2, 2, 2))
    with pytest.raises(UnsupportedModelError, match="convolves over 3 axes"):
        compiled(model)


def test_conv_with_weights_from_data_is_refused() -> None:
    model = net("(float[1,2,4,4] x, float[1,2,2,2] w) => (float y) { y = Conv(x, w) }")
    with pytest.raises(UnsupportedModelError, match="its weights are not a constant"):
        compiled(model)


def test_conv_with_bias_from_data_is_refused() -> None:
    model = net("(float[1,3,4,4] x, float[1] b) => (float y) { y = Conv(x, w, b) }", w=weights(1, 3, 2, 2))
    with pytest.raises(UnsupportedModelError, match="its bias is not a constant"):
        compiled(model)


@pytest.mark.parametrize(
    "clamp",
    ["Relu(c)", "Clip(c, zero, six)", "Clip(c, , six)", "Clip(c, low)", "Clip(c, , )"],
)
def test_clamp_after_conv_is_part_of_the_call(clamp: str) -> None:
    model = net(
        f"(float[1,3,6,6] x) => (float y) {{ c = Conv(x, w, b) y = {clamp} }}",
        w=weights(4, 3, 3, 3, gain=1.0),
        b=weights(4),
        zero=np.float32(0.0),
        six=np.float32(1.25),
        low=np.float32(-0.75),
    )
    assert check(model).calls == ["Conv2D"]


def test_two_clamps_in_a_row_are_part_of_the_call() -> None:
    model = net(
        "(float[1,3,6,6] x) => (float y) { c = Conv(x, w) r = Relu(c) y = Clip(r, low, high) }",
        w=weights(4, 3, 3, 3),
        low=np.float32(-1.0),
        high=np.float32(1.0),
    )
    assert check(model).calls == ["Conv2D"]


def test_relu_on_a_conv_that_another_node_reads_is_a_table() -> None:
    model = net(
        """(float[1,3,6,6] x) => (float y, float z) {
            c = Conv(x, w)  y = Relu(c)  z = MaxPool<kernel_shape=[2,2]>(c) }""",
        w=weights(4, 3, 3, 3),
    )
    assert check(model).calls == ["Conv2D", "Lookup", "MaxPool2D"]


def test_relu6_of_opset_6_attributes() -> None:
    model = net(
        "(float[1,3,6,6] x) => (float y) { c = Conv(x, w) y = Clip<min=0.0,max=6.0>(c) }",
        opset=9,
        w=weights(4, 3, 3, 3, gain=2.0),
    )
    case = check(model)
    assert case.calls == ["Conv2D"]
    (call,) = case.program.calls
    assert isinstance(call, Conv2D)
    assert (call.activation_min, call.activation_max) == (-128, 127)


def test_bias_add_after_conv_is_part_of_the_call() -> None:
    model = net(
        "(float[1,3,6,6] x) => (float y) { c = Conv(x, w) a = Add(c, b) y = Relu(a) }",
        w=weights(4, 3, 3, 3),
        b=weights(4, 1, 1, seed=5),
    )
    assert check(model).calls == ["Conv2D"]


def test_second_bias_add_after_conv_with_bias() -> None:
    model = net(
        "(float[1,3,6,6] x) => (float y) { c = Conv(x, w, b) y = Add(a, c) }",
        w=weights(4, 3, 3, 3),
        b=weights(4),
        a=weights(1, 4, 1, 1, seed=5),
    )
    case = check(model)
    assert case.calls == ["Conv2D", "DepthwiseConv2D"]


def test_bias_far_larger_than_weights_stays_in_int32() -> None:
    w = weights(4, 3, 3, 3)
    w[1] *= 1e-9
    model = net(
        "(float[1,3,6,6] x) => (float y) { y = Conv(x, w, b) }", w=w, b=np.array([0.5, 3.0, -2.0, 0.0])
    )
    case = check(model)
    (call,) = case.program.calls
    assert isinstance(call, Conv2D)
    assert np.abs(call.bias.astype(np.int64)).max() <= 2**30 + 1


def test_channel_of_zero_weights_gives_its_bias() -> None:
    w = weights(4, 3, 3, 3)
    w[2] = 0.0
    model = net(
        "(float[1,3,6,6] x) => (float y) { y = Conv(x, w, b) }", w=w, b=np.array([0.5, 3.0, -2.0, 0.0])
    )
    case = check(model)
    assert max(layer_errors(case.quantized, case.samples).values()) <= 1


def test_all_weights_zero() -> None:
    model = net("(float[1,3,6,6] x) => (float y) { y = Conv(x, w) }", w=np.zeros((4, 3, 3, 3)))
    check(model)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 7, 1), (1, 1, 1, 9), (1, 5, 1, 1), (1, 2, 1, 6)])
def test_maps_with_axes_of_one(shape: tuple[int, ...]) -> None:
    channels = shape[1]
    model = net(
        f"(float{list(shape)} x) => (float y) {{ c = Conv<pads=[1,1,1,1]>(x, w, b) y = Relu(c) }}",
        w=weights(3, channels, 3, 3),
        b=weights(3),
    )
    assert check(model).calls == ["Conv2D"]


def test_large_map() -> None:
    model = net(
        "(float[1,3,64,64] x) => (float y) { c = Conv<strides=[2,2],pads=[1,1,1,1]>(x, w, b) y = Relu(c) }",
        w=weights(8, 3, 3, 3),
        b=weights(8),
    )
    case = check(model)
    assert case.program.inputs[0].size == 3 * 64 * 64


def test_weights_are_int8_symmetric_and_bias_at_the_accumulators_scale() -> None:
    w, b = weights(4, 3, 3, 3), weights(4, seed=1)
    case = compiled(net("(float[1,3,6,6] x) => (float y) { y = Conv(x, w, b) }", w=w, b=b))
    (call,) = case.program.calls
    assert isinstance(call, Conv2D)
    scale = np.abs(w).reshape(4, -1).max(axis=1) / 127
    np.testing.assert_array_equal(
        call.weights, np.rint(w / scale[:, None, None, None]).astype(np.int8).transpose(0, 2, 3, 1)
    )
    x_scale = case.program.inputs[0].quantization.scale
    np.testing.assert_allclose(call.bias, b / (x_scale * scale), atol=1.0)
    y_scale = case.program.outputs[0].quantization.scale
    factors = call.multiplier.astype(float) * 2.0 ** (call.shift.astype(float) - 31)
    np.testing.assert_allclose(factors, x_scale * scale / y_scale, rtol=1e-6)


def test_clamp_bounds_are_the_codes_of_zero_and_six() -> None:
    model = net(
        "(float[1,3,6,6] x) => (float y) { c = Conv(x, w) y = Clip(c, zero, six) }",
        w=weights(4, 3, 3, 3),
        zero=np.float32(0.0),
        six=np.float32(6.0),
    )
    case = compiled(model)
    (call,) = case.program.calls
    assert isinstance(call, Conv2D)
    output = case.program.outputs[0].quantization
    assert call.activation_min == output.zero_point == -128
    assert call.activation_max == min(127, output.zero_point + math.floor(6.0 / output.scale + 0.5))
