"""Rows that a region holds move up by whole bytes, words or blocks of words, at any alignment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks._call_chains import Chain
from qutec.backends.cmsis_nn import scratch_bytes
from qutec.planner.regions import segments, with_segments
from qutec.program import Int8Array, Program
from qutec.reference import run_program
from qutec.simulate import build_host, build_image, run_many
from qutec.targets import Core, target
from tests.backends.emitted import emit
from tests.backends.in_regions import inputs_of
from tests.end_to_end.compiled import require

WIDTHS = (1, 2, 3, 9, 10, 11, 12)
"""With 7 channels: rows of 7 to 84 bytes, with every remainder of 4."""


def layer_by_layer(width: int) -> Program:
    """A convolution and a depthwise one that needs five of its rows."""
    chain = Chain((1, 12, width, 3))
    chain.conv(7, (3, 3), padding=(1, 1))
    chain.depthwise((5, 5), stride=1, padding=(2, 2))
    return chain.program()


def row_by_row(program: Program, core: Core) -> Program:
    """Both in one region."""
    scratch = [scratch_bytes(call, core) for call in program.calls]
    (whole,) = (s for s in segments(program, scratch) if s.region is not None and s.end == 2 and s.first == 0)
    return with_segments(program, scratch, [whole])[0]


def expect_whole_maps(
    program: Program, inputs: list[list[Int8Array]], got: list[tuple[Int8Array, ...]]
) -> None:
    for (sample,), (output,) in zip(inputs, got, strict=True):
        (wanted,) = run_program(program, [sample[None]])
        np.testing.assert_array_equal(output, wanted.ravel())


@pytest.mark.parametrize("width", WIDTHS)
def test_host_under_sanitizers(tmp_path: Path, width: int) -> None:
    require("cc")
    program = layer_by_layer(width)
    inputs = inputs_of(program, width)
    rows = row_by_row(program, target("cortex-m4").core)
    host = build_host(emit(rows, tmp_path), sanitize=True, optimize="-O1")
    expect_whole_maps(program, inputs, host.run_many(inputs))


@pytest.mark.emulated
@pytest.mark.parametrize("optimize", ["-O3", "-O0"])
@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m3", "cortex-m0plus"])
def test_emulated_cores(tmp_path: Path, name: str, optimize: str) -> None:
    require("gcc", "unicorn")
    core = target(name).core
    for width in WIDTHS:
        program = layer_by_layer(width)
        inputs = inputs_of(program, width)
        project = emit(row_by_row(program, core), tmp_path / str(width), core=name)
        image = build_image(project, core, compiler="gcc", optimize=optimize)
        expect_whole_maps(program, inputs, run_many(image, inputs))
