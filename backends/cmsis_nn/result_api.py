"""The typed C access to the answer of a network whose heads are merged."""

from __future__ import annotations

from pathlib import Path
from string import Template

from qutec.planner import Plan
from qutec.program import HeadUncertainty, Program

__all__ = ["result_api"]

_TEMPLATES = Path(__file__).parent / "templates"


def result_api(program: Program, plan: Plan, prefix: str) -> tuple[str, str]:
    """(declarations for the header, definitions for the source); empty for a network without heads."""
    calls = [call for call in program.calls if isinstance(call, HeadUncertainty)]
    if len(calls) != 1:
        return "", ""
    call = calls[0]
    values = {
        "prefix": prefix,
        "PREFIX": prefix.upper(),
        "classes": str(call.classes),
        "abstain": f"{call.abstain_below / 2**30:g}",
        "offset": str(plan.offsets[call.output.buffer] + call.output.offset),
    }
    return _filled("result.h.in", values), _filled("result.c.in", values)


def _filled(template: str, values: dict[str, str]) -> str:
    return Template((_TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)
