"""What a profile with ONNX Runtime found out, as plain data: the fields of its report.json.

Times are microseconds of one inference, that is one call with a whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "BatchProfile",
    "Comparison",
    "DynamicForm",
    "ExitCost",
    "Latency",
    "Memory",
    "ModelProfile",
    "NodeRow",
    "OnnxRuntimeReport",
    "OperatorTime",
    "ProfileReport",
    "Ratio",
    "SectionTime",
    "operators_of",
    "sections_of",
]


@dataclass(frozen=True)
class Latency:
    """Percentiles of the wall time, without profiler, of `runs` inferences after `warmup` ones."""

    p50: float
    p90: float
    p99: float
    runs: int
    warmup: int


@dataclass(frozen=True)
class Ratio:
    """Median of the ratios within rounds, and its 95 % interval."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Memory:
    """Bytes of resident memory; 0 where the system does not tell (Windows)."""

    peak_bytes: int
    """Largest resident set of a Python process that loads and runs the model, and does nothing else."""
    runtime_bytes: int
    """The same before the model was loaded: Python, numpy and onnxruntime themselves."""


@dataclass(frozen=True)
class NodeRow:
    """A node of the graph that ONNX Runtime really runs; `share` is of the sum of all nodes."""

    name: str
    op: str
    section: str
    """The part of the network that it belongs to: trunk, an exit, the heads, a stage."""
    us: float
    share: float
    start_us: float


@dataclass(frozen=True)
class OperatorTime:
    """All nodes of one operator type."""

    op: str
    nodes: int
    us: float
    share: float


@dataclass(frozen=True)
class SectionTime:
    """All nodes of one part of the network."""

    name: str
    nodes: int
    us: float
    share: float


@dataclass(frozen=True)
class ExitCost:
    """An exit: what it costs, and how good it is where labels are known."""

    name: str
    us: float | None
    """All nodes that it needs. With dynamic exits the median inference that ends there (None: none did), for
    the answer the mean of these by share."""
    own_us: float | None
    """Of these the nodes that no other exit needs; None with dynamic exits."""
    accuracy: float | None
    """Top-1 over all samples, as if each of them ended there; None without labels."""
    share: float | None
    """Of the samples that end there; None without dynamic exits."""


@dataclass(frozen=True)
class BatchProfile:
    """One batch size."""

    batch: int
    latency_us: Latency
    wall_us: float
    """Mean wall time in the undisturbed rounds in which the nodes were measured, without profiler."""
    nodes_us: float
    """Sum of the nodes; `explained` is this over `wall_us`."""
    explained: float
    call_us: float
    """Of the wall time what lies outside of the nodes."""
    profiler_us: float
    """Taken off each node: what the profiler itself costs for an event."""
    operators: tuple[OperatorTime, ...]
    sections: tuple[SectionTime, ...]
    exits: tuple[ExitCost, ...]
    nodes: tuple[NodeRow, ...]


@dataclass(frozen=True)
class ModelProfile:
    """One model in one process."""

    name: str
    sha256: str
    """Of the bytes that were run."""
    model_bytes: int
    memory: Memory
    """With the largest batch."""
    batches: tuple[BatchProfile, ...]


@dataclass(frozen=True)
class Comparison:
    """A model against another one in one run."""

    name: str
    base: str
    batch: int
    ratio: Ratio
    """How many times as long as `base` it takes."""
    rounds: int


@dataclass(frozen=True)
class DynamicForm:
    """How dynamic exits stop: as stages, or in one graph with If, whichever was faster."""

    form: str
    """"stages" or "if"."""
    stages_us: float
    """Median inference on the samples, batch 1."""
    if_us: float
    stages_over_if: Ratio
    thresholds: tuple[float, ...]
    samples: int


@dataclass(frozen=True)
class Equality:
    """The model that was written against the network as it was before quantisation and optimisation."""

    samples: int
    largest_difference: float
    """Of a float output, absolute."""
    relative_difference: float
    """The same over the largest magnitude of that output."""
    top1_agreement: float | None
    """Share of samples with the same label, over all classifier outputs; None without a classifier."""


@dataclass(frozen=True)
class ProfileReport:
    """What `qutec profile` found; fields may be added in later versions, never renamed."""

    schema_version: int
    qutec_version: str
    command: str
    onnxruntime_version: str
    machine: str
    session: dict[str, Any]
    data: str
    models: tuple[ModelProfile, ...]
    comparisons: tuple[Comparison, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class OnnxRuntimeReport:
    """report.json of a build for ONNX Runtime; fields may be added in later versions, never renamed.

    `latency_us` and `operators` are those of the first batch size; `batches` has all of them.
    """

    schema_version: int
    qutec_version: str
    command: str
    model: dict[str, str]
    target: str
    onnxruntime_version: str
    machine: str
    session: dict[str, Any]
    precision: str
    """"float32" or "int8"."""
    calibration: str
    exits: tuple[str, ...]
    heads: tuple[str, ...]
    members: tuple[dict[str, str], ...]
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    parameters: int
    macs: int
    warnings: tuple[str, ...]
    data: str
    latency_us: Latency
    operators: tuple[OperatorTime, ...]
    profile: ModelProfile
    equality: Equality
    over_final: Comparison | None
    """Against the final exit alone, in the same precision; None where that is what was compiled."""
    dynamic: DynamicForm | None
    stages: tuple[dict[str, Any], ...]
    """Files, inputs, outputs and thresholds of the stages, where stages were faster."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def operators_of(nodes: Sequence[NodeRow]) -> tuple[OperatorTime, ...]:
    """Time by operator type, the most first."""
    return tuple(OperatorTime(*item) for item in _sums([(node.op, node) for node in nodes]))


def sections_of(nodes: Sequence[NodeRow]) -> tuple[SectionTime, ...]:
    """Time by section, in the order in which they begin."""
    sums = {item[0]: item for item in _sums([(node.section, node) for node in nodes])}
    return tuple(SectionTime(*sums[name]) for name in dict.fromkeys(node.section for node in nodes))


def _sums(rows: Sequence[tuple[str, NodeRow]]) -> list[tuple[str, int, float, float]]:
    found: dict[str, tuple[int, float, float]] = {}
    for key, node in rows:
        count, us, share = found.get(key, (0, 0.0, 0.0))
        found[key] = (count + 1, us + node.us, share + node.share)
    return sorted(((key, *sums) for key, sums in found.items()), key=lambda item: -item[2])
