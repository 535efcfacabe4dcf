"""What a compile says of a network that does not fit: what is missing, what takes it, and what would help.

Nothing is suggested that was not tried: every remedy is a compile of its own, whose sizes are named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from qutec.errors import DoesNotFitError, UnsupportedModelError
from qutec.planner import Plan, explain_misfit
from qutec.program import Program
from qutec.report import Report

__all__ = ["Variant", "check_budgets"]

Variant = tuple[str, Callable[[], Report]]
"""Another way to compile the network, in the words of the command line, and what comes of it."""

_LISTED = 5


def check_budgets(
    report: Report, program: Program, plan: Plan, options: Iterable[Variant], boards: Iterable[Variant]
) -> None:
    """Raises DoesNotFitError where the network needs more than there is.

    Of `options` every one that makes it fit is named, of `boards` the first. A variant's budgets are those of
    its report.
    """
    lines = _sram(report, program, plan) or _flash(report)
    if lines:
        raise DoesNotFitError("\n".join([*lines, *_remedies(options, boards)]))


def _sram(report: Report, program: Program, plan: Plan) -> list[str]:
    budget = report.sram_budget_bytes
    if budget is None or report.sram_bytes <= budget:
        return []
    outside = report.sram_bytes - report.arena_bytes
    return [
        f"{report.sram_bytes:,} bytes of SRAM are needed and {budget:,} are there: "
        f"{report.sram_bytes - budget:,} are missing",
        explain_misfit(program, plan, max(budget - outside, 0)),
    ]


def _flash(report: Report) -> list[str]:
    budget = report.flash_budget_bytes
    if budget is None or report.flash_total_bytes <= budget:
        return []
    largest: Sequence[tuple[str, int]] = [(layer.name, layer.weights_bytes) for layer in report.layers]
    largest = sorted(largest, key=lambda layer: -layer[1])[:_LISTED]
    return [
        f"{report.flash_total_bytes:,} bytes of flash are needed and {budget:,} are "
        f"there: {report.flash_total_bytes - budget:,} are missing",
        f"most of it is the weights ({report.flash_bytes['weights']:,} bytes); the largest layers:",
        *(f"  {name}: {size:,} bytes" for name, size in largest),
    ]


def _remedies(options: Iterable[Variant], boards: Iterable[Variant]) -> list[str]:
    found = [*_fitting(options), *([first] if (first := next(_fitting(boards), None)) else [])]
    if not found:
        return ["No other option makes it fit, and none of the boards that `qutec targets` lists holds it."]
    return ["What would make it fit:", *(f"  {line}" for line in found)]


def _fitting(variants: Iterable[Variant]) -> Iterator[str]:
    for words, compiled in variants:
        try:
            report = compiled()
        except UnsupportedModelError:
            continue
        sram, flash = report.sram_budget_bytes, report.flash_budget_bytes
        fits = sram is None or report.sram_bytes <= sram
        if fits and (flash is None or report.flash_total_bytes <= flash):
            yield f"{words}: {report.sram_bytes:,} bytes of SRAM, {report.flash_total_bytes:,} of flash"
