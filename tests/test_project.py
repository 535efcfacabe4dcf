"""What holds for the project as a whole: versions, pinned dependencies, wheel contents, lean imports."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import qutec

ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRA_ONLY_MODULES = ("torch", "onnxscript", "sklearn", "unicorn", "ziglang", "elftools")


def _direct_requirements() -> list[Requirement]:
    project = PYPROJECT["project"]
    lines = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    requirements = [Requirement(line) for line in lines]
    return [requirement for requirement in requirements if requirement.name != project["name"]]


def _constraints() -> dict[str, Version]:
    lines = [line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pins}


def _installed_requirements(extras: set[str]) -> Iterator[str]:
    """Canonical names of what qutec with these extras pulls here, directly or not, qutec itself left out."""
    pending = [("qutec", frozenset(extras))]
    seen = set(pending)
    while pending:
        name, wanted = pending.pop()
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that this environment lacks
        if name != "qutec":
            yield name
        for requirement in map(Requirement, lines):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in wanted or {""}):
                found = (canonicalize_name(requirement.name), frozenset(requirement.extras))
                if found not in seen:
                    seen.add(found)
                    pending.append(found)


def test_version_agrees_with_pyproject() -> None:
    assert qutec.__version__ == PYPROJECT["project"]["version"]


def test_version_has_a_changelog_entry() -> None:
    version = re.escape(PYPROJECT["project"]["version"])
    assert re.search(rf"^## \[{version}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("requirement", _direct_requirements(), ids=str)
def test_direct_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    pinned = _constraints().get(canonicalize_name(requirement.name))
    assert pinned is not None, f"constraints.txt does not pin {requirement.name}"
    assert requirement.specifier.contains(pinned)


def test_indirect_dependencies_are_pinned() -> None:
    pulled = set(_installed_requirements({"dev", "demo", "sim"}))
    assert {"numpy", "onnx", "pytest", "pluggy"} <= pulled
    assert pulled - _constraints().keys() == set()


def _files_to_ship() -> set[str]:
    """Paths inside a wheel of everything below the packages that is code, kernel, template or harness."""
    mapping = {"qutec": "qutec", "passes": "qutec/passes", "backends": "qutec/backends"}
    return {
        f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, inside in mapping.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in {".pyc"} and not path.name.startswith(".")
    }


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    setuptools = Version(importlib.metadata.version("setuptools"))
    needed = Requirement(PYPROJECT["build-system"]["requires"][0])
    if not needed.specifier.contains(setuptools):
        pytest.skip(f"building without the network needs {needed}, here is {setuptools}")
    # Built from a copy: setuptools leaves build/ and .egg-info next to the sources.
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for folder in ("qutec", "passes", "backends"):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path)]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True, capture_output=True
    )

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
        licenses = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    expected = _files_to_ship()
    assert "qutec/py.typed" in expected
    assert any(name.startswith("qutec/backends/cmsis_nn/kernels/") for name in expected)
    assert shipped == expected
    assert licenses


@pytest.fixture
def with_every_extra(tmp_path: Path) -> dict[str, str]:
    """An environment in which each extra's module can be imported: not importing one proves something."""
    for module in EXTRA_ONLY_MODULES:
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").touch()
    return {"PYTHONPATH": str(tmp_path), "COLUMNS": "100"}


@pytest.mark.parametrize(
    "statement",
    [
        "import qutec",
        "sys.argv = ['qutec', '--help']; from qutec.cli import main; main()",
    ],
    ids=["import", "help"],
)
def test_no_module_of_an_extra_is_imported(statement: str, with_every_extra: dict[str, str]) -> None:
    code = f"""
import sys
try:
    {statement}
except SystemExit as end:
    assert not end.code, end.code
print("imported:", *sorted(set({EXTRA_ONLY_MODULES}) & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=with_every_extra, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"
