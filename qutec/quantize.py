"""The step from a float model to its int8 QDQ form: calibrate, then QuantizePass."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy.typing as npt
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from qutec.calibrate import CalibrationMethod, Samples, load_samples, measure_ranges, random_samples
from qutec.errors import DataError
from qutec.passes.quantize import QuantizePass, is_quantized, values_to_calibrate

__all__ = ["Calibration", "calibration_samples", "quantize"]

Calibration: TypeAlias = str | Path | npt.ArrayLike | Mapping[str, npt.ArrayLike]
"""A .npz or .npy file, an array [samples, *shape], arrays by input name, or the word 'random'."""


def calibration_samples(model: ir.Model, calibration: Calibration | None) -> Samples:
    """The samples to calibrate on. Raises DataError, also where there is no calibration at all."""
    if calibration is None:
        raise DataError(
            "the model is float: int8 needs calibration data. Give a .npz or .npy with some hundred "
            "real inputs (--calibration data.npz), or --calibration random to see sizes and speed only"
        )
    if isinstance(calibration, str) and calibration == "random":
        return random_samples(model)
    return load_samples(calibration, model)


def quantize(
    model: ir.Model,
    calibration: Calibration | None,
    method: CalibrationMethod = CalibrationMethod.MINMAX,
    *,
    progress: bool = False,
) -> ir.Model:
    """A QDQ copy of a float model (as `qutec.load` leaves it) that onnxruntime runs in int8.

    A model that is quantised already is returned as it is: its own parameters are never changed.
    `progress` shows a bar on stderr. Raises DataError.
    """
    if is_quantized(model):
        return model
    samples = calibration_samples(model, calibration)
    ranges = measure_ranges(model, samples, values_to_calibrate(model), method, progress=progress)
    copy = ir.from_proto(ir.to_proto(model))
    return ir.passes.Sequential(QuantizePass(ranges), common_passes.RemoveUnusedNodesPass())(copy).model
