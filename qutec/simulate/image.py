"""Building an emitted project, with the harness around it, into an image for an Arm core."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from qutec.errors import DoesNotFitError
from qutec.simulate.elf import Function, Segment, function_at, read_elf
from qutec.simulate.machine import Machine, machine_for
from qutec.simulate.project import EmittedProject, config_header, read_project
from qutec.simulate.sources import library_objects, network_jobs
from qutec.simulate.toolchain import (
    CompileJob,
    Compiler,
    Toolchain,
    compile_all,
    link,
    target_toolchain,
    warning_flags,
)
from qutec.simulate.turns_source import turns_flash_source, turns_source
from qutec.targets import Core

__all__ = ["Image", "build_image", "measure_flash"]

_HARNESS = Path(__file__).parent / "harness"
_ARENA_ALIGN = 16
_HARNESS_DATA_OFFSET = 0xE00000
"""Where in the I/O window the harness's own variables lie, above requests and below its fault stack."""

_SECTION_FLAGS = (
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
)


@dataclass(frozen=True)
class Image:
    """A linked ELF image of a network for one core. Its files live as long as the object does."""

    elf: Path
    project: EmittedProject
    core: Core
    compiler: str
    """"zig" or "gcc"."""
    machine: Machine
    text_bytes: int
    rodata_bytes: int
    data_bytes: int
    bss_bytes: int
    functions: tuple[Function, ...] = field(repr=False)
    symbols: dict[str, int] = field(repr=False, compare=False)
    segments: tuple[Segment, ...] = field(repr=False, compare=False)
    directory: tempfile.TemporaryDirectory[str] = field(repr=False, compare=False)

    @property
    def flash_bytes(self) -> int:
        """.text + .rodata + .data, harness included; see `measure_flash` for the network alone."""
        return self.text_bytes + self.rodata_bytes + self.data_bytes

    @property
    def arena_room(self) -> int:
        """Bytes from the arena's start to the end of SRAM: its size rounded up to the alignment."""
        return _room(self.project.arena_bytes)

    @property
    def arena_address(self) -> int:
        """Where the arena starts."""
        return self.machine.sram_top - self.arena_room

    @property
    def stack_top(self) -> int:
        """The initial stack pointer; static data and the arena lie above."""
        return self.symbols["sim_stack_top"]

    def locate(self, address: int) -> str:
        """'function+0x1c' for a code address, or the address itself."""
        return function_at(self.functions, address & ~1)


def build_image(
    project: Path,
    core: Core,
    *,
    compiler: Compiler = "auto",
    cmsis_nn: Path | None = None,
    optimize: str | None = None,
) -> Image:
    """Compile the emitted project in folder `project` and the harness into an image for `core`.

    An image of a project that several networks share has no main: `qutec.simulate.turns` runs it. The kernels
    are the project's own or, where `cmsis_nn` names a copy of Arm's library, the arm_*
    functions of that library. "auto" takes zig, and arm-none-eabi-gcc only where zig is not installed.
    `optimize` is a level such as "-O2"; None for the one that the project itself is built with. Raises
    UsageError (no such project or library), ToolMissingError, or QutecError with the compiler's first
    errors.
    """
    emitted = read_project(project).linked_with(cmsis_nn)
    site = _Site(emitted, core, target_toolchain(core, compiler))
    if emitted.networks:
        jobs = [
            *site.harness_jobs("sim_startup.c", "flash_empty.c"),
            site.generated_job("turns.c", turns_source),
        ]
    else:
        jobs = site.harness_jobs("sim_startup.c", "sim_network.c", "sim_main.c")
    jobs += network_jobs(emitted, site.folder, site.own_flags(optimize), cmsis_nn)
    return site.link(jobs, emitted.arena_bytes, site.library(optimize, cmsis_nn))


def measure_flash(
    project: Path,
    core: Core,
    compiler: Compiler = "auto",
    *,
    cmsis_nn: Path | None = None,
    optimize: str | None = None,
) -> int:
    """Bytes of flash that the network adds to an application: .text + .rodata + .data.

    The difference between two images with the same start-up code: one whose main initialises the network,
    copies an input, invokes it and reads the outputs, and one with an empty main. Raises as `build_image`.
    """
    emitted = read_project(project).linked_with(cmsis_nn)
    toolchain = target_toolchain(core, compiler)
    site = _Site(emitted, core, toolchain)
    if emitted.networks:
        jobs = site.harness_jobs("sim_startup.c")
        jobs.append(site.generated_job("turns.c", turns_flash_source))
    else:
        jobs = site.harness_jobs("sim_startup.c", "flash_network.c")
    jobs += network_jobs(emitted, site.folder, site.own_flags(optimize), cmsis_nn)
    # The arena is an ordinary static array of flash_network.c.
    network = site.link(jobs, 0, site.library(optimize, cmsis_nn))
    site = _Site(emitted, core, toolchain)
    empty = site.link(site.harness_jobs("sim_startup.c", "flash_empty.c"), 0)
    return network.flash_bytes - empty.flash_bytes


class _Site:
    """A temporary folder in which one image is built."""

    def __init__(self, project: EmittedProject, core: Core, toolchain: Toolchain) -> None:
        self.project = project
        self.core = core
        self.toolchain = toolchain
        self.machine = machine_for(core)
        self.directory = tempfile.TemporaryDirectory(prefix="qutec-sim-")
        self.folder = Path(self.directory.name)
        if not project.networks:
            (self.folder / "sim_config.h").write_text(config_header(project), encoding="utf-8")

    def library_flags(self, optimize: str | None) -> tuple[str, ...]:
        """Flags for C files that are not ours."""
        level = optimize or self.project.compiler_level
        # zig brings no C library: harness/string.h is all there is of one.
        libc = ("-idirafter", str(_HARNESS)) if self.toolchain.name == "zig" else ()
        return (*self.toolchain.optimization(level), *_SECTION_FLAGS, *libc)

    def library(self, optimize: str | None, cmsis_nn: Path | None) -> list[Path]:
        """Objects of Arm's library, none without one."""
        return library_objects(self.toolchain, self.library_flags(optimize), cmsis_nn)

    def own_flags(self, optimize: str | None) -> tuple[str, ...]:
        """Flags for C files that must pass the warnings."""
        return (*self.library_flags(optimize), *warning_flags())

    def harness_jobs(self, *names: str) -> list[CompileJob]:
        """Jobs for files of the harness, and for a C library where the compiler has none."""
        include = (*self._project_flags(), f"-I{self.folder}")
        flags = (*self.own_flags("-O2"), *include)
        jobs = [CompileJob(_HARNESS / name, self.folder / f"{name}.o", flags) for name in names]
        if self.toolchain.name == "zig":
            library = (*self.own_flags("-O2"), "-fno-builtin")
            jobs.append(CompileJob(_HARNESS / "sim_libc.c", self.folder / "sim_libc.o", library))
        return jobs

    def generated_job(self, name: str, source: Callable[[EmittedProject], str]) -> CompileJob:
        """A job for a file of the harness that depends on the project."""
        path = self.folder / name
        path.write_text(source(self.project), encoding="utf-8")
        flags = (*self.own_flags("-O2"), *self._project_flags())
        return CompileJob(path, self.folder / f"{name}.o", flags)

    def _project_flags(self) -> tuple[str, ...]:
        """For what includes the project's headers, and those of the harness."""
        io = f"-DSIM_IO_BASE=0x{self.machine.io:08x}u"
        return (*self.project.definitions, f"-I{self.project.path}", io)

    def link(self, jobs: list[CompileJob], arena_bytes: int, library: Sequence[Path] = ()) -> Image:
        """Compile everything and link it, with room for an arena of that size at the end of SRAM."""
        compile_all(self.toolchain, jobs)
        script = self.folder / "image.ld"
        script.write_text(self._linker_script(arena_bytes), encoding="utf-8")
        flags = ["-Wl,--gc-sections", f"-Wl,-T,{script}", "-Wl,--entry=sim_reset"]
        if self.toolchain.name == "gcc":
            flags += ["-nostartfiles", "-lm"]
        elf = self.folder / f"{self.project.prefix}.elf"
        link(self.toolchain, [*(job.output for job in jobs), *library], elf, flags)
        return self._image(elf)

    def _linker_script(self, arena_bytes: int) -> str:
        template = Template((_HARNESS / "sim_image.ld.in").read_text(encoding="utf-8"))
        return template.substitute(
            vectors=f"0x{self.machine.vectors:08x}",
            code=f"0x{self.machine.code:08x}",
            arena=f"0x{self.machine.sram_top - _room(arena_bytes):08x}",
            harness=f"0x{self.machine.io + _HARNESS_DATA_OFFSET:08x}",
        )

    def _image(self, elf: Path) -> Image:
        contents = read_elf(elf)
        image = Image(
            elf=elf,
            project=self.project,
            core=self.core,
            compiler=self.toolchain.name,
            machine=self.machine,
            text_bytes=contents.text_bytes,
            rodata_bytes=contents.rodata_bytes,
            data_bytes=contents.data_bytes,
            bss_bytes=contents.bss_bytes,
            functions=contents.functions,
            symbols=contents.symbols,
            segments=contents.segments,
            directory=self.directory,
        )
        if image.flash_bytes > self.machine.code_limit:
            limit = self.machine.code_limit
            raise DoesNotFitError(
                f"the image takes {image.flash_bytes} bytes of flash, the emulator has {limit}"
            )
        return image


def _room(arena_bytes: int) -> int:
    return -(-arena_bytes // _ARENA_ALIGN) * _ARENA_ALIGN
