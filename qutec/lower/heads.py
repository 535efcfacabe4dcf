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

from qutec.fixed_point import quantize_multipliers
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
    Tensor,
    feature_bound,
    logit_bound,
)
from qutec.quantization import quantize_bias, symmetric_per_channel

__all__ = ["dynamic_exit", "qute_head", "uncertainty"]

FloatArray = npt.NDArray[np.float64]

_LOGIT_UNIT = math.log2(math.e) * 2**20
"""Stored logits are in base 2 with 20 fractional bits, so that softmax is exp2 of a difference."""
_INT32 = 2**31 - 1
_FEATURE_LIMIT = 2**15 - 1
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
    features, feature_scale = _features(context, node, x, depthwise, offsets, heads)
    buffer = context.builder.buffer(f"{name}/logits", 4 * heads * classes)
    quantized, scale = _integer_rows(dense.transpose(0, 2, 1).reshape(heads * classes, channels))
    inputs = _Inputs(features, feature_scale, 16, 0)
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
) -> tuple[Tensor, float]:
    """The pooled features of all heads as int16, and their scale."""
    name = layer_name(node)
    source = context.builder.ordered(x, channels_last_order(x.shape), f"{name}/nhwc")
    spatial = x.shape[2:]
    strides = list(node.attributes.get_ints("strides", [1] * len(spatial)))
    pads = list(node.attributes.get_ints("pads", [0] * (2 * len(spatial))))
    kernel = depthwise.shape[2:]
    pixels = [
        (size + pads[axis] + pads[axis + len(spatial)] - kernel[axis]) // strides[axis] + 1
        for axis, size in enumerate(spatial)
    ]
    channels = x.shape[1]
    quantized, scale = symmetric_per_channel(depthwise, 0, offsets, source.quantization.scale)
    accumulator = source.quantization.scale * scale.astype(np.float64)
    bias = quantize_bias(offsets, accumulator)
    count = math.prod(pixels)
    # No finer than one unit of the accumulator, so that nothing is shifted to the left.
    feature_scale = max(_feature_range(node) / _FEATURE_LIMIT, float(accumulator.max()) / count)
    multiplier, shift = quantize_multipliers(accumulator / (count * feature_scale))
    target = context.builder.buffer(f"{name}/features", 2 * heads * channels)

    def by_head(values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        return np.ascontiguousarray(values.reshape(channels, heads).T)

    one_row = len(spatial) == 1
    taps = quantized.reshape(channels, heads, *((1, *kernel) if one_row else kernel)).transpose(1, 2, 3, 0)
    call = HeadFeatures(
        f"{name}/features",
        source.tensor,
        target,
        (1, 1, spatial[0], channels) if one_row else (1, spatial[0], spatial[1], channels),
        (1, pixels[0]) if one_row else (pixels[0], pixels[1]),
        np.ascontiguousarray(taps),
        by_head(bias),
        by_head(multiplier),
        by_head(shift),
        (1, strides[0]) if one_row else (strides[0], strides[1]),
        (0, pads[0]) if one_row else (pads[0], pads[1]),
        -source.quantization.zero_point,
        relu=node.op_type.endswith("Relu"),
    )
    if feature_bound(call) > _INT32:
        raise Refused("its feature map is too large for 32-bit sums")
    context.builder.add(call)
    return target, feature_scale


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
    multiplier, shift = quantize_multipliers(factor)
    offset = np.rint(bias.reshape(-1) * _LOGIT_UNIT)
    if np.abs(offset).max() > _INT32 / 2:
        raise Refused(f"a bias of its logits is {np.abs(bias).max():.0f}; {_INT32 / 2 / _LOGIT_UNIT:.0f} fit")
    # The largest sum that neither the left shift nor the bias can drive out of 32 bits.
    room = np.minimum(_INT32 / 2.0 ** np.maximum(shift, 0), (_INT32 - np.abs(offset) - 1) / factor)
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
        multiplier.reshape(shape),
        shift.reshape(shape),
        limit=int(min(room.min(), _INT32)),
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
