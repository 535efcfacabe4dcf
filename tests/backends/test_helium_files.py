"""Files for Helium are in the projects of cores that have it, and nowhere else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from qutec.backends.cmsis_nn.kernel_index import KERNEL_DIRECTORY, kernel_files
from qutec.targets import Core, target
from tests.backends.emitted import every_kind
from tests.end_to_end.compiled import require

WITHOUT, WITH = target("cortex-m4").core, target("cortex-m55").core
_FLAGS = ["-mcpu=cortex-m55", "-mthumb", "-mfpu=auto", "-mfloat-abi=hard", "-O3", "-std=c99"]


def undefined_symbols(names: list[str], folder: Path) -> set[str]:
    """What is left undefined by the C files of that name, compiled for a Cortex-M55 and joined."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text((KERNEL_DIRECTORY / name).read_text(encoding="utf-8"), encoding="utf-8")
    sources = [str(folder / name) for name in names if name.endswith(".c")]
    subprocess.run(["arm-none-eabi-gcc", *_FLAGS, "-c", *sources], cwd=folder, check=True)
    objects = [path.name for path in sorted(folder.glob("*.o"))]
    subprocess.run(["arm-none-eabi-ld", "-r", *objects, "-o", "all.elf"], cwd=folder, check=True)
    printed = subprocess.run(
        ["arm-none-eabi-nm", "-u", "all.elf"], cwd=folder, capture_output=True, text=True, check=True
    )
    return {line.split()[-1] for line in printed.stdout.splitlines()}


def test_cores_without_helium_get_no_file_for_it() -> None:
    calls = every_kind()
    with_helium, without = kernel_files(calls, core=WITH), kernel_files(calls, core=WITHOUT)
    only = set(with_helium) - set(without)
    assert only
    assert set(without) < set(with_helium) == set(kernel_files(calls))
    assert all(name.startswith("qute_helium") for name in only)


@pytest.mark.parametrize("core", [WITH, WITHOUT], ids=lambda core: core.name)
def test_kernels_of_any_project_link_on_a_core_with_helium(core: Core, tmp_path: Path) -> None:
    """Those of a project for another core fall back on the DSP extension."""
    require("gcc")
    names = kernel_files(every_kind(), core=core)
    assert undefined_symbols(names, tmp_path / "kernels") <= {"memcpy", "memset"}
