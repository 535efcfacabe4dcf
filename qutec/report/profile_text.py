"""Profiles with ONNX Runtime for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qutec.report.labels import plain
from qutec.report.profile_data import (
    BatchProfile,
    Comparison,
    ExitCost,
    ModelProfile,
    OnnxRuntimeReport,
    ProfileReport,
    Ratio,
)

__all__ = [
    "bytes_words",
    "measured_words",
    "microseconds",
    "percent",
    "profile_text",
    "ratio_words",
    "report_text",
    "session_words",
]

_BAR = 20
_NODES_SHOWN = 12


def microseconds(us: float | None) -> str:
    """With one digit behind the point; a dash where there is none."""
    return "-" if us is None else f"{us:,.1f}"


def percent(share: float | None) -> str:
    """With one digit behind the point; a dash where there is none."""
    return "-" if share is None else f"{share:.1%}"


def ratio_words(ratio: Ratio) -> str:
    """The ratio and its interval."""
    return f"{ratio.ratio:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def bytes_words(count: int) -> str:
    """Bytes with commas."""
    return f"{count:,} bytes"


def session_words(session: dict[str, Any]) -> str:
    """Options of the session on one line."""
    return (
        f"{session['provider']}, {session['threads']} thread{'s' if session['threads'] > 1 else ''}, "
        f"graph optimisation {session['graph_optimization']}, execution {session['execution_mode']}"
    )


def measured_words(profile: BatchProfile, unit: str = "us") -> str:
    """What the nodes explain of the wall time; `unit` is how microseconds are called."""
    return (
        f"nodes {microseconds(profile.nodes_us)} {unit} of {microseconds(profile.wall_us)} {unit} wall time "
        f"({percent(profile.explained)}); {microseconds(profile.profiler_us)} {unit} of the profiler itself "
        "taken off each node"
    )


def report_text(report: OnnxRuntimeReport) -> str:
    """The report of a build in at most 100 columns; ends with a newline."""
    model = report.model
    lines = [
        f"{plain(model['name'])} -> {report.target}   "
        f"(qutec {report.qutec_version}, sha256 {model['sha256'][:12]})",
        "",
        *(f"WARNING  {warning}" for warning in report.warnings),
        *([""] if report.warnings else []),
        *([f"ensemble    {', '.join(plain(m['name']) for m in report.members)}"] if report.members else []),
        f"inputs      {_ports(report.inputs)}",
        f"outputs     {_ports(report.outputs)}",
        f"parameters  {report.parameters:,}",
        f"MACs        {report.macs:,}",
        f"precision   {report.precision}, {report.calibration}",
        f"equality    {_equality(report)}",
        *_over_final(report.over_final),
        *_dynamic(report),
        "",
        f"runtime     onnxruntime {report.onnxruntime_version}: {session_words(report.session)}",
        f"machine     {report.machine}",
        f"measured    on {report.data}",
        *_model(report.profile),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def profile_text(report: ProfileReport) -> str:
    """What `qutec profile` prints; ends with a newline."""
    lines = [
        *(f"WARNING  {warning}" for warning in report.warnings),
        f"runtime     onnxruntime {report.onnxruntime_version}: {session_words(report.session)}",
        f"machine     {report.machine}",
        f"measured    on {report.data}",
    ]
    for comparison in report.comparisons:
        lines.append(
            f"ratio       {plain(comparison.name)} / {plain(comparison.base)}, batch {comparison.batch}: "
            f"{ratio_words(comparison.ratio)}, {comparison.rounds} rounds"
        )
    for model in report.models:
        lines += ["", plain(model.name), *_model(model)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _model(model: ModelProfile) -> list[str]:
    memory = model.memory
    lines = [
        f"size        {bytes_words(model.model_bytes)}",
        f"memory      {bytes_words(memory.peak_bytes)} peak of the process, "
        f"{bytes_words(memory.runtime_bytes)} of it before the model",
    ]
    for profile in model.batches:
        lines += ["", *_batch(profile)]
    return lines


def _batch(profile: BatchProfile) -> list[str]:
    latency = profile.latency_us
    lines = [
        f"batch {profile.batch:<6}p50 {microseconds(latency.p50)}  p90 {microseconds(latency.p90)}  "
        f"p99 {microseconds(latency.p99)} us   ({latency.runs} runs after {latency.warmup})",
        f"            {measured_words(profile)}",
        "",
        *_exits(profile.exits),
        f"{'operator':<28}{'nodes':>7}{'us':>12}{'share':>9}",
    ]
    for operator in profile.operators:
        bar = "#" * round(_BAR * operator.share)
        lines.append(
            f"{plain(operator.op)[:27]:<28}{operator.nodes:>7}{microseconds(operator.us):>12}"
            f"{percent(operator.share):>9}  {bar}"
        )
    if len(profile.sections) > 1:
        lines += ["", f"{'part':<28}{'nodes':>7}{'us':>12}{'share':>9}"]
        for section in profile.sections:
            lines.append(
                f"{_short(section.name, 27):<28}{section.nodes:>7}{microseconds(section.us):>12}"
                f"{percent(section.share):>9}  {'#' * round(_BAR * section.share)}"
            )
    costliest = sorted(profile.nodes, key=lambda node: -node.us)[:_NODES_SHOWN]
    lines += ["", f"{'costliest nodes':<50}{'operator':<20}{'us':>9}{'share':>9}"]
    for node in costliest:
        lines.append(
            f"{_short(node.name, 49):<50}{plain(node.op)[:19]:<20}{microseconds(node.us):>9}"
            f"{percent(node.share):>9}"
        )
    return lines


def _exits(exits: Sequence[ExitCost]) -> list[str]:
    if not exits:
        return []
    lines = [f"{'exit':<28}{'us':>10}{'its own us':>12}{'accuracy':>10}{'taken':>9}"]
    for item in exits:
        lines.append(
            f"{_short(item.name, 27):<28}{microseconds(item.us):>10}{microseconds(item.own_us):>12}"
            f"{percent(item.accuracy):>10}{percent(item.share):>9}"
        )
    return [*lines, ""]


def _short(name: str, characters: int) -> str:
    """The end of a long name, which is what tells nodes of one exporter apart."""
    text = plain(name)
    return text if len(text) <= characters else "..." + text[3 - characters :]


def _ports(ports: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{plain(str(port['name']))} {'x'.join(map(str, port['shape']))}" for port in ports)


def _equality(report: OnnxRuntimeReport) -> str:
    equality = report.equality
    agreement = (
        "" if equality.top1_agreement is None else f", same top-1 for {percent(equality.top1_agreement)}"
    )
    return (
        f"to the network: {equality.largest_difference:.2g} at most{agreement} ({equality.samples} samples)"
    )


def _over_final(comparison: Comparison | None) -> list[str]:
    if comparison is None:
        return []
    return [f"cost        {ratio_words(comparison.ratio)} times {plain(comparison.base)}, in one run"]


def _dynamic(report: OnnxRuntimeReport) -> list[str]:
    form = report.dynamic
    if form is None:
        return []
    names = {"if": "one graph with If", "stages": "stages in sessions of their own"}
    return [
        f"form        {names[form.form]}: stages {microseconds(form.stages_us)} us, "
        f"If {microseconds(form.if_us)} us, ratio {ratio_words(form.stages_over_if)}"
    ]
