"""Which C files make up a network: the project's own, and its kernels from the bundle or from CMSIS-NN."""

from __future__ import annotations

import shutil
from pathlib import Path

from qutec.backends.cmsis_nn.kernel_index import own_sources
from qutec.errors import UsageError
from qutec.simulate.project import EmittedProject
from qutec.simulate.toolchain import CompileJob

__all__ = ["network_jobs"]

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
    project: EmittedProject,
    folder: Path,
    own_flags: tuple[str, ...],
    library_flags: tuple[str, ...],
    cmsis_nn: Path | None,
) -> list[CompileJob]:
    """Compile jobs for the network and its kernels, bundled or Arm's, with object files in `folder`.

    Raises UsageError where `cmsis_nn` is not a copy of CMSIS-NN.
    """
    kernels = project.path / "kernels"
    if cmsis_nn is None:
        includes: tuple[str, ...] = (f"-I{kernels}",)
        sources, library = [*project.sources, *project.kernel_sources], list[Path]()
    else:
        library = _library_sources(cmsis_nn)
        staged = _stage_own_kernels(kernels, folder / "kernels")
        # As system headers, Arm's are exempt from our warnings.
        includes = (f"-I{staged}", "-isystem", str(cmsis_nn.resolve() / "Include"))
        sources = [*project.sources, *sorted(staged.glob("*.c"))]
    objects = folder / "objects"
    objects.mkdir()
    own = (*own_flags, f"-I{project.path}", *includes)
    jobs = [CompileJob(path, objects / f"{index}-{path.stem}.o", own) for index, path in enumerate(sources)]
    arm = (*library_flags, *includes)
    jobs += [CompileJob(path, objects / f"arm-{path.stem}.o", arm) for path in library]
    return jobs


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
