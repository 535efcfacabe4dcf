"""Which C files make up a network: the project's own, and its kernels from the bundle or from CMSIS-NN.

A project's own files are compiled anew for every image. Arm's library is the same for all of them, and large:
its object files are made once in a process for each compiler and set of flags.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from qutec.backends.cmsis_nn.kernel_index import own_sources
from qutec.errors import UsageError
from qutec.simulate.project import EmittedProject
from qutec.simulate.toolchain import CompileJob, Toolchain, compile_all

__all__ = ["library_objects", "network_jobs"]

# Of CMSIS-NN's sources, the folders whose kernels emitted code calls, directly or not.
_CMSIS_NN_FOLDERS = (
    "ActivationFunctions",
    "BasicMathFunctions",
    "ConcatenationFunctions",
    "ConvolutionFunctions",
    "FullyConnectedFunctions",
    "NNSupportFunctions",
    "PoolingFunctions",
    "ReshapeFunctions",
    "SoftmaxFunctions",
    "TransposeFunctions",
)


def network_jobs(
    project: EmittedProject, folder: Path, own_flags: tuple[str, ...], cmsis_nn: Path | None
) -> list[CompileJob]:
    """Compile jobs for the network and its kernels, with object files in `folder`.

    With Arm's library (`cmsis_nn`) only the kernels that it lacks are among them; see `library_objects`.
    Raises UsageError where `cmsis_nn` is not a copy of CMSIS-NN.
    """
    kernels = project.path / "kernels"
    if cmsis_nn is None:
        includes: tuple[str, ...] = (f"-I{kernels}",)
        sources = [*project.sources, *project.kernel_sources]
    else:
        staged = _stage_own_kernels(kernels, folder / "kernels")
        # As system headers, Arm's are exempt from our warnings.
        includes = (f"-I{staged}", *_library_includes(cmsis_nn))
        sources = [*project.sources, *sorted(staged.glob("*.c"))]
    objects = folder / "objects"
    objects.mkdir()
    own = (*own_flags, *project.definitions, f"-I{project.path}", *includes)
    return [CompileJob(path, objects / f"{index}-{path.stem}.o", own) for index, path in enumerate(sources)]


def library_objects(toolchain: Toolchain, flags: tuple[str, ...], cmsis_nn: Path | None) -> list[Path]:
    """Object files of Arm's library; none without one.

    They live as long as the process. Raises UsageError where `cmsis_nn` is not a copy of CMSIS-NN, QutecError
    where it does not compile.
    """
    if cmsis_nn is None:
        return []
    sources = tuple((path, path.stat().st_mtime_ns) for path in _library_sources(cmsis_nn))
    return [*_compiled(toolchain, (*flags, *_library_includes(cmsis_nn)), sources)[1]]


@cache
def _compiled(
    toolchain: Toolchain, flags: tuple[str, ...], sources: tuple[tuple[Path, int], ...]
) -> tuple[tempfile.TemporaryDirectory[str], tuple[Path, ...]]:
    """The folder that keeps the objects, and these; the files' times are there to tell changed ones apart."""
    folder = tempfile.TemporaryDirectory(prefix="qutec-cmsis-nn-")
    jobs = [CompileJob(path, Path(folder.name) / f"{path.stem}.o", flags) for path, _ in sources]
    compile_all(toolchain, jobs)
    return folder, tuple(job.output for job in jobs)


def _library_includes(cmsis_nn: Path) -> tuple[str, ...]:
    return "-isystem", str(cmsis_nn.resolve() / "Include")


def _library_sources(cmsis_nn: Path) -> list[Path]:
    root = cmsis_nn.resolve()
    if not (root / "Include" / "arm_nnfunctions.h").is_file():
        raise UsageError(f"'{cmsis_nn}' is not a copy of CMSIS-NN: it has no Include/arm_nnfunctions.h")
    sources = (path for folder in _CMSIS_NN_FOLDERS for path in (root / "Source" / folder).glob("*.c"))
    return sorted(path for path in sources if not path.stem.endswith(("_f16", "_f32")))


def _stage_own_kernels(kernels: Path, folder: Path) -> Path:
    """A copy of the kernels that Arm's library does not have, out of reach of the bundled arm_* headers.

    A quoted include looks next to the including file first, so the originals would still find the bundled
    headers.
    """
    folder.mkdir()
    for name in [*own_sources(kernels), *(path.name for path in kernels.glob("qute_*.h"))]:
        shutil.copy(kernels / name, folder / name)
    return folder
