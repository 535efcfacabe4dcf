"""One training run from files to a trained graph; imported only where torch is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch

from qutec.errors import ModelError, UnsupportedModelError, UsageError
from qutec.heads import read_heads
from qutec.ingest.source import ModelSource, read_source
from qutec.ingest.validity import check_finite, check_valid
from qutec.labelled import DataSource
from qutec.train.augment import Augmenter, image_layout
from qutec.train.checkpoint import CheckpointFile
from qutec.train.data import Dataset, load_dataset
from qutec.train.exits import Structure, find_structure
from qutec.train.loop import Trainer
from qutec.train.module import OnnxModule, write_back
from qutec.train.options import TrainingOptions
from qutec.train.progress import Progress
from qutec.train.result import TrainingResult
from qutec.train.weights import give_own_copies, merge_copies

__all__ = ["run_training"]

_ROW_TOLERANCE = 1e-3
"""Accepted difference of logits alone and in a batch, relative to the largest: sums may differ in order."""


def run_training(
    source: ModelSource | ir.Model,
    data: DataSource,
    options: TrainingOptions,
    *,
    checkpoint: Path | None,
    checkpoint_seconds: float,
    resume: bool,
    progress: Progress,
) -> TrainingResult:
    """See `qutec.train.train`."""
    device = _device(options.device)
    if resume and checkpoint is None:
        raise UsageError("to resume, name the folder of the checkpoint")
    proto = read_source(ir.to_proto(source) if isinstance(source, ir.Model) else source).model
    check_valid(proto)
    check_finite(proto)
    model = ir.from_proto(proto)
    copies = give_own_copies(model, _named_by_heads(model))
    module = OnnxModule(model)
    shape = _input_shape(model)
    structure, classes = _structure(model, module, shape)
    if options.freeze_trunk and not structure.trunk:
        raise UsageError("there is no trunk to freeze: no two classifiers share a node")
    dataset = load_dataset(data, shape, classes, seed=options.seed, selects=options.patience is not None)
    augmenter = Augmenter(options.augmentation, len(shape) + 1, image_layout(model, options.layout))
    _check_rows(module, structure, dataset, options)
    with _reproducible(device):
        trainer = Trainer(module, structure, dataset, augmenter, options, device)
        file = None
        if checkpoint is not None:
            file = CheckpointFile(checkpoint, _fingerprint(proto, dataset, options))
        saved = None if file is None else file.read()
        if saved is not None:
            if not resume:
                raise UsageError(f"{checkpoint} holds a checkpoint: go on with --resume, or delete it")
            trainer.resume(saved)
        start = (0, 0) if saved is None else (saved["epoch"], saved["step"])
        with progress:
            progress.begin(options.epochs, trainer.steps, *start)
            history, kept = trainer.run(file, checkpoint_seconds, progress)
    parameters = sum(weight.numel() for weight in module.weights.values())
    trained = write_back(module, model)
    merge_copies(trained, copies)
    return TrainingResult(trained, history, kept, dataset.validation_name, parameters, structure.messages)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"the device '{name}' cannot be used: {reason}") from error
    return device


def _named_by_heads(model: ir.Model) -> frozenset[str]:
    names = {name for head in read_heads(model) for name in (head.depthwise_weights, head.depthwise_bias)}
    return frozenset(name for name in names if name is not None)


def _input_shape(model: ir.Model) -> tuple[int, ...]:
    """The shape of the only input without its batch."""
    inputs = [value for value in model.graph.inputs if not value.is_initializer()]
    if len(inputs) != 1:
        raise UnsupportedModelError(f"the graph has {len(inputs)} inputs; training needs one")
    value = inputs[0]
    lengths = [] if value.shape is None else list(value.shape)
    fixed = tuple(length for length in lengths[1:] if isinstance(length, int))
    if len(fixed) + 1 != len(lengths):
        raise UnsupportedModelError(
            f"the input {value.name!r} has the shape {[str(length) for length in lengths]};"
            " all but the batch must be fixed"
        )
    if value.dtype != ir.DataType.FLOAT:
        raise UnsupportedModelError(
            f"the input {value.name!r} is not float32; training needs a float network"
        )
    return fixed


def _structure(model: ir.Model, module: OnnxModule, shape: tuple[int, ...]) -> tuple[Structure, int]:
    """The structure of the graph and the number of classes, which all classifiers share."""
    shapes = module.shapes({module.input_names[0]: torch.zeros((1, *shape))})
    structure = find_structure(model, shapes)
    sizes = {}
    by_name = {value.name: result for value, result in shapes.items()}
    for classifier in structure.classifiers:
        row = by_name[classifier.logits]
        sizes[classifier.output] = int(np.prod(row[1:])) if len(row) > 1 and row[0] == 1 else 0
    if len(set(sizes.values())) > 1 or min(sizes.values()) < 2:
        listed = ", ".join(f"{name!r} {size}" for name, size in sizes.items())
        raise UnsupportedModelError(f"classifiers need one number, 2 or more, of classes; there are {listed}")
    return structure, next(iter(sizes.values()))


def _check_rows(module: OnnxModule, structure: Structure, dataset: Dataset, options: TrainingOptions) -> None:
    """A graph that was exported for batch 1 must not mix samples when it is given more of them."""
    name = module.input_names[0]
    logits = [classifier.logits for classifier in structure.classifiers]
    x = torch.from_numpy(np.ascontiguousarray(dataset.train.x[:2])).to(torch.float32) / options.scale
    module.eval()
    try:
        with torch.no_grad():
            together = module({name: x}, logits)
            alone = [module({name: row[None]}, logits) for row in x]
    except ModelError as error:
        raise UnsupportedModelError(
            f"the graph does not run on a batch of 2: {error}; export it with a symbolic batch"
        ) from error
    for value in logits:
        expected = torch.cat([result[value] for result in alone])
        largest = float(expected.abs().max())
        agrees = expected.shape == together[value].shape and torch.allclose(
            expected, together[value], rtol=0.0, atol=_ROW_TOLERANCE * max(largest, 1e-6), equal_nan=True
        )
        if not agrees:
            raise UnsupportedModelError(
                f"the graph mixes the samples of a batch on the way to {value!r};"
                " export it with a symbolic batch"
            )


def _fingerprint(proto: onnx.ModelProto, dataset: Dataset, options: TrainingOptions) -> dict[str, str]:
    fields = json.dumps(options.fingerprint(), sort_keys=True)
    return {
        "the model": hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest(),
        "the data": dataset.digest(),
        "the options": fields,
    }


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Deterministic algorithms, and torch's global state put back afterwards.

    CUDA has no deterministic form of some operators, so there torch warns instead of failing.
    """
    was, was_warning = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was, warn_only=was_warning)
