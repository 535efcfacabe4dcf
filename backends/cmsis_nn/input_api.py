"""How an application gives a network its input: in the arena, or row by row while the first region runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template

from qutec.backends.cmsis_nn.expressions import plus
from qutec.backends.cmsis_nn.row_calls import progress_count
from qutec.planner import Plan
from qutec.program import Port, Program, RowRegion
from qutec.program.row_layout import row_layout

__all__ = ["InputApi", "input_api", "streaming_bytes"]

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class InputApi:
    """Text for the templates of the network's header and source, and of the example."""

    usage: str
    """Lines of the example in the header's head."""
    types: str
    statuses: str
    """What follows the last status of every network."""
    context_fields: str
    context_init: str
    declarations: str
    definitions: str
    callback: str
    """A function of example/main.c."""
    sample: str
    """Statements of example/main.c that give the network its input."""


def input_api(
    program: Program,
    plan: Plan,
    prefix: str,
    invocations: list[str],
    take_row: str,
    sample_name: str = "sample_input",
) -> InputApi:
    """What a network has for its inputs, and `<prefix>_invoke`.

    `invocations` are the statements that run each call; `take_row` is the name of the function of the first
    call, which is given row after row where the input is streamed; `sample_name` begins the names of the
    example's arrays.
    """
    values = {"prefix": prefix, "PREFIX": prefix.upper(), "sample_name": sample_name}
    if program.input_rows is None:
        return _whole(program, plan, values, invocations)
    return _streamed(program, plan, values, invocations, take_row)


def streaming_bytes(program: Program) -> int:
    """What a streamed input adds to sizeof(<prefix>_context) on a 32-bit core."""
    region = program.calls[0]
    if program.input_rows is None or not isinstance(region, RowRegion):
        return 0
    return 8 + 4 * progress_count(region)


def _whole(program: Program, plan: Plan, values: dict[str, str], invocations: list[str]) -> InputApi:
    values |= {
        "input_offsets": _offsets(program.inputs, plan),
        "invocations": "\n".join(invocations),
    }
    prefix, upper, sample_name = values["prefix"], values["PREFIX"], values["sample_name"]
    return InputApi(
        usage=f" *     memcpy({prefix}_input(&context, 0), data, {upper}_INPUT_0_BYTES);",
        types="",
        statuses="           /* a kernel refused its arguments */",
        context_fields="",
        context_init="",
        declarations=_filled("whole_input.h.in", values),
        definitions=_filled("whole_input.c.in", values),
        callback="",
        sample="\n".join(
            f"    memcpy({prefix}_input(&context, {i}), {sample_name}_{i}, {upper}_INPUT_{i}_BYTES);"
            for i in range(len(program.inputs))
        ),
    )


def _streamed(
    program: Program, plan: Plan, values: dict[str, str], invocations: list[str], take_row: str
) -> InputApi:
    region, rows = program.calls[0], program.input_rows
    base = plan.scratch_offsets[0]
    assert isinstance(region, RowRegion)
    assert rows is not None
    assert base is not None
    layout = row_layout(region)
    held = layout.schedule.held[rows.output.buffer].rows
    values |= {
        "held_rows": str(held),
        "last_place": str(held - 1),
        "rows_place": plus("arena", base + layout.rows[rows.output.buffer]),
        "take_row": take_row,
        "progress_count": str(progress_count(region)),
        "invocations": "\n".join(invocations[1:]),
    }
    prefix = values["prefix"]
    return InputApi(
        usage=f" *     context.read_row = write_one_row;   (see {prefix}_row_callback)",
        types=_TYPES.substitute(values),
        statuses=_STATUSES.substitute(values),
        context_fields=_FIELDS.substitute(values),
        context_init=_INIT,
        declarations=_filled("streamed_input.h.in", values),
        definitions=_filled("streamed_input.c.in", values),
        callback=_CALLBACK.substitute(values),
        sample="    context.read_row = read_row;",
    )


_TYPES = Template("""
/* Writes row `row` (0 to ${PREFIX}_INPUT_0_ROWS - 1) of the input to `bytes`, ${PREFIX}_INPUT_0_ROW_BYTES
 * bytes in the memory order given above, and returns 0 when they are there. Anything else ends the
 * inference. */
typedef int32_t (*${prefix}_row_callback)(void *user, int32_t row, int8_t *bytes);
""")

_STATUSES = Template(""",          /* a kernel refused its arguments */
    ${PREFIX}_ERROR_INPUT = 6,           /* the callback that writes rows of the input returned an error */
    ${PREFIX}_NEEDS_ROW = 7              /* no error: the inference goes on with the next row */""")

_FIELDS = Template("""\
    ${prefix}_row_callback read_row;   /* NULL, or set by the application after ${prefix}_init */
    void *read_row_user;               /* passed to read_row */
    int32_t rows_done[${progress_count}];              /* how far the layers are between two rows; private */
""")

_INIT = """\
    context->read_row = NULL;
    context->read_row_user = NULL;
    memset(context->rows_done, 0, sizeof context->rows_done);
"""

_CALLBACK = Template("""\
/* Where a camera or a microphone would be read: a row of the sample. */
static int32_t read_row(void *user, int32_t row, int8_t *bytes)
{
    (void)user;
    memcpy(bytes, ${sample_name}_0 + row * ${PREFIX}_INPUT_0_ROW_BYTES, ${PREFIX}_INPUT_0_ROW_BYTES);
    return 0;
}

""")


def _offsets(ports: tuple[Port, ...], plan: Plan) -> str:
    return ", ".join(str(plan.offsets[port.tensor.buffer] + port.tensor.offset) for port in ports)


def _filled(template: str, values: dict[str, str]) -> str:
    return Template((_TEMPLATES / template).read_text(encoding="utf-8")).substitute(values)
