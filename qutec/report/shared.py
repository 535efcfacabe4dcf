"""The report of several networks that run in turn in one arena: one total, and what each of them needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from qutec.planner import Plan
from qutec.report.arena_map import arena_svg
from qutec.report.data import SCHEMA_VERSION, Report
from qutec.report.html import arena_proof, regions_table, techniques_table
from qutec.report.labels import plain
from qutec.report.page import page, table
from qutec.report.text import budget_words, sram_with_arm

__all__ = ["SharedReport", "shared_report_html", "shared_report_text"]


@dataclass(frozen=True)
class SharedReport:
    """Totals of a program that holds all the networks; sizes in bytes.

    The arena is that of the largest; every network has its context, and the stack is that of the deepest,
    since one runs at a time. Flash has each kernel once, whoever calls it.
    """

    name: str
    """Of the project; its arena is the symbol `<name>_arena`."""
    qutec_version: str
    command: str
    target: str
    core: str
    arena_bytes: int
    arena_arm_bytes: int
    context_bytes: int
    stack_estimate_bytes: int
    stack_estimate_arm_bytes: int
    sram_budget_bytes: int | None
    flash_bytes: dict[str, int]
    flash_budget_bytes: int | None
    networks: tuple[Report, ...]
    """Each as if it were alone, in the order in which they were given."""

    @property
    def sram_bytes(self) -> int:
        """Arena, contexts and stack, with the bundled kernels."""
        return self.arena_bytes + self.context_bytes + self.stack_estimate_bytes

    @property
    def sram_arm_bytes(self) -> int:
        """The same with Arm's library."""
        return self.arena_arm_bytes + self.context_bytes + self.stack_estimate_arm_bytes

    @property
    def flash_total_bytes(self) -> int:
        """Weights and code together."""
        return sum(self.flash_bytes.values())

    @property
    def saved_sram_bytes(self) -> int:
        """What arenas of their own would take more."""
        return sum(network.arena_bytes for network in self.networks) - self.arena_bytes

    @property
    def saved_flash_bytes(self) -> int:
        """Code that projects of their own would have several times."""
        return sum(network.flash_bytes["code"] for network in self.networks) - self.flash_bytes["code"]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the networks, each with its name."""
        return tuple(f"{one.symbol_prefix}: {text}" for one in self.networks for text in one.warnings)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; fields may be added in later versions, never renamed."""
        return {
            "schema_version": SCHEMA_VERSION,
            "qutec_version": self.qutec_version,
            "command": self.command,
            "symbol_prefix": self.name,
            "target": self.target,
            "core": self.core,
            "arena_bytes": self.arena_bytes,
            "arena_arm_bytes": self.arena_arm_bytes,
            "context_bytes": self.context_bytes,
            "stack_estimate_bytes": self.stack_estimate_bytes,
            "stack_estimate_arm_bytes": self.stack_estimate_arm_bytes,
            "sram_bytes": self.sram_bytes,
            "sram_arm_bytes": self.sram_arm_bytes,
            "sram_budget_bytes": self.sram_budget_bytes,
            "flash_bytes": self.flash_bytes,
            "flash_budget_bytes": self.flash_budget_bytes,
            "saved_sram_bytes": self.saved_sram_bytes,
            "saved_flash_bytes": self.saved_flash_bytes,
            "warnings": list(self.warnings),
            "networks": [network.to_json() for network in self.networks],
        }


def shared_report_text(report: SharedReport) -> str:
    """The report for a terminal, at most 100 columns wide but for names; ends with a newline."""
    largest = max(report.networks, key=lambda network: network.arena_bytes)
    count = len(report.networks)
    code, weights = report.flash_bytes["code"], report.flash_bytes["weights"]
    head = f"{'network':<26}{'arena':>10}{'':>2}{'stack':>8}{'weights':>11}{'MACs':>14}{'layers':>8}"
    lines = [
        f"{report.name} -> {report.target}   (qutec {report.qutec_version})",
        "",
        f"{count} networks that run in turn",
        "",
        *(f"WARNING  {warning}" for warning in report.warnings),
        *([""] if report.warnings else []),
        f"arena       {report.arena_bytes:,} bytes  (that of {largest.symbol_prefix}; shared, it saves "
        f"{report.saved_sram_bytes:,})",
        f"SRAM        {report.sram_bytes:,} bytes  (arena, {count} contexts, about "
        f"{report.stack_estimate_bytes:,} of stack)"
        + budget_words(report.sram_bytes, report.sram_budget_bytes),
        *sram_with_arm(report.sram_bytes, report.sram_arm_bytes, report.sram_budget_bytes),
        f"flash       {report.flash_total_bytes:,} bytes  ({weights:,} weights and constants, about {code:,} "
        "code)" + budget_words(report.flash_total_bytes, report.flash_budget_bytes),
        f"            each kernel once: projects of their own have {report.saved_flash_bytes:,} bytes more",
        "",
        head,
        *(_row(network) for network in report.networks),
        "",
        "* proven smallest.  One network in full: qutec report FOLDER --network NAME",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _row(network: Report) -> str:
    mark = "*" if network.arena_optimal else ""
    return (
        f"{plain(network.symbol_prefix):<26}{network.arena_bytes:>10,}{mark:<2}"
        f"{network.stack_estimate_bytes:>8,}{network.flash_bytes['weights']:>11,}{network.macs:>14,}"
        f"{len(network.layers):>8}"
    )


def shared_report_html(report: SharedReport, plans: Mapping[str, Plan]) -> str:
    """The page, with the arena over time of each network (`plans` by prefix) to one scale."""
    count = len(report.networks)
    facts = [
        ("shared arena", f"{report.arena_bytes:,} bytes", f"{report.saved_sram_bytes:,} bytes saved"),
        (
            "SRAM",
            f"{report.sram_bytes:,} bytes",
            f"arena, {count} contexts, stack{budget_words(report.sram_bytes, report.sram_budget_bytes)}; "
            f"{report.sram_arm_bytes:,} with Arm's library",
        ),
        (
            "flash",
            f"{report.flash_total_bytes:,} bytes",
            f"{report.flash_bytes['weights']:,} weights, about {report.flash_bytes['code']:,} code, kernels "
            "once" + budget_words(report.flash_total_bytes, report.flash_budget_bytes),
        ),
    ]
    heads = ("network", "arena", "stack", "weights", "MACs", "layers", "arena proven smallest")
    rows = (
        (
            escape(network.symbol_prefix),
            f"{network.arena_bytes:,}",
            f"{network.stack_estimate_bytes:,}",
            f"{network.flash_bytes['weights']:,}",
            f"{network.macs:,}",
            str(len(network.layers)),
            "yes" if network.arena_optimal else "no",
        )
        for network in report.networks
    )
    sections = ["<h2>Networks</h2>", table(heads, rows)]
    for network in report.networks:
        sections += _network_sections(network, plans[network.symbol_prefix], report.arena_bytes)
    return page(
        f"{report.name} on {report.target}",
        f"qutec {report.qutec_version}, {count} networks that run in turn in one arena",
        report.warnings,
        facts,
        sections,
    )


def _network_sections(network: Report, plan: Plan, scale_bytes: int) -> Sequence[str]:
    return [
        f"<h2>{escape(network.symbol_prefix)}: arena over time</h2>",
        f'<p class="soft">{network.arena_bytes:,} bytes, {escape(arena_proof(network))}</p>',
        arena_svg(
            plan,
            [layer.name for layer in network.layers],
            scale_bytes=scale_bytes,
            regions=network.regions,
        ),
        *regions_table(network),
        *techniques_table(network),
    ]
