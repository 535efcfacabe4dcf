"""What the simulator has to know about an emitted project, read from its report.json.

The same facts are compiled into the harness through a generated `sim_config.h`, which refuses to compile
when the report and the project's C header disagree. A network that asks for its input row by row has
SIM_INPUT_ROWS there, and no sim_net_input.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qutec.backends.cmsis_nn.call_scratch import ARM_LIBRARY_MACRO
from qutec.errors import UsageError

__all__ = ["EmittedProject", "config_header", "read_project"]

_STATUS_NAMES = (
    "OK",
    "ERROR_ARGUMENT",
    "ERROR_ARENA_SIZE",
    "ERROR_ARENA_ALIGNMENT",
    "ERROR_SCRATCH",
    "ERROR_KERNEL",
    "ERROR_INPUT",
    "NEEDS_ROW",
)


@dataclass(frozen=True)
class EmittedProject:
    """An emitted C project: its folder, symbol prefix, arena size and port sizes (bytes).

    A network of a project that several share is one such, with the folder of that project; so is the project
    as a whole, where `networks` are its parts and the ports are those of the parts.
    """

    path: Path
    prefix: str
    arena_bytes: int
    arena_arm_bytes: int
    """The arena of a build with Arm's library."""
    input_bytes: tuple[int, ...]
    output_bytes: tuple[int, ...]
    layer_count: int
    sources: tuple[Path, ...]
    """The network's own C files, without kernels and example."""
    compiler_level: str
    """Optimisation that the project asks for, such as "-O3"."""
    networks: tuple[EmittedProject, ...] = ()
    """In the order in which they run; none in a project of one network."""
    definitions: tuple[str, ...] = ()
    """Flags that every file which includes the project's headers is compiled with."""
    input_rows: int | None = None
    """Rows of the input, where the network asks for them one by one; None where the input is in the arena."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of a streamed input; 0 where the input is in the arena."""
        return self.input_bytes[0] // self.input_rows if self.input_rows else 0

    @property
    def kernel_sources(self) -> tuple[Path, ...]:
        """The bundled kernels that the network needs."""
        return tuple(sorted((self.path / "kernels").glob("*.c")))

    def linked_with(self, cmsis_nn: Path | None) -> EmittedProject:
        """The project as it is when it is built with Arm's library; itself without one (None)."""
        if cmsis_nn is None:
            return self
        return replace(self, arena_bytes=self.arena_arm_bytes, definitions=(f"-D{ARM_LIBRARY_MACRO}",))

    def status_name(self, status: int) -> str:
        """The C name of a value of `<prefix>_status`."""
        known = 0 <= status < len(_STATUS_NAMES)
        return f"{self.prefix.upper()}_{_STATUS_NAMES[status]}" if known else f"status {status}"


def read_project(path: Path) -> EmittedProject:
    """Read `path`/report.json. Raises UsageError where the folder is not an emitted project.

    The folder of one network of a shared project (`networks/<prefix>` in it) does as well.
    """
    try:
        report = json.loads((path / "report.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"'{path}' is not an emitted project: it has no report.json") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read '{path / 'report.json'}': {error}") from None
    try:
        return _project(path, report)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"'{path / 'report.json'}' lacks or garbles {error}") from None


def _project(path: Path, report: dict[str, Any]) -> EmittedProject:
    prefix = str(report["symbol_prefix"])
    if not prefix.isidentifier():
        raise UsageError(f"'{path / 'report.json'}': symbol_prefix '{prefix}' is not a C identifier")
    if "networks" in report:
        parts = tuple(_project(path, part) for part in report["networks"])
        return EmittedProject(
            path=path.resolve(),
            prefix=prefix,
            arena_bytes=int(report["arena_bytes"]),
            arena_arm_bytes=_arena_arm_bytes(report),
            input_bytes=tuple(size for part in parts for size in part.input_bytes),
            output_bytes=tuple(size for part in parts for size in part.output_bytes),
            layer_count=sum(part.layer_count for part in parts),
            sources=tuple(sorted(path.resolve().glob("*.c"))),
            compiler_level=parts[0].compiler_level,
            networks=parts,
        )
    shared = report.get("shared_arena")
    if shared is None:
        folder = path.resolve()
        sources = sorted(folder.glob("*.c"))
    else:
        # Within the report of the whole project the path is that project's already.
        inside = (path / "networks").is_dir()
        folder = path.resolve() if inside else (path / str(shared["project"])).resolve()
        sources = [folder / f"{prefix}{part}.c" for part in ("", "_check", "_weights")]
    return EmittedProject(
        path=folder,
        prefix=prefix,
        arena_bytes=int(report["arena_bytes"]),
        arena_arm_bytes=_arena_arm_bytes(report),
        input_bytes=tuple(int(port["bytes"]) for port in report["inputs"]),
        output_bytes=tuple(int(port["bytes"]) for port in report["outputs"]),
        layer_count=len(report["layers"]),
        sources=tuple(sources),
        input_rows=_input_rows(report),
        compiler_level=str(report.get("compiler_level", "-O3")),
    )


def _arena_arm_bytes(report: dict[str, Any]) -> int:
    """Builds of earlier versions have one arena for both."""
    return int(report.get("arena_arm_bytes") or report["arena_bytes"])


def _input_rows(report: dict[str, Any]) -> int | None:
    """Builds before --stream-input say nothing of it."""
    rows = [int(port["rows"]) for port in report["inputs"] if port.get("streamed")]
    if not rows:
        return None
    if len(report["inputs"]) > 1 or rows[0] < 1 or int(report["inputs"][0]["bytes"]) % rows[0]:
        raise ValueError("the rows of its input")
    return rows[0]


def config_header(project: EmittedProject) -> str:
    """The text of `sim_config.h`: fixed names for the network's API, and its sizes.

    Sizes come from the report; the preprocessor compares each with the macro of the project's header.
    """
    prefix, macro = project.prefix, project.prefix.upper()
    sizes = {
        f"{macro}_ARENA_BYTES": project.arena_bytes,
        f"{macro}_INPUT_COUNT": len(project.input_bytes),
        f"{macro}_OUTPUT_COUNT": len(project.output_bytes),
        f"{macro}_LAYER_COUNT": project.layer_count,
        **{f"{macro}_INPUT_{k}_BYTES": size for k, size in enumerate(project.input_bytes)},
        **{f"{macro}_OUTPUT_{k}_BYTES": size for k, size in enumerate(project.output_bytes)},
    }
    if project.input_rows is not None:
        sizes[f"{macro}_INPUT_0_ROWS"] = project.input_rows
        sizes[f"{macro}_INPUT_0_ROW_BYTES"] = project.row_bytes
    lines = ["// SPDX-License-Identifier: Apache-2.0", "#ifndef SIM_CONFIG_H", "#define SIM_CONFIG_H"]
    lines += ["#include <stdint.h>", f'#include "{prefix}.h"']
    for name, value in sizes.items():
        complaint = f'#error "{name} in {prefix}.h is not the {value} of report.json"'
        lines += [f"#if {name} != {value}", complaint, "#endif"]
    lines += [
        f"#define SIM_ARENA_BYTES {project.arena_bytes}u",
        f"#define SIM_INPUT_COUNT {len(project.input_bytes)}",
        f"#define SIM_OUTPUT_COUNT {len(project.output_bytes)}",
        f"#define SIM_LAYER_COUNT {project.layer_count}",
        f"#define SIM_INPUT_BYTES {{{', '.join(f'{size}u' for size in project.input_bytes)}}}",
        f"#define SIM_OUTPUT_BYTES {{{', '.join(f'{size}u' for size in project.output_bytes)}}}",
        f"typedef {prefix}_context sim_net_context;",
        f"#define SIM_NET_OK {macro}_OK",
    ]
    if project.input_rows is not None:
        lines += [
            f"#define SIM_INPUT_ROWS {project.input_rows}",
            f"#define SIM_ROW_BYTES {project.row_bytes}u",
            f"#define SIM_NET_ERROR_INPUT {macro}_ERROR_INPUT",
        ]
    calls = ["init", "output", "invoke", "check_scratch"]
    if project.input_rows is None:
        calls.append("input")
    lines += [f"#define sim_net_{call} {prefix}_{call}" for call in calls]
    return "\n".join([*lines, "#endif", ""])
