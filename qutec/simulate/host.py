"""Building an emitted project for this machine, to run it fast or under sanitizers."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qutec.errors import QutecError, UsageError
from qutec.simulate.errors import EmulationError
from qutec.simulate.ports import Int8Array, join_inputs, split_outputs
from qutec.simulate.project import EmittedProject, config_header, read_project
from qutec.simulate.sources import library_objects, network_jobs
from qutec.simulate.toolchain import CompileJob, compile_all, host_toolchain, link, warning_flags

__all__ = ["HostImage", "build_host"]

_HARNESS = Path(__file__).parent / "harness"
_TIMEOUT_SECONDS = 600
_EXIT_TRUNCATED = 65
_EXIT_ROWS = 66


@dataclass(frozen=True)
class HostImage:
    """A network compiled for this machine. Its files live as long as the object does."""

    executable: Path
    project: EmittedProject
    directory: tempfile.TemporaryDirectory[str] = field(repr=False, compare=False)

    def run(self, inputs: Sequence[Int8Array]) -> tuple[Int8Array, ...]:
        """The outputs (flat) of one inference; `inputs` as for `run_image`. Raises as `run_many`."""
        return self.run_many([inputs])[0]

    def run_many(self, samples: Iterable[Sequence[Int8Array]]) -> list[tuple[Int8Array, ...]]:
        """The outputs of many inferences in one process.

        Raises UsageError for wrong inputs, EmulationError where the network returns an error, crashes, or
        a sanitizer objects.
        """
        contents = [join_inputs(self.project, inputs) for inputs in samples]
        try:
            result = subprocess.run(
                [str(self.executable)],
                input=b"".join(contents),
                capture_output=True,
                # Leak checking needs ptrace, which containers often forbid; networks allocate nothing.
                env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EmulationError(f"the network did not finish within {_TIMEOUT_SECONDS} s") from None
        size = sum(self.project.output_bytes)
        if result.returncode != 0 or len(result.stdout) != size * len(contents):
            raise EmulationError(self._failure(result))
        starts = range(0, size * len(contents), size)
        return [split_outputs(self.project, result.stdout[start : start + size]) for start in starts]

    def _failure(self, result: subprocess.CompletedProcess[bytes]) -> str:
        errors = result.stderr.decode(errors="replace").strip().splitlines()
        if errors:
            return "\n".join([f"{self.project.prefix} failed on the host:", *errors[:12]])
        if result.returncode < 0:
            return f"{self.project.prefix} was ended by signal {-result.returncode} on the host"
        if 0 < result.returncode < _EXIT_TRUNCATED - 1:
            status = self.project.status_name(result.returncode - 1)
            return f"{self.project.prefix} returned {status} on the host"
        if result.returncode == _EXIT_ROWS:
            return f"{self.project.prefix} did not ask for every row of its input once and in order"
        return f"{self.project.prefix} ended with status {result.returncode} on the host"


def build_host(
    project: Path, *, cmsis_nn: Path | None = None, sanitize: bool = False, optimize: str = "-O2"
) -> HostImage:
    """Compile the emitted project in folder `project` for this machine.

    `cmsis_nn` as for `build_image`. `sanitize` adds AddressSanitizer and UndefinedBehaviorSanitizer (with
    zig, which brings no runtime for the former, the latter alone). Raises as `build_image`.
    """
    emitted = read_project(project).linked_with(cmsis_nn)
    if emitted.networks:
        raise UsageError(
            f"'{project}' holds {len(emitted.networks)} networks; build one of its networks/<name>"
        )
    toolchain = host_toolchain()
    directory = tempfile.TemporaryDirectory(prefix="qutec-host-")
    folder = Path(directory.name)
    (folder / "sim_config.h").write_text(config_header(emitted), encoding="utf-8")
    sanitizers: tuple[str, ...] = ("-fno-sanitize=undefined",) if toolchain.name == "zig" else ()
    if sanitize:
        checks = "undefined" if toolchain.name == "zig" else "address,undefined"
        sanitizers = (f"-fsanitize={checks}", "-fno-sanitize-recover=all", "-g")
    library = (*toolchain.optimization(optimize), *sanitizers)
    own = (*warning_flags(), *library)
    jobs = network_jobs(emitted, folder, own, cmsis_nn)
    flags = (*own, *emitted.definitions, f"-I{folder}", f"-I{emitted.path}")
    jobs.append(CompileJob(_HARNESS / "host_main.c", folder / "host_main.o", flags))
    compile_all(toolchain, jobs)
    executable = folder / (f"{emitted.prefix}.exe" if os.name == "nt" else emitted.prefix)
    objects = [*(job.output for job in jobs), *library_objects(toolchain, library, cmsis_nn)]
    link(toolchain, objects, executable, [*sanitizers, "-lm"])
    if not executable.is_file():
        raise QutecError(f"the compiler made no '{executable.name}'")
    return HostImage(executable, emitted, directory)
