"""The project of several networks that run in turn in one arena: one library, one set of kernels.

Each network keeps its own prefix, context and API, as in a project of its own; the arena, the build and the
example are there once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.backends.cmsis_nn.project import (
    ArenaDeclaration,
    EmittedNetwork,
    EmittedProject,
    Provenance,
    arena_macro,
    cmake_list,
    filled,
    kernel_texts,
    kernel_values,
    prefixed,
)
from qutec.backends.cmsis_nn.text import comment
from qutec.errors import UsageError

__all__ = ["check_names", "emit_shared_project", "sample_name", "shared_arena"]

_SHOWN_NAMES = 120


def shared_arena(name: str) -> ArenaDeclaration:
    """The arena of the project `name`, for the headers of its networks."""
    return ArenaDeclaration(f"{name}_arena", include=f'#include "{name}_arena.h"\n')


def sample_name(prefix: str) -> str:
    """What the arrays of a network's sample input begin with, in the example that all networks share."""
    return f"{prefix}_sample_input"


def check_names(prefixes: Sequence[str], name: str) -> None:
    """Raises UsageError where two networks, or a network and the project, cannot be told apart.

    Files are told apart by their names whatever their folders and cases, since headers are found by them.
    """
    for prefix, count in Counter(prefixes).items():
        if count > 1:
            raise UsageError(f"{count} networks are called '{prefix}'; name them apart (--names)")
    if name in prefixes:
        raise UsageError(f"the project and one of its networks are both called '{name}'; use --name")
    made_by: dict[str, str] = {f"{name}_arena.h": name, f"{name}_arena.c": name}
    for prefix in prefixes:
        parts = (".h", ".c", "_check.c", "_weights.h", "_weights.c", "_sample_input.h")
        for file in (f"{prefix}{part}" for part in parts):
            if file in made_by:
                raise UsageError(
                    f"'{made_by[file]}' and '{prefix}' would both write {file}; name them apart (--names)"
                )
            made_by[file] = prefix


def emit_shared_project(
    networks: Sequence[EmittedNetwork],
    name: str,
    arena_align: int,
    origins: Sequence[Provenance],
    kernels: KernelSet = KernelSet.FAST,
) -> EmittedProject:
    """One project of the networks, whose headers name `shared_arena(name)`; names are checked before.

    `origins` has one entry for each network, all of one command and target; `kernels` is the
    set that all of them were emitted for. Raises UsageError as
    `check_names`.
    """
    check_names([network.prefix for network in networks], name)
    head = _head(origins)
    files_of_kernels = sorted({kernel for network in networks for kernel in network.kernels})
    parts = [f"{network.prefix}{part}.c" for network in networks for part in ("", "_check", "_weights")]
    arena = shared_arena(name).name
    arena_bytes = max(network.arena_bytes for network in networks)
    arena_arm_bytes = max(network.arena_arm_bytes for network in networks)
    values = {
        "prefix": name,
        "PREFIX": name.upper(),
        "head": prefixed(" * ", head),
        "cmake_head": prefixed("# ", head),
        "arena": arena,
        "arena_header": f"{name}_arena.h",
        "arena_bytes": arena_macro(name, arena_bytes, arena_arm_bytes),
        "arena_align": str(arena_align),
        "sources": cmake_list([f"{name}_arena.c", *parts]),
        **kernel_values(files_of_kernels, kernels),
        "includes": "\n".join(
            line
            for network in networks
            for line in (f'#include "{network.prefix}.h"', f'#include "{sample_name(network.prefix)}.h"')
        ),
        "functions": "\n".join(filled("shared_run.c.in", network.values) for network in networks).rstrip(),
        "runs": " || ".join(f"run_{network.prefix}()" for network in networks),
    }
    files = {path: text for network in networks for path, text in network.files.items()}
    files |= {
        f"{name}_arena.h": filled("shared_arena.h.in", values),
        f"{name}_arena.c": filled("network_arena.c.in", values),
        "CMakeLists.txt": filled("CMakeLists.txt.in", values),
        "example/main.c": filled("shared_main.c.in", values),
        **{
            str(PurePosixPath("example") / f"{sample_name(network.prefix)}.h"): filled(
                "sample_input.h.in", network.values
            )
            for network in networks
        },
        **kernel_texts(files_of_kernels, kernels),
    }
    structs = tuple(size for network in networks for size in network.struct_bytes)
    weights_bytes = sum(network.weights_bytes for network in networks)
    return EmittedProject(name, files, weights_bytes, structs, arena_arm_bytes)


def _head(origins: Sequence[Provenance]) -> list[str]:
    first = origins[0]
    names = ", ".join(origin.model_name for origin in origins)
    return [
        comment(f"{names} compiled by qutec {first.qutec_version} for {first.target}", _SHOWN_NAMES),
        f"command: {comment(first.command, 400)}",
        *(f"model:   sha256 {origin.model_sha256}, {comment(origin.model_name, 60)}" for origin in origins),
    ]
