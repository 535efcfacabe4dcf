"""Keep the outputs that an inference needs; what only the others need goes.

qute       early_exit_k, early_view_k, final  ->  early_view_k
ensemble   every classifier output            (auxiliary outputs go)
dynamic    early exits and the final output   (auxiliary outputs and early views go)
final      the final output                   (the base network)
all        everything stays
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

import onnx_ir as ir
from onnx_ir.passes import common

from qutec.errors import UsageError
from qutec.heads import Head, read_heads, write_heads
from qutec.passes.find_exits import OutputRole, find_exits

__all__ = ["ExitMode", "SelectExitsPass"]

ExitMode: TypeAlias = Literal["qute", "ensemble", "dynamic", "final", "all"]


class SelectExitsPass(ir.passes.InPlacePass):
    """Prune outputs, dead nodes and unused initializers; inputs stay, so does the order of the outputs.

    Exits are those of the `qutec.heads` metadata, which is kept for the outputs that remain; without it
    `find_exits` tells them (`output_is` are its overrides).
    """

    def __init__(self, mode: ExitMode, *, output_is: Mapping[str, OutputRole] | None = None) -> None:
        super().__init__()
        if mode not in get_args(ExitMode):
            raise UsageError(f"exits {mode!r} are not known; there are {', '.join(get_args(ExitMode))}")
        self._mode = mode
        self._output_is = output_is

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Return the model, modified when something was pruned.

        Raises:
            UsageError: the model has no output of the kind that is asked for; says which it has.
            ModelError: the metadata is garbled.
        """
        if self._mode == "all":
            return ir.passes.PassResult(model, modified=False)
        kept = self._kept(model)
        outputs = [value for value in model.graph.outputs if (value.name or "") in kept]
        if len(outputs) == len(model.graph.outputs):
            return ir.passes.PassResult(model, modified=False)
        heads = [head for head in read_heads(model) if head.output in kept]
        model.graph.outputs[:] = outputs
        common.RemoveUnusedNodesPass()(model)
        write_heads(model, [_known(model, head) for head in heads])
        return ir.passes.PassResult(model, modified=True)

    def ensures(self, model: ir.Model) -> None:
        """There is an output left."""
        if not model.graph.outputs:
            raise ir.passes.PostconditionError("every output was pruned")

    def _kept(self, model: ir.Model) -> set[str]:
        exits = find_exits(model, self._output_is).exits
        if not exits:
            raise UsageError(
                f"exits {self._mode!r}: no output of the model is a classifier ({_outputs(model)});"
                " compile it with all outputs"
            )
        if self._mode == "ensemble":
            return {item.name for item in exits}
        if self._mode == "dynamic":
            return {item.name for item in exits if item.kind != "early_view"}
        kind = "early_view" if self._mode == "qute" else "final"
        kept = {item.name for item in exits if item.kind == kind}
        if kept:
            return kept
        if kind == "early_view":
            raise UsageError("exits 'qute': the model has no early views; `qutec attach` adds them")
        kinds = ", ".join(f"{item.name} ({item.kind})" for item in exits)
        raise UsageError(f"exits 'final': the model has no final exit any more; it has {kinds}")


def _known(model: ir.Model, head: Head) -> Head:
    """The head without names of initializers that are gone."""
    initializers = model.graph.initializers
    return Head(
        head.output,
        head.kind,
        head.index,
        head.depthwise_weights if head.depthwise_weights in initializers else None,
        head.depthwise_bias if head.depthwise_bias in initializers else None,
    )


def _outputs(model: ir.Model) -> str:
    return ", ".join(f"{value.name} {value.shape}" for value in model.graph.outputs)
