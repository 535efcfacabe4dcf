"""The memory planner on every network there is and on synthetic graphs: arena, bound, proof and time.

    python -m benchmarks.planner                 print tables, write build/benchmarks/planner.json
    python -m benchmarks.planner --largest 1000  leave out larger synthetic graphs

Networks are those of $QUTEC_SHARED/models and of models/, in int8 for a Cortex-M4, planned for the least
SRAM; float ones are calibrated on noise, which changes no size. The bound is one over every choice of layers
that run row by row, with moves, order and placement. Seconds are of processor time on this machine; in the
heuristic stage (order by greed, every constructed placement once) their growth with the number of buffers is
what counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._networks import shared_folder
from benchmarks._tables import plain_table
from qutec.backends.cmsis_nn import prepare, scratch_bytes
from qutec.errors import QutecError
from qutec.load import load
from qutec.lower import lower
from qutec.planner import Alignment, Effort, Goal, plan_network
from qutec.planner.arena import solve
from qutec.planner.flow import Flow, Nearness
from qutec.quantize import quantize
from qutec.targets import target

__all__ = ["main"]

_OUTPUT = Path("build/benchmarks/planner.json")
_CORE = target("cortex-m4").core


@dataclass(frozen=True)
class NetworkRow:
    """One network: arena bytes by technique (* proven smallest), and seconds for all of them together."""

    network: str
    calls: int
    whole_buffers: str
    in_place: str
    overlap: str
    moves: str
    row_by_row: str
    bound: int
    gap: str
    seconds: float


@dataclass(frozen=True)
class GraphRow:
    """One synthetic graph in the heuristic stage."""

    graph: str
    buffers: int
    arena: int
    bound: int
    gap: float
    seconds: float
    microseconds_per_buffer: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure the memory planner.")
    parser.add_argument("--largest", type=int, default=10_000, help="buffers of the largest synthetic graph")
    parser.add_argument("--only", default="", help="only networks whose names hold this")
    options = parser.parse_args(arguments)
    folders = [shared_folder() / "models", Path(__file__).parents[1] / "models"]
    networks = [
        row
        for folder in folders
        for path in sorted(folder.glob("*.onnx"))
        if options.only in path.stem and (row := _network(path))
    ]
    print(_table(networks))
    graphs = [
        _graph(name, make, count)
        for name, make in _GRAPHS.items()
        for count in (100, 1_000, 10_000)
        if count <= options.largest
    ]
    print()
    print(_table(graphs))
    _OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    rows = {"networks": [asdict(r) for r in networks], "graphs": [asdict(r) for r in graphs]}
    _OUTPUT.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def _table(rows: Sequence[NetworkRow] | Sequence[GraphRow]) -> str:
    if not rows:
        return "(none)"
    return plain_table(list(asdict(rows[0])), [[str(v) for v in asdict(row).values()] for row in rows])


def _network(path: Path) -> NetworkRow | None:
    try:
        program = prepare(lower(quantize(load(path).model, "random"), path.stem), _CORE)
    except QutecError as error:
        print(f"{path.name}: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    scratch = [scratch_bytes(call, _CORE) for call in program.calls]
    start = time.process_time()
    plan = plan_network(program, scratch, core=_CORE, goal=Goal.SRAM).plan
    seconds = time.process_time() - start
    arena = {t.name: f"{t.arena_bytes:,}{'*' if t.optimal else ''}" for t in plan.techniques}
    return NetworkRow(
        network=path.stem,
        calls=len(program.calls),
        whole_buffers=arena["whole buffers"],
        in_place=arena["in place"],
        overlap=arena["overlap"],
        moves=arena.get("moves", "-"),
        row_by_row=arena.get("row by row", "-"),
        bound=plan.lower_bound_bytes,
        gap=f"{plan.gap:.1%}",
        seconds=round(seconds, 2),
    )


def _graph(name: str, make: Callable[[int], Flow], count: int) -> GraphRow:
    flow = make(count)
    start = time.process_time()
    # No effort beyond what the stage always spends.
    found = solve(flow, Effort(0))
    seconds = time.process_time() - start
    return GraphRow(
        graph=name,
        buffers=count,
        arena=found.arena_bytes,
        bound=found.lower_bound,
        gap=round(found.arena_bytes / found.lower_bound - 1, 3),
        seconds=round(seconds, 2),
        microseconds_per_buffer=round(1e6 * seconds / count, 1),
    )


def _flow(sizes: Sequence[int], reads: Sequence[Sequence[int]]) -> Flow:
    """Call i writes buffer i + 1; buffer 0 is the input, the last one the output.

    Outputs overlap their first input but for a sixteenth of it.
    """
    calls = len(reads)
    writer = {i + 1: i for i in range(calls)}
    return Flow(
        names=tuple(f"b{i}" for i in range(len(sizes))),
        sizes=tuple(sizes),
        is_input=tuple(i == 0 for i in range(len(sizes))),
        held=tuple(i == calls for i in range(len(sizes))),
        reads=tuple(tuple(dict.fromkeys(buffers)) for buffers in reads),
        writes=tuple((b,) for b in range(1, calls + 1)),
        scratch=(0,) * calls,
        before=tuple(tuple(sorted({writer[b] for b in buffers if b})) for buffers in reads),
        near=tuple(
            (Nearness(buffers[0], i + 1, -(-sizes[buffers[0]] // 64) * 4, sizes[buffers[0]]),)
            for i, buffers in enumerate(reads)
        ),
        beside=((),) * calls,
        alignment=Alignment(),
    )


def _residual_chain(count: int) -> Flow:
    """Blocks of two layers and an addition of the block's input; maps shrink every tenth block."""
    sizes = [4096 >> min(i // 30 % 6, 5) for i in range(count)]
    reads = [[i, i - 2] if i >= 2 and i % 3 == 2 else [i] for i in range(count - 1)]
    return _flow(sizes, reads)


def _dense_blocks(count: int) -> Flow:
    """Blocks of twelve layers, each of which reads all before it in its block."""
    sizes = [512 + 64 * (i % 12) for i in range(count)]
    reads = [list(range(i, i - i % 12 - 1, -1)) for i in range(count - 1)]
    return _flow(sizes, reads)


def _random_graph(count: int) -> Flow:
    """Every call reads one to three of the last eight results; sizes are drawn."""
    random = Random(0)
    sizes = [random.choice((64, 256, 1024, 4096)) for _ in range(count)]
    reads = [
        [random.randint(max(0, i - 7), i) for _ in range(random.randint(1, 3))] for i in range(count - 1)
    ]
    return _flow(sizes, reads)


_GRAPHS = {
    "residual chain": _residual_chain,
    "dense blocks": _dense_blocks,
    "random graph": _random_graph,
}


if __name__ == "__main__":
    sys.exit(main())
