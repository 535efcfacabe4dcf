"""The reference interpreter against Arm's CMSIS-NN, bit for bit, on random calls."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from qutec import reference_kernels as kernels
from qutec.fixed_point import softmax_parameters
from qutec.program import Add, Int8Array, Mul, Softmax
from tests import arm_cmsis_nn, random_calls

CALLS = 150


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> arm_cmsis_nn.ArmCmsisNN:
    root = os.environ.get("CMSIS_NN_PATH")
    if not root:
        pytest.skip("CMSIS_NN_PATH is not set")
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    return arm_cmsis_nn.ArmCmsisNN(arm_cmsis_nn.build(Path(root), tmp_path_factory.mktemp("cmsis_nn")))


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d", "avg_pool2d", "max_pool2d"])
def test_kernel_on_a_map_equals_arm(arm: arm_cmsis_nn.ArmCmsisNN, name: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(CALLS):
        call = getattr(random_calls, name)(rng)
        values = random_calls.int8(rng, *call.input_shape)
        expected = getattr(arm, name)(call, values)
        np.testing.assert_array_equal(getattr(kernels, name)(call, values), expected, err_msg=repr(call))


def test_fully_connected_equals_arm(arm: arm_cmsis_nn.ArmCmsisNN) -> None:
    rng = np.random.default_rng(2)
    for _ in range(CALLS):
        call = random_calls.fully_connected(rng)
        values = random_calls.int8(rng, call.rows, call.weights.shape[1])
        expected = arm.fully_connected(call, values)
        np.testing.assert_array_equal(kernels.fully_connected(call, values), expected, err_msg=repr(call))


def _operands(call: Add | Mul, rng: np.random.Generator) -> tuple[Int8Array, Int8Array]:
    return random_calls.int8(rng, call.outer, call.inner), random_calls.int8(rng, call.outer, call.inner)


def test_addition_and_subtraction_equal_arm(arm: arm_cmsis_nn.ArmCmsisNN) -> None:
    rng = np.random.default_rng(3)
    for _ in range(CALLS):
        call = random_calls.add(rng)
        operands = _operands(call, rng)
        np.testing.assert_array_equal(kernels.add(call, *operands), arm.add(call, *operands), repr(call))


def test_multiplication_with_either_sign_equals_arm(arm: arm_cmsis_nn.ArmCmsisNN) -> None:
    rng = np.random.default_rng(4)
    for _ in range(CALLS):
        call = random_calls.mul(rng)
        operands = _operands(call, rng)
        np.testing.assert_array_equal(kernels.mul(call, *operands), arm.mul(call, *operands), repr(call))


def test_softmax_equals_arm_for_any_multiplier_and_shift(arm: arm_cmsis_nn.ArmCmsisNN) -> None:
    rng = np.random.default_rng(5)
    for _ in range(4 * CALLS):
        call = random_calls.softmax(rng)
        values = random_calls.int8(rng, call.rows, call.row_size)
        np.testing.assert_array_equal(kernels.softmax(call, values), arm.softmax(call, values), repr(call))


@pytest.mark.parametrize("scale", [1e-9, 1e-4, 0.0037, 0.05, 0.1, 0.25, 1.0, 15.9, 40.0])
def test_softmax_of_real_scales_equals_arm_for_every_difference(
    arm: arm_cmsis_nn.ArmCmsisNN, scale: float
) -> None:
    multiplier, shift, diff_min = softmax_parameters(scale)
    below = np.arange(-128, 128, dtype=np.int8)
    values = np.stack([np.full(256, 127, dtype=np.int8), below], axis=1)
    call = Softmax("softmax", random_calls.INPUT, random_calls.OUTPUT, 256, 2, multiplier, shift, diff_min)
    np.testing.assert_array_equal(kernels.softmax(call, values), arm.softmax(call, values))
