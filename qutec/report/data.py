"""What a compile found out, as plain data: the fields of report.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass
from typing import Any

__all__ = [
    "SCHEMA_VERSION",
    "BufferReport",
    "ExitReport",
    "KernelReport",
    "LayerReport",
    "RegionReport",
    "Report",
    "RowPart",
    "SharedArena",
    "TechniqueReport",
]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class LayerReport:
    """One kernel call. Shapes are NHWC; sizes in bytes; `arena_live_bytes` is what the arena holds then.

    `code_bytes` is what this call alone adds: its function, its structs. See `KernelReport` for the rest.
    """

    name: str
    kernel: str
    macs: int
    weights_bytes: int
    code_bytes: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    arena_live_bytes: int
    scratch_bytes: int


@dataclass(frozen=True)
class KernelReport:
    """Code that is in flash once, estimated: a kernel file, a library function, what a kind of call has."""

    file: str
    bytes: int
    layers: tuple[int, ...]
    """Numbers of the layers that need it."""


@dataclass(frozen=True)
class BufferReport:
    """One run of arena bytes; uses are layer numbers, -1 before the first, `len(layers)` after the last."""

    name: str
    bytes: int
    offset: int
    first_use: int
    last_use: int


@dataclass(frozen=True)
class RowPart:
    """Arena that a region has for one of its layers while it runs."""

    layer: str
    kind: str
    """'rows' of its map that are held, a 'passing row' that is used up at once, 'in place' of a later layer's
    row, 'sums' of a layer that takes in rows, or kernel 'scratch'."""
    rows_held: int | None
    rows: int | None
    """Of the whole map; both None for sums and scratch."""
    bytes: int
    offset: int | None
    """In the arena; None for a row in place of another."""


@dataclass(frozen=True)
class RegionReport:
    """Layers that run row by row, as one entry of `Report.layers`."""

    layer: int
    """Its number there."""
    layers: tuple[str, ...]
    parts: tuple[RowPart, ...]
    """In the order of the layers; they make up the scratch of the entry."""


@dataclass(frozen=True)
class ExitReport:
    """What an inference that ends at an exit has run; the last exit is the worst case."""

    name: str
    threshold: float | None
    """Confidence at which the exit is taken; None for the last."""
    layers: int
    """Number of layers that have run."""
    macs: int


@dataclass(frozen=True)
class TechniqueReport:
    """The smallest arena found with this technique of the planner and those before it, and whether it is
    proven to be the smallest.
    """

    name: str
    arena_bytes: int
    optimal: bool


@dataclass(frozen=True)
class SharedArena:
    """The arena that a network shares with others, which run in turn with it."""

    project: str
    """The project's folder, relative to this report's."""
    arena_bytes: int
    others: tuple[str, ...]
    """Prefixes of the other networks."""


@dataclass(frozen=True)
class Report:
    """Everything that report.json holds; fields may be added in later versions, never renamed."""

    schema_version: int
    qutec_version: str
    command: str
    model: dict[str, str]
    symbol_prefix: str
    target: str
    core: str
    exits: tuple[str, ...]
    heads: tuple[str, ...]
    inputs: tuple[dict[str, object], ...]
    outputs: tuple[dict[str, object], ...]
    parameters: int
    macs: int
    calibration: str
    warnings: tuple[str, ...]
    arena_bytes: int
    arena_lower_bound_bytes: int
    arena_optimal: bool
    arena_layerwise_bytes: int
    arena_techniques: tuple[TechniqueReport, ...]
    stack_estimate_bytes: int
    """With the bundled kernels, the larger of what gcc and zig make of them."""
    sram_bytes: int
    """Arena, context and that stack."""
    sram_budget_bytes: int | None
    flash_bytes: dict[str, int]
    flash_budget_bytes: int | None
    optimize: str
    compiler_level: str
    """Optimisation that the emitted build asks of the C compiler, such as "-O3"."""
    layers: tuple[LayerReport, ...]
    kernels: tuple[KernelReport, ...]
    buffers: tuple[BufferReport, ...]
    dynamic_exits: tuple[ExitReport, ...] = ()
    """By depth; empty for a network that always runs to its end."""
    members: tuple[dict[str, str], ...] = ()
    """Name and sha256 of the members of a deep ensemble, in the order in which they run."""
    uncertainty_overhead: dict[str, int] | None = None
    stack_estimate_arm_bytes: int = 0
    """The same with Arm's CMSIS-NN linked in place of the bundled kernels."""
    arena_arm_bytes: int = 0
    """The arena of such a build, whose kernels may want more scratch."""
    sram_arm_bytes: int = 0
    """That arena, context and that stack."""
    arena_proof_scope: str = ""
    """The plans that `arena_lower_bound_bytes` speaks of; see `qutec.planner.Scope`."""
    regions: tuple[RegionReport, ...] = ()
    """What runs row by row."""
    shared_arena: SharedArena | None = None
    """None for a network in a project of its own; sizes are those of the network alone either way."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """The report that `to_json` wrote; KeyError or TypeError where it is garbled."""
        known = {
            name: data[name]
            for name, field in cls.__dataclass_fields__.items()
            if name in data or field.default is MISSING
        }
        known["dynamic_exits"] = tuple(ExitReport(**item) for item in known.get("dynamic_exits", ()))
        if (shared := known.get("shared_arena")) is not None:
            known["shared_arena"] = SharedArena(**{**shared, "others": tuple(shared["others"])})
        known["regions"] = tuple(map(_region, known.get("regions", ())))
        known["layers"] = tuple(LayerReport(**layer) for layer in known["layers"])
        known["kernels"] = tuple(
            KernelReport(kernel["file"], kernel["bytes"], tuple(kernel["layers"]))
            for kernel in known.get("kernels", ())
        )
        known["buffers"] = tuple(BufferReport(**buffer) for buffer in known["buffers"])
        known["arena_techniques"] = tuple(TechniqueReport(**t) for t in known["arena_techniques"])
        for name in ("exits", "heads", "inputs", "outputs", "warnings", "members"):
            known[name] = tuple(known.get(name, ()))
        return cls(**known)

    def users(self, kernel: KernelReport) -> str:
        """Which layers need a kernel, in words: how many, and of which kinds."""
        if len(kernel.layers) == len(self.layers):
            return "all layers"
        kinds = dict.fromkeys(self.layers[number].kernel for number in kernel.layers)
        count = len(kernel.layers)
        return f"{count} {'layer' if count == 1 else 'layers'}: {', '.join(kinds)}"

    @property
    def flash_total_bytes(self) -> int:
        """Weights and code together."""
        return sum(self.flash_bytes.values())


def _region(data: Mapping[str, Any]) -> RegionReport:
    parts = tuple(RowPart(**part) for part in data["parts"])
    return RegionReport(data["layer"], tuple(data["layers"]), parts)
