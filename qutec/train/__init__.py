"""Training of ONNX graphs in torch (extra `train`); nothing here imports torch before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qutec.errors import ToolMissingError
from qutec.train.options import Augmentation, Layout, OptimizerName, TrainingOptions, parse_augmentation
from qutec.train.progress import Progress, terminal_progress
from qutec.train.result import EpochReport, Scores, TrainingResult

if TYPE_CHECKING:
    import onnx_ir as ir

    from qutec.ingest.source import ModelSource
    from qutec.labelled import DataSource

__all__ = [
    "Augmentation",
    "EpochReport",
    "Layout",
    "OptimizerName",
    "Progress",
    "Scores",
    "TrainingOptions",
    "TrainingResult",
    "parse_augmentation",
    "terminal_progress",
    "train",
]


def train(
    model: ModelSource | ir.Model,
    data: DataSource,
    options: TrainingOptions | None = None,
    *,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 60.0,
    resume: bool = False,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train an ONNX classifier with one or more outputs in torch; its graph comes back with new weights.

    A training graph with early views (see `qutec.heads`) is trained as QUTE; any other graph by the sum of
    its classifiers' cross entropies. On a CPU, the same arguments give the same bytes on one machine with one
    number of threads, however often the run was killed and resumed.

    Args:
        model: path, bytes, protobuf or onnx_ir model; it is not changed. One float32 input, any batch.
        data: an .npz or arrays by name; see `qutec.train.data.load_dataset`.
        options: see `TrainingOptions`.
        checkpoint: folder for the state of the run, written after each epoch and at least every
            `checkpoint_seconds` (between two steps).
        resume: go on from that checkpoint, or begin where there is none yet.
        progress: shows how it goes; see `terminal_progress`.

    Raises:
        ToolMissingError: torch is not installed.
        UsageError: an option that does not fit the graph, a checkpoint of another run, a loss that diverged.
        DataError: data that cannot be used, found before the first step.
        ModelError: the model is not valid ONNX, or its metadata contradict it.
        UnsupportedModelError: operators that cannot be trained; all are listed.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ToolMissingError("training needs torch: pip install 'qutec[train]'") from error
    from qutec.train.run import run_training

    return run_training(
        model,
        data,
        options or TrainingOptions(),
        checkpoint=None if checkpoint is None else Path(checkpoint),
        checkpoint_seconds=checkpoint_seconds,
        resume=resume,
        progress=progress or Progress(),
    )
