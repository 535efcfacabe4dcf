"""Flash of the code and stack of an inference, by kernel and kind of call: the table of the estimates.

    python -m benchmarks.code_size            measure everything and write backends/cmsis_nn/code_size.json
    python -m benchmarks.code_size --check    write nothing, exit with 1 where the table is out of date
    python -m benchmarks.code_size --core cortex-m55    this one alone, the others stay as they are

Code is that of arm-none-eabi-gcc -O3 after --gc-sections, read off the linker's map: bytes of each kernel
file, bytes that one call adds to <prefix>.c (its function and parameter structs, by the difference between
five calls and one), and the rest of the API. Stack is the deepest that painted memory shows over programs
that take every way through a kernel, with gcc and with zig, on an emulated core of each architecture. They
have calls of other kinds too: compilers inline all calls into one function, with the frame of the widest,
up to 90 bytes more than a network of one kind of call has.

Needs arm-none-eabi-gcc, qemu-system-arm and the extra `sim`; takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._call_programs import KINDS, mixed, repeated, variants, wide_variants
from benchmarks._chain_project import flash_by_file, measured_stack
from benchmarks._tables import plain_table
from qutec.backends.cmsis_nn import cost
from qutec.backends.cmsis_nn.kernel_index import KERNEL_DIRECTORY
from qutec.errors import QutecError
from qutec.program import Call, FullyConnected
from qutec.simulate import Compiler
from qutec.targets import Core, target, target_names

__all__ = ["main"]

_TABLE = Path(cost.__file__).with_name("code_size.json")
_OWN = "chain.c"
_MANY = 5
_COMPILERS: tuple[Compiler, ...] = ("gcc", "zig")
_STACK_SLACK = 32
"""Bytes for static data rounded up, the stack pointer's alignment, and registers saved by another network's
own function: measured on the reference networks, it is 4 to 20 bytes."""


class CoreTable(TypedDict):
    """What one core's entry of the table holds, in bytes."""

    kernels: dict[str, int]
    """Linked code and constants of each file in kernels/; 0 for what no network links."""
    calls: dict[str, int]
    """What one more call of a kind adds to <prefix>.c, parameter structs included."""
    library: dict[str, dict[str, int]]
    """Functions of the compiler's libraries that calls of a kind bring, once each."""
    fixed: int
    """The rest of <prefix>.c."""
    stack: dict[str, int]
    """Deepest stack of one kind of call among others; 'fixed' is what a mixed network adds."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure code and stack of kernels and calls.")
    parser.add_argument("--check", action="store_true", help="compare with the table, write nothing")
    parser.add_argument(
        "--core", action="append", choices=_core_names(), help="measure this core alone; may be repeated"
    )
    options = parser.parse_args(arguments)
    old = _TABLE.read_text(encoding="utf-8")
    try:
        measured = _measured(options.core or _core_names())
    except QutecError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    kept = {name: entry for name, entry in json.loads(old)["cores"].items() if name in _core_names()}
    table = kept | measured
    text = json.dumps({"cores": table}, indent=1, sort_keys=True) + "\n"
    print(_printed(measured))
    if options.check:
        fresh = old == text
        print("the table is up to date" if fresh else f"{_TABLE.name} is out of date")
        return 0 if fresh else 1
    _TABLE.write_text(text, encoding="utf-8")
    print(f"written to {_TABLE.name}")
    return 0


def _core_names() -> list[str]:
    return [name for name in target_names() if target(name).core.name == name]


def _measured(names: Sequence[str]) -> dict[str, CoreTable]:
    table = {}
    for name in names:
        if sys.stderr.isatty():
            print(f"measuring {name}", file=sys.stderr)
        table[name] = _measured_core(target(name).core)
    return table


def _measured_core(core: Core) -> CoreTable:
    """Code and stack on one core."""
    kernels = dict.fromkeys(sorted(path.name for path in KERNEL_DIRECTORY.glob("*.c")), 0)
    calls = {kind.__name__: 0 for kind in KINDS}
    library: dict[str, dict[str, int]] = {kind.__name__: {} for kind in KINDS}
    fixed = 0
    for kind in _emitted(core):
        name = kind.__name__
        one, many = (flash_by_file(repeated(kind, count), core) for count in (1, _MANY))
        calls[name] = round((many[_OWN] - one[_OWN]) / (_MANY - 1))
        fixed = max(fixed, one[_OWN] - calls[name])
        for linked in (many, *(flash_by_file(program, core) for program in variants(kind))):
            for file, size in linked.items():
                if file in kernels:
                    kernels[file] = max(kernels[file], size)
                elif file != _OWN:
                    library[name][file] = max(library[name].get(file, 0), size)
    return {"kernels": kernels, "calls": calls, "library": library, "fixed": fixed, "stack": _stack(core)}


def _emitted(core: Core) -> list[type[Call]]:
    """The kinds of calls that are left for a core; on Helium, fully connected ones become convolutions."""
    return [kind for kind in KINDS if not (core.mve and kind is FullyConnected)]


def _stack(core: Core) -> dict[str, int]:
    """Bytes by kind of call, the larger of both compilers', and what a network of many kinds adds."""
    deepest = {kind.__name__: 0 for kind in KINDS}
    added = 0
    for compiler in _COMPILERS:
        used = {kind.__name__: measured_stack(wide_variants(kind), core, compiler) for kind in _emitted(core)}
        deepest = {name: max(size, used.get(name, 0)) for name, size in deepest.items()}
        added = max(added, measured_stack([mixed()], core, compiler) - max(used.values()))
    return {**deepest, "fixed": added + _STACK_SLACK}


def _printed(table: dict[str, CoreTable]) -> str:
    blocks = []
    sections = {
        "kernels": [entry["kernels"] for entry in table.values()],
        "calls": [entry["calls"] for entry in table.values()],
        "stack": [entry["stack"] for entry in table.values()],
    }
    for section, columns in sections.items():
        rows = [[name, *(str(column[name]) for column in columns)] for name in columns[0]]
        blocks.append(plain_table([section, *(core.removeprefix("cortex-") for core in table)], rows))
    fixed = ", ".join(f"{core.removeprefix('cortex-')} {entry['fixed']}" for core, entry in table.items())
    return "\n\n".join([*blocks, f"API, bytes: {fixed}"])


if __name__ == "__main__":
    sys.exit(main())
