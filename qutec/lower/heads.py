"""Lowering of the functions that `qutec.passes.merge_heads` makes: the answer with its uncertainty.

Everything between the last int8 feature map and the results is computed wider than int8, because the
uncertainty lives in small differences of probabilities: pooled features are int16, logits int32 with
20 fractional bits, probabilities int32 with 30.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qutec.lower.builder import Refused
from qutec.lower.constants import Constant, QuantizedConstant, constant, real
from qutec.lower.expression import Context, Pending, Result
from qutec.lower.shapes import layer_name, static_shape
from qutec.lower.view import View, channels_last_order, row_major
from qutec.program import (
    ExitCheck,
    HeadFeatures,
    HeadLogits,
    HeadUncertainty,
    Int8Array,
    Int16Array,
    Tensor,
    UInt16Array,
    feature_bound,
    logit_bound,
)
from qutec.quantization import symmetric_per_channel

__all__ = ["dynamic_exit", "qute_head", "uncertainty"]

FloatArray = npt.NDArray[np.float64]

_LOGIT_UNIT = math.log2(math.e) * 2**20
"""Stored logits are in base 2 with 20 fractional bits, so that softmax is exp2 of a difference."""
_INT32 = 2**31 - 1
_UINT16 = 2**16 - 1
_MAX_LEFT_SHIFT = 30
_FEATURE_LIMIT = 2**15 - 1
_BIAS_LIMIT = 2**21
"""Of a bias in accumulators, of which 15 bits are kept: a channel with a larger one gets coarser weights."""
_FEATURE_MARGIN = 2.0
"""Room above the range seen in calibration: inputs that the network never saw give larger features."""
_RESULT_SCALES = {
    "probabilities": 2.0**-30,
    "label": 1.0,
    "confidence": 2.0**-30,
    "entropy": 2.0**-16,
    "disagreement": 2.0**-16,
    "abstain": 1.0,
}


def qute_head(context: Context, node: ir.Node) -> list[Result]:
    """K depthwise convolutions of one map, activation, global pool, dense layers, uncertainty."""
    x = context.view(node.inputs[0])
    arrays = [constant(value) for value in node.inputs[1:5]]
    depthwise, offsets, dense, dense_bias = (real(array) for array in arrays if array is not None)
    heads, channels, classes = dense.shape
    name = layer_name(node)
    if not _is_relu(node):
        # The mean over the pixels keeps a bias as it is: it is one of the logits.
        folded = np.einsum("kc,kcl->kl", _by_head(offsets, heads), dense)
        dense_bias = dense_bias.reshape(heads, classes) + folded
    features, feature_scale = _features(context, node, x, depthwise, offsets, heads)
    buffer = context.builder.buffer(f"{name}/logits", 4 * heads * classes)
    # What one unit of a feature means differs from channel to channel: the dense layer's weights know.
    rows = (dense * feature_scale[:, :, None]).transpose(0, 2, 1)
    quantized, scale = _integer_rows(rows.reshape(heads * classes, channels))
    inputs = _Inputs(features, 1.0, 16, 0)
    _logits(context, f"{name}/logits", inputs, buffer, (heads, classes), quantized, scale, dense_bias)
    return _results(context, node, buffer, heads, classes)


def uncertainty(context: Context, node: ir.Node) -> list[Result]:
    """The mean over K classifiers, each of which has its own features."""
    classes = static_shape(node.inputs[0])[-1] if node.inputs[0] is not None else 0
    heads = len(node.inputs)
    name = layer_name(node)
    buffer = context.builder.buffer(f"{name}/logits", 4 * heads * classes)
    for number, value in enumerate(node.inputs):
        target = Tensor(buffer.buffer, 4 * classes * number)
        _classifier_logits(context, value, target, classes, f"{name}/exit_{number}")
    return _results(context, node, buffer, heads, classes)


def dynamic_exit(context: Context, node: ir.Node) -> list[Result]:
    """The first of K classifiers that is sure enough; the calls of each end with an `ExitCheck`.

    All exits write their results to one place, so that the answer is there whichever is taken. What runs
    before which exit is decided by `qutec.lower.stages`.
    """
    classes = static_shape(node.inputs[0])[-1] if node.inputs[0] is not None else 0
    name = layer_name(node)
    thresholds = node.attributes.get_floats("thresholds", [])
    abstain = node.attributes.get_float("abstain_below", 0.0)
    target = context.builder.buffer(f"{name}/result", 4 * (classes + HeadUncertainty.SCALARS + 1))
    results = _result_tensors(target, classes, (*_RESULT_SCALES.items(), ("exit", 1.0)))
    confidence, taken = results[list(_RESULT_SCALES).index("confidence")].tensor, results[-1].tensor
    last = len(node.inputs) - 1
    for number, value in enumerate(node.inputs):
        stem = f"{name}/exit_{number}"
        logits = context.builder.buffer(f"{stem}/logits", 4 * classes)
        _classifier_logits(context, value, logits, classes, stem)
        context.builder.add(
            HeadUncertainty(f"{stem}/uncertainty", logits, target, 1, classes, _fixed_confidence(abstain))
        )
        threshold = _fixed_confidence(thresholds[number]) if number < last else None
        context.builder.add(ExitCheck(f"{stem}/check", confidence, taken, number, threshold))
    return results


def _classifier_logits(
    context: Context, value: ir.Value | None, target: Tensor, classes: int, name: str
) -> None:
    """int32 logits of one classifier that has its own features."""
    known = context.expression(value)
    if isinstance(known, Pending) and known.dense is not None:
        source = context.builder.settled(known.dense.x)
        quantized, scale = _integer_rows(known.dense.weights)
        quantized, bias = quantized[:, source.order], known.dense.bias
        label = known.dense.name
    else:
        # Logits that the graph stores in int8 are taken over as they are.
        source = context.builder.ordered(context.view(value), row_major(classes), f"{name}/order")
        quantized, scale = np.eye(classes, dtype=np.int8), np.ones(classes)
        bias, label = np.zeros(classes), name
    inputs = _Inputs(source.tensor, source.quantization.scale, 8, -source.quantization.zero_point)
    _logits(context, label, inputs, target, (1, classes), quantized, scale, bias)


def _features(
    context: Context, node: ir.Node, x: View, depthwise: FloatArray, offsets: FloatArray, heads: int
) -> tuple[Tensor, FloatArray]:
    """The pooled features of all heads as int16, and what a unit of each is, [heads, channels].

    `offsets` are the biases, [channels * heads]. Those of linear blocks are left out.
    """
    name = layer_name(node)
    relu = _is_relu(node)
    source = context.builder.ordered(x, channels_last_order(x.shape), f"{name}/nhwc")
    input_scale = source.quantization.scale
    spatial = x.shape[2:]
    strides = list(node.attributes.get_ints("strides", [1] * len(spatial)))
    pads = list(node.attributes.get_ints("pads", [0] * (2 * len(spatial))))
    kernel = depthwise.shape[2:]
    pixels = [
        (size + pads[axis] + pads[axis + len(spatial)] - kernel[axis]) // strides[axis] + 1
        for axis, size in enumerate(spatial)
    ]
    channels = x.shape[1]
    bias = offsets if relu else np.zeros_like(offsets)
    quantized, scale = symmetric_per_channel(depthwise, 0, bias, input_scale, _BIAS_LIMIT)
    accumulator = _by_head(input_scale * scale.astype(np.float64), heads)
    count = math.prod(pixels)
    feature_range = _feature_range(node) + (0.0 if relu else float(np.abs(offsets).max(initial=0.0)))
    multiplier, shift, feature_scale = _feature_factors(accumulator / count, feature_range / _FEATURE_LIMIT)
    target = context.builder.buffer(f"{name}/features", 2 * heads * channels)

    one_row = len(spatial) == 1
    taps = quantized.reshape(channels, heads, *((1, *kernel) if one_row else kernel)).transpose(1, 2, 3, 0)
    if max(spatial) > HeadFeatures.MAX_LINES:
        raise Refused(f"its feature map has more than {HeadFeatures.MAX_LINES} rows or columns")
    call = HeadFeatures(
        f"{name}/features",
        source.tensor,
        target,
        (1, 1, spatial[0], channels) if one_row else (1, spatial[0], spatial[1], channels),
        (1, pixels[0]) if one_row else (pixels[0], pixels[1]),
        np.ascontiguousarray(taps),
        multiplier,
        shift,
        (1, strides[0]) if one_row else (strides[0], strides[1]),
        (0, pads[0]) if one_row else (pads[0], pads[1]),
        -source.quantization.zero_point,
        *(_short_bias(_by_head(offsets, heads) / accumulator) if relu else ()),
    )
    if feature_bound(call) > _INT32:
        raise Refused("its feature map is too large for 32-bit sums")
    context.builder.add(call)
    return target, feature_scale


def _is_relu(node: ir.Node) -> bool:
    return node.op_type.endswith("Relu")


def _by_head(values: FloatArray, heads: int) -> FloatArray:
    """[channels * heads] -> [heads, channels]: a group of a depthwise convolution is a channel of the map."""
    return np.ascontiguousarray(values.reshape(-1, heads).T)


def _feature_factors(units: FloatArray, unit: float) -> tuple[UInt16Array, int, FloatArray]:
    """Multipliers and the shift from accumulators to features, and what a unit of a feature then is.

    `units` are those of the accumulators, `unit` is the one wanted of a feature. One shift serves all
    channels, so that the multipliers of small ones have few bits; the result says what they came to be.
    """
    largest = float(units.max())
    # A multiplier is less than 1 and a shift at least 1: two accumulators make a feature, or more.
    unit = max(unit, largest * 2.001)
    shift = min(math.floor(math.log2(unit / largest * (_UINT16 / (_UINT16 + 1)))), 31)
    wanted = units / unit * 2.0 ** (16 + shift)
    multiplier = np.rint(wanted)
    exact = unit * np.divide(wanted, multiplier, out=np.ones_like(units), where=multiplier > 0)
    return multiplier.astype(np.uint16), shift, exact


def _short_bias(bias: FloatArray) -> tuple[Int16Array, int]:
    """(int16 bias, shift) with bias ~= int16 bias * 2**shift: no more bits are cut off than it takes."""
    largest = float(np.abs(bias).max(initial=0.0))
    shift = max(math.ceil(math.log2(max(largest, 1.0) / (2**15 - 1))), 0)
    return np.rint(bias / 2.0**shift).astype(np.int16), shift


def _feature_range(node: ir.Node) -> float:
    """The largest feature to be expected, from the range that calibration saw."""
    text = node.metadata_props.get("qutec.feature_range")
    if text is None:
        raise Refused("nothing gives the range of its features")
    low, high = (float(bound) for bound in json.loads(text))
    return max(abs(low), abs(high), 1e-6) * _FEATURE_MARGIN


@dataclass(frozen=True)
class _Inputs:
    """The features that a dense layer reads: int8 with an offset, or int16."""

    tensor: Tensor
    scale: float
    bits: Literal[8, 16]
    offset: int


def _logits(
    context: Context,
    name: str,
    inputs: _Inputs,
    target: Tensor,
    shape: tuple[int, int],
    weights: Int8Array,
    scale: FloatArray,
    bias: FloatArray,
) -> None:
    """int32 logits of `shape` (heads, classes) from integer weights [heads * classes, inputs].

    Sums of inputs so extreme that a logit would leave 32 bits are clamped.
    """
    factor = inputs.scale * scale * _LOGIT_UNIT
    shift = max(math.frexp(float(factor.max()))[1], 0)
    if shift > _MAX_LEFT_SHIFT:
        raise Refused(f"its logits are too large: in steps of {factor.max() / _LOGIT_UNIT:g}")
    multiplier = np.minimum(np.rint(factor * 2.0 ** (31 - shift)), _INT32)
    offset = np.rint(bias.reshape(-1) * _LOGIT_UNIT)
    if np.abs(offset).max() > _INT32 / 2:
        raise Refused(f"a bias of its logits is {np.abs(bias).max():.0f}; {_INT32 / 2 / _LOGIT_UNIT:.0f} fit")
    # The largest sum that neither the left shift nor the bias can drive out of 32 bits.
    room = min(_INT32 / 2.0**shift, float(((_INT32 - np.abs(offset) - 1) / factor).min()))
    call = HeadLogits(
        name,
        inputs.tensor,
        target,
        *shape,
        weights.shape[1],
        inputs.bits,
        inputs.offset,
        np.ascontiguousarray(weights).reshape(*shape, -1),
        offset.astype(np.int32).reshape(shape),
        multiplier.astype(np.int32).reshape(shape),
        shift,
        limit=int(room),
    )
    if logit_bound(call) > _INT32:
        raise Refused("its dense layer has too many inputs for 32-bit sums")
    context.builder.add(call)


def _integer_rows(weights: Constant) -> tuple[Int8Array, FloatArray]:
    """(int8 weights [O, I], scale [O]); the integers of a quantised layer are taken as they are."""
    if isinstance(weights, QuantizedConstant) and weights.axis in (None, 0) and not weights.zero_point.any():
        scale = np.broadcast_to(weights.scale.reshape(-1), (len(weights.values),))
        return weights.values.astype(np.int8), scale
    quantized, float_scale = symmetric_per_channel(real(weights), 0)
    return quantized, float_scale.astype(np.float64)


def _results(context: Context, node: ir.Node, logits: Tensor, heads: int, classes: int) -> list[Result]:
    name = layer_name(node)
    abstain = node.attributes.get_float("abstain_below", 0.0)
    target = context.builder.buffer(f"{name}/result", 4 * (classes + HeadUncertainty.SCALARS))
    limit = _fixed_confidence(abstain)
    context.builder.add(HeadUncertainty(f"{name}/uncertainty", logits, target, heads, classes, limit))
    return _result_tensors(target, classes, tuple(_RESULT_SCALES.items()))


def _fixed_confidence(value: float) -> int:
    """A probability with 30 fractional bits."""
    return min(max(round(value * 2**30), 0), 2**30)


def _result_tensors(target: Tensor, classes: int, scales: Sequence[tuple[str, float]]) -> list[Result]:
    """The results one after the other, int32, probabilities first."""
    results, offset = [], 0
    for result, scale in scales:
        size = classes if result == "probabilities" else 1
        results.append(Result(Tensor(target.buffer, offset), scale))
        offset += 4 * size
    return results
