"""Profiles with ONNX Runtime as HTML pages. Every name that comes from a model is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qutec.report.labels import escaped
from qutec.report.page import Fact, page, table
from qutec.report.profile_data import (
    BatchProfile,
    ExitCost,
    ModelProfile,
    OnnxRuntimeReport,
    OperatorTime,
    ProfileReport,
    SectionTime,
)
from qutec.report.profile_text import (
    bytes_words,
    measured_words,
    microseconds,
    percent,
    ratio_words,
    session_words,
)
from qutec.report.timeline import STYLE, colour_classes, timeline_svg
from qutec.report.trade_off import trade_off_svg

__all__ = ["profile_html", "report_html"]


def report_html(report: OnnxRuntimeReport) -> str:
    """The report of a build for ONNX Runtime."""
    latency, equality = report.latency_us, report.equality
    agreement = (
        "" if equality.top1_agreement is None else f"; same top-1 for {percent(equality.top1_agreement)}"
    )
    memory = report.profile.memory
    facts: list[Fact] = [
        (
            "median latency",
            f"{microseconds(latency.p50)} µs",
            f"p90 {microseconds(latency.p90)}, p99 {microseconds(latency.p99)}; {latency.runs} runs after "
            f"{latency.warmup}, on {report.data}",
        ),
        ("precision", report.precision, report.calibration),
        (
            "largest difference",
            f"{equality.largest_difference:.2g}",
            f"from the network before it was optimised, {equality.samples} samples{agreement}",
        ),
        ("model size", bytes_words(report.profile.model_bytes), f"{report.parameters:,} parameters"),
        (
            "peak memory",
            bytes_words(memory.peak_bytes),
            f"of a process; {bytes_words(memory.runtime_bytes)} before the model",
        ),
        ("multiply-accumulates", f"{report.macs:,}", ""),
    ]
    if report.over_final is not None:
        facts.append(
            (
                "cost of the answer",
                ratio_words(report.over_final.ratio),
                f"times {report.over_final.base}, in one run",
            )
        )
    if report.dynamic is not None:
        form = report.dynamic
        facts.append(
            (
                "form of the exits",
                "one graph with If" if form.form == "if" else "stages",
                f"stages {microseconds(form.stages_us)} µs, If {microseconds(form.if_us)} µs, "
                f"ratio {ratio_words(form.stages_over_if)}",
            )
        )
    facts.append(("session", session_words(report.session), f"onnxruntime {report.onnxruntime_version}"))
    facts.append(("machine", report.machine, ""))
    return page(
        f"{report.model['name']} on {report.target}",
        f"qutec {report.qutec_version}, model sha256 {report.model['sha256']}",
        report.warnings,
        facts,
        [f"<style>{STYLE}</style>", *_model(report.profile)],
    )


def profile_html(report: ProfileReport) -> str:
    """What `qutec profile` writes."""
    sections = [f"<style>{STYLE}</style>", "<h2>Models</h2>", _models(report)]
    for number, model in enumerate(report.models):
        sections.append(f"<h2>{escaped(model.name)}</h2>")
        sections += _model(model, f"-{number}")
    facts: list[Fact] = [
        ("session", session_words(report.session), f"onnxruntime {report.onnxruntime_version}"),
        ("machine", report.machine, ""),
        ("measured on", report.data, ""),
    ]
    title = " and ".join(model.name for model in report.models)
    return page(f"Profile of {title}", f"qutec {report.qutec_version}", report.warnings, facts, sections)


def _models(report: ProfileReport) -> str:
    ratios = {(item.name, item.batch): ratio_words(item.ratio) for item in report.comparisons}
    base = report.models[0].name
    rows = [
        (
            escaped(model.name),
            escaped(ratios.get((model.name, item.batch), "1" if model.name == base else "-")),
            str(item.batch),
            microseconds(item.latency_us.p50),
            microseconds(item.latency_us.p90),
            microseconds(item.latency_us.p99),
            f"{model.model_bytes:,}",
            f"{model.memory.peak_bytes:,}",
        )
        for model in report.models
        for item in model.batches
    ]
    heads = ("model", f"over {base}", "batch", "p50 µs", "p90 µs", "p99 µs", "bytes", "peak memory, bytes")
    return table(heads, rows, name="models")


def _model(model: ModelProfile, suffix: str = "") -> Iterable[str]:
    if len(model.batches) > 1:
        yield "<h2>Batches</h2>"
        yield _batches(model.batches, f"batches{suffix}")
    for profile in model.batches:
        several = len(model.batches) > 1
        words = f" of batch {profile.batch}" if several else ""
        tail = suffix + (f"-batch-{profile.batch}" if several else "")
        yield from _batch(profile, words, tail)


def _batch(profile: BatchProfile, words: str, tail: str) -> Iterable[str]:
    operators = [item.op for item in profile.operators]
    classes = colour_classes(operators)
    yield f"<h2>Nodes over time{words}</h2>"
    yield timeline_svg(profile.nodes, operators)
    yield f'<p class="soft">{escaped(measured_words(profile, "µs"))}</p>'
    if profile.exits:
        yield f"<h2>Exits{words}</h2>"
        yield trade_off_svg(profile.exits)
        yield _exits(profile.exits, f"exits{tail}")
    yield f"<h2>Operators{words}</h2>"
    yield _bars(
        "operator", [(item.op, classes[item.op], item) for item in profile.operators], f"operators{tail}"
    )
    if len(profile.sections) > 1:
        yield f"<h2>Parts of the network{words}</h2>"
        yield _bars("part", [(item.name, "op-7", item) for item in profile.sections], f"sections{tail}")
    yield f"<h2>Nodes{words}</h2>"
    rows = (
        (escaped(n.name), escaped(n.op), escaped(n.section), microseconds(n.us), percent(n.share))
        for n in profile.nodes
    )
    yield table(("node", "operator", "part", "µs", "share"), rows, texts=3, name=f"nodes{tail}")


def _bars(head: str, items: Sequence[tuple[str, str, OperatorTime | SectionTime]], name: str) -> str:
    """A row with a bar for each item; bars are to scale with the largest."""
    largest = max((item.share for _, _, item in items), default=0.0) or 1.0
    rows = (
        (
            f'<span class="key {colour}"></span>{escaped(label)}',
            f'<div class="bar {colour}" style="width:{100 * item.share / largest:.1f}%"></div>',
            str(item.nodes),
            microseconds(item.us),
            percent(item.share),
        )
        for label, colour, item in items
    )
    text = table((head, "", "nodes", "µs", "share"), rows, texts=2, name=name)
    return text.replace("<th></th>", '<th class="bars"></th>', 1)


def _exits(exits: Sequence[ExitCost], name: str) -> str:
    rows = (
        (
            escaped(item.name),
            microseconds(item.us),
            microseconds(item.own_us),
            percent(item.accuracy),
            percent(item.share),
        )
        for item in exits
    )
    return table(("exit", "µs", "µs of its own", "accuracy", "taken"), rows, name=name)


def _batches(batches: Sequence[BatchProfile], name: str) -> str:
    rows = (
        (
            str(item.batch),
            microseconds(item.latency_us.p50 / item.batch),
            microseconds(item.latency_us.p50),
            microseconds(item.latency_us.p90),
            microseconds(item.latency_us.p99),
        )
        for item in batches
    )
    return table(("batch", "µs of a sample, median", "p50 µs", "p90 µs", "p99 µs"), rows, name=name)
