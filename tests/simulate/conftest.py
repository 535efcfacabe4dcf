from __future__ import annotations

import importlib.util
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from qutec.simulate import Compiler, Image, build_image
from qutec.targets import target
from tests.simulate.fake_project import FakeNetwork

Build = Callable[..., Image]

TOOLS = {
    "zig": importlib.util.find_spec("ziglang") is not None,
    "gcc": shutil.which("arm-none-eabi-gcc") is not None,
    "unicorn": importlib.util.find_spec("unicorn") is not None,
    "qemu": shutil.which("qemu-system-arm") is not None,
}


def require(*tools: str) -> None:
    for tool in tools:
        if not TOOLS[tool]:
            pytest.skip(f"{tool} is not installed")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return FakeNetwork().write(tmp_path / "toy")


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Build a fake network whose second layer runs the given C statements."""

    numbers = itertools.count()

    def build_fake(
        statements: str = "", core: str = "cortex-m4", compiler: Compiler = "auto", **options: str
    ) -> Image:
        if compiler == "auto" and not TOOLS["zig"]:
            require("gcc")
        elif compiler != "auto":
            require(compiler)
        folder = FakeNetwork(statements, **options).write(tmp_path / f"toy{next(numbers)}")
        return build_image(folder, target(core).core, compiler=compiler)

    return build_fake
