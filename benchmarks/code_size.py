"""Flash of the code and stack of an inference, by kernel and kind of call: the table of the estimates.

    python -m benchmarks.code_size               measure everything and write backends/cmsis_nn/code_size.json
    python -m benchmarks.code_size --arm-stack   measure only the stack with Arm's library (arm_stack.json)
    python -m benchmarks.code_size --check       write nothing, exit with 1 where a table is out of date
    python -m benchmarks.code_size --core cortex-m4 --kernels small --code    measure that alone

For each set of kernels, code is that of arm-none-eabi-gcc at the level of the set after --gc-sections, read
off the linker's map: bytes of each kernel file, bytes that one call adds to <prefix>.c (by the difference
between five calls and one, without parameter structs, which are counted as they are), what the first call of
a kind adds besides, and the rest of the API.

Stack is the deepest that painted memory shows over programs that take every way through a kernel, with gcc
and with zig, on an emulated core of each architecture. They have calls of other kinds too: compilers inline
all calls into one function, with the frame of the widest, up to 90 bytes more than a network of one kind of
call has. Where CMSIS_NN_PATH names Arm's library, the stack of the same programs linked with it is measured
too, and written to arm_stack.json.

Needs arm-none-eabi-gcc, qemu-system-arm and the extra `sim`; takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._arm_library import int8_library, library_from_environment
from benchmarks._call_programs import KINDS, mixed, repeated, variants, wide_variants
from benchmarks._chain_project import all_scratch, flash_by_file, measured_stack, struct_bytes
from benchmarks._tables import plain_table
from qutec.backends.cmsis_nn import cost
from qutec.backends.cmsis_nn.kernel_index import KERNEL_DIRECTORY, SMALL_DIRECTORY
from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.errors import QutecError
from qutec.program import Call, Conv2D, FullyConnected
from qutec.simulate import Compiler
from qutec.targets import Core, target, target_names

__all__ = ["main"]

_TABLE = Path(cost.__file__).with_name("code_size.json")
_ARM_TABLE = _TABLE.with_name("arm_stack.json")
_OWN = "chain.c"
_MANY = 5
_COMPILERS: tuple[Compiler, ...] = ("gcc", "zig")
_STACK_SLACK = 32
"""Bytes for static data rounded up, the stack pointer's alignment, and registers saved by another network's
own function: measured on the reference networks, it is 4 to 20 bytes."""


class SetTable(TypedDict):
    """What the table holds for one set of kernels on one core, in bytes."""

    kernels: dict[str, int]
    """Linked code and constants of each file in kernels/; 0 for what no network links."""
    calls: dict[str, int]
    """What one more call of a kind adds to <prefix>.c, without parameter structs."""
    once: dict[str, int]
    """What the first call of a kind adds to <prefix>.c besides."""
    library: dict[str, dict[str, int]]
    """Functions of the compiler's libraries that calls of a kind bring, once each."""
    fixed: int
    """The rest of <prefix>.c: the API."""
    stack: dict[str, int]
    """Deepest stack of one kind of call among others; 'fixed' is what a mixed network adds."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure code and stack of kernels and calls.")
    parser.add_argument("--check", action="store_true", help="compare with the tables, write nothing")
    parser.add_argument("--arm-stack", action="store_true", help="only the stack with Arm's library")
    parser.add_argument(
        "--core", action="append", help="measure this core alone and keep the others' figures"
    )
    parser.add_argument("--kernels", choices=list(KernelSet), help="measure this set alone, likewise")
    parser.add_argument("--code", action="store_true", help="measure the code alone, keep the stack")
    options = parser.parse_args(arguments)
    sets = [KernelSet(options.kernels)] if options.kernels else list(KernelSet)
    try:
        arm = library_from_environment()
        tables: dict[Path, str] = {}
        if not options.arm_stack:
            table = _measured(options.core, sets, with_stack=not options.code)
            print(_printed(table))
            tables[_TABLE] = _text(table)
        if arm is not None and (options.arm_stack or not (options.kernels or options.code)):
            stack = _measured_with(arm, options.core)
            print(_by_core("stack with Arm's library", stack))
            tables[_ARM_TABLE] = _text(stack)
        elif options.arm_stack:
            parser.error("CMSIS_NN_PATH does not name Arm's library")
    except QutecError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.check:
        stale = [path.name for path, text in tables.items() if path.read_text(encoding="utf-8") != text]
        print(f"out of date: {', '.join(stale)}" if stale else "up to date")
        return 1 if stale else 0
    for path, text in tables.items():
        path.write_text(text, encoding="utf-8")
        print(f"written to {path.name}")
    return 0


def _text(table: object) -> str:
    return json.dumps({"cores": table}, indent=1, sort_keys=True) + "\n"


def _cores(only: list[str] | None) -> list[Core]:
    """Those asked for, or all."""
    cores = [core for core in (target(name).core for name in target_names()) if core.name in target_names()]
    return list({core.name: core for core in cores if not only or core.name in only}.values())


def _told(cores: list[Core]) -> Iterator[Core]:
    for core in cores:
        if sys.stderr.isatty():
            print(f"measuring {core.name}", file=sys.stderr)
        yield core


def _measured_with(arm: Path, only: list[str] | None) -> dict[str, dict[str, int]]:
    """The table of the stack with Arm's library, with the cores asked for measured anew."""
    table: dict[str, dict[str, int]] = json.loads(_ARM_TABLE.read_text(encoding="utf-8"))["cores"]
    with tempfile.TemporaryDirectory(prefix="qutec-arm-") as folder:
        library = int8_library(arm, Path(folder) / "cmsis-nn")
        return table | {core.name: _stack(core, KernelSet.FAST, library) for core in _told(_cores(only))}


def _measured(
    only: list[str] | None, sets: list[KernelSet], *, with_stack: bool
) -> dict[str, dict[str, SetTable]]:
    """The table with what is asked for measured anew."""
    table: dict[str, dict[str, SetTable]] = json.loads(_TABLE.read_text(encoding="utf-8"))["cores"]
    for core in _told(_cores(only)):
        known = table.setdefault(core.name, {})
        for kernels in sets:
            stack = _stack(core, kernels) if with_stack else known[kernels.value]["stack"]
            known[kernels.value] = {**_measured_code(core, kernels), "stack": stack}  # type: ignore[typeddict-item]
    return table


def _measured_code(core: Core, kernels: KernelSet) -> dict[str, object]:
    """The entries of `SetTable` but the stack."""
    folders = (KERNEL_DIRECTORY, *([SMALL_DIRECTORY] if kernels is KernelSet.SMALL else []))
    files = dict.fromkeys(sorted(path.name for folder in folders for path in folder.glob("*.c")), 0)
    calls = {kind.__name__: 0 for kind in KINDS}
    rest = dict(calls)
    library: dict[str, dict[str, int]] = {kind.__name__: {} for kind in KINDS}
    for kind in _emitted(core):
        name = kind.__name__
        few, several = repeated(kind, 1), repeated(kind, _MANY)
        one, many = (flash_by_file(program, core, kernels) for program in (few, several))
        # The structs of a network are counted as they are: many are shared.
        own_one, own_many = (
            linked[_OWN] - sum(struct_bytes(program, core, kernels))
            for linked, program in ((one, few), (many, several))
        )
        calls[name] = round((own_many - own_one) / (_MANY - 1))
        rest[name] = own_one - calls[name]
        for linked in (many, *(flash_by_file(program, core, kernels) for program in variants(kind))):
            for file, size in linked.items():
                if file in files:
                    files[file] = max(files[file], size)
                elif file != _OWN:
                    library[name][file] = max(library[name].get(file, 0), size)
    fixed = min(rest[kind.__name__] for kind in _emitted(core))
    return {
        "kernels": files,
        "calls": calls,
        "once": {name: max(size - fixed, 0) for name, size in rest.items()},
        "library": library,
        "fixed": fixed,
    }


def _emitted(core: Core) -> list[type[Call]]:
    """The kinds of calls that are left for a core; on Helium, fully connected ones become convolutions."""
    return [kind for kind in KINDS if not (core.mve and kind is FullyConnected)]


def _stack(core: Core, kernels: KernelSet, cmsis_nn: Path | None = None) -> dict[str, int]:
    """Bytes by kind of call, the larger of both compilers', and what a network of many kinds adds."""
    deepest = {kind.__name__: 0 for kind in KINDS}
    inside = f"{Conv2D.__name__}{cost.IN_SCRATCH}"
    added = 0
    for compiler in _COMPILERS:
        used = {
            kind.__name__: measured_stack(wide_variants(kind), core, compiler, kernels, cmsis_nn)
            for kind in _emitted(core)
        }
        if core.dsp and not core.mve and kernels is KernelSet.FAST and cmsis_nn is None:
            programs = wide_variants(Conv2D)
            used[inside] = measured_stack(programs, core, compiler, kernels, scratch=all_scratch)
        deepest = {name: max(deepest.get(name, 0), size) for name, size in (deepest | used).items()}
        added = max(added, measured_stack([mixed()], core, compiler, kernels, cmsis_nn) - max(used.values()))
    return {**deepest, "fixed": added + _STACK_SLACK}


def _printed(table: dict[str, dict[str, SetTable]]) -> str:
    return "\n\n".join(
        f"{kernels} kernels\n\n{_printed_set({core: sets[kernels.value] for core, sets in table.items()})}"
        for kernels in KernelSet
    )


def _printed_set(table: dict[str, SetTable]) -> str:
    sections = {
        section: {core: entry[section] for core, entry in table.items()}  # type: ignore[literal-required]
        for section in ("kernels", "calls", "once", "stack")
    }
    blocks = [_by_core(section, columns) for section, columns in sections.items()]
    fixed = ", ".join(f"{core.removeprefix('cortex-')} {entry['fixed']}" for core, entry in table.items())
    return "\n\n".join([*blocks, f"API, bytes: {fixed}"])


def _by_core(title: str, table: dict[str, dict[str, int]]) -> str:
    columns = list(table.values())
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(str(column.get(name, "")) for column in columns)] for name in names]
    return plain_table([title, *(core.removeprefix("cortex-") for core in table)], rows)


if __name__ == "__main__":
    sys.exit(main())
