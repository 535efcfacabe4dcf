"""What a dynamic exit saves and what it costs in accuracy: T-RecX networks on real data, by threshold.

    python -m benchmarks.dynamic_exits [NAME ...] [--images N] [--emulated N] [--markdown] [--json FILE]

Networks are those of `benchmarks._networks` that have NAME in their names and several exits; without NAME the
T-RecX ResNet-8 with its early view. Each is compiled once with --exits dynamic. The confidences and labels of
all exits are those of the integer reference; an inference takes the first exit whose confidence reaches the
threshold (for all exits the same one). Instructions of each exit are the mean over --emulated inferences on
the emulated Cortex-M4 that take it; their outputs are compared with the reference byte for byte. "BASE" is
the final exit alone, --exits final. With --images the data are that many CIFAR-10 test images (needs Pillow).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import numpy.typing as npt

import qutec
from benchmarks._measure import Tools, find_tools
from benchmarks._networks import Network, Samples, Task, find_networks, jpeg_images, read_samples
from benchmarks._tables import markdown_table, plain_table
from qutec import Build
from qutec.errors import QutecError
from qutec.ports import PortInfo
from qutec.program import ExitCheck, HeadUncertainty, Int32Array
from qutec.reference import trace_program
from qutec.simulate import build_image, run_image

__all__ = ["Point", "main"]

_DEFAULT = "trecx_ic_resnet8_ev_b1"
_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_MEASURED_AT = 0.8
"""Threshold of the build that is run on the emulated core."""
_HEAD = ("threshold", "accuracy", "exits taken", "instructions, mean", "of worst case", "of BASE")


@dataclass(frozen=True)
class Point:
    """One threshold: accuracy 0..1, share of inferences by exit, mean instructions."""

    threshold: float
    accuracy: float
    shares: tuple[float, ...]
    instructions: float


@dataclass(frozen=True)
class Result:
    """A network over thresholds; instructions by exit, and of the final exit alone."""

    network: str
    samples: int
    exits: tuple[str, ...]
    exit_accuracies: tuple[float, ...]
    exit_instructions: tuple[float, ...]
    base_instructions: float
    points: tuple[Point, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each network; 1 where an execution differs from the reference."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dynamic_exits", description="dynamic exits")
    parser.add_argument("names", nargs="*", default=[_DEFAULT])
    parser.add_argument("--images", type=int, help="CIFAR-10 test images, for networks that take images")
    parser.add_argument("--emulated", type=int, default=4, help="inferences of each exit that are emulated")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    tools, results = find_tools(), []
    for network in find_networks(options.names):
        samples = _samples(network, options.images)
        if samples is None or samples.labels is None:
            print(f"skipped: there is no labelled data for {network.name}", file=sys.stderr)
            continue
        try:
            results.append(_measured(network, samples, tools, options.emulated))
        except QutecError as error:
            print(f"{network.name}: {error}", file=sys.stderr)
            return 1
    for result in results:
        print(_page(result, markdown=options.markdown), end="\n\n")
    print(f"Cortex-M4, {tools.words}")
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    return 0


def _samples(network: Network, images: int | None) -> Samples | None:
    if images is not None and network.task is Task.IMAGES:
        return jpeg_images(network, images)
    return read_samples(network)


def _measured(network: Network, samples: Samples, tools: Tools, emulated: int) -> Result:
    build = qutec.compile(
        network.path, exits="dynamic", exit_threshold=_MEASURED_AT, calibration=samples.calibration
    )
    base = qutec.compile(network.path, exits="final", calibration=samples.calibration)
    assert samples.labels is not None
    held_out = samples.held_out
    labels, confidences = _all_exits(build, samples.x[held_out])
    right = labels == samples.labels[held_out]
    instructions = _exit_instructions(build, samples.x[held_out], confidences, tools, emulated)
    first = samples.x[held_out][:1]
    points = []
    for threshold in _THRESHOLDS:
        taken = _taken(confidences, threshold)
        shares = np.bincount(taken, minlength=len(labels)) / len(taken)
        accuracy = float(right[taken, np.arange(len(taken))].mean())
        points.append(Point(threshold, accuracy, tuple(map(float, shares)), float(shares @ instructions)))
    return Result(
        network=network.name,
        samples=int(held_out.sum()),
        exits=build.report.heads,
        exit_accuracies=tuple(map(float, right.mean(axis=1))),
        exit_instructions=tuple(map(float, instructions)),
        base_instructions=_instructions(base, [first], tools)[0],
        points=tuple(points),
    )


def _taken(confidences: Int32Array, threshold: float) -> npt.NDArray[np.intp]:
    """The exit of each sample: the first that is sure enough, else the last."""
    sure = confidences >= round(threshold * 2**30)
    sure[-1] = True
    return sure.argmax(axis=0)


def _all_exits(build: Build, x: npt.NDArray[np.generic]) -> tuple[Int32Array, Int32Array]:
    """(labels, confidences with 30 fractional bits), both [exits, samples], nobody stopping."""
    labels, confidences = [], []
    for call, values in trace_program(build.program, build.stored(x)):
        if isinstance(call, HeadUncertainty):
            result = np.ascontiguousarray(values).view("<i4")
            labels.append(result[:, call.classes])
            confidences.append(result[:, call.classes + 1])
    return np.stack(labels), np.stack(confidences)


def _exit_instructions(
    build: Build, x: npt.NDArray[np.generic], confidences: Int32Array, tools: Tools, count: int
) -> npt.NDArray[np.float64]:
    """Mean instructions of an inference that ends at each exit."""
    taken = _taken(confidences, _MEASURED_AT)
    ends = sum(isinstance(call, ExitCheck) for call in build.program.calls)
    chosen = [np.flatnonzero(taken == number)[:count] for number in range(ends)]
    empty = [build.report.heads[number] for number, indices in enumerate(chosen) if not indices.size]
    if empty:
        raise QutecError(f"no sample ends at {', '.join(empty)}")
    return np.array([np.mean(_instructions(build, [x[i : i + 1] for i in rows], tools)) for rows in chosen])


def _instructions(build: Build, inputs: Sequence[npt.NDArray[np.generic]], tools: Tools) -> list[float]:
    """Instructions of each input on the emulated core, whose outputs have to be the reference's."""
    port = PortInfo.of(build.program.inputs[0])
    outputs = [PortInfo.of(item) for item in build.program.outputs]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        project = build.save(Path(folder) / "net")
        image = build_image(project, build.target.core, compiler=tools.compiler)
        for x in inputs:
            stored = build.stored(x)[0][0]
            result = run_image(
                image,
                [port.to_memory(stored)],
                sram_bytes=build.report.sram_bytes,
                emulator=tools.emulator,
            )
            expected = build.run_int8(x)
            for output, flat in zip(outputs, result.outputs, strict=True):
                if not np.array_equal(output.from_memory(flat).ravel(), expected[output.name].ravel()):
                    raise QutecError(f"{output.name} on the emulated core is not the reference's")
            assert result.instructions is not None
            found.append(float(result.instructions))
    return found


def _page(result: Result, *, markdown: bool) -> str:
    table = markdown_table if markdown else plain_table
    exits = ", ".join(
        f"{name} {accuracy:.4f} ({count:,.0f} instructions)"
        for name, accuracy, count in zip(
            result.exits, result.exit_accuracies, result.exit_instructions, strict=True
        )
    )
    worst = result.exit_instructions[-1]
    rows = [
        (
            f"{point.threshold:g}",
            f"{point.accuracy:.4f}",
            " / ".join(f"{share:.1%}" for share in point.shares),
            f"{point.instructions:,.0f}",
            f"{point.instructions / worst:.1%}",
            f"{point.instructions / result.base_instructions:.1%}",
        )
        for point in result.points
    ]
    return (
        f"{result.network}, {result.samples:,} samples\n"
        f"each exit alone: {exits}; BASE: {result.base_instructions:,.0f} instructions\n\n"
        + table(_HEAD, rows)
    )


if __name__ == "__main__":
    sys.exit(main())
