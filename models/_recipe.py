"""How a reference network is trained: by the table in Ghanathe & Wilton, "QUTE" (arXiv 2404.12599).

Nothing here needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qutec.train import Augmentation, OptimizerName, TrainingOptions

__all__ = ["DIGITS", "DSCNN", "MNIST_CNN", "MOBILENETV2", "RESNET8", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """Length and optimizer of a training run, and the early exits that the paper attaches.

    `places` names the values of the exported network that the early exits branch from; where it is empty,
    `heads` of them are spread over the trunk.
    The learning rate is multiplied by `lr_decay` after every `lr_decay_epochs` epochs.
    """

    epochs: int
    batch: int
    lr: float
    lr_decay: float
    heads: int
    places: tuple[str, ...] = ()
    lr_decay_epochs: int = 1
    weight_decay: float = 0.0
    optimizer: OptimizerName = OptimizerName.ADAM
    augmentation: Augmentation = field(default_factory=Augmentation)

    def options(self, *, seed: int = 0, epochs: int | None = None, transfer: bool = True) -> TrainingOptions:
        """The recipe as options of `qutec.train`, with another number of epochs where one is given.

        Raises:
            UsageError: a number out of range.
        """
        return TrainingOptions(
            epochs=self.epochs if epochs is None else epochs,
            batch=self.batch,
            lr=self.lr,
            lr_decay=self.lr_decay,
            lr_decay_epochs=self.lr_decay_epochs,
            weight_decay=self.weight_decay,
            optimizer=self.optimizer,
            augmentation=self.augmentation,
            seed=seed,
            transfer=transfer,
        )


DIGITS = Recipe(
    epochs=60,
    batch=32,
    lr=1e-2,
    lr_decay=0.93,
    heads=2,
    augmentation=Augmentation(shift=1),
)
"""Not of the paper: chosen on the validation images of `models.digits`, mean NLL over three seeds."""

MNIST_CNN = Recipe(
    epochs=20,
    batch=256,
    lr=1e-3,
    lr_decay=0.99,
    heads=2,
    places=("relu_1", "relu_2"),
    augmentation=Augmentation(shift=2),
)

DSCNN = Recipe(
    epochs=10, batch=100, lr=5e-4, lr_decay=0.5, lr_decay_epochs=2, heads=2, places=("relu_3", "relu_5")
)
"""Early exits after the first and second separable layer."""

RESNET8 = Recipe(
    epochs=200,
    batch=32,
    lr=1e-3,
    lr_decay=0.99,
    heads=2,
    places=("relu_3", "relu_5"),
    augmentation=Augmentation(shift=4, flip=True),
)
"""Early exits after the first and second residual stack."""

MOBILENETV2 = Recipe(
    epochs=200, batch=128, lr=1e-3, lr_decay=0.99, heads=5, augmentation=Augmentation(shift=4, flip=True)
)
