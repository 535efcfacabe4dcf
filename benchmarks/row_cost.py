"""What running row by row costs: the smallest plan against the fastest of the same network.

    python -m benchmarks.row_cost                 MLPerf Tiny and T-RecX networks, and DS-CNN with QUTE heads
    python -m benchmarks.row_cost resnet8         those whose name contains this
    python -m benchmarks.row_cost --markdown --json build/row_cost.json
    python -m benchmarks.row_cost --random 24     the first 24 networks of benchmarks.random_networks instead

Each network is compiled twice for a Cortex-M4, as the fastest of the plans that need least layer by layer
and with `optimize="sram"`; what is run and compared before anything is counted: `benchmarks._measure`. Two
QUTE heads are attached to the float network, untrained and calibrated on noise: costs do not depend on their
weights. Networks come from the folder that `benchmarks._networks` names. The exit code is 1 where one of
these costs more than the limit; random networks are small and odd, and have none.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import onnx

import qutec
from benchmarks._measure import Tools, find_tools, measure
from benchmarks._networks import noise, shared_folder
from benchmarks._random_graphs import random_network
from benchmarks._tables import markdown_table, plain_table
from qutec.attach import write_training_graph
from qutec.errors import QutecError
from qutec.exits import ExitChoice
from qutec.passes.attach_qute import Activation
from qutec.ports import PortInfo
from qutec.program import Int8Array
from qutec.quantize import Calibration

__all__ = ["main"]

_TARGET = "cortex-m4"
_HEADS = 2
_INPUTS = 4
_CALIBRATION = 32
_LIMIT = 0.05
"""Most instructions more, relative to the fastest plan."""
_HEAD = ("network", "arena", "instructions", "smallest: arena", "instructions", "more")


@dataclass(frozen=True)
class Case:
    """A network, which outputs stay, and the blocks that are attached first, if any."""

    file: str
    exits: ExitChoice = "auto"
    attached: Activation | None = None

    @property
    def name(self) -> str:
        """What it is in a table."""
        heads = ""
        if self.attached is not None:
            heads = f", {_HEADS} {'linear' if self.attached == 'none' else 'ReLU'} heads"
        exits = f", --exits {self.exits}" if self.exits == "ensemble" else ""
        return self.file + heads + exits


_CASES = (
    Case("mlperf_resnet8_ic_int8_qdq_b1"),
    Case("mlperf_dscnn_kws_int8_qdq_b1"),
    Case("trecx_ic_resnet8_ev_b1", "ensemble"),
    Case("trecx_kws_dscnn_ev_b1", "ensemble"),
    Case("mlperf_dscnn_kws_b1", "qute", "none"),
    Case("mlperf_dscnn_kws_b1", "qute", "relu"),
    Case("mlperf_resnet8_ic_b1", "qute", "none"),
    Case("mlperf_resnet8_ic_b1", "qute", "relu"),
)


@dataclass(frozen=True)
class RowCost:
    """Arena in bytes and instructions of the fastest plan and of the smallest."""

    network: str
    fastest_arena: int
    fastest_instructions: int
    smallest_arena: int
    smallest_instructions: int

    @property
    def more(self) -> float:
        """Instructions of the smallest plan, relative to the fastest."""
        return self.smallest_instructions / self.fastest_instructions - 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit code: 1 where rows cost more than the limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.row_cost", description="Cost of rows.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only networks whose name contains this")
    parser.add_argument("--random", type=int, metavar="N", help="N random networks instead")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(arguments)
    folder = shared_folder() / "models"
    cases = [case for case in _CASES if not options.names or any(n in case.name for n in options.names)]
    there = [case for case in cases if (folder / f"{case.file}.onnx").is_file()]
    if not there and not options.random:
        print(f"skipped: none of the networks is in {folder}", file=sys.stderr)
        return 0
    try:
        tools = find_tools()
        if options.random:
            costs = [_random_cost(seed, tools) for seed in range(options.random)]
        else:
            costs = [_cost(case, folder, tools) for case in there]
    except QutecError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    table = markdown_table if options.markdown else plain_table
    print(f"{_TARGET}, {tools.words}; arena in bytes\n")
    print(table(_HEAD, [_cells(cost) for cost in costs]))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        entries = [{**asdict(cost), "more": cost.more} for cost in costs]
        data = {"schema_version": 1, "target": _TARGET, "tools": tools.words, "costs": entries}
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if options.random:
        more = [cost.more for cost in costs]
        print(f"\nmedian {statistics.median(more):+.1%}, most {max(more):+.1%}")
        return 0
    return int(any(cost.more > _LIMIT for cost in costs))


def _cost(case: Case, folder: Path, tools: Tools) -> RowCost:
    source = folder / f"{case.file}.onnx"
    with tempfile.TemporaryDirectory() as place:
        if case.attached is not None:
            graph = qutec.attach(source, heads=_HEADS, activation=case.attached)
            source = Path(place) / "training.onnx"
            write_training_graph(graph, source)
        calibration = None if "_int8_" in case.file else noise(source, _CALIBRATION)
        return _compared(case.name, source, case.exits, calibration, Path(place), tools)


def _random_cost(seed: int, tools: Tools) -> RowCost:
    network = random_network(seed)
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "random.onnx"
        onnx.save(network.model, source)
        calibration = noise(source, _CALIBRATION)
        return _compared(f"random {seed}", source, "all", calibration, Path(place), tools)


def _compared(
    name: str, source: Path, exits: ExitChoice, calibration: Calibration | None, place: Path, tools: Tools
) -> RowCost:
    figures: list[int] = []
    for optimize in ("speed", "sram"):
        build = qutec.compile(
            source, target=_TARGET, exits=exits, optimize=optimize, calibration=calibration, name="net"
        )
        measured = measure(build, build.save(place / optimize), _codes(build), tools)
        figures += [build.report.arena_bytes, measured.instructions]
    return RowCost(name, *figures)


def _codes(build: qutec.Build) -> list[Int8Array]:
    generator = np.random.default_rng(1)
    ports = (PortInfo.of(port) for port in build.program.inputs)
    return [generator.integers(-128, 128, (_INPUTS, *port.shape), np.int8) for port in ports]


def _cells(cost: RowCost) -> list[str]:
    arenas = f"{cost.fastest_arena:,}", f"{cost.smallest_arena:,}"
    instructions = f"{cost.fastest_instructions:,}", f"{cost.smallest_instructions:,}"
    return [cost.network, arenas[0], instructions[0], arenas[1], instructions[1], f"{cost.more:+.1%}"]


if __name__ == "__main__":
    sys.exit(main())
