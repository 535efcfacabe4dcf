"""The report for a terminal."""

from __future__ import annotations

from qutec.report.data import KernelReport, LayerReport, Report

__all__ = ["budget_words", "report_text", "sram_with_arm"]

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
        f"{budget_words(report.sram_bytes, report.sram_budget_bytes)}",
        *sram_with_arm(report.sram_bytes, report.sram_arm_bytes, report.sram_budget_bytes),
        *_shared(report),
        f"flash       {report.flash_total_bytes:,} bytes  "
        f"({report.flash_bytes['weights']:,} weights and constants, "
        f"about {report.flash_bytes['code']:,} code for {report.optimize})"
        f"{budget_words(report.flash_total_bytes, report.flash_budget_bytes)}",
        *_uncertainty(report),
        "",
        *_dynamic_exits(report),
        *_table(report),
        *_regions(report),
        *_kernels(report),
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
        return f"(proven: no {report.arena_proof_scope} needs less)"
    gap = report.arena_bytes / report.arena_lower_bound_bytes - 1
    return f"(lower bound {report.arena_lower_bound_bytes:,}; at most {gap:.1%} above the smallest)"


def _techniques(report: Report) -> str:
    """The arena with one technique after the other; * where that is proven to be the smallest."""
    found = (f"{t.name} {t.arena_bytes:,}{'*' if t.optimal else ''}" for t in report.arena_techniques)
    return f"{', '.join(found)}   (* proven smallest)"


def budget_words(used: int, budget: int | None) -> str:
    """How much of what there is, where that is known."""
    return "" if budget is None else f"  {used / budget:.0%} of {budget:,}"


def sram_with_arm(bundled: int, arm: int, budget: int | None) -> list[str]:
    """A line on the SRAM with Arm's library, where its scratch or its stack makes a difference."""
    if arm == bundled:
        return []
    missing = f", {arm - budget:,} more than there are" if budget is not None and arm > budget else ""
    return [f"            {arm:,} bytes with Arm's library, whose scratch and stack differ{missing}"]


def _shared(report: Report) -> list[str]:
    shared = report.shared_arena
    if shared is None:
        return []
    return [f"            in turn with {', '.join(shared.others)}: an arena of {shared.arena_bytes:,} bytes"]


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
    columns = f"{'kernel':<16}{'output':>12}{'MACs':>12}{'weights':>10}{'code':>6}{'live':>9}"
    return [f"{'layer':<27}{columns}", *(_row(layer, widest) for layer in report.layers)]


def _regions(report: Report) -> list[str]:
    """What runs row by row, and what is held of each map then."""
    lines = []
    for region in report.regions:
        held = max((part.offset + part.bytes for part in region.parts if part.offset is not None), default=0)
        first = min((part.offset for part in region.parts if part.offset is not None), default=0)
        lines += [
            "",
            f"{len(region.layers)} layers row by row, in {held - first:,} bytes between input and output",
        ]
        for part in region.parts:
            kept = part.kind
            if part.kind == "rows":
                kept = f"{part.rows_held} of {part.rows} rows"
            lines.append(f"{_printable(part.layer):<34}{kept:<16}{part.bytes:>12,}")
    return lines


def _kernels(report: Report) -> list[str]:
    """Code that layers share, the largest first."""
    if not report.kernels:
        return []
    own = sum(layer.code_bytes for layer in report.layers)
    shared = sum(kernel.bytes for kernel in report.kernels)
    lines = [
        "",
        f"code        about {shared:,} bytes once, for the layers below, and {own:,} of the layers' own",
        f"{'once':<46}{'code':>6}  for",
    ]
    return lines + [_kernel_row(report, kernel) for kernel in report.kernels]


def _kernel_row(report: Report, kernel: KernelReport) -> str:
    users = report.users(kernel)
    if len(users) > _WIDTH - 54:
        users = users[: _WIDTH - 58] + " ..."
    return f"{kernel.file:<46}{kernel.bytes:>6,}  {users}"


def _printable(name: str, width: int = 32) -> str:
    """At most `width` characters of a name, none that a terminal would obey."""
    short = name if len(name) <= width else "..." + name[3 - width :]
    return "".join(c if c.isprintable() else "?" for c in short)


def _row(layer: LayerReport, widest: int) -> str:
    name = _printable(layer.name, 25)
    shape = "x".join(map(str, layer.output_shape[1:]))
    bar = "#" * round(6 * layer.arena_live_bytes / widest) if widest else ""
    peak = "<" if layer.arena_live_bytes == widest else ""
    return (
        f"{name:<27}{layer.kernel:<16}{shape:>12}{layer.macs:>12,}{layer.weights_bytes:>10,}"
        f"{layer.code_bytes:>6,}{layer.arena_live_bytes:>9,} {bar}{peak}"
    )
