"""What every network costs and how well it answers after compilation, beside TensorFlow Lite Micro.

    python -m benchmarks.models                       all networks that there are
    python -m benchmarks.models resnet8_ic_b1 digits  those whose name contains one of these
    python -m benchmarks.models --markdown --json build/models.json
    python -m benchmarks.models --target cortex-m55   on another core; with Helium, on QEMU's mps3-an547

Each network is compiled for a Cortex-M4 (or --target) with real inputs as calibration and run on the emulated
core, after reference, C on this machine and C on the core have given the same bytes. With CMSIS_NN_PATH set,
the same project is linked with Arm's CMSIS-NN too: its outputs are compared likewise. Networks and data, and
how many samples calibrate: `benchmarks._networks`; how things are measured: `benchmarks._measure`.

Accuracy is that of the original file in ONNX Runtime against that of the int8 network. Of 200 images, one is
half a point: two networks that err independently on 4 % of them differ by about a point by chance alone.
`--images N` takes the first N test images of cifar10_jpeg.npz instead (10,000 there are), and calibrates
with 200 of its training images; it needs Pillow.

Exit code 1 where an output byte differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import qutec
from benchmarks._accuracy import ExitAccuracy, exit_accuracies
from benchmarks._arm_library import int8_library, library_from_environment
from benchmarks._measure import Measurement, Tools, find_tools, measure, stored_samples
from benchmarks._networks import Network, Task, find_networks, jpeg_images, read_samples, shared_folder
from benchmarks._tables import markdown_table, plain_table
from qutec.errors import QutecError, VerificationError
from qutec.report import Report
from qutec.targets import target

__all__ = ["main"]

_PEER_TARGET = "cortex-m4"
_COMPARED_INPUTS = 8

Table: TypeAlias = Callable[[Sequence[str], Sequence[Sequence[str]]], str]


@dataclass(frozen=True)
class Peer:
    """What another runtime takes for the same int8 model."""

    arena_bytes: int
    flash_bytes: int
    instructions: int


# TensorFlow Lite Micro 90b983c2 with CMSIS-NN 4ab83cc3 (mid 2026), release build, on the MLPerf Tiny int8
# reference models: arm-none-eabi-gcc 12.2.1, QEMU 7.2 with -icount, Cortex-M4F. Instructions: the better of
# -O3 and TFLM's own flags; flash: TFLM's own flags, registrations of the int8 kernels only, --gc-sections,
# model included. Measured by us; the arena is what the interpreter reports as used.
_TFLM = {
    "mlperf_resnet8_ic_int8_qdq_b1": Peer(54_996, 150_020, 29_861_640),
    "mlperf_dscnn_kws_int8_qdq_b1": Peer(22_820, 107_688, 7_697_920),
}


@dataclass(frozen=True)
class Row:
    """Everything measured of one network."""

    network: str
    report: Report
    compared_inputs: int
    ours: Measurement
    arm: Measurement | None
    accuracy: tuple[ExitAccuracy, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        report = self.report
        peer = _TFLM.get(self.network) if self.report.target == _PEER_TARGET else None
        return {
            "network": self.network,
            "macs": report.macs,
            "parameters": report.parameters,
            "calibration": report.calibration,
            "arena_bytes": report.arena_bytes,
            "arena_lower_bound_bytes": report.arena_lower_bound_bytes,
            "weights_bytes": report.flash_bytes["weights"],
            "stack_estimate_bytes": report.stack_estimate_bytes,
            "code_estimate_bytes": report.flash_bytes["code"],
            "compared_inputs": self.compared_inputs,
            "bundled_kernels": asdict(self.ours),
            "arm_cmsis_nn": asdict(self.arm) if self.arm else None,
            "tflm": asdict(peer) if peer else None,
            "layers": [
                {"name": layer.name, "kernel": layer.kernel, "macs": layer.macs, "instructions": instructions}
                for layer, instructions in zip(report.layers, self.ours.layers, strict=True)
            ],
            "accuracy": [asdict(accuracy) for accuracy in self.accuracy],
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        tools, library = find_tools(target(options.target).core), library_from_environment()
        rows, failures = _measure_all(
            options.target, find_networks(options.names), tools, library, options.images
        )
    except QutecError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    table: Table = markdown_table if options.markdown else plain_table
    print(_page(options.target, rows, tools, library is not None, table))
    if options.json is not None:
        data = {
            "schema_version": 1,
            "target": options.target,
            "tools": tools.words,
            "networks": [r.to_json() for r in rows],
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.models", description="Cost and accuracy of networks."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only networks whose name contains this")
    parser.add_argument("--target", default=_PEER_TARGET, help=f"core or board (default: {_PEER_TARGET})")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--images", type=int, metavar="N", help="accuracy on N JPEG test images (Pillow)")
    return parser


def _measure_all(
    target_name: str, networks: Sequence[Network], tools: Tools, library: Path | None, images: int | None
) -> tuple[list[Row], list[str]]:
    rows, failures = [], []
    if all(network.task is Task.DIGITS for network in networks):
        note = f"'{shared_folder()}' has no such networks (QUTEC_SHARED names another folder)"
        print(f"only the repository's own network is measured: {note}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="qutec-models-") as name:
        arm = int8_library(library, Path(name) / "cmsis-nn") if library else None
        for network in networks:
            if sys.stderr.isatty():
                print(network.name, file=sys.stderr)
            try:
                row = _measure_one(target_name, network, tools, arm, images, Path(name) / network.name)
            except VerificationError as error:
                failures.append(f"{network.name}: {error}")
                continue
            if row is None:
                print(f"skipped {network.name}: its data is not in '{shared_folder()}/data'", file=sys.stderr)
            else:
                rows.append(row)
    return rows, failures


def _measure_one(
    target_name: str, network: Network, tools: Tools, arm: Path | None, images: int | None, folder: Path
) -> Row | None:
    samples = read_samples(network)
    if samples is None:
        return None
    build = qutec.compile(network.path, target=target_name, calibration=samples.calibration, exits="all")
    project = build.save(folder)
    stored = stored_samples(build, samples, _COMPARED_INPUTS)
    ours = measure(build, project, stored, tools)
    theirs = measure(build, project, stored, tools, arm) if arm else None
    many = jpeg_images(network, images) if images is not None and network.task is Task.IMAGES else None
    if many is not None:
        samples = many
        build = qutec.compile(network.path, target=target_name, calibration=samples.calibration, exits="all")
    accuracy = tuple(exit_accuracies(network, build, samples))
    return Row(network.name, build.report, len(stored[0]), ours, theirs, accuracy)


def _page(target_name: str, rows: Sequence[Row], tools: Tools, with_arm: bool, table: Table) -> str:
    blocks = [f"{target_name}, {tools.words}; sizes in bytes, one inference", _costs(rows, with_arm, table)]
    peers = [row for row in rows if row.network in _TFLM and target_name == _PEER_TARGET]
    if peers:
        blocks += [
            "TensorFlow Lite Micro with CMSIS-NN on the same int8 models, and the ratio",
            _peers(peers, table),
        ]
    if any(row.accuracy for row in rows):
        blocks += [
            "top-1 of each exit: original file in float, compiled network in int8",
            _accuracies(rows, table),
        ]
    return "\n\n".join(blocks)


def _costs(rows: Sequence[Row], with_arm: bool, table: Table) -> str:
    head = ["network", "MACs", "arena", "stack", "flash", "instructions", "/MAC", "equal"]
    head += ["Arm: flash", "instructions", "ratio"] if with_arm else []
    lines = []
    for row in rows:
        ours, macs = row.ours, row.report.macs
        line = [
            _short(row.network),
            f"{macs / 1e6:.3f}M",
            *map(str, (row.report.arena_bytes, ours.stack_bytes)),
        ]
        line += [str(ours.flash_bytes), str(ours.instructions), f"{ours.instructions / macs:.2f}"]
        line += [f"{row.compared_inputs}/{row.compared_inputs}"]
        if row.arm is not None:
            ratio = row.arm.instructions / ours.instructions
            line += [str(row.arm.flash_bytes), str(row.arm.instructions), f"{ratio:.2f}"]
        lines.append(line)
    return table(head, lines)


def _peers(rows: Sequence[Row], table: Table) -> str:
    head = ["network", "arena", "TFLM", "ratio", "flash", "TFLM", "ratio", "instructions", "TFLM", "ratio"]
    lines = []
    for row in rows:
        peer = _TFLM[row.network]
        pairs = [
            (row.report.arena_bytes, peer.arena_bytes),
            (row.ours.flash_bytes, peer.flash_bytes),
            (row.ours.instructions, peer.instructions),
        ]
        cells = [cell for ours, theirs in pairs for cell in (str(ours), str(theirs), f"{theirs / ours:.2f}")]
        lines.append([_short(row.network), *cells])
    return table(head, lines)


def _accuracies(rows: Sequence[Row], table: Table) -> str:
    head = ["network", "exit", "samples", "float", "int8", "points", "held out", "float", "int8", "points"]
    lines = []
    for row in rows:
        for entry in row.accuracy:
            held_out_points = 100 * (entry.held_out_int8 - entry.held_out_original)
            whole = [f"{entry.original:.4f}", f"{entry.int8:.4f}", f"{-entry.loss_points:+.2f}"]
            part = [f"{entry.held_out_original:.4f}", f"{entry.held_out_int8:.4f}", f"{held_out_points:+.2f}"]
            lines.append(
                [
                    _short(row.network),
                    entry.exit,
                    str(entry.samples),
                    *whole,
                    str(entry.held_out_samples),
                    *part,
                ]
            )
    return table(head, lines)


def _short(name: str) -> str:
    """Fits the table into 120 columns."""
    return name.removesuffix("_b1").replace("mlperf_", "mlperf ").replace("trecx_", "trecx ")


if __name__ == "__main__":
    sys.exit(main())
