"""The emitted project: every file of build/<net>/ but the reports, as text by relative path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
import numpy.typing as npt

from qutec.backends.cmsis_nn.calls import CallWriter, ScratchCheck
from qutec.backends.cmsis_nn.const_data import ConstData
from qutec.backends.cmsis_nn.kernel_index import KERNEL_DIRECTORY, kernel_files, own_sources
from qutec.backends.cmsis_nn.result_api import exit_lines, result_api
from qutec.backends.cmsis_nn.text import array_rows, c_float, c_string, comment
from qutec.planner import Plan
from qutec.program import ExitCheck, Int8Array, Port, Program
from qutec.targets import Core

__all__ = ["EmittedProject", "Provenance", "emit_project"]

_TEMPLATES = Path(__file__).parent / "templates"
_QUTE_CALL = re.compile(r"\bqute_\w+\(")


@dataclass(frozen=True)
class Provenance:
    """What the head of every emitted file says about where it came from."""

    qutec_version: str
    command: str
    model_name: str
    model_sha256: str
    target: str


@dataclass(frozen=True)
class EmittedProject:
    """Text by path relative to the project folder, and what the const data takes in flash."""

    prefix: str
    files: dict[str, str]
    weights_bytes: int


def emit_project(
    program: Program,
    plan: Plan,
    scratch: Sequence[int],
    prefix: str,
    provenance: Provenance,
    sample: Sequence[Int8Array],
    core: Core | None = None,
) -> EmittedProject:
    """The C project of a planned program, with the kernels that `core` needs (None: any core).

    `prefix` is a C identifier that starts every symbol; `sample` has one flat int8 array for each input,
    in memory order, for example/main.c. The same arguments give the same bytes.
    """
    const_data = ConstData(prefix)
    writer = CallWriter(program, dict(plan.offsets), const_data)
    layers = []
    for index, call in enumerate(program.calls):
        body = writer.write(index, call, plan.scratch_offsets[index], scratch[index])
        layers += [*writer.functions, _layer_function(index, type(call).__name__, call.name, body)]
    kernels = kernel_files(program.calls, core)
    structs = const_data.struct_definitions()
    checks = _checks(prefix, writer.checks)
    head = _head(provenance)
    result = result_api(program, plan, prefix)
    values = {
        "prefix": prefix,
        "PREFIX": prefix.upper(),
        "head": _prefixed(" * ", head),
        "cmake_head": _prefixed("# ", head),
        "sha256": provenance.model_sha256,
        "arena_bytes": str(plan.arena_bytes),
        "arena_align": str(plan.alignment.arena),
        "layer_count": str(len(program.calls)),
        "input_count": str(len(program.inputs)),
        "output_count": str(len(program.outputs)),
        "ports": "\n\n".join(
            [_port_macros(prefix, "INPUT", i, port) for i, port in enumerate(program.inputs)]
            + [_port_macros(prefix, "OUTPUT", i, port) for i, port in enumerate(program.outputs)]
        ),
        "qute_include": _own_includes(layers),
        "structs": _paragraph(structs),
        "result_macros": result.macros,
        "result_fields": result.context_fields,
        "result_init": result.context_init,
        "result_declarations": result.declarations,
        "result_definitions": result.definitions,
        "layers": "\n\n".join(layers),
        "input_offsets": _offsets(program.inputs, plan),
        "output_offsets": _offsets(program.outputs, plan),
        "invocations": _invocations(prefix, program, plan),
        "check_structs": _paragraph(_used(structs, checks)),
        "checks": f"{checks}\n" if checks else "",
        "declarations": const_data.declarations(),
        "definitions": const_data.definitions(),
        "samples": _samples(prefix, sample),
        "copies": _sample_copies(prefix, program),
        "prints": _prints(prefix, program),
        "bundled_kernels": _cmake_list(kernels),
        "own_kernels": _cmake_list([name for name in kernels if name in own_sources(KERNEL_DIRECTORY)]),
    }
    files = {
        f"{prefix}.h": _filled("network.h.in", values),
        f"{prefix}.c": _filled("network.c.in", values),
        f"{prefix}_check.c": _filled("network_check.c.in", values),
        f"{prefix}_arena.c": _filled("network_arena.c.in", values),
        f"{prefix}_weights.h": _filled("weights.h.in", values),
        f"{prefix}_weights.c": _filled("weights.c.in", values),
        "CMakeLists.txt": _filled("CMakeLists.txt.in", values),
        "example/main.c": _filled("main.c.in", values),
        "example/sample_input.h": _filled("sample_input.h.in", values),
    }
    for name in kernels:
        files[f"kernels/{name}"] = (KERNEL_DIRECTORY / name).read_text(encoding="utf-8")
    return EmittedProject(prefix, files, const_data.array_bytes)


def _own_includes(functions: Sequence[str]) -> str:
    """Headers of what CMSIS-NN has no function for, where it is called."""
    headers = []
    if any(_QUTE_CALL.search(text) for text in functions):
        headers.append("qute_kernels.h")
    if any("qute_rows " in text for text in functions):
        headers.append("qute_rows.h")
    return "".join(f'#include "{header}"\n' for header in headers)


def _filled(template: str, values: dict[str, str]) -> str:
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _head(provenance: Provenance) -> list[str]:
    title = f"{provenance.model_name} compiled by qutec {provenance.qutec_version} for {provenance.target}"
    return [
        comment(title),
        f"command: {comment(provenance.command, 400)}",
        f"model:   sha256 {provenance.model_sha256}",
    ]


def _prefixed(prefix: str, lines: Sequence[str]) -> str:
    return "\n".join(prefix + line for line in lines)


def _paragraph(text: str) -> str:
    """The text and an empty line, or nothing at all."""
    return f"{text}\n\n" if text else ""


def _cmake_list(kernels: Sequence[str]) -> str:
    return "".join(f"\n    kernels/{name}" for name in kernels if name.endswith(".c"))


def _function_name(index: int, kind: str) -> str:
    return f"layer_{index}_{kind.lower()}"


def _layer_function(index: int, kind: str, name: str, body: str) -> str:
    lines = [
        f"/* {comment(name)} */",
        f"static arm_cmsis_nn_status {_function_name(index, kind)}(int8_t *arena)",
        "{",
        *(f"    {line}" for line in body.splitlines()),
        "}",
    ]
    return "\n".join(lines)


def _invocations(prefix: str, program: Program, plan: Plan) -> str:
    lines: list[str] = []
    for index, call in enumerate(program.calls):
        lines += [
            f"    if ({_function_name(index, type(call).__name__)}(arena) != ARM_CMSIS_NN_SUCCESS)",
            "    {",
            f"        return {prefix.upper()}_ERROR_KERNEL;",
            "    }",
            f"    layer_done(context, {index});",
        ]
        if isinstance(call, ExitCheck) and call.threshold is not None:
            lines += exit_lines(prefix, call, plan)
    return "\n".join(lines)


def _checks(prefix: str, checks: Sequence[ScratchCheck]) -> str:
    lines = []
    for check in checks:
        lines += [
            f"    if ({check.getter} > {check.planned})",
            "    {",
            f"        return {prefix.upper()}_ERROR_SCRATCH;",
            "    }",
        ]
    return "\n".join(lines)


def _used(structs: str, text: str) -> str:
    """Only the struct definitions that `text` names: unused ones would be warned about."""
    names = set(re.findall(r"&(\w+)", text))
    return "\n".join(line for line in structs.splitlines() if line.split(" = ")[0].split()[-1] in names)


def _offsets(ports: Sequence[Port], plan: Plan) -> str:
    return ", ".join(str(plan.offsets[port.tensor.buffer] + port.tensor.offset) for port in ports)


def _port_macros(prefix: str, direction: str, index: int, port: Port) -> str:
    stem = f"{prefix.upper()}_{direction}_{index}"
    shape = " x ".join(map(str, port.logical_shape))
    order = "row-major" if port.order is None else _order_words(port)
    return "\n".join(
        [
            f"/* '{comment(port.name, 60)}': ONNX shape {shape}, {port.dtype}, memory order {order} */",
            f"#define {stem}_BYTES {port.bytes}",
            f"#define {stem}_SCALE {c_float(port.quantization.scale)}",
            f"#define {stem}_ZERO_POINT {_parenthesized(port.quantization.zero_point)}",
        ]
    )


def _parenthesized(value: int) -> str:
    return f"({value})" if value < 0 else str(value)


def _order_words(port: Port) -> str:
    """'channels last (NHWC)' where it is that; else where each element lies is in report.json."""
    assert port.order is not None
    shape = port.logical_shape
    if len(shape) in (3, 4):
        elements = np.arange(port.size).reshape(shape)
        last = np.moveaxis(elements, 1, -1).reshape(-1)
        if np.array_equal(port.order, last):
            return "channels last (NHWC)" if len(shape) == 4 else "channels last (NWC)"
    return "permuted: see report.json"


def _sample_copies(prefix: str, program: Program) -> str:
    return "\n".join(
        f"    memcpy({prefix}_input(&context, {i}), sample_input_{i}, {prefix.upper()}_INPUT_{i}_BYTES);"
        for i in range(len(program.inputs))
    )


def _prints(prefix: str, program: Program) -> str:
    return "\n".join(_print(prefix, index, port) for index, port in enumerate(program.outputs))


def _print(prefix: str, index: int, port: Port) -> str:
    """Prints one output, an element a line: as it is stored, and its real value."""
    stem = f"{prefix.upper()}_OUTPUT_{index}"
    values = f"output_{index}"
    source = f"{prefix}_output(&context, {index})"
    # Outputs of int32 are aligned to 4 bytes.
    cast = "" if port.dtype == "int8" else f"(const {port.dtype}_t *)(const void *)"
    return "\n".join(
        [
            f"    const {port.dtype}_t *{values} = {cast}{source};",
            f"    puts({c_string(port.name)});",
            f"    for (size_t i = 0; i < {stem}_BYTES / sizeof *{values}; i++)",
            "    {",
            f"        const float real = {stem}_SCALE * (float)({values}[i] - {stem}_ZERO_POINT);",
            f'        printf("%ld %g\\n", (long){values}[i], (double)real);',
            "    }",
        ]
    )


def _samples(prefix: str, sample: Sequence[npt.NDArray[np.int8]]) -> str:
    size = f"{prefix.upper()}_INPUT_{{}}_BYTES"
    return "\n\n".join(
        f"static const int8_t sample_input_{i}[{size.format(i)}] = {{\n{array_rows(data)}\n}};"
        for i, data in enumerate(sample)
    )
