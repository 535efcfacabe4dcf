"""The emitted project: every file of build/<net>/ but the reports, as text by relative path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
import numpy.typing as npt

from qutec.backends.cmsis_nn.arm_scratch import arm_scratch
from qutec.backends.cmsis_nn.call_scratch import ARM_LIBRARY_MACRO, ScratchCheck, by_library
from qutec.backends.cmsis_nn.calls import CallWriter
from qutec.backends.cmsis_nn.const_data import ConstData
from qutec.backends.cmsis_nn.input_api import input_api
from qutec.backends.cmsis_nn.kernel_index import KERNEL_DIRECTORY, kernel_files, kernel_path, own_sources
from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.backends.cmsis_nn.result_api import exit_lines, result_api
from qutec.backends.cmsis_nn.row_calls import progress_parameter
from qutec.backends.cmsis_nn.text import array_rows, c_float, c_string, comment
from qutec.planner import Plan
from qutec.program import Call, ExitCheck, Int8Array, Port, Program, RowRegion
from qutec.targets import Core

__all__ = [
    "ArenaDeclaration",
    "EmittedNetwork",
    "EmittedProject",
    "Provenance",
    "arena_macro",
    "cmake_list",
    "emit_network",
    "emit_project",
    "filled",
    "kernel_texts",
    "kernel_values",
    "prefixed",
]

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
    struct_bytes: tuple[int, ...]
    """Of each call: those of the parameter structs that it is the first to use."""
    arena_arm_bytes: int
    """Of the arena in a build with Arm's library, whose kernels may want more scratch than is planned."""


@dataclass(frozen=True)
class ArenaDeclaration:
    """The static arena that the header of a network names, and where it is declared."""

    name: str
    include: str = ""
    """A line that includes another header, with its line break."""
    declaration: str = ""
    """Lines at the end of the network's own header, with their line break."""


@dataclass(frozen=True)
class EmittedNetwork:
    """The files of one network, without what a project has once, and what the templates of that ask for."""

    prefix: str
    files: dict[str, str]
    kernels: tuple[str, ...]
    """Names of the bundled kernels that it needs."""
    values: dict[str, str]
    weights_bytes: int
    struct_bytes: tuple[int, ...]
    """Of each call: those of the parameter structs that it is the first to use."""
    arena_bytes: int
    arena_arm_bytes: int
    """With Arm's library."""


def emit_project(
    program: Program,
    plan: Plan,
    scratch: Sequence[int],
    prefix: str,
    provenance: Provenance,
    sample: Sequence[Int8Array],
    kernels: KernelSet = KernelSet.FAST,
    core: Core | None = None,
) -> EmittedProject:
    """The C project of a planned program, with the kernels that `core` needs (None: any core).

    `prefix` is a C identifier that starts every symbol; `sample` has one flat int8 array for each input,
    in memory order, for example/main.c; `kernels` says which bundled ones come with it. The same arguments
    give the same bytes.
    """
    name = f"{prefix}_default_arena"
    lines = [
        "/* An arena of the right size and alignment; takes memory only in programs that use it. */",
        f"extern uint8_t {name}[{prefix.upper()}_ARENA_BYTES];\n",
    ]
    arena = ArenaDeclaration(name, declaration="\n".join(lines))
    network = emit_network(
        program, plan, scratch, prefix, provenance, sample, arena, kernels=kernels, core=core
    )
    values = {
        **network.values,
        "arena_header": f"{prefix}.h",
        "sources": cmake_list([f"{prefix}{part}.c" for part in ("", "_arena", "_check", "_weights")]),
    }
    files = {
        **network.files,
        f"{prefix}_arena.c": filled("network_arena.c.in", values),
        "CMakeLists.txt": filled("CMakeLists.txt.in", values),
        "example/main.c": filled("main.c.in", values),
        "example/sample_input.h": filled("sample_input.h.in", values),
        **kernel_texts(network.kernels, kernels),
    }
    return EmittedProject(prefix, files, network.weights_bytes, network.struct_bytes, network.arena_arm_bytes)


def emit_network(
    program: Program,
    plan: Plan,
    scratch: Sequence[int],
    prefix: str,
    provenance: Provenance,
    sample: Sequence[Int8Array],
    arena: ArenaDeclaration,
    sample_name: str = "sample_input",
    kernels: KernelSet = KernelSet.FAST,
    core: Core | None = None,
) -> EmittedNetwork:
    """The network's own files, for a project of its own or one that it shares; see `emit_project`.

    `sample_name` begins the names of the arrays in the example that hold the sample.
    """
    const_data = ConstData(prefix)
    writer = CallWriter(program, dict(plan.offsets), const_data, kernels)
    with_arm = arm_scratch(program, plan, scratch, core)
    layers = []
    struct_bytes = []
    for index, call in enumerate(program.calls):
        before = const_data.struct_bytes
        body = writer.write(index, call, with_arm.calls[index])
        struct_bytes.append(const_data.struct_bytes - before)
        layers += [*writer.functions, _layer_function(index, call, body)]
    names = kernel_files(program.calls, kernels, core)
    structs = const_data.struct_definitions()
    checks = _checks(prefix, writer.checks)
    head = _head(provenance)
    result = result_api(program, plan, prefix)
    first = _function_name(0, type(program.calls[0]).__name__) if program.calls else ""
    given = input_api(program, plan, prefix, _invocations(prefix, program, plan), first, sample_name)
    values = {
        "prefix": prefix,
        "PREFIX": prefix.upper(),
        "head": prefixed(" * ", head),
        "cmake_head": prefixed("# ", head),
        "sha256": provenance.model_sha256,
        "arena_bytes": arena_macro(prefix, plan.arena_bytes, with_arm.arena_bytes),
        "library_check": _library_check(layers, checks),
        "arena_align": str(plan.alignment.arena),
        "layer_count": str(len(program.calls)),
        "input_count": str(len(program.inputs)),
        "output_count": str(len(program.outputs)),
        "ports": "\n\n".join(
            [
                _port_macros(prefix, "INPUT", i, port) + _row_macros(prefix, program)
                for i, port in enumerate(program.inputs)
            ]
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
        "output_offsets": _offsets(program.outputs, plan),
        "input_usage": given.usage,
        "input_types": given.types,
        "input_statuses": given.statuses,
        "input_fields": given.context_fields,
        "input_init": given.context_init,
        "input_declarations": given.declarations,
        "input_definitions": given.definitions,
        "read_row": given.callback,
        "check_structs": _paragraph(_used(structs, checks)),
        "checks": f"{checks}\n" if checks else "",
        "declarations": const_data.declarations(),
        "definitions": const_data.definitions(),
        "samples": _samples(prefix, sample, sample_name),
        "copies": given.sample,
        "prints": _prints(prefix, program),
        "arena": arena.name,
        "arena_include": arena.include,
        "arena_declaration": arena.declaration,
        **kernel_values(names, kernels),
    }
    files = {
        f"{prefix}.h": filled("network.h.in", values),
        f"{prefix}.c": filled("network.c.in", values),
        f"{prefix}_check.c": filled("network_check.c.in", values),
        f"{prefix}_weights.h": filled("weights.h.in", values),
        f"{prefix}_weights.c": filled("weights.c.in", values),
    }
    return EmittedNetwork(
        prefix,
        files,
        tuple(names),
        values,
        const_data.array_bytes,
        tuple(struct_bytes),
        plan.arena_bytes,
        with_arm.arena_bytes,
    )


def arena_macro(prefix: str, bundled: int, arm: int) -> str:
    """The definition of <PREFIX>_ARENA_BYTES, which may be larger with Arm's library."""
    name = f"{prefix.upper()}_ARENA_BYTES"
    words = f"/* {ARM_LIBRARY_MACRO} says that Arm's CMSIS-NN is linked, which wants more scratch. */"
    lines = by_library([f"#define {name} {arm}"], [f"#define {name} {bundled}"])
    return "\n".join([words, *lines] if len(lines) > 1 else lines)


def _library_check(layers: Sequence[str], checks: str) -> str:
    """Refuses to compile where the macro and the included header do not belong to the same library."""
    if not any(ARM_LIBRARY_MACRO in text for text in (*layers, checks)):
        return ""
    complaint = f"define {ARM_LIBRARY_MACRO} for every file where Arm's CMSIS-NN is linked, and nowhere else"
    condition = f"defined({ARM_LIBRARY_MACRO}) == defined(QUTE_POINTWISE_IN_ORDER)"
    return f'#if {condition}\n#error "{complaint}"\n#endif\n'


def kernel_values(names: Sequence[str], kernels: KernelSet) -> dict[str, str]:
    """What CMakeLists.txt says of these kernels: all, those to link next to Arm's library, and how."""
    sources = [f"kernels/{name}" for name in names if name.endswith(".c")]
    own = {f"kernels/{name}" for name in own_sources(KERNEL_DIRECTORY)}
    return {
        "compiler_level": kernels.compiler_level,
        "bundled_kernels": cmake_list(sources),
        "own_kernels": cmake_list([name for name in sources if name in own]),
    }


def kernel_texts(names: Sequence[str], kernels: KernelSet) -> dict[str, str]:
    """The kernels' files by their path in a project."""
    return {f"kernels/{name}": kernel_path(name, kernels).read_text(encoding="utf-8") for name in names}


def _own_includes(functions: Sequence[str]) -> str:
    """Headers of what CMSIS-NN has no function for, where it is called."""
    headers = []
    if any(_QUTE_CALL.search(text) for text in functions):
        headers.append("qute_kernels.h")
    if any("qute_rows " in text for text in functions):
        headers.append("qute_rows.h")
    return "".join(f'#include "{header}"\n' for header in headers)


def filled(template: str, values: dict[str, str]) -> str:
    """A template with its values."""
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _head(provenance: Provenance) -> list[str]:
    title = f"{provenance.model_name} compiled by qutec {provenance.qutec_version} for {provenance.target}"
    return [
        comment(title),
        f"command: {comment(provenance.command, 400)}",
        f"model:   sha256 {provenance.model_sha256}",
    ]


def prefixed(prefix: str, lines: Sequence[str]) -> str:
    """Lines that all begin with the same mark, of a comment."""
    return "\n".join(prefix + line for line in lines)


def _paragraph(text: str) -> str:
    """The text and an empty line, or nothing at all."""
    return f"{text}\n\n" if text else ""


def cmake_list(sources: Sequence[str]) -> str:
    """Files as arguments of a CMake command, one a line."""
    return "".join(f"\n    {name}" for name in sources)


def _function_name(index: int, kind: str) -> str:
    return f"layer_{index}_{kind.lower()}"


def _layer_function(index: int, call: Call, body: str) -> str:
    name = _function_name(index, type(call).__name__)
    parameters = ["int8_t *arena", *progress_parameter(call)]
    storage = "QUTE_OWN_FRAME static" if isinstance(call, RowRegion) else "static"
    lines = [
        f"/* {comment(call.name)} */",
        f"{storage} arm_cmsis_nn_status {name}({', '.join(parameters)})",
        "{",
        *(f"    {line}" for line in body.splitlines()),
        "}",
    ]
    return "\n".join(lines)


def _invocations(prefix: str, program: Program, plan: Plan) -> list[str]:
    """The statements that run each call, and end where an exit is sure enough."""
    return [_invocation(prefix, index, call, plan) for index, call in enumerate(program.calls)]


def _invocation(prefix: str, index: int, call: Call, plan: Plan) -> str:
    lines = [
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
        conditions = by_library(
            [f"    if ({check.getter} > {check.arm})"], [f"    if ({check.getter} > {check.planned})"]
        )
        lines += [
            *conditions,
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


def _row_macros(prefix: str, program: Program) -> str:
    """Rows of a streamed input, and bytes of a row; nothing for an input in the arena."""
    rows = program.input_rows
    if rows is None:
        return ""
    stem = f"{prefix.upper()}_INPUT_0"
    return f"\n#define {stem}_ROWS {rows.rows}\n#define {stem}_ROW_BYTES {rows.row_bytes}"


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


def _samples(prefix: str, sample: Sequence[npt.NDArray[np.int8]], name: str) -> str:
    size = f"{prefix.upper()}_INPUT_{{}}_BYTES"
    return "\n\n".join(
        f"static const int8_t {name}_{i}[{size.format(i)}] = {{\n{array_rows(data)}\n}};"
        for i, data in enumerate(sample)
    )
