"""The exits that stay become one answer: that of the first exit which is sure enough.

    logits_k -> Softmax -> out_k                                  (k = 0 .. K - 1, by depth)
become
    logits_0 .. logits_K-1 -> qutec.DynamicExit -> probabilities, label, confidence, entropy,
                                                   disagreement, abstain, exit

With p_k = softmax(logits_k): exit = the smallest k with max p_k >= threshold_k, else K - 1; the other results
are those of p_exit alone, so the disagreement is 0. This is the exit rule of T-RecX (Ghanathe & Wilton
2023); BranchyNet's compares the entropy instead of the largest probability. The function computes all exits,
as onnxruntime does; compilers that match it by name stop at the exit (see `qutec.lower.dynamic_exit`).
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qutec.errors import UsageError
from qutec.heads import EXIT_RESULTS, HEAD_DOMAIN
from qutec.passes.find_exits import find_exits
from qutec.passes.result_functions import (
    MEAN_UNCERTAINTY,
    classifier_logits,
    replace_outputs,
    result_function,
    stacked_logits,
)

__all__ = ["DynamicExitPass", "exit_thresholds"]


class DynamicExitPass(ir.passes.InPlacePass):
    """Replace all outputs of a network, classifiers of the same classes, by those of the exit taken."""

    def __init__(self, thresholds: float | Sequence[float], abstain_below: float = 0.0) -> None:
        """`thresholds` are confidences in (0, 1], one for each exit but the last, or one for all of them."""
        super().__init__()
        self._thresholds = thresholds
        self._abstain_below = abstain_below

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Merge the exits.

        Raises:
            UsageError: there is one exit only; a threshold is not in (0, 1]; there are too many or too few.
            UnsupportedModelError: an output is no classifier, or one of other classes.
        """
        exits = [item.output for item in find_exits(model).exits]
        if len(exits) < 2:
            raise UsageError(
                f"exits 'dynamic': the model has {len(exits)} exit, so there is nothing to choose"
            )
        thresholds = exit_thresholds(self._thresholds, [output.name or "" for output in exits])
        logits, classes = classifier_logits(exits)
        name = f"DynamicExit{len(logits)}"
        names = [f"logits_{k}" for k in range(len(logits))]
        body = f"""{stacked_logits(names, "all_logits")}
    all_exits = Softmax <axis = -1> (all_logits)
    last_axis = Constant <value_ints = [-1]> ()
    confidences = ReduceMax <keepdims = 1> (all_exits, last_axis)
    levels = Constant <value_floats: floats = @thresholds> ()
    column = Constant <value_ints = [-1, 1, 1]> ()
    sure_above = Reshape (levels, column)
    sure = GreaterOrEqual (confidences, sure_above)
    sure_number = Cast <to = 1> (sure)
    exit_number = ArgMax <axis = 0, keepdims = 1> (sure_number)
    exit_axes = Constant <value_ints = [0, 2]> ()
    exit = Squeeze (exit_number, exit_axes)
    classes = Shape <start = 2> (all_logits)
    ones = Constant <value_ints = [1, 1]> ()
    row = Concat <axis = 0> (ones, classes)
    taken = Expand (exit_number, row)
    logits = GatherElements <axis = 0> (all_logits, taken){MEAN_UNCERTAINTY}"""
        function = result_function(name, names, EXIT_RESULTS, "thresholds, abstain_below", body)
        node = ir.node(
            name,
            logits,
            attributes={"thresholds": [*thresholds, 0.0], "abstain_below": float(self._abstain_below)},
            domain=HEAD_DOMAIN,
            num_outputs=len(EXIT_RESULTS),
            name="dynamic_exit",
        )
        replace_outputs(model, node, function, EXIT_RESULTS, classes)
        return ir.passes.PassResult(model, modified=True)


def exit_thresholds(given: float | Sequence[float], names: Sequence[str]) -> list[float]:
    """One confidence for each exit but the last, from one for all or one for each; `names` by depth.

    Raises:
        UsageError: there are too many or too few, or one is not in (0, 1].
    """
    early = len(names) - 1
    thresholds = [float(given)] * early if isinstance(given, int | float) else [float(t) for t in given]
    if len(thresholds) == 1:
        thresholds *= early
    if len(thresholds) != early:
        raise UsageError(
            f"{len(thresholds)} exit thresholds are given; the network needs one, or {early}: for "
            + ", ".join(names[:-1])
        )
    for threshold in thresholds:
        if not 0.0 < threshold <= 1.0:
            raise UsageError(f"an exit threshold is a confidence above 0 and up to 1, not {threshold:g}")
    return thresholds
