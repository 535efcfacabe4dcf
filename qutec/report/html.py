"""The report of a build for Cortex-M as an HTML page."""

from __future__ import annotations

from html import escape

from qutec.planner import Plan
from qutec.report.arena_map import arena_svg
from qutec.report.data import Report
from qutec.report.page import bar, page, table

__all__ = ["arena_proof", "regions_table", "report_html", "techniques_table"]


def report_html(report: Report, plan: Plan) -> str:
    """The page. Every name that comes from the model is escaped."""
    model = report.model
    facts = [
        ("arena", f"{report.arena_bytes:,} bytes", arena_proof(report)),
        (
            "SRAM",
            f"{report.sram_bytes:,} bytes",
            f"{report.sram_arm_bytes:,} with Arm's library"
            + _budget(report.sram_bytes, report.sram_budget_bytes, "; "),
        ),
        (
            "flash",
            f"{report.flash_total_bytes:,} bytes",
            f"{report.flash_bytes['weights']:,} weights, "
            f"about {report.flash_bytes['code']:,} code for {report.optimize}"
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
            bar(layer.arena_live_bytes, report.arena_bytes),
            f"{layer.macs:,}",
            f"{layer.weights_bytes:,}",
            f"{layer.code_bytes:,}",
            _shape(layer.input_shape),
            _shape(layer.output_shape),
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
            arena_svg(plan, names, regions=report.regions),
            *regions_table(report),
            *techniques_table(report),
            "<h2>Layers</h2>",
            table(
                ("layer", "kernel", "live bytes", "MACs", "weights", "code", "input", "output"), rows, texts=2
            ),
            *_kernels(report),
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


def _kernels(report: Report) -> list[str]:
    """A table of the code that is there once for several layers."""
    rows = ((escape(k.file), escape(report.users(k)), f"{k.bytes:,}") for k in report.kernels)
    return ["<h2>Code that layers share</h2>", table(("file", "for", "bytes"), rows, texts=2)]


def regions_table(report: Report) -> list[str]:
    """What is held inside each region, where there are any."""
    parts = []
    for region in report.regions:
        rows = (
            (
                escape(part.layer),
                escape(part.kind),
                "" if part.rows_held is None else f"{part.rows_held} of {part.rows}",
                f"{part.bytes:,}",
                "" if part.offset is None else f"{part.offset:,}",
            )
            for part in region.parts
        )
        parts += [
            f"<h2>Row by row: {len(region.layers)} layers in call {region.layer}</h2>",
            table(("layer", "holds", "rows", "bytes", "at byte"), rows, texts=2),
        ]
    return parts


def techniques_table(report: Report) -> list[str]:
    """A table of the arena with one technique of the planner after the other."""
    if not report.arena_techniques:
        return []
    most = max(t.arena_bytes for t in report.arena_techniques)
    before = (most, *(t.arena_bytes for t in report.arena_techniques))
    rows = (
        (
            escape(t.name),
            "yes" if t.optimal else "no",
            f"{t.arena_bytes:,}",
            f"{earlier - t.arena_bytes:,}",
            f"{1 - t.arena_bytes / max(most, 1):.0%}",
        )
        for earlier, t in zip(before, report.arena_techniques, strict=False)
    )
    heads = ("technique", "proven smallest", "arena bytes", "saved by it", "saved in all")
    return ["<h2>What each technique saves</h2>", table(heads, rows)]


def arena_proof(report: Report) -> str:
    """What is known of the arena's size, in words."""
    if report.arena_optimal:
        return f"proven: no {report.arena_proof_scope} needs less"
    return f"lower bound {report.arena_lower_bound_bytes:,} bytes, over every {report.arena_proof_scope}"


def _budget(used: int, budget: int | None, lead: str = "") -> str:
    return "" if budget is None else f"{lead}{used / budget:.0%} of {budget:,}"
