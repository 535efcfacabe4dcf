"""Convolutions by rows, whose constants were checked when the call was written."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qutec.backends.cmsis_nn import scratch_bytes
from qutec.backends.cmsis_nn.checked_constants import can_scale
from qutec.program import Conv2D, DepthwiseConv2D, Program
from qutec.program.row_stages import row_stages
from qutec.simulate import build_image, run_many
from qutec.targets import target
from tests import random_calls
from tests.backends.emitted import emit, expect_reference
from tests.backends.in_regions import in_regions, whole_maps
from tests.random_calls import int8

CORE = target("cortex-m4").core
HALF = 1 << 29


def some_calls(seed: int) -> list[Conv2D | DepthwiseConv2D]:
    """Usual constants, and such as no quick requantisation takes: in one channel, or in all."""
    rng = np.random.default_rng(seed)
    made: list[Conv2D | DepthwiseConv2D] = []
    while len(made) < 24:
        call = random_calls.conv2d(rng) if rng.random() < 0.5 else random_calls.depthwise_conv2d(rng)
        if row_stages((call,)) is None:
            continue
        bias, shift, multiplier = call.bias.copy(), call.shift.copy(), call.multiplier.copy()
        match len(made) % 4:
            case 0:
                bias[-1] = rng.choice([-HALF - 1, HALF, -HALF, HALF - 1])
            case 1:
                shift[0] = rng.choice([0, 1, -22, -23, -31])
            case 2:
                multiplier[len(multiplier) // 2] *= -1
            case _:
                bias, shift = bias % 1000, np.clip(shift, -15, -1)
        made.append(replace(call, bias=bias, shift=shift, multiplier=multiplier))
    return made


def by_rows(seed: int) -> Program:
    return in_regions(some_calls(seed), lambda call: scratch_bytes(call, CORE))


@pytest.mark.emulated
@pytest.mark.parametrize("seed", [1, 2])
def test_rows_give_the_bytes_of_the_reference(seed: int, tmp_path: Path) -> None:
    if importlib.util.find_spec("unicorn") is None or shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("unicorn or arm-none-eabi-gcc is not installed")
    program = by_rows(seed)
    rng = np.random.default_rng(seed)
    sample = [int8(rng, port.size) for port in program.inputs]
    image = build_image(emit(program, tmp_path, core="cortex-m4"), CORE, compiler="gcc")
    expect_reference(whole_maps(program), [sample], run_many(image, [sample]))


def test_both_kinds_of_constants_are_among_them() -> None:
    assert {(type(call), can_scale(call)) for call in some_calls(1) + some_calls(2)} == {
        (kind, known) for kind in (Conv2D, DepthwiseConv2D) for known in (False, True)
    }


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, True),
        ({"bias": HALF - 1}, True),
        ({"bias": HALF}, False),
        ({"bias": -HALF}, True),
        ({"bias": -HALF - 1}, False),
        ({"multiplier": -1}, False),
        ({"multiplier": 0}, True),
        ({"shift": 0}, False),
        ({"shift": -22}, True),
        ({"shift": -23}, False),
    ],
)
def test_one_channel_decides(change: dict[str, int], wanted: bool) -> None:
    call = random_calls.depthwise_conv2d(np.random.default_rng(0))
    ones = np.ones_like(call.multiplier)
    call = replace(call, bias=0 * ones, multiplier=(1 << 30) * ones, shift=-ones)
    for name, value in change.items():
        values = getattr(call, name).copy()
        values[-1] = value
        call = replace(call, **{name: values})  # type: ignore[arg-type]
    assert can_scale(call) is wanted
