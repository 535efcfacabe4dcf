"""Do two models compute the same? ONNX Runtime on random inputs, with its optimizations off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

__all__ = ["Arrays", "RunError", "largest_difference", "random_inputs", "run_model"]

Arrays: TypeAlias = dict[str, npt.NDArray[np.generic]]


class RunError(Exception):
    """ONNX Runtime could not load or run a model; the text is its first line."""


def run_model(model: onnx.ModelProto, inputs: Mapping[str, npt.NDArray[np.generic]]) -> Arrays:
    """Outputs by name.

    Raises:
        RunError: ONNX Runtime refuses the model or fails on it.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_outputs()]
        results = session.run(names, dict(inputs))
    except Exception as error:  # onnxruntime's exceptions share no public base class
        lines = str(error).splitlines()
        raise RunError(lines[0] if lines else type(error).__name__) from error
    return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}


def random_inputs(model: onnx.ModelProto, seed: int = 0) -> Arrays:
    """Reproducible inputs: normal floats, integers over 8 bits. Symbolic dimensions count as 1."""
    rng = np.random.default_rng(seed)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs: Arrays = {}
    for value in model.graph.input:
        if value.name in constants:
            continue
        tensor = value.type.tensor_type
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else 1 for dim in tensor.shape.dim)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if dtype.kind in "iu":
            low, high = max(-128, np.iinfo(dtype).min), min(127, np.iinfo(dtype).max)
            inputs[value.name] = rng.integers(low, high, size=shape, endpoint=True).astype(dtype)
        elif dtype.kind == "b":
            inputs[value.name] = rng.integers(0, 2, size=shape).astype(dtype)
        else:
            inputs[value.name] = rng.standard_normal(shape).astype(dtype)
    return inputs


def largest_difference(expected: Arrays, actual: Arrays) -> float:
    """Largest |expected - actual| of any output, relative to each output's largest magnitude.

    Infinity when the names or a shape differ, or a value is finite in one only.
    """
    if expected.keys() != actual.keys():
        return float("inf")
    worst = 0.0
    for name in expected:
        if expected[name].shape != actual[name].shape:
            return float("inf")
        a, b = expected[name].astype(np.float64), actual[name].astype(np.float64)
        finite = np.isfinite(a)
        if not np.array_equal(finite, np.isfinite(b)):
            return float("inf")
        if finite.any():
            scale = max(float(np.abs(a[finite]).max()), 1e-6)
            worst = max(worst, float(np.abs(a[finite] - b[finite]).max()) / scale)
    return worst
