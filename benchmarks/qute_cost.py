"""What QUTE costs on the device: the mean over two early views against the final exit alone, from builds.

    python -m benchmarks.qute_cost [mnist_cnn dscnn resnet8] [--markdown] [--json FILE]

For each network of `models`, with linear and with ReLU blocks: heads are attached (K = 2) at the recipe's
places, and the same training graph is compiled twice for a Cortex-M4, with --exits qute and --exits final.
Instructions are those of one inference, with probabilities, label, confidence, entropy, disagreement and
abstain flag against probabilities alone. Weights are untrained and calibrated on noise: costs do not depend
on them but for a few branches. All executions of each build are compared first. Exit code 1 where a limit is
broken. Networks are exported to --models, where they are not there yet; that needs the extra `train`, all
else the extra `sim`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import qutec
from benchmarks._measure import Measurement, Tools, find_tools, measure
from benchmarks._networks import noise
from benchmarks._tables import markdown_table, plain_table
from models._recipe import DSCNN, MNIST_CNN, RESNET8
from qutec.attach import write_training_graph
from qutec.errors import QutecError
from qutec.passes.attach_qute import Activation

__all__ = ["Cost", "main"]

_TARGET = "cortex-m4"
_MODELS = Path("build/reference_networks")
_HEADS = 2
_ACTIVATIONS: tuple[Activation, ...] = ("none", "relu")
_RECIPES = {"mnist_cnn": MNIST_CNN, "dscnn": DSCNN, "resnet8": RESNET8}
_INPUTS = 4
_CALIBRATION = 64
_ARENA_LIMIT = 0
_FLASH_LIMIT = 3072
_LIMITS: Mapping[tuple[str, Activation], float] = {
    ("mnist_cnn", "none"): 0.04,
    ("dscnn", "none"): 0.01,
    ("resnet8", "none"): 0.005,
    ("mnist_cnn", "relu"): 0.08,
    ("dscnn", "relu"): 0.07,
    ("resnet8", "relu"): 0.015,
}
"""Most instructions more, relative to the final exit alone."""
_PAPER = {"mnist_cnn": (0.158, 7.9), "dscnn": (0.077, 8.2), "resnet8": (0.023, 13.5)}
"""Latency more, and KB of flash, of the paper's QUTE on its small board (ResNet-8: latency on the big)."""
_HEAD = (
    *("network", "blocks", "instructions BASE", "QUTE", "more", "limit", "paper"),
    *("arena BASE", "QUTE", "flash more", "limit", "paper", "stack BASE", "QUTE"),
)


@dataclass(frozen=True)
class Cost:
    """One network with one kind of blocks: arena and flash in bytes."""

    network: str
    activation: Activation
    arena_base: int
    arena_qute: int
    base: Measurement
    qute: Measurement

    @property
    def instructions_more(self) -> float:
        """Relative to BASE."""
        return self.qute.instructions / self.base.instructions - 1.0

    @property
    def flash_more(self) -> int:
        """Bytes of the linked image."""
        return self.qute.flash_bytes - self.base.flash_bytes

    @property
    def within_limits(self) -> bool:
        """Whether instructions, arena and flash are all within the limits."""
        return (
            self.instructions_more <= _LIMITS[self.network, self.activation]
            and self.arena_qute - self.arena_base <= _ARENA_LIMIT
            and self.flash_more <= _FLASH_LIMIT
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, measure, print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.qute_cost", description="Cost of QUTE.")
    names = list(_RECIPES)
    parser.add_argument(
        "networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(names)}; all by default"
    )
    parser.add_argument("--models", type=Path, default=_MODELS, help="folder of the exported networks")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(arguments)
    if unknown := set(options.networks) - set(names):
        parser.error(f"unknown network {min(unknown)}")
    chosen = options.networks or list(_RECIPES)
    problem = _export_missing(chosen, options.models)
    if problem is not None:
        print(f"skipped: {problem}", file=sys.stderr)
        return 0
    tools = find_tools()
    costs, code = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            for activation in _ACTIVATIONS:
                try:
                    costs.append(_cost(name, options.models, activation, Path(folder), tools))
                except QutecError as error:
                    print(f"error: {name}, {activation}: {error}", file=sys.stderr)
                    code = error.exit_code
    print(f"{_TARGET}, {tools.words}, K = {_HEADS}; bytes; paper: time, and KB of flash\n")
    table = markdown_table if options.markdown else plain_table
    print(table(_HEAD, [_cells(cost) for cost in costs]))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        entries = [
            {**asdict(c), "instructions_more": c.instructions_more, "flash_more": c.flash_more} for c in costs
        ]
        data = {"schema_version": 1, "target": _TARGET, "tools": tools.words, "costs": entries}
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return code or int(not all(cost.within_limits for cost in costs))


def _export_missing(names: Sequence[str], folder: Path) -> str | None:
    """Export the untrained networks that the folder lacks; why that is impossible, or None."""
    missing = [name for name in names if not _network(folder, name).is_file()]
    folder.mkdir(parents=True, exist_ok=True)
    for name in missing:
        try:
            module = import_module(f"models.{name}")
        except ImportError as error:
            return f"{_network(folder, name)} is not there, and to export it torch is needed ({error})"
        module.export(_network(folder, name))
    return None


def _network(folder: Path, name: str) -> Path:
    return folder / f"{name}.onnx"


def _cost(name: str, models: Path, activation: Activation, folder: Path, tools: Tools) -> Cost:
    training = folder / f"{name}-{activation}.onnx"
    graph = qutec.attach(_network(models, name), at=_RECIPES[name].places, activation=activation)
    write_training_graph(graph, training)
    calibration = noise(training, _CALIBRATION)
    arenas, measured = [], []
    for exits in ("final", "qute"):
        # The same calibration for both, so that the trunks are the same.
        build = qutec.compile(training, target=_TARGET, exits=exits, calibration=calibration, name="net")
        stored = build.stored(calibration[:_INPUTS])
        project = build.save(folder / f"{name}-{activation}-{exits}")
        arenas.append(build.report.arena_bytes)
        measured.append(measure(build, project, stored, tools))
    return Cost(name, activation, arenas[0], arenas[1], measured[0], measured[1])


def _cells(cost: Cost) -> list[str]:
    time, flash = _PAPER[cost.network]
    return [
        cost.network,
        "linear" if cost.activation == "none" else "ReLU",
        *(f"{cost.base.instructions:,}", f"{cost.qute.instructions:,}", f"{cost.instructions_more:+.2%}"),
        *(f"{_LIMITS[cost.network, cost.activation]:+.1%}", f"{time:+.1%}"),
        *(f"{cost.arena_base:,}", f"{cost.arena_qute:,}"),
        *(f"{cost.flash_more:+,}", f"{_FLASH_LIMIT:+,}", f"{flash:+.1f} KB"),
        *(str(cost.base.stack_bytes), str(cost.qute.stack_bytes)),
    ]


if __name__ == "__main__":
    sys.exit(main())
