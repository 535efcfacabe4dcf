"""The report for a terminal."""

from __future__ import annotations

from qutec.report.data import LayerReport, Report

__all__ = ["report_text"]

_WIDTH = 100


def report_text(report: Report) -> str:
    """The report in at most 100 columns, with a bar of live bytes for each layer; ends with a newline."""
    model = report.model
    lines = [
        f"{model['name']} -> {report.target}   (qutec {report.qutec_version}, sha256 {model['sha256'][:12]})",
        "",
        *(f"WARNING  {warning}" for warning in report.warnings),
        *([""] if report.warnings else []),
        *_members(report),
        f"inputs      {_ports(report.inputs)}",
        f"outputs     {_ports(report.outputs)}",
        f"parameters  {report.parameters:,}",
        f"MACs        {report.macs:,}",
        f"int8        {report.calibration}",
        "",
        f"arena       {report.arena_bytes:,} bytes  {_proof(report)}",
        f"            {_techniques(report)}",
        f"SRAM        {report.sram_bytes:,} bytes  "
        f"(arena, context, about {report.stack_estimate_bytes:,} of stack)"
        f"{_budget(report.sram_bytes, report.sram_budget_bytes)}",
        f"flash       {report.flash_total_bytes:,} bytes  "
        f"({report.flash_bytes['weights']:,} weights and constants, "
        f"about {report.flash_bytes['code']:,} code)"
        f"{_budget(report.flash_total_bytes, report.flash_budget_bytes)}",
        *_uncertainty(report),
        "",
        *_dynamic_exits(report),
        *_table(report),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _members(report: Report) -> list[str]:
    return [f"ensemble    {', '.join(member['name'] for member in report.members)}"] if report.members else []


def _uncertainty(report: Report) -> list[str]:
    """What the answer's uncertainty costs besides the network's final exit alone."""
    more = report.uncertainty_overhead
    if more is None:
        return []
    return [
        f"heads       {more['macs']:+,} MACs, {more['arena_bytes']:+,} bytes of arena, about "
        f"{more['flash_bytes']:+,} of flash, against the final exit alone"
    ]


def _ports(ports: tuple[dict[str, object], ...]) -> str:
    return ", ".join(f"{port['name']} {_shape(port['shape'])}{_rows(port)}" for port in ports)


def _rows(port: dict[str, object]) -> str:
    """How a streamed input comes."""
    if not port.get("streamed"):
        return ""
    return f" (streamed: {port['rows']} rows of {port['row_bytes']} bytes, not in the arena)"


def _shape(shape: object) -> str:
    assert isinstance(shape, list | tuple)
    return "x".join(map(str, shape)) or "scalar"


def _proof(report: Report) -> str:
    if report.arena_optimal:
        return "(proven: no order and placement needs less)"
    gap = report.arena_bytes / report.arena_lower_bound_bytes - 1
    return f"(lower bound {report.arena_lower_bound_bytes:,}; at most {gap:.1%} above the optimum)"


def _techniques(report: Report) -> str:
    """The arena with one technique after the other; * where that is proven to be the smallest."""
    found = (f"{t.name} {t.arena_bytes:,}{'*' if t.optimal else ''}" for t in report.arena_techniques)
    return f"{', '.join(found)}   (* proven)"


def _budget(used: int, budget: int | None) -> str:
    return "" if budget is None else f"  {used / budget:.0%} of {budget:,}"


def _dynamic_exits(report: Report) -> list[str]:
    """One line for each exit at which an inference may end."""
    if not report.dynamic_exits:
        return []
    lines = [f"{'inference ends at':<34}{'confidence':>16}{'layers':>12}{'MACs':>12}{'of all':>10}"]
    worst = max(report.dynamic_exits[-1].macs, 1)
    for item in report.dynamic_exits:
        level = f">= {item.threshold:.4g}" if item.threshold is not None else "any"
        cost = f"{item.layers:>12}{item.macs:>12,}{item.macs / worst:>10.1%}"
        lines.append(f"{_printable(item.name):<34}{level:>16}{cost}")
    return [*lines, ""]


def _table(report: Report) -> list[str]:
    widest = max((layer.arena_live_bytes for layer in report.layers), default=0)
    lines = [f"{'layer':<34}{'kernel':<16}{'output':>12}{'MACs':>12}{'weights':>10}{'live':>9}"]
    return lines + [_row(layer, widest) for layer in report.layers]


def _printable(name: str) -> str:
    """At most 32 characters of a name, none that a terminal would obey."""
    short = name if len(name) <= 32 else "..." + name[-29:]
    return "".join(c if c.isprintable() else "?" for c in short)


def _row(layer: LayerReport, widest: int) -> str:
    name = _printable(layer.name)
    shape = "x".join(map(str, layer.output_shape[1:]))
    bar = "#" * round(6 * layer.arena_live_bytes / widest) if widest else ""
    peak = "<" if layer.arena_live_bytes == widest else ""
    return (
        f"{name:<34}{layer.kernel:<16}{shape:>12}{layer.macs:>12,}{layer.weights_bytes:>10,}"
        f"{layer.arena_live_bytes:>9,} {bar}{peak}"
    )
