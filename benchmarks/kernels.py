"""Instructions of each kernel by itself, beside Arm's CMSIS-NN: a table of shapes, and layers of networks.

    python -m benchmarks.kernels                       everything
    python -m benchmarks.kernels "conv 1x1" fully      cases whose name contains one of these
    python -m benchmarks.kernels --table               the table of shapes alone, without networks
    python -m benchmarks.kernels --target cortex-m55   on another core; with Helium, on QEMU's mps3-an547
    python -m benchmarks.kernels --markdown --json build/kernels.json

Every case is one kernel call of an emitted project for a Cortex-M4 (or --target), run on the emulated core
(how: `benchmarks._measure`). With CMSIS_NN_PATH set the same project is linked with Arm's CMSIS-NN and run
beside it. Outputs are compared with the numpy reference byte by byte, for random inputs. Instructions are
those of the call, a dozen for its parameters included, a vector instruction counts as one; "per" divides them
by multiply-accumulates (padding counted), or by bytes read or written where a kernel multiplies nothing.
Cases and shapes: `benchmarks._kernel_cases`.

Exit code 1 where an output byte differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._arm_library import int8_library, library_from_environment
from benchmarks._chain_project import write_project
from benchmarks._kernel_cases import Case, network_cases, program_of, table_cases
from benchmarks._measure import Tools, find_tools
from benchmarks._tables import markdown_table, plain_table
from qutec.errors import QutecError
from qutec.program import Int8Array, Program, StoredArray
from qutec.reference import run_program
from qutec.simulate import Image, build_image, run_image
from qutec.targets import Core, target

__all__ = ["main"]

_PROGRAM_CASES = 24
"""Cases of one emitted project: their weights and outputs have to fit the emulated machine."""


@dataclass(frozen=True)
class Run:
    """Instructions of one case with one library, and whether its output is the reference's."""

    instructions: int
    equal: bool


@dataclass(frozen=True)
class Row:
    """One case."""

    case: Case
    ours: Run
    arm: Run | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "name": self.case.name,
            "kernel": type(self.case.call).__name__,
            "unit": self.case.unit,
            "work": self.case.work,
            "bundled_kernels": vars(self.ours),
            "arm_cmsis_nn": vars(self.arm) if self.arm else None,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        core = target(options.target).core
        tools, library = find_tools(core), library_from_environment()
        cases = table_cases() + ([] if options.table else list(network_cases(options.target)))
        cases = [c for c in cases if not options.names or any(name in c.name for name in options.names)]
        with tempfile.TemporaryDirectory(prefix="qutec-kernels-") as name:
            arm = int8_library(library, Path(name) / "cmsis-nn") if library else None
            rows = [
                row
                for start in range(0, len(cases), _PROGRAM_CASES)
                for row in _measured(
                    cases[start : start + _PROGRAM_CASES], core, tools, arm, Path(name) / str(start)
                )
            ]
    except QutecError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{options.target}, {tools.words}\n")
    print(_table(rows, library is not None, options.markdown))
    if options.json is not None:
        data = {"schema_version": 1, "target": options.target, "tools": tools.words}
        data["kernels"] = [row.to_json() for row in rows]
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    wrong = [row.case.name for row in rows if not row.ours.equal or (row.arm and not row.arm.equal)]
    for name in wrong:
        print(f"error: the outputs of '{name}' differ from the reference", file=sys.stderr)
    return 1 if wrong else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels", description="Instructions of each kernel."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only cases whose name contains this")
    parser.add_argument("--target", default="cortex-m4", help="core or board (default: cortex-m4)")
    parser.add_argument("--table", action="store_true", help="leave the layers of networks out")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    return parser


def _measured(cases: list[Case], core: Core, tools: Tools, arm: Path | None, folder: Path) -> list[Row]:
    program = program_of(cases)
    project = write_project(program, core, folder)
    x = np.random.default_rng(0).integers(-128, 128, (1, program.inputs[0].size), np.int8)
    expected = run_program(program, [x])
    ours = _runs(build_image(project, core, compiler=tools.compiler), x, expected, program, tools)
    if arm is None:
        return [Row(case, run, None) for case, run in zip(cases, ours, strict=True)]
    library = build_image(project, core, compiler=tools.compiler, cmsis_nn=arm)
    theirs = _runs(library, x, expected, program, tools)
    return [Row(*row) for row in zip(cases, ours, theirs, strict=True)]


def _runs(
    image: Image, x: Int8Array, expected: Sequence[StoredArray], program: Program, tools: Tools
) -> list[Run]:
    """One for each call of the program, in order."""
    result = run_image(image, [x[0]], sram_bytes=None, emulator=tools.emulator)
    equal = [
        np.array_equal(got, want.reshape(-1)) for got, want in zip(result.outputs, expected, strict=True)
    ]
    counts = dict(result.layers)
    return [Run(counts[index], equal[index]) for index in range(len(program.calls))]


def _table(rows: Sequence[Row], with_arm: bool, markdown: bool) -> str:
    head = ["kernel", "work", "unit", "instructions", "per", "equal"]
    head += ["Arm: instructions", "per", "equal", "ratio"] if with_arm else []
    lines = []
    for row in rows:
        case = row.case
        line = [case.name, str(case.work), case.unit, *_cells(row.ours, case)]
        if row.arm is not None:
            line += [*_cells(row.arm, case), f"{row.arm.instructions / row.ours.instructions:.2f}"]
        lines.append(line)
    return (markdown_table if markdown else plain_table)(head, lines)


def _cells(run: Run, case: Case) -> list[str]:
    return [str(run.instructions), f"{run.instructions / case.work:.2f}", "yes" if run.equal else "NO"]


if __name__ == "__main__":
    sys.exit(main())
