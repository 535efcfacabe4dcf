"""ONNX Runtime builds of the shared networks: do they answer as the source, and what do they cost?

    python -m benchmarks.onnxruntime_profiles [NAME ...] [--runs N] [--images N] [--markdown] [--json FILE]

Three tables. *Networks*: ResNet-8 and the T-RecX networks, float and int8, all outputs as they are; outputs
are compared with those of the source file (ONNX Runtime without optimisations) on all labelled samples,
latency as a ratio to the source file in one interleaved run. *Heads*: early views attached to the MLPerf
networks (K = 2, untrained, which costs the same), as a ratio to the final exit alone in one run. *Dynamic
exits*: both forms, and the mean time of an inference. Images are --images of the CIFAR-10 test set,
calibration images of its training set; without Pillow the 200 of `benchmarks._networks`, too few to tell a
point. Exit code 1 where a limit is broken: float outputs within 1e-5, int8 top-1 within a point for every
exit, the sum of the profile within 10 % of the wall time.
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
import onnx

import qutec
from benchmarks._networks import Network, Samples, Task, find_networks, jpeg_images, read_samples
from benchmarks._tables import markdown_table, plain_table
from qutec.attach import attach, write_training_graph
from qutec.backends.onnxruntime import (
    GraphOptimization,
    OnnxRuntimeBuild,
    SessionSettings,
    profile_models,
)
from qutec.backends.onnxruntime.runners import SessionRunner, run_rows
from qutec.errors import DataError, QutecError, ToolMissingError
from qutec.report.profile_data import Ratio

__all__ = ["main"]

_NETWORKS = ("mlperf_resnet8_ic_b1", "mlperf_resnet8_ic_int8_qdq_b1", "trecx_")
_ATTACHED = ("mlperf_resnet8_ic_b1", "mlperf_dscnn_kws_b1")
_DYNAMIC = (
    *("trecx_ic_resnet8_ev_dyn", "trecx_ic_resnet8_sdn_b1"),
    *("trecx_kws_dscnn_ev_dyn", "trecx_kws_dscnn_sdn_b1"),
)
_FLOAT_LIMIT = 1e-5
_TOP1_LIMIT = 0.01
_SUM_LIMIT = 0.10
_THRESHOLD = 0.8


@dataclass(frozen=True)
class Row:
    """One network in one precision; top-1 by output, source and build."""

    network: str
    precision: str
    samples: int
    difference: float
    source_top1: tuple[float, ...]
    top1: tuple[float, ...]
    p50_us: float
    over_source: Ratio
    explained: float
    model_bytes: int
    peak_bytes: int

    @property
    def within_limits(self) -> bool:
        """Equality of float outputs, top-1 of int8 ones, and the profile's sum."""
        exact = self.precision != "float32" or self.difference <= _FLOAT_LIMIT
        lost = max(a - b for a, b in zip(self.source_top1, self.top1, strict=True))
        return exact and lost <= _TOP1_LIMIT + 1e-9 and abs(self.explained - 1.0) <= _SUM_LIMIT


@dataclass(frozen=True)
class HeadRow:
    """Early views against the final exit alone."""

    network: str
    precision: str
    activation: str
    ratio: Ratio
    p50_us: float
    trunk_share: float


@dataclass(frozen=True)
class DynamicRow:
    """Dynamic exits; shares and median time by exit."""

    network: str
    precision: str
    form: str
    stages_over_if: Ratio
    shares: tuple[float, ...]
    exit_us: tuple[float | None, ...]
    mean_us: float
    over_final: Ratio
    accuracy: float
    final_accuracy: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, measure, print; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.onnxruntime_profiles", description="Networks in ONNX Runtime."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only networks with NAME in their names")
    parser.add_argument("--runs", type=int, default=300, help="measured inferences; 300")
    parser.add_argument("--images", type=int, default=1000, help="labelled images; 1000")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    heads: list[HeadRow] = []
    dynamic: list[DynamicRow] = []
    code = 0
    for network in find_networks(options.names):
        samples = _labelled(network, options.images)
        if samples is None or samples.labels is None:
            continue
        try:
            if network.name.startswith(_NETWORKS) and not network.name.endswith("_dyn"):
                rows += _rows(network, samples, options.runs)
            if network.name in _ATTACHED:
                heads += _heads(network, samples, options.runs)
            if network.name in _DYNAMIC:
                dynamic += _dynamic(network, samples, options.runs)
        except QutecError as error:
            print(f"error: {network.name}: {error}", file=sys.stderr)
            code = error.exit_code
    if not rows and not heads and not dynamic:
        print("skipped: there are no such networks with labelled data (QUTEC_SHARED)", file=sys.stderr)
        return code
    print(_page(rows, heads, dynamic, markdown=options.markdown))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        data = {
            "schema_version": 1,
            "networks": [{**asdict(row), "within_limits": row.within_limits} for row in rows],
            "heads": [asdict(row) for row in heads],
            "dynamic": [asdict(row) for row in dynamic],
        }
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return code or int(not all(row.within_limits for row in rows))


def _labelled(network: Network, images: int) -> Samples | None:
    """Many images where they can be decoded, else the samples that belong to the network."""
    if network.task is Task.IMAGES:
        try:
            return jpeg_images(network, images)
        except (ToolMissingError, DataError) as error:
            print(f"{network.name}: {error}", file=sys.stderr)
    return read_samples(network)


def _precisions(samples: Samples) -> list[npt.NDArray[np.float32] | None]:
    """Calibration inputs: none for float, and those that there are for int8."""
    return [None] if samples.calibration is None else [None, samples.calibration]


def _data(samples: Samples) -> dict[str, npt.NDArray[np.generic]]:
    assert samples.labels is not None
    return {"x": samples.x, "y": samples.labels}


def _rows(network: Network, samples: Samples, runs: int) -> list[Row]:
    expected = _source_outputs(network, samples)
    rows = []
    for calibration in _precisions(samples):
        build = qutec.compile(
            network.path,
            target="onnxruntime",
            exits="all",
            calibration=calibration,
            data=_data(samples),
            runs=runs,
        )
        found = build.run(samples.x)
        differences = [np.abs(expected[name].astype(float) - found[name]).max() for name in expected]
        profile = build.profile
        rows.append(
            Row(
                network.name,
                build.report.precision,
                len(samples.x),
                float(max(differences)),
                _top1(expected, samples),
                _top1({name: found[name] for name in expected}, samples),
                profile.batches[0].latency_us.p50,
                _over_source(network, build, samples, runs),
                profile.batches[0].explained,
                profile.model_bytes,
                profile.memory.peak_bytes,
            )
        )
    return rows


def _source_outputs(network: Network, samples: Samples) -> dict[str, npt.NDArray[np.generic]]:
    """What the file itself answers to every sample, one by one, without optimisations."""
    settings = SessionSettings(graph_optimization=GraphOptimization.DISABLED)
    runner = SessionRunner(network.path.read_bytes(), settings)
    name = onnx.load(network.path).graph.input[0].name
    return run_rows(runner, {name: samples.x})


def _top1(outputs: dict[str, npt.NDArray[np.generic]], samples: Samples) -> tuple[float, ...]:
    return tuple(
        float(np.mean(values.reshape(len(values), -1).argmax(axis=1) == samples.labels))
        for values in outputs.values()
    )


def _over_source(network: Network, build: OnnxRuntimeBuild, samples: Samples, runs: int) -> Ratio:
    """The build's time over that of the source file."""
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "built.onnx"
        built.write_bytes(build.model.SerializeToString())
        profile = profile_models([network.path, built], data={"x": samples.x[:64]}, runs=runs)
    return profile.report.comparisons[0].ratio


def _heads(network: Network, samples: Samples, runs: int) -> list[HeadRow]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for activation in ("none", "relu"):
            path = Path(folder) / f"{activation}.onnx"
            write_training_graph(attach(network.path, heads=2, activation=activation), path)
            for calibration in _precisions(samples):
                build = qutec.compile(
                    path,
                    target="onnxruntime",
                    exits="qute",
                    calibration=calibration,
                    data={"x": samples.x},
                    runs=runs,
                )
                assert build.report.over_final is not None
                batch = build.profile.batches[0]
                shares = {section.name: section.share for section in batch.sections}
                rows.append(
                    HeadRow(
                        network.name,
                        build.report.precision,
                        "linear" if activation == "none" else "ReLU",
                        build.report.over_final.ratio,
                        batch.latency_us.p50,
                        shares.get("trunk", 1.0),
                    )
                )
    return rows


def _dynamic(network: Network, samples: Samples, runs: int) -> list[DynamicRow]:
    rows = []
    for calibration in _precisions(samples):
        build = qutec.compile(
            network.path,
            target="onnxruntime",
            exits="dynamic",
            exit_threshold=_THRESHOLD,
            calibration=calibration,
            data=_data(samples),
            runs=runs,
        )
        report = build.report
        *costs, answer = build.profile.batches[0].exits
        assert report.dynamic is not None
        assert report.over_final is not None
        rows.append(
            DynamicRow(
                network.name,
                report.precision,
                report.dynamic.form,
                report.dynamic.stages_over_if,
                tuple(cost.share or 0.0 for cost in costs),
                tuple(cost.us for cost in costs),
                answer.us or 0.0,
                report.over_final.ratio,
                answer.accuracy or 0.0,
                costs[-1].accuracy or 0.0,
            )
        )
    return rows


def _page(
    rows: Sequence[Row], heads: Sequence[HeadRow], dynamic: Sequence[DynamicRow], *, markdown: bool
) -> str:
    table = markdown_table if markdown else plain_table
    parts = []
    if rows:
        head = (
            *("network", "precision", "largest difference", "top-1 source", "top-1", "p50 µs"),
            *("over source", "sum / wall", "bytes", "peak MB", "limits"),
        )
        parts.append(table(head, [_cells(row) for row in rows]))
    if heads:
        head = ("network", "precision", "blocks", "over final alone", "p50 µs", "trunk")
        cells = [
            (r.network, r.precision, r.activation, _ratio(r.ratio), f"{r.p50_us:.1f}", f"{r.trunk_share:.0%}")
            for r in heads
        ]
        parts.append(table(head, cells))
    if dynamic:
        head = (
            *("network", "precision", "form", "stages over If", "taken", "µs to exit"),
            *("mean µs", "over final alone", "top-1", "top-1 final"),
        )
        parts.append(table(head, [_dynamic_cells(row) for row in dynamic]))
    return "\n\n".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.network,
        row.precision,
        f"{row.difference:.2g}",
        _list(row.source_top1),
        _list(row.top1),
        f"{row.p50_us:.1f}",
        _ratio(row.over_source),
        f"{row.explained:.1%}",
        f"{row.model_bytes:,}",
        f"{row.peak_bytes / 1e6:.1f}",
        "kept" if row.within_limits else "BROKEN",
    )


def _dynamic_cells(row: DynamicRow) -> tuple[str, ...]:
    return (
        row.network,
        row.precision,
        "If" if row.form == "if" else row.form,
        _ratio(row.stages_over_if),
        " / ".join(f"{share:.0%}" for share in row.shares),
        " / ".join("-" if us is None else f"{us:.0f}" for us in row.exit_us),
        f"{row.mean_us:.1f}",
        _ratio(row.over_final),
        f"{row.accuracy:.1%}",
        f"{row.final_accuracy:.1%}",
    )


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.ratio:.3f} ({ratio.low:.3f}..{ratio.high:.3f})"


def _list(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.1%}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
