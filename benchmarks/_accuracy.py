"""Top-1 accuracy of each exit: the original file in ONNX Runtime against the compiled int8 network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from benchmarks._networks import Network, Samples
from qutec import Build

__all__ = ["ExitAccuracy", "exit_accuracies", "run_original"]


@dataclass(frozen=True)
class ExitAccuracy:
    """Accuracies (0..1) of one exit over all samples, and over those that did not calibrate."""

    exit: str
    samples: int
    original: float
    int8: float
    one_right: int
    """Samples on which one of the two is right and the other wrong."""
    held_out_samples: int
    held_out_original: float
    held_out_int8: float

    @property
    def loss_points(self) -> float:
        """Percentage points that int8 loses over all samples."""
        return 100 * (self.original - self.int8)


def exit_accuracies(network: Network, build: Build, samples: Samples) -> list[ExitAccuracy]:
    """One entry for each output with a value per class, in ONNX order; none without labels."""
    if samples.labels is None:
        return []
    classes = int(samples.labels.max()) + 1
    original, compiled = run_original(network.path, samples.x), build.run(samples.x)
    return [
        _compare(name, values, compiled[name], samples.labels, samples.held_out)
        for name, values in original.items()
        if values.shape[1:] == (classes,)
    ]


def run_original(path: Path, x: npt.NDArray[np.generic]) -> dict[str, npt.NDArray[np.generic]]:
    """Outputs [samples, *shape without batch] of the ONNX file itself, one sample after the other."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    rows = [session.run(None, {source: x[i : i + 1]}) for i in range(len(x))]
    names = [output.name for output in session.get_outputs()]
    return {name: np.concatenate(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}


def _compare(
    name: str,
    original: npt.NDArray[np.generic],
    compiled: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    held_out: npt.NDArray[np.bool_],
) -> ExitAccuracy:
    right = [values.argmax(axis=1) == labels for values in (original, compiled)]
    return ExitAccuracy(
        exit=name,
        samples=len(labels),
        original=float(right[0].mean()),
        int8=float(right[1].mean()),
        one_right=int((right[0] != right[1]).sum()),
        held_out_samples=int(held_out.sum()),
        held_out_original=float(right[0][held_out].mean()),
        held_out_int8=float(right[1][held_out].mean()),
    )
