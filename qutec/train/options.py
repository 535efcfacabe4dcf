"""What the user chooses about a training run; nothing here needs torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from qutec.errors import UsageError

__all__ = ["Augmentation", "Layout", "OptimizerName", "TrainingOptions", "parse_augmentation"]

_MAX_SEED = 2**32 - 1


class OptimizerName(StrEnum):
    """adam is AdamW: weight decay is decoupled from the gradient, and without it both are the same."""

    ADAM = "adam"
    SGD = "sgd"


class Layout(StrEnum):
    """Which axes of an input of rank 4 are height and width; auto reads it off the graph."""

    AUTO = "auto"
    NCHW = "nchw"
    NHWC = "nhwc"


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training inputs; none by default.

    `shift`: by up to so many pixels in each direction, zeros enter (the same as a random crop after padding
    by as many). `flip`: horizontally, every second time. `rotate`: by up to so many degrees, bilinear.
    """

    shift: int = 0
    flip: bool = False
    rotate: float = 0.0

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise UsageError(f"augmentation: shift is {self.shift}; it must not be negative")
        if not 0.0 <= self.rotate <= 180.0:
            raise UsageError(f"augmentation: rotate is {self.rotate}; degrees from 0 to 180 are meant")

    @property
    def is_active(self) -> bool:
        """Whether anything is changed at all."""
        return bool(self.shift or self.flip or self.rotate)


def parse_augmentation(text: str) -> Augmentation:
    """The augmentation that a text such as "shift=2,flip,rotate=10" describes; "crop" means shift too.

    Raises:
        UsageError: an unknown word, or a number that is missing, unwanted or out of range.
    """
    shift, flip, rotate = 0, False, 0.0
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, amount = part.partition("=")
        try:
            if name in ("shift", "crop"):
                shift = int(amount)
            elif name == "rotate":
                rotate = float(amount)
            elif part == "flip":
                flip = True
            else:
                raise UsageError(
                    f"unknown augmentation '{part}'; there are shift=PIXELS, flip, rotate=DEGREES"
                )
        except ValueError:
            raise UsageError(f"augmentation '{part}' needs a number, such as {name}=2") from None
    return Augmentation(shift, flip, rotate)


@dataclass(frozen=True)
class TrainingOptions:
    """A training run; the defaults follow Ghanathe & Wilton, "QUTE" (arXiv 2404.12599).

    The learning rate is multiplied by `lr_decay` after every `lr_decay_epochs` epochs. `transfer` copies the
    depthwise weights of each early exit to its early view before every batch. The trunk is frozen for the
    last `frozen_share` of the epochs, or with `freeze_trunk` for all of them (then outputs that the network
    had before early views were attached are frozen too: a finished network stays what it is). Early view k
    weighs `view_weight` + (k-1) `view_weight_step` in the loss; early exits rise from `exit_weight_start` to
    `exit_weight_targets`, which are their relative depths by default. `patience` stops after so many epochs
    without a lower validation NLL and keeps the best epoch. Inputs are divided by `scale`.

    Raises:
        UsageError: a number out of range.
    """

    epochs: int = 20
    batch: int = 128
    lr: float = 1e-3
    lr_decay: float = 0.99
    lr_decay_epochs: int = 1
    optimizer: OptimizerName = OptimizerName.ADAM
    momentum: float = 0.9
    weight_decay: float = 0.0
    seed: int = 0
    device: str = "auto"
    augmentation: Augmentation = field(default_factory=Augmentation)
    layout: Layout = Layout.AUTO
    scale: float = 1.0
    transfer: bool = True
    freeze_trunk: bool = False
    frozen_share: float = 0.1
    view_weight: float = 3.0
    view_weight_step: float = 0.5
    exit_weight_start: float = 0.01
    exit_weight_targets: tuple[float, ...] | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _require(self.batch >= 2, "batch", self.batch, "at least 2")
        _require(0.0 < self.lr < math.inf, "lr", self.lr, "above 0")
        _require(0.0 < self.lr_decay <= 1.0, "lr_decay", self.lr_decay, "above 0 and at most 1")
        _require(self.lr_decay_epochs >= 1, "lr_decay_epochs", self.lr_decay_epochs, "at least 1")
        _require(0.0 <= self.momentum < 1.0, "momentum", self.momentum, "in 0..1")
        _require(0.0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "at least 0")
        _require(0 <= self.seed <= _MAX_SEED, "seed", self.seed, "in 0..2^32-1")
        _require(0.0 < self.scale < math.inf, "scale", self.scale, "above 0")
        _require(0.0 <= self.frozen_share <= 1.0, "frozen_share", self.frozen_share, "in 0..1")
        _require(self.patience is None or self.patience >= 1, "patience", self.patience, "at least 1")
        weights = (self.view_weight, self.view_weight_step, self.exit_weight_start)
        for weight in (*weights, *(self.exit_weight_targets or ())):
            _require(0.0 <= weight < math.inf, "a loss weight", weight, "at least 0")

    @property
    def frozen_epochs(self) -> int:
        """How many epochs at the end are trained with a frozen trunk; one at least stays for the trunk."""
        if self.freeze_trunk:
            return self.epochs
        # 0.1 * 30 is a little above 3 in floating point.
        return min(math.ceil(round(self.frozen_share * self.epochs, 9)), self.epochs - 1)

    def learning_rate(self, epoch: int) -> float:
        """The learning rate of an epoch, from 0."""
        return float(self.lr * self.lr_decay ** (epoch // self.lr_decay_epochs))

    def fingerprint(self) -> dict[str, object]:
        """All that must agree for a run to be continued: everything but the device."""
        fields = asdict(self)
        del fields["device"]
        return fields


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise UsageError(f"{name} is {value}; it must be {wanted}")
