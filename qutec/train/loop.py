"""The training loop: early exits, early views and the final output together, with weight transfer.

Every random number of a step depends on (seed, epoch, step) only, so the position in the run is all that a
checkpoint needs to know about randomness.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn import functional

from qutec.errors import UsageError
from qutec.labelled import Part
from qutec.train.augment import Augmenter
from qutec.train.checkpoint import CheckpointFile
from qutec.train.data import Dataset
from qutec.train.exits import Structure
from qutec.train.loss import loss_weights
from qutec.train.module import OnnxModule
from qutec.train.options import OptimizerName, TrainingOptions
from qutec.train.progress import Progress
from qutec.train.result import EpochReport, score

__all__ = ["Trainer"]

_VALIDATION_BATCH = 512
_ON_DEVICE_BYTES = 4 << 30
"""Data up to this size are moved to a GPU once; larger ones batch by batch."""
_FINITE_CHECK_STEPS = 50
"""A check waits for the device, so it is not made at every step."""


@dataclass
class _State:
    """Where a run is: `step` batches of `epoch` (from 0) are done; the sums are over these."""

    epoch: int = 0
    step: int = 0
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    right: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    history: list[EpochReport] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)


class Trainer:
    """Trains a module in place.

    An incomplete last batch of an epoch is left out (other samples fall out the next time): batch statistics
    of a few samples would disturb the running ones. With transfer, the early views' depthwise weights are no
    parameters of the optimizer: they are copies, made before every batch and again before validation.
    """

    def __init__(
        self,
        module: OnnxModule,
        structure: Structure,
        data: Dataset,
        augmenter: Augmenter,
        options: TrainingOptions,
        device: torch.device,
    ) -> None:
        self.module = module.to(device)
        self._input = module.input_names[0]
        self._structure = structure
        self._classifiers = structure.classifiers
        self._logits = [classifier.logits for classifier in structure.classifiers]
        self._augmenter = augmenter
        self._options = options
        self._device = device
        self._train = _on_device(data.train, device)
        self._validation = _on_device(data.validation, device)
        self._batch = min(options.batch, len(data.train))
        self._steps = len(data.train) // self._batch
        weights = module.weights
        self._pairs = [(weights[theta], weights[phi]) for theta, phi in structure.transfers if theta != phi]
        self._optimizer = _optimizer(self._trainable(), options)
        self._state = _State(right=torch.zeros(len(self._logits), dtype=torch.int64))

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return self._steps

    def run(
        self, checkpoint: CheckpointFile | None, seconds: float, progress: Progress
    ) -> tuple[tuple[EpochReport, ...], int]:
        """Train to the end from where the state is; the history, and the epoch (from 1) that was kept.

        A checkpoint is written after every epoch, and after the first step that ends more than `seconds`
        after the last one.

        Raises:
            UsageError: the loss became infinite or not a number, or the checkpoint cannot be written.
        """
        state = self._state
        written = time.monotonic()
        while not self._finished():
            self._begin_epoch()
            while state.step < self._steps:
                self._step()
                if state.step % _FINITE_CHECK_STEPS == 0 or progress.is_due():
                    self._check_finite()
                if progress.is_due():
                    progress.step(state.epoch, state.step, *self._means())
                if checkpoint is not None and time.monotonic() - written >= seconds:
                    self._check_finite()
                    checkpoint.write(self._saved())
                    written = time.monotonic()
            self._end_epoch()
            progress.epoch(state.history[-1])
            if checkpoint is not None:
                checkpoint.write(self._saved())
                written = time.monotonic()
        if self._options.patience is not None:
            self.module.load_state_dict(state.best)
        return tuple(state.history), state.best_epoch

    def resume(self, saved: dict[str, Any]) -> None:
        """Go back to a state that a checkpoint holds."""
        self.module.load_state_dict(saved["module"])
        self._optimizer.load_state_dict(saved["optimizer"])
        history = [EpochReport.from_json(entry) for entry in json.loads(saved["history"])]
        self._state = _State(
            saved["epoch"],
            saved["step"],
            saved["loss_sum"],
            saved["right"],
            history,
            saved["best_epoch"],
            saved["best"],
        )

    def _saved(self) -> dict[str, Any]:
        state = self._state
        return {
            "module": self.module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "epoch": state.epoch,
            "step": state.step,
            "loss_sum": state.loss_sum.cpu(),
            "right": state.right.cpu(),
            # JSON keeps every bit of a double.
            "history": json.dumps([asdict(report) for report in state.history]),
            "best_epoch": state.best_epoch,
            "best": state.best,
        }

    def _finished(self) -> bool:
        state, patience = self._state, self._options.patience
        if state.epoch >= self._options.epochs:
            return True
        return (
            patience is not None and len(state.history) - state.best_epoch >= patience > 0 < state.best_epoch
        )

    def _begin_epoch(self) -> None:
        """Everything that holds for an epoch; also run when one is resumed in its middle."""
        state, options = self._state, self._options
        self._freeze(state.epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = options.learning_rate(state.epoch)
        self._weights = loss_weights(self._structure, options, state.epoch)
        order = torch.Generator().manual_seed(_mixed(options.seed, state.epoch))
        self._order = torch.randperm(len(self._train[1]), generator=order)
        state.loss_sum, state.right = state.loss_sum.to(self._device), state.right.to(self._device)
        self.module.train()

    def _trunk_is_frozen(self, epoch: int) -> bool:
        options = self._options
        if not (self._structure.is_qute or options.freeze_trunk):
            return False
        return epoch >= options.epochs - options.frozen_epochs

    def _freeze(self, epoch: int) -> None:
        nodes = self._structure.trunk if self._trunk_is_frozen(epoch) else frozenset[ir.Node]()
        if self._options.freeze_trunk:
            nodes |= self._structure.finished
        self.module.freeze(nodes)
        if self._options.transfer:
            for _, phi in self._pairs:
                phi.requires_grad_(False)

    def _trainable(self) -> list[nn.Parameter]:
        copies = {id(phi) for _, phi in self._pairs} if self._options.transfer else set()
        return [weight for weight in self.module.weights.values() if id(weight) not in copies]

    def _transfer(self) -> None:
        if self._options.transfer:
            with torch.no_grad():
                for theta, phi in self._pairs:
                    phi.copy_(theta)

    def _step(self) -> None:
        state, seed = self._state, self._options.seed
        rows = self._order[state.step * self._batch : (state.step + 1) * self._batch]
        generator = torch.Generator().manual_seed(_mixed(seed, state.epoch, state.step))
        # Dropout draws from the global generators.
        torch.manual_seed(_mixed(seed, state.epoch, state.step, 1))
        x, y = self._samples(self._train, rows)
        self._transfer()
        logits = self._forward(self._augmenter(x, generator))
        loss = self._loss(logits, y)
        self._optimizer.zero_grad(set_to_none=True)
        if loss.requires_grad:
            loss.backward()
            self._optimizer.step()
        with torch.no_grad():
            state.loss_sum += loss.detach().double()
            state.right += torch.stack([(rows.argmax(1) == y).sum() for rows in logits])
        state.step += 1

    def _end_epoch(self) -> None:
        self._check_finite()
        self._transfer()
        state, options = self._state, self._options
        loss, accuracy = self._means()
        report = self._validate(loss, dict(zip((c.output for c in self._classifiers), accuracy, strict=True)))
        state.history.append(report)
        best = state.history[state.best_epoch - 1].prediction.nll if state.best_epoch else None
        if options.patience is None:
            state.best_epoch = len(state.history)
        elif best is None or report.prediction.nll < best:
            state.best_epoch = len(state.history)
            state.best = {name: t.detach().clone().cpu() for name, t in self.module.state_dict().items()}
        state.epoch, state.step = state.epoch + 1, 0
        state.loss_sum = torch.zeros((), dtype=torch.float64)
        state.right = torch.zeros(len(self._logits), dtype=torch.int64)

    def _validate(self, train_loss: float, train_accuracy: dict[str, float]) -> EpochReport:
        epoch = self._state.epoch
        count = len(self._validation[1])
        total, rows = 0.0, [list[Tensor]() for _ in self._classifiers]
        self.module.eval()
        with torch.no_grad():
            for start in range(0, count, _VALIDATION_BATCH):
                x, y = self._samples(
                    self._validation, torch.arange(start, min(start + _VALIDATION_BATCH, count))
                )
                logits = self._forward(x)
                total += float(self._loss(logits, y)) * len(y)
                for kept, batch in zip(rows, logits, strict=True):
                    kept.append(functional.softmax(batch.double(), dim=1).cpu())
        labels = self._validation[1].cpu().numpy()
        probabilities = {
            classifier.output: torch.cat(kept).numpy()
            for classifier, kept in zip(self._classifiers, rows, strict=True)
        }
        mean = np.mean([probabilities[name] for name in self._structure.predicting], axis=0)
        return EpochReport(
            epoch + 1,
            self._options.learning_rate(epoch),
            self._trunk_is_frozen(epoch),
            train_loss,
            train_accuracy,
            total / count,
            {name: score(array, labels) for name, array in probabilities.items()},
            score(mean, labels),
        )

    def _forward(self, x: Tensor) -> list[Tensor]:
        values = self.module({self._input: x}, self._logits)
        return [values[name].flatten(1) for name in self._logits]

    def _loss(self, logits: list[Tensor], y: Tensor) -> Tensor:
        loss = torch.zeros((), device=self._device)
        for classifier, rows in zip(self._classifiers, logits, strict=True):
            loss = loss + self._weights[classifier.output] * functional.cross_entropy(rows, y)
        return loss

    def _samples(self, part: tuple[Tensor, Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
        x, y = part
        rows = rows.to(x.device)
        batch = x[rows].to(self._device).to(torch.float32)
        if self._options.scale != 1.0:
            batch = batch / self._options.scale
        return batch, y[rows].to(self._device)

    def _means(self) -> tuple[float, list[float]]:
        """Mean loss and accuracy of each classifier over the steps of this epoch."""
        state = self._state
        seen = max(state.step * self._batch, 1)
        return float(state.loss_sum) / max(state.step, 1), (state.right.double() / seen).tolist()

    def _check_finite(self) -> None:
        if not bool(torch.isfinite(self._state.loss_sum)):
            raise UsageError(
                f"the loss is no longer finite in epoch {self._state.epoch + 1}, by step {self._state.step};"
                " lower the learning rate, or scale the data"
            )


def _optimizer(parameters: list[nn.Parameter], options: TrainingOptions) -> torch.optim.Optimizer:
    """Weight decay is for kernels only: vectors are biases and batch normalisation."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if options.optimizer is OptimizerName.SGD:
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum)
    return torch.optim.AdamW(groups, lr=options.lr)


def _on_device(part: Part, device: torch.device) -> tuple[Tensor, Tensor]:
    x = torch.from_numpy(np.ascontiguousarray(part.x))
    y = torch.from_numpy(part.y)
    if device.type != "cpu" and part.x.nbytes <= _ON_DEVICE_BYTES:
        return x.to(device), y.to(device)
    return x, y


def _mixed(*numbers: int) -> int:
    """A seed of 63 bits from several numbers, so that neighbours have unrelated streams."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
