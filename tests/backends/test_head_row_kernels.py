"""Heads that take in their map row by row: the same features as of the whole map, on a host and on cores."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qutec.backends.cmsis_nn.head_features import feature_row_kernels
from qutec.backends.cmsis_nn.kernel_index import KERNEL_DIRECTORY
from qutec.program import HeadFeatures, Program, RowRegion
from qutec.simulate import build_host, build_image, run_many
from qutec.targets import target
from tests import random_head_calls as calls
from tests.backends.emitted import emit, expect_reference
from tests.backends.in_regions import in_regions, inputs_of, whole_maps

CORES = [("cortex-m4", "-O3"), ("cortex-m4", "-O0"), ("cortex-m33", "-Os"), ("cortex-m3", "-O3")]
SHAPES = [
    {"kernel": (3, 3), "stride": (1, 1), "size": (8, 8), "channels": 8},
    {"kernel": (3, 3), "stride": (1, 1), "size": (25, 5), "channels": 7},
    {"kernel": (3, 3), "stride": (1, 1), "size": (4, 35), "channels": 5},
    {"kernel": (3, 3), "stride": (1, 1), "size": (3, 1), "channels": 4},
    {"kernel": (3, 3), "stride": (1, 1), "size": (9, 6), "channels": 3},
    {"kernel": (3, 3), "stride": (2, 2), "size": (13, 17), "channels": 6},
    {"kernel": (5, 5), "stride": (1, 1), "size": (7, 9), "channels": 6},
    {"kernel": (2, 2), "stride": (3, 3), "size": (10, 10), "channels": 4},
    {"kernel": (3, 1), "stride": (1, 1), "size": (9, 3), "channels": 5},
    {"kernel": (3, 3), "stride": (1, 1), "size": (3, 200), "channels": 4},
]


def in_rows(seed: int) -> Program:
    """Each call in a region of its own."""
    rng = np.random.default_rng(seed)
    made = [calls.head_features(rng, relu=relu, **shape) for relu in (False, True) for shape in SHAPES]  # type: ignore[arg-type]
    made += [calls.head_features(rng, relu=bool(k % 2)) for k in range(16)]
    made.append(huge_sums(rng))
    return in_regions(made, lambda _call: 0)


def huge_sums(rng: np.random.Generator) -> HeadFeatures:
    """So many taps of one sign that no 16 bits hold the sum of their weights."""
    call = calls.head_features(rng, relu=False, kernel=(20, 20), stride=(1, 1), size=(4, 4), channels=4)
    return replace(
        call,
        weights=np.full((1, 20, 20, 4), -127, np.int8),
        multiplier=call.multiplier[:1],
        padding=(19, 19),
        output_pixels=(4, 4),
    )


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("seed", [1, 2])
def test_host_under_sanitizers(tmp_path: Path, seed: int) -> None:
    program = in_rows(seed)
    inputs = inputs_of(program, seed)
    host = build_host(emit(program, tmp_path), sanitize=True, optimize="-O1")
    expect_reference(whole_maps(program), inputs, host.run_many(inputs))


@pytest.mark.emulated
@pytest.mark.parametrize(
    ("core", "optimize"),
    [("cortex-m4", "-O3"), ("cortex-m4", "-O0"), ("cortex-m33", "-Os"), ("cortex-m3", "-O3")],
)
def test_emulated_cores(tmp_path: Path, core: str, optimize: str) -> None:
    if importlib.util.find_spec("unicorn") is None:
        pytest.skip("unicorn is not installed")
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    program = in_rows(4)
    inputs = inputs_of(program, 4)
    image = build_image(
        emit(program, tmp_path, core=core), target(core).core, compiler="gcc", optimize=optimize
    )
    expect_reference(whole_maps(program), inputs, run_many(image, inputs))


def test_the_calls_of_these_tests_take_every_kernel() -> None:
    taken = {
        feature_row_kernels(call)[0]
        for seed in (1, 2, 4)
        for region in in_rows(seed).calls
        if isinstance(region, RowRegion)
        for call in region.calls
        if isinstance(call, HeadFeatures)
    }
    assert taken == {path.stem for path in KERNEL_DIRECTORY.glob("qute_head_*_row_*.c")}
