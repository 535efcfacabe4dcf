"""`qutec train`: its options, and what it prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from qutec.train import (
    Layout,
    OptimizerName,
    TrainingOptions,
    TrainingResult,
    parse_augmentation,
    terminal_progress,
    train,
)

__all__ = ["train_command"]

_DEFAULTS = TrainingOptions()


def train_command(
    model: Annotated[
        Path, typer.Argument(help="A training graph, or any ONNX classifier.", show_default=False)
    ],
    data: Annotated[
        Path, typer.Option(help=".npz with x_train, y_train (or x, y), and x_val or x_test with labels.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The trained .onnx.")],
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = _DEFAULTS.epochs,
    batch: Annotated[int, typer.Option(help="Samples in a step.")] = _DEFAULTS.batch,
    lr: Annotated[float, typer.Option(help="Learning rate of the first epoch.")] = _DEFAULTS.lr,
    lr_decay: Annotated[
        float,
        typer.Option(help="What the learning rate is multiplied by, as often as --lr-decay-epochs says."),
    ] = _DEFAULTS.lr_decay,
    lr_decay_epochs: Annotated[
        int, typer.Option(help="Epochs between two multiplications.")
    ] = _DEFAULTS.lr_decay_epochs,
    optimizer: Annotated[OptimizerName, typer.Option(help="adam is AdamW.")] = _DEFAULTS.optimizer,
    weight_decay: Annotated[
        float, typer.Option(help="For kernels, not for vectors.")
    ] = _DEFAULTS.weight_decay,
    seed: Annotated[int, typer.Option(help="Of order, augmentation, dropout, split.")] = _DEFAULTS.seed,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1; auto takes a GPU if any.")
    ] = _DEFAULTS.device,
    scale: Annotated[float, typer.Option(help="Inputs are divided by this, such as 255.")] = _DEFAULTS.scale,
    augment: Annotated[str, typer.Option(help="Such as shift=2,flip,rotate=10.")] = "",
    layout: Annotated[Layout, typer.Option(help="Of images, for --augment.")] = _DEFAULTS.layout,
    transfer: Annotated[
        bool, typer.Option("--transfer/--no-transfer", help="Early exits' depthwise weights to early views.")
    ] = _DEFAULTS.transfer,
    freeze_trunk: Annotated[
        bool, typer.Option("--freeze-trunk", help="Train only what was added to a finished network.")
    ] = False,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better validation NLL.")
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Folder for the state of the run.")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(min=0.0, help="Longest time without one.")] = 60.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint, if there is one.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a network; with early views as QUTE does, with weight transfer (extra `train`)."""
    options = TrainingOptions(
        epochs=epochs,
        batch=batch,
        lr=lr,
        lr_decay=lr_decay,
        lr_decay_epochs=lr_decay_epochs,
        optimizer=optimizer,
        weight_decay=weight_decay,
        seed=seed,
        device=device,
        scale=scale,
        augmentation=parse_augmentation(augment),
        layout=layout,
        transfer=transfer,
        freeze_trunk=freeze_trunk,
        patience=patience,
    )
    result = train(
        model,
        data,
        options,
        checkpoint=checkpoint,
        checkpoint_seconds=checkpoint_seconds,
        resume=resume,
        progress=terminal_progress(),
    )
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    result.save(output)
    print(json.dumps(result.to_json(), indent=1) if as_json else _text(result, output))


def _text(result: TrainingResult, output: Path) -> str:
    kept = result.history[result.kept_epoch - 1]
    rows = [*kept.validation.items(), ("prediction", kept.prediction)]
    width = max(len(name) for name, _ in rows)
    lines = [f"{'':<{width}}  accuracy     nll   brier     ece"]
    lines += [
        f"{name:<{width}}  {s.accuracy:8.4f}  {s.nll:6.4f}  {s.brier:6.4f}  {s.ece:6.4f}" for name, s in rows
    ]
    lines.append(f"epoch {result.kept_epoch} of {len(result.history)}, measured on {result.validation_data}")
    lines.append(f"written to  {output}")
    return "\n".join(lines)
