"""What networks with exits have to answer, in numpy, from ONNX Runtime's outputs without optimisations."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from tests.onnx_models import run
from tests.passes.exit_networks import Network

FloatArray = npt.NDArray[np.float64]

_FOLDER = tempfile.TemporaryDirectory(prefix="qutec-tests-")


def _digits() -> Path:
    """A network for 8x8 images of ten classes with two early exits that add no convolution of their own."""
    net = Network(1, 8, 8, batch="N")
    x = net.block(net.x, 8)
    net.head(x, "exit_1", 10)
    x = net.residual(net.block(x, 12, stride=2))
    net.head(x, "exit_2", 10)
    net.head(net.block(x, 16), "final", 10)
    path = Path(_FOLDER.name) / "digits.onnx"
    proto = net.proto()
    proto.graph.input[0].name = "image"
    for node in proto.graph.node:
        node.input[:] = ["image" if name == "x" else name for name in node.input]
    onnx.save(proto, path)
    return path


DIGITS = _digits()


def images(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Noise as the digits network takes it, loud enough for confidences of all sizes."""
    return (np.random.default_rng(seed).standard_normal((count, 1, 8, 8)) * 2).astype(np.float32)


def exits_of(model: Path | bytes | onnx.ModelProto, x: npt.NDArray[np.float32]) -> FloatArray:
    """Probabilities [exits, samples, classes] of every output, in order, computed row by row."""
    proto = onnx.load_from_string(model) if isinstance(model, bytes) else model
    proto = onnx.load(proto) if isinstance(proto, Path) else proto
    name = proto.graph.input[0].name
    rows = [run(proto, **{name: x[i : i + 1]}) for i in range(len(x))]
    return np.stack([np.concatenate([row[k] for row in rows]) for k in range(len(rows[0]))]).astype(
        np.float64
    )


def entropy(p: FloatArray) -> FloatArray:
    """In nats, over the last axis."""
    return -np.sum(np.where(p > 0, p * np.log(np.maximum(p, 1e-30)), 0.0), axis=-1)


def mean_answer(each: FloatArray) -> dict[str, FloatArray]:
    """The mean over heads with its uncertainty, from [heads, samples, classes]."""
    mean = each.mean(axis=0)
    return {
        "probabilities": mean,
        "label": mean.argmax(axis=1).astype(np.float64),
        "confidence": mean.max(axis=1),
        "entropy": entropy(mean),
        "disagreement": entropy(mean) - entropy(each).mean(axis=0),
    }


def first_sure(each: FloatArray, thresholds: Sequence[float]) -> npt.NDArray[np.int64]:
    """Number of the first exit that is sure enough, for each sample."""
    sure = each.max(axis=-1) >= np.array([*thresholds, 0.0])[:, None]
    return sure.argmax(axis=0)
