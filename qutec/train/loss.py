"""The weight of each classifier in the loss, epoch by epoch.

    L = sum_k tau_k CE(EE_k) + sum_k w_k CE(EV_k) + CE(final)

Ghanathe & Wilton (arXiv 2404.12599): w_0 = 3 and w_k = w_{k-1} + 0.5. tau_k grows linearly over the training,
from 0.01 to the relative depth of the exit, as in Kaya, Hong & Dumitras, "Shallow-Deep Networks" (ICML 2019).
"""

from __future__ import annotations

from qutec.errors import UsageError
from qutec.train.exits import Structure
from qutec.train.options import TrainingOptions

__all__ = ["loss_weights"]


def loss_weights(structure: Structure, options: TrainingOptions, epoch: int) -> dict[str, float]:
    """Output -> weight of its cross entropy in an epoch, from 0. Without early views every weight is 1.

    Raises:
        UsageError: the targets in the options are not as many as there are early exits.
    """
    if not structure.is_qute:
        return {classifier.output: 1.0 for classifier in structure.classifiers}
    exits = [c for c in structure.classifiers if c.kind == "early_exit"]
    exits.sort(key=lambda classifier: classifier.index)
    targets = options.exit_weight_targets or tuple(classifier.depth for classifier in exits)
    if len(targets) != len(exits):
        raise UsageError(f"there are {len(targets)} exit weights for {len(exits)} early exits")
    progress = epoch / (options.epochs - 1) if options.epochs > 1 else 1.0
    start = options.exit_weight_start
    weights = {
        classifier.output: start + (target - start) * progress
        for classifier, target in zip(exits, targets, strict=True)
    }
    views = sorted((c for c in structure.classifiers if c.kind == "early_view"), key=lambda c: c.index)
    for position, classifier in enumerate(views):
        weights[classifier.output] = options.view_weight + position * options.view_weight_step
    weights |= {c.output: 1.0 for c in structure.classifiers if c.kind == "final"}
    return {c.output: weights[c.output] for c in structure.classifiers}
