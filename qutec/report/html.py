"""The report of a build for Cortex-M as an HTML page."""

from __future__ import annotations

from html import escape

from qutec.planner import Plan
from qutec.report.arena_map import arena_svg
from qutec.report.data import Report
from qutec.report.page import page, table

__all__ = ["report_html"]


def report_html(report: Report, plan: Plan) -> str:
    """The page. Every name that comes from the model is escaped."""
    model = report.model
    facts = [
        ("arena", f"{report.arena_bytes:,} bytes", _proof(report)),
        ("SRAM", f"{report.sram_bytes:,} bytes", _budget(report.sram_bytes, report.sram_budget_bytes)),
        (
            "flash",
            f"{report.flash_total_bytes:,} bytes",
            f"{report.flash_bytes['weights']:,} weights, about {report.flash_bytes['code']:,} code"
            + _budget(report.flash_total_bytes, report.flash_budget_bytes, "; "),
        ),
        ("multiply-accumulates", f"{report.macs:,}", f"{report.parameters:,} parameters"),
        *_streamed(report),
        ("outputs", ", ".join(str(port["name"]) for port in report.outputs), ""),
        ("int8 parameters", report.calibration, ""),
    ]
    names = [layer.name for layer in report.layers]
    rows = (
        (
            escape(layer.name),
            escape(layer.kernel),
            _shape(layer.input_shape),
            _shape(layer.output_shape),
            f"{layer.macs:,}",
            f"{layer.weights_bytes:,}",
            f"{layer.arena_live_bytes:,}",
        )
        for layer in report.layers
    )
    return page(
        f"{model['name']} on {report.target}",
        f"qutec {report.qutec_version}, model sha256 {model['sha256']}",
        report.warnings,
        facts,
        [
            "<h2>Arena over time</h2>",
            arena_svg(plan, names),
            *_techniques(report),
            "<h2>Layers</h2>",
            table(("layer", "kernel", "input", "output", "MACs", "weights", "live bytes"), rows, texts=2),
        ],
    )


def _streamed(report: Report) -> list[tuple[str, str, str]]:
    """The input, where it is handed in row by row."""
    return [
        (
            f"input {port['name']}",
            f"{port['rows']} rows of {port['row_bytes']} bytes",
            "streamed: not in the arena",
        )
        for port in report.inputs
        if port.get("streamed")
    ]


def _shape(shape: tuple[int, ...]) -> str:
    return "&times;".join(map(str, shape[1:]))


def _techniques(report: Report) -> list[str]:
    """A table of the arena with one technique of the planner after the other."""
    if not report.arena_techniques:
        return []
    most = max(t.arena_bytes for t in report.arena_techniques)
    return [
        "<h2>What each technique saves</h2>",
        '<div class="scroll"><table><thead><tr><th>technique</th><th>proven smallest</th><th>arena bytes</th>'
        "<th>saved</th></tr></thead><tbody>",
        *(
            f"<tr><td>{escape(t.name)}</td><td>{'yes' if t.optimal else 'no'}</td>"
            f"<td>{t.arena_bytes:,}</td><td>{1 - t.arena_bytes / max(most, 1):.0%}</td></tr>"
            for t in report.arena_techniques
        ),
        "</tbody></table></div>",
    ]


def _proof(report: Report) -> str:
    if report.arena_optimal:
        return "proven: no order of layers and no placement needs less"
    return f"lower bound {report.arena_lower_bound_bytes:,} bytes"


def _budget(used: int, budget: int | None, lead: str = "") -> str:
    return "" if budget is None else f"{lead}{used / budget:.0%} of {budget:,}"
