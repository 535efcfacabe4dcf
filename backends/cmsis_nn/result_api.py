"""The typed C access to the answer of a network whose heads are merged, and its exits at run time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template

from qutec.backends.cmsis_nn.input_api import streaming_bytes
from qutec.planner import Plan
from qutec.program import ExitCheck, HeadUncertainty, Program

__all__ = ["ResultApi", "context_bytes", "exit_lines", "result_api"]

_TEMPLATES = Path(__file__).parent / "templates"

_CONTEXT_BYTES = 12
"""sizeof(<prefix>_context) on a 32-bit core, without what a streamed input and thresholds add."""


@dataclass(frozen=True)
class ResultApi:
    """Text for the templates of the network's header and source; all empty for a network without heads."""

    macros: str = ""
    context_fields: str = ""
    context_init: str = ""
    declarations: str = ""
    definitions: str = ""


def result_api(program: Program, plan: Plan, prefix: str) -> ResultApi:
    """What `<prefix>_get_result` and the exit thresholds add to a network."""
    macros, fields, init = _exit_thresholds(program, prefix.upper())
    calls = [call for call in program.calls if isinstance(call, HeadUncertainty)]
    if len({call.output for call in calls}) != 1:
        return ResultApi(macros, fields, init)
    call = calls[0]
    upper = prefix.upper()
    exits = bool(macros)
    values = {
        "prefix": prefix,
        "PREFIX": upper,
        "classes": str(call.classes),
        "abstain": f"{call.abstain_below / 2**30:g}",
        "offset": str(plan.offsets[call.output.buffer] + call.output.offset),
        "exit_field": _EXIT_FIELD if exits else "",
        "exit_copy": f"    result->exit = values[{upper}_CLASS_COUNT + 5];\n" if exits else "",
    }
    declarations, definitions = _filled("result.h.in", values), _filled("result.c.in", values)
    return ResultApi(macros, fields, init, declarations, definitions)


def context_bytes(program: Program) -> int:
    """sizeof(<prefix>_context) on a 32-bit core."""
    return _CONTEXT_BYTES + streaming_bytes(program) + 4 * len(_thresholds(program))


def exit_lines(prefix: str, call: ExitCheck, plan: Plan) -> list[str]:
    """The end of an inference whose exit is sure enough, in `<prefix>_invoke`."""
    offset = plan.offsets[call.input.buffer] + call.input.offset
    confidence = f"*(const int32_t *)(const void *)(arena + {offset})"
    return [
        f"    if ({confidence} >= context->exit_threshold[{call.number}])",
        "    {",
        f"        return {prefix.upper()}_OK;",
        "    }",
    ]


_EXIT_FIELD = "    int32_t exit;                 /* number of the exit that was taken, the first is 0 */\n"

_EXIT_THRESHOLDS = Template(
    "    /* Exit k is taken where its confidence, 30 fractional bits, is at least this. Set by init to what\n"
    "     * was compiled for; the application may change it: INT32_MAX never takes the exit, 0 always. */\n"
    "    int32_t exit_threshold[${PREFIX}_EXIT_COUNT - 1];\n"
)


def _exit_thresholds(program: Program, upper: str) -> tuple[str, str, str]:
    """(macros, fields of the context, statements that set them); empty for a network that does not stop."""
    thresholds = _thresholds(program)
    if not thresholds:
        return "", "", ""
    init = "".join(
        f"    context->exit_threshold[{k}] = {value}; /* {value / 2**30:g} */\n"
        for k, value in enumerate(thresholds)
    )
    macros = f"#define {upper}_EXIT_COUNT {len(thresholds) + 1}\n\n"
    return macros, _EXIT_THRESHOLDS.substitute(PREFIX=upper), init


def _thresholds(program: Program) -> list[int]:
    """Of all exits but the last, in the order in which they are reached."""
    checks = [call for call in program.calls if isinstance(call, ExitCheck)]
    return [call.threshold for call in checks if call.threshold is not None]


def _filled(template: str, values: dict[str, str]) -> str:
    return Template((_TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)
