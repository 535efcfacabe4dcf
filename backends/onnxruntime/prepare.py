"""From a model to the networks that are measured: exits chosen, int8 where calibrated, the batch free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from qutec.backends.onnxruntime.dynamic import DynamicNetwork
from qutec.backends.onnxruntime.exit_graphs import read_exits
from qutec.backends.onnxruntime.plain_model import free_batch, inline_functions, serialized
from qutec.calibrate import CalibrationMethod
from qutec.dump import Dump
from qutec.errors import UnsupportedModelError, UsageError
from qutec.exits import ExitOptions, base_network, choose_exits, choose_from_members
from qutec.ingest.source import read_source
from qutec.load import LoadedModel, ModelSource, load
from qutec.passes.expand_heads import ExpandHeadsPass
from qutec.passes.find_exits import find_exits
from qutec.passes.quantize import is_quantized
from qutec.passes.select_exits import ExitMode
from qutec.passes.unsigned_activations import UnsignedActivationsPass
from qutec.quantize import Calibration, quantize

__all__ = ["Conversion", "Prepared", "prepare"]


@dataclass(frozen=True)
class Conversion:
    """What is done to the network besides the choice of its exits."""

    calibration: Calibration | None
    """Inputs to quantise with; None leaves the network as it is."""
    method: CalibrationMethod
    symbolic_batch: bool
    """Whether rows of a batch are to be computed at once."""

    def apply(self, network: ir.Model, *, progress: bool = False) -> ir.Model:
        """Quantise, store activations as ONNX Runtime likes them, and free the batch.

        Raises DataError, and UnsupportedModelError for the batch.
        """
        result = network
        if self.calibration is not None:
            result = quantize(network, self.calibration, self.method, progress=progress)
        copy = ir.from_proto(ir.to_proto(result))
        passes = (UnsignedActivationsPass(), ExpandHeadsPass(), common_passes.RemoveUnusedNodesPass())
        result = ir.passes.Sequential(*passes)(copy).model
        return free_batch(result) if self.symbolic_batch else result


@dataclass(frozen=True)
class Prepared:
    """Everything that there is to run."""

    name: str
    sha256: str
    members: tuple[LoadedModel, ...]
    mode: ExitMode
    heads: tuple[str, ...]
    """Outputs that are merged into one answer; empty where each output stays as it is."""
    exits: tuple[str, ...]
    """By depth: the heads, or the outputs that classify."""
    network: ir.Model
    """Float, batch 1, with the functions of the passes: what the answer is defined by."""
    converted: ir.Model
    """Quantised where that was asked for, its batch symbolic where the source's is."""
    conversion: Conversion
    base: ir.Model | None
    """The final exit alone, as `network`; None where that is all there is."""
    warnings: tuple[str, ...]

    @property
    def precision(self) -> str:
        """What the layers compute in."""
        return "int8" if is_quantized(self.converted) else "float32"

    def reference(self) -> bytes:
        """The float network of standard operators, before anything is optimised."""
        return serialized(inline_functions(self.network))

    def plain(self) -> bytes:
        """The model of standard operators, to its end."""
        return serialized(inline_functions(self.converted))

    def final_alone(self) -> bytes | None:
        """The final exit alone, converted alike."""
        return serialized(self.conversion.apply(self.base)) if self.base is not None else None

    def dynamic(self) -> DynamicNetwork | None:
        """Both forms of a network with dynamic exits."""
        if self.mode != "dynamic":
            return None
        network = read_exits(self.converted)
        return DynamicNetwork(network.stages(), network.if_model())


def prepare(
    source: ModelSource | Sequence[ModelSource],
    options: ExitOptions,
    calibration: Calibration | None,
    method: CalibrationMethod,
    *,
    simplify: bool,
    steps: Dump | None,
    progress: bool,
) -> Prepared:
    """Load, choose exits, quantise, free the batch. Raises what these steps raise."""
    sources = [source] if isinstance(source, str | Path | bytes | onnx.ModelProto) else list(source)
    if not sources:
        raise UsageError("there is no model")
    write = steps.write if steps is not None else None
    members = tuple(load(one, simplify=simplify, on_step=write) for one in sources)
    base = base_network(members[0]) if len(members) == 1 else None
    if len(members) == 1:
        chosen = choose_exits(members[0], options, steps)
    else:
        chosen = choose_from_members(members, options, steps)
    network, warnings = chosen.loaded.model, list(chosen.loaded.warnings)
    conversion = Conversion(calibration, method, all(map(_has_symbolic_batch, sources)))
    try:
        converted = conversion.apply(network, progress=progress)
    except UnsupportedModelError as error:
        if not conversion.symbolic_batch:
            raise
        warnings.append(f"{error}; it is 1")
        conversion = Conversion(calibration, method, False)
        converted = conversion.apply(network)
    if isinstance(calibration, str) and calibration == "random" and not is_quantized(network):
        warnings.append("calibrated on random noise: speed is right, answers are worthless")
    if steps is not None:
        steps.write("onnxruntime", converted)
    return Prepared(
        name=chosen.loaded.name,
        sha256=chosen.loaded.sha256,
        members=members,
        mode=chosen.mode,
        heads=chosen.heads,
        exits=chosen.heads or tuple(item.name for item in find_exits(network).exits),
        network=network,
        converted=converted,
        conversion=conversion,
        base=base if chosen.heads else None,
        warnings=tuple(warnings),
    )


def _has_symbolic_batch(source: ModelSource) -> bool:
    """Whether the leading dimension of every input is symbolic."""
    graph = read_source(source).model.graph
    constants = {tensor.name for tensor in graph.initializer}
    shapes = [value.type.tensor_type.shape for value in graph.input if value.name not in constants]
    return bool(shapes) and all(shape.dim and not shape.dim[0].HasField("dim_value") for shape in shapes)
