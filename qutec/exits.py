"""From a network with several outputs to the answer that is compiled: what stays, and what joins it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import onnx_ir as ir

from qutec.dump import Dump
from qutec.errors import UsageError
from qutec.heads import read_heads
from qutec.load import LoadedModel
from qutec.passes.dynamic_exit import DynamicExitPass
from qutec.passes.find_exits import find_exits
from qutec.passes.fold_batch_norm import FoldBatchNormPass
from qutec.passes.fold_temperature import FoldTemperaturePass
from qutec.passes.join_members import join_members
from qutec.passes.merge_heads import MergeHeadsPass
from qutec.passes.select_exits import ExitMode, SelectExitsPass

__all__ = [
    "DEFAULT_EXIT_THRESHOLD",
    "ChosenExits",
    "ExitChoice",
    "ExitOptions",
    "base_network",
    "choose_exits",
    "choose_from_members",
    "exit_mode",
]

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
    temperature: float = 1.0
    """Divides the logits of every classifier that stays."""


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
    mode = exit_mode(loaded.model, options.mode)
    _check_options(options, mode)
    model = _selected(loaded, mode, options.temperature, steps)
    if mode in ("final", "all"):
        return ChosenExits(replace(loaded, model=model), mode, ())
    if mode == "dynamic":
        heads = tuple(item.name for item in find_exits(model).exits)
        thresholds = DEFAULT_EXIT_THRESHOLD if options.thresholds is None else options.thresholds
        model = DynamicExitPass(thresholds, options.abstain)(model).model
        _write(steps, "dynamic_exit", model)
        return ChosenExits(replace(loaded, model=model), mode, heads)
    return _averaged(loaded, model, mode, options.abstain, steps)


def choose_from_members(
    members: Sequence[LoadedModel], options: ExitOptions, steps: Dump | None = None
) -> ChosenExits:
    """A deep ensemble: one network that runs the members in turn and answers with their mean.

    Each member brings the exits of the mode: its final one ("auto", "final"), its early views ("qute"), or
    all of its exits ("ensemble"). Raises what `choose_exits` raises, and UsageError where members cannot be
    joined.
    """
    mode: ExitMode = "final" if options.mode == "auto" else options.mode
    if mode in ("dynamic", "all"):
        raise UsageError(f"exits {mode!r} is for one network; an ensemble takes final, qute or ensemble")
    _check_options(options, "ensemble")
    chosen = [_selected(member, mode, options.temperature, steps) for member in members]
    joined = join_members(chosen)
    _write(steps, "join_members", joined)
    digests = "".join(member.sha256 for member in members)
    loaded = LoadedModel(
        joined,
        members[0].name,
        hashlib.sha256(digests.encode("ascii")).hexdigest(),
        tuple(dict.fromkeys(text for member in members for text in member.warnings)),
    )
    return _averaged(loaded, joined, "ensemble", options.abstain, steps)


def base_network(loaded: LoadedModel) -> ir.Model | None:
    """A copy of the network with its final exit alone, to compare with; None where it has no such exit."""
    model = ir.from_proto(ir.to_proto(loaded.model))
    try:
        return SelectExitsPass("final")(model).model
    except UsageError:
        return None


def _check_options(options: ExitOptions, mode: ExitMode) -> None:
    if not 0.0 <= options.abstain <= 1.0:
        raise UsageError(f"abstain is a confidence between 0 and 1, not {options.abstain:g}")
    if options.thresholds is not None and mode != "dynamic":
        raise UsageError(f"exit thresholds are for --exits dynamic, not for {mode}")
    if options.abstain and mode in ("final", "all"):
        raise UsageError("abstain needs an answer with a confidence: --exits qute, ensemble or dynamic")


def _selected(loaded: LoadedModel, mode: ExitMode, temperature: float, steps: Dump | None) -> ir.Model:
    """The model with the exits of the mode, and with what stands in their heads folded into their layers."""
    model = loaded.model
    passes = {
        "select_exits": SelectExitsPass(mode),
        "fold_batch_norm": FoldBatchNormPass(),
        "fold_temperature": FoldTemperaturePass(temperature),
    }
    for step, one in passes.items():
        result = one(model)
        model = result.model
        if result.modified:
            _write(steps, step, model)
    return model


def _averaged(
    loaded: LoadedModel, model: ir.Model, mode: ExitMode, abstain: float, steps: Dump | None
) -> ChosenExits:
    heads = tuple(value.name or "" for value in model.graph.outputs)
    merged = MergeHeadsPass(abstain)(model).model
    _write(steps, "merge_heads", merged)
    return ChosenExits(replace(loaded, model=merged), mode, heads)


def _write(steps: Dump | None, step: str, model: ir.Model) -> None:
    if steps is not None:
        steps.write(step, model)


def exit_mode(model: ir.Model, choice: ExitChoice) -> ExitMode:
    """What "auto" stands for in a model: qute where it has early views, else all."""
    if choice != "auto":
        return choice
    return "qute" if any(head.kind == "early_view" for head in read_heads(model)) else "all"
