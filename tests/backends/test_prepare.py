"""What a program becomes before it is planned for a core."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qutec.backends.cmsis_nn import prepare
from qutec.errors import UnsupportedModelError
from qutec.program import Conv2D, FullyConnected
from qutec.reference import run_program
from qutec.targets import target
from tests import random_calls
from tests.backends.emitted import every_kind, program_of, random_inputs


def dense_layers(count: int) -> list[FullyConnected]:
    rng = np.random.default_rng(4)
    return [replace(random_calls.fully_connected(rng), filter_offset=0) for _ in range(count)]


@pytest.mark.parametrize("core", ["cortex-m55", "cortex-m85"])
def test_helium_gets_convolutions_that_compute_what_dense_layers_do(core: str) -> None:
    program = program_of(dense_layers(12))
    prepared = prepare(program, target(core).core)
    assert all(isinstance(call, Conv2D) for call in prepared.calls)
    inputs = random_inputs(program, samples=5)
    outputs = zip(run_program(prepared, inputs), run_program(program, inputs), strict=True)
    for mine, theirs in outputs:
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("core", ["cortex-m0", "cortex-m4", "cortex-m55"])
def test_input_offsets_become_biases_where_no_window_leaves_its_input(core: str) -> None:
    rng = np.random.default_rng(5)
    convolutions = [random_calls.conv2d(rng) for _ in range(40)]
    program = program_of([*dense_layers(12), *convolutions])
    prepared = prepare(program, target(core).core)
    padded = 0
    for before, after in zip(program.calls, prepared.calls, strict=True):
        assert isinstance(before, Conv2D | FullyConnected)
        assert isinstance(after, Conv2D | FullyConnected)
        if isinstance(before, Conv2D) and before.padding != (0, 0):
            assert after is before
            padded += 1
        elif isinstance(before, FullyConnected):
            assert after.input_offset == 0
    assert 0 < padded < len(convolutions)
    assert any(isinstance(call, Conv2D) and call.input_offset == 0 for call in prepared.calls)
    inputs = random_inputs(program, samples=5)
    for mine, theirs in zip(run_program(prepared, inputs), run_program(program, inputs), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_bias_that_would_overflow_keeps_its_offset() -> None:
    call = replace(dense_layers(1)[0], input_offset=100)
    call = replace(call, bias=np.full_like(call.bias, 2**31 - 1), weights=np.ones_like(call.weights))
    program = program_of([call])
    assert prepare(program, target("cortex-m4").core).calls[0] is program.calls[0]


def test_the_other_calls_keep_what_they_have() -> None:
    program = program_of(every_kind())
    for core in ("cortex-m4", "cortex-m55"):
        prepared = prepare(program, target(core).core)
        for before, after in zip(program.calls, prepared.calls, strict=True):
            assert after is before or isinstance(before, FullyConnected | Conv2D)


def test_weights_with_a_zero_point_are_refused_for_helium_by_name() -> None:
    call = replace(dense_layers(1)[0], name="classifier/MatMul", filter_offset=3)
    with pytest.raises(UnsupportedModelError, match=r"'classifier/MatMul'.*zero point"):
        prepare(program_of([call]), target("cortex-m55").core)
