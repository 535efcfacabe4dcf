"""How ranges and weights become int8 parameters, as the TensorFlow Lite int8 specification says.

https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qutec.program import Int8Array, Int32Array, Quantization

__all__ = [
    "SIGMOID_OUTPUT",
    "SOFTMAX_OUTPUT",
    "TANH_OUTPUT",
    "activation_parameters",
    "quantize_bias",
    "symmetric_per_channel",
]

FloatArray = npt.NDArray[np.float64]

SOFTMAX_OUTPUT = Quantization(1.0 / 256.0, -128)
"""Fixed by the specification, as the kernel computes it."""
SIGMOID_OUTPUT = Quantization(1.0 / 256.0, -128)
"""Fixed by the specification (LOGISTIC)."""
TANH_OUTPUT = Quantization(1.0 / 128.0, 0)
"""Fixed by the specification (TANH)."""

_BIAS_LIMIT = 2**30


def activation_parameters(low: float, high: float) -> Quantization:
    """Asymmetric per-tensor parameters for values in [low, high]; zero is always exact.

    The scale is a float32, since that is what ONNX and TensorFlow Lite files hold.
    """
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    scale = float(np.float32((high - low) / 255.0))
    if not np.isfinite(scale) or scale < float(np.finfo(np.float32).tiny):
        scale = 1.0
    zero_point = int(np.clip(round(-128 - low / scale), -128, 127))
    return Quantization(scale, zero_point)


def symmetric_per_channel(
    weights: npt.NDArray[np.floating],
    axis: int,
    bias: FloatArray | None = None,
    input_scale: float = 1.0,
    bias_limit: int = _BIAS_LIMIT,
) -> tuple[Int8Array, npt.NDArray[np.float32]]:
    """(int8 weights in [-127, 127], float32 scale for each index of `axis`); zero points are 0.

    A channel whose weights are very small beside its bias gets a larger scale, so that the bias at
    scale input_scale * scale is at most `bias_limit`, well inside int32.
    """
    channels = np.moveaxis(np.asarray(weights, np.float64), axis, 0)
    flat = channels.reshape(channels.shape[0], -1)
    scale = np.abs(flat).max(axis=1) / 127.0
    if bias is not None:
        scale = np.maximum(scale, np.abs(bias) / (input_scale * bias_limit))
    scale = np.where(scale < np.finfo(np.float32).tiny * 2**24, 1.0 / 127.0, scale).astype(np.float32)
    shape = (-1,) + (1,) * (channels.ndim - 1)
    quantized = np.clip(np.rint(channels / scale.astype(np.float64).reshape(shape)), -127, 127)
    return np.ascontiguousarray(np.moveaxis(quantized, 0, axis)).astype(np.int8), scale


def quantize_bias(bias: FloatArray, scale: FloatArray) -> Int32Array:
    """int32 bias at `scale` (input scale * weight scale, one for each channel), zero point 0."""
    return np.clip(np.rint(bias / scale), -(2**31), 2**31 - 1).astype(np.int32)
