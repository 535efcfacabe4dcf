"""From a network with several outputs to the answer that is compiled: what stays, and what joins it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from qutec.dump import Dump
from qutec.errors import UsageError
from qutec.heads import read_heads
from qutec.load import LoadedModel
from qutec.passes.dynamic_exit import DynamicExitPass
from qutec.passes.find_exits import find_exits
from qutec.passes.merge_heads import MergeHeadsPass
from qutec.passes.select_exits import ExitMode, SelectExitsPass

__all__ = ["DEFAULT_EXIT_THRESHOLD", "ChosenExits", "ExitChoice", "ExitOptions", "choose_exits"]

ExitChoice: TypeAlias = ExitMode | Literal["auto"]
"""What `compile` makes of the exits."""

DEFAULT_EXIT_THRESHOLD = 0.9
"""Confidence at which a dynamic exit is taken unless another is asked for."""


@dataclass(frozen=True)
class ExitOptions:
    """What is asked for."""

    mode: ExitChoice = "auto"
    abstain: float = 0.0
    """Confidence below which an answer sets its abstain flag; needs a mode that gives a confidence."""
    thresholds: float | Sequence[float] | None = None
    """Confidences at which the exits of the mode "dynamic" are taken; one for all, or one for each."""


@dataclass(frozen=True)
class ChosenExits:
    """The model with what stays, and the exits that its answer is made of, by depth."""

    loaded: LoadedModel
    mode: ExitMode
    heads: tuple[str, ...]
    """Outputs that are merged into one answer; empty where each output stays as it is."""


def choose_exits(loaded: LoadedModel, options: ExitOptions, steps: Dump | None = None) -> ChosenExits:
    """Prune what is not asked for and join what stays.

    Raises:
        UsageError: the model has no such exits, an option does not belong to the mode or is out of range.
        UnsupportedModelError: the exits cannot be joined.
    """
    if not 0.0 <= options.abstain <= 1.0:
        raise UsageError(f"abstain is a confidence between 0 and 1, not {options.abstain:g}")
    mode = _mode(loaded, options.mode)
    if options.thresholds is not None and mode != "dynamic":
        raise UsageError(f"exit thresholds are for --exits dynamic, not for {mode}")
    if options.abstain and mode in ("final", "all"):
        raise UsageError("abstain needs an answer with a confidence: --exits qute, ensemble or dynamic")
    selected = SelectExitsPass(mode)(loaded.model)
    model = selected.model
    if selected.modified and steps is not None:
        steps.write("select_exits", model)
    if mode in ("final", "all"):
        return ChosenExits(replace(loaded, model=model), mode, ())
    if mode == "dynamic":
        heads = tuple(item.name for item in find_exits(model).exits)
        thresholds = DEFAULT_EXIT_THRESHOLD if options.thresholds is None else options.thresholds
        model = DynamicExitPass(thresholds, options.abstain)(model).model
    else:
        heads = tuple(value.name or "" for value in model.graph.outputs)
        model = MergeHeadsPass(options.abstain)(model).model
    if steps is not None:
        steps.write("dynamic_exit" if mode == "dynamic" else "merge_heads", model)
    return ChosenExits(replace(loaded, model=model), mode, heads)


def _mode(loaded: LoadedModel, choice: ExitChoice) -> ExitMode:
    if choice != "auto":
        return choice
    return "qute" if any(head.kind == "early_view" for head in read_heads(loaded.model)) else "all"
