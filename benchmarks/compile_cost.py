"""What a compile costs: wall time and memory of `qutec compile` as a whole process.

    python -m benchmarks.compile_cost [--json FILE]

Compiles ResNet-8 of MLPerf Tiny (the digits network where the shared models are missing) with its real
calibration data in a fresh process, once to warm the file cache and then five times; the table has the
medians. Seconds depend on the machine: the limits are those that nobody should have to wait or pay for. Exit
code 1 where a limit is broken or torch was imported.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._networks import DIGITS, Network, find_networks, read_samples
from benchmarks._tables import plain_table

__all__ = ["main"]

_NETWORK = "mlperf_resnet8_ic_b1"
_RUNS = 5
_LIMIT_SECONDS = 4.0
_LIMIT_MIB = 600.0

# The command itself, which tells afterwards whether torch came in.
_PROGRAM = """
import sys
from qutec.cli import main
try:
    main()
except SystemExit as left:
    code = left.code or 0
    sys.exit(3 if "torch" in sys.modules and code == 0 else code)
"""
_TORCH_IMPORTED = 3


@dataclass(frozen=True)
class _Run:
    """One process: seconds on the wall, seconds of processor, peak resident set, exit code."""

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    code: int


@dataclass(frozen=True)
class Cost:
    """Medians over the runs."""

    network: str
    runs: int
    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    imports_torch: bool

    @property
    def within_limits(self) -> bool:
        """Whether a user would put up with it."""
        quick = self.wall_seconds <= _LIMIT_SECONDS and self.peak_mib <= _LIMIT_MIB
        return quick and not self.imports_torch


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compile_cost", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(arguments)
    cost = _measured(next((n for n in find_networks([_NETWORK]) if n.name == _NETWORK), DIGITS))
    print(
        plain_table(
            [f"qutec compile {cost.network}", "median", "limit"],
            [
                ["wall time, s", f"{cost.wall_seconds:.2f}", f"{_LIMIT_SECONDS:.2f}"],
                ["processor time, s", f"{cost.cpu_seconds:.2f}", ""],
                ["peak memory, MiB", f"{cost.peak_mib:.0f}", f"{_LIMIT_MIB:.0f}"],
                ["imports torch", "yes" if cost.imports_torch else "no", "no"],
            ],
        )
    )
    print("within limits" if cost.within_limits else "LIMIT BROKEN")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        data = {"schema_version": 1, **asdict(cost), "within_limits": cost.within_limits}
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return 0 if cost.within_limits else 1


def _measured(network: Network) -> Cost:
    samples = read_samples(network)
    with tempfile.TemporaryDirectory(prefix="qutec-cost-") as name:
        folder, calibration = Path(name), "random"
        if samples is not None and samples.calibration is not None:
            calibration = str(folder / "x.npy")
            np.save(calibration, samples.calibration)
        command = [sys.executable, "-c", _PROGRAM, "compile", str(network.path), "--calibration", calibration]
        runs = [_run([*command, "-o", str(folder / "net")], folder / "log") for _ in range(1 + _RUNS)][1:]
        failed = [run.code for run in runs if run.code not in (0, _TORCH_IMPORTED)]
        if failed:
            log = (folder / "log").read_text(encoding="utf-8", errors="replace")
            sys.exit(f"error: qutec compile ended with {failed[0]}\n{log}")
    return Cost(
        network=network.name,
        runs=len(runs),
        wall_seconds=statistics.median(run.wall_seconds for run in runs),
        cpu_seconds=statistics.median(run.cpu_seconds for run in runs),
        peak_mib=statistics.median(run.peak_mib for run in runs),
        imports_torch=any(run.code == _TORCH_IMPORTED for run in runs),
    )


def _run(command: list[str], log: Path) -> _Run:
    """One process to its end; Linux counts its memory in KiB, macOS in bytes."""
    begin = time.perf_counter()
    with log.open("wb") as stream:
        actions = [(os.POSIX_SPAWN_DUP2, stream.fileno(), 1), (os.POSIX_SPAWN_DUP2, stream.fileno(), 2)]
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - begin
    mib = usage.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
    return _Run(wall, usage.ru_utime + usage.ru_stime, mib, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    sys.exit(main())
