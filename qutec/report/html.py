"""The report as one self-contained HTML page: no script, no network, light and dark, prints well."""

from __future__ import annotations

from html import escape

from qutec.planner import Plan
from qutec.report.arena_map import arena_svg
from qutec.report.data import Report

__all__ = ["report_html"]

_STYLE = """
:root { color-scheme: light dark;
  --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --page: #fff; --warn: #9a3412 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --page: #0d1117; --warn: #fdba74 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 1200px; margin: 0 auto; padding: 1.5rem 1rem }
h1 { font-size: 1.4rem; margin: 0 0 .25rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
.soft { color: var(--soft); overflow-wrap: anywhere } .warn { color: var(--warn); font-weight: 600 }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .75rem 1.5rem }
dt { color: var(--soft); font-size: .85rem } dd { margin: 0; font-size: 1.15rem;
  font-variant-numeric: tabular-nums }
dd small { display: block; color: var(--soft); font-size: .8rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric:
  tabular-nums }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left; max-width: 24rem; overflow: hidden;
  text-overflow: ellipsis }
th:nth-child(2), td:nth-child(2) { text-align: left }
svg { max-width: 100%; height: auto }
"""


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
        ("outputs", ", ".join(str(port["name"]) for port in report.outputs), ""),
        ("int8 parameters", report.calibration, ""),
    ]
    names = [layer.name for layer in report.layers]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(model['name'])} on {escape(report.target)}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{escape(model['name'])} on {escape(report.target)}</h1>",
        f'<p class="soft">qutec {escape(report.qutec_version)}, model sha256 {escape(model["sha256"])}</p>',
        *(f'<p class="warn">{escape(warning)}</p>' for warning in report.warnings),
        "<dl>",
        *(
            f"<div><dt>{escape(term)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
            for term, value, note in facts
        ),
        "</dl>",
        "<h2>Arena over time</h2>",
        arena_svg(plan, names),
        *_techniques(report),
        "<h2>Layers</h2>",
        '<div class="scroll"><table><thead><tr><th>layer</th><th>kernel</th><th>input</th><th>output</th>'
        "<th>MACs</th><th>weights</th><th>live bytes</th></tr></thead><tbody>",
        *(
            f"<tr><td>{escape(layer.name)}</td><td>{escape(layer.kernel)}</td>"
            f"<td>{_shape(layer.input_shape)}</td><td>{_shape(layer.output_shape)}</td>"
            f"<td>{layer.macs:,}</td><td>{layer.weights_bytes:,}</td><td>{layer.arena_live_bytes:,}</td></tr>"
            for layer in report.layers
        ),
        "</tbody></table></div></body></html>",
    ]
    return "\n".join(parts) + "\n"


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
