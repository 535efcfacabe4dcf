"""Every benchmark starts as a module and as a file, and says what it is for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = sorted(path for path in (ROOT / "benchmarks").glob("*.py") if not path.name.startswith("_"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("way", ["module", "file"])
def test_a_benchmark_has_help(way: str, path: Path) -> None:
    what = ["-m", f"benchmarks.{path.stem}"] if way == "module" else [str(path)]
    result = subprocess.run(
        [sys.executable, *what, "--help"], check=False, cwd=ROOT, capture_output=True, text=True
    )
    if "No module named 'torch'" in result.stderr:
        pytest.skip("torch is not installed")
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout
