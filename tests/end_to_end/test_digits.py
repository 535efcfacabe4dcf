"""The network of the repository, end to end, with nothing but what the repository has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

import qutec
from benchmarks._accuracy import run_original
from benchmarks._networks import DIGITS
from models.digits import VIEWS
from qutec import Build
from qutec.errors import DoesNotFitError
from qutec.executions import verify_build
from qutec.exits import ExitChoice
from qutec.simulate import build_host, build_image, run_image, run_many
from tests.end_to_end.compiled import Executions, require

SAMPLES = 64


@pytest.fixture(scope="module")
def images() -> npt.NDArray[np.float32]:
    """Strokes of random width and place on an empty 8x8 image, [SAMPLES, 1, 8, 8] in 0..1."""
    generator = np.random.default_rng(3)
    result = np.zeros((SAMPLES, 1, 8, 8), np.float32)
    for image in result:
        for _ in range(3):
            row, column = generator.integers(0, 7, 2)
            height, width = generator.integers(1, 6, 2)
            image[0, row : row + height, column : column + width] = generator.uniform(0.3, 1)
    return result


@pytest.fixture(scope="module")
def build(images: npt.NDArray[np.float32]) -> Build:
    return qutec.compile(DIGITS.path, target="cortex-m4", calibration=images)


@pytest.mark.emulated
def test_executions_agree_in_exactly_the_memory_of_the_report(
    build: Build, images: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    require("zig", "unicorn", "cc")
    stored = build.stored(images[:8])
    executions = Executions(build, stored)
    project = build.save(tmp_path / "net")
    executions.assert_reference(build_host(project, sanitize=True).run_many(executions.samples))
    image = build_image(project, build.target.core)
    sram = build.report.sram_bytes
    executions.assert_reference(run_many(image, executions.samples, sram_bytes=sram))
    measured = run_image(image, executions.samples[0], sram_bytes=sram)
    assert measured.arena_high_water_bytes <= build.report.arena_bytes
    assert measured.stack_bytes <= build.report.stack_estimate_bytes
    assert [layer for layer, _ in measured.layers] == list(range(len(build.report.layers)))


@pytest.mark.emulated
def test_less_memory_than_the_report_says_is_a_fault_or_refused(
    build: Build, images: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    require("zig", "unicorn")
    executions = Executions(build, build.stored(images[:1]))
    image = build_image(build.save(tmp_path / "net"), build.target.core)
    stack = run_image(image, executions.samples[0], sram_bytes=None, count=False).stack_bytes
    too_small = build.report.arena_bytes + stack // 2
    with pytest.raises(qutec.QutecError):
        run_image(image, executions.samples[0], sram_bytes=too_small, count=False)


@pytest.mark.parametrize("exits", ["all", "final"])
def test_int8_follows_the_float_network(exits: ExitChoice, images: npt.NDArray[np.float32]) -> None:
    compiled = qutec.compile(DIGITS.path, calibration=images, exits=exits).run(images)
    original_outputs = run_original(DIGITS.path, images)
    for name in compiled:
        original = original_outputs[name]
        error = np.abs(compiled[name] - original)
        assert error.mean() < 0.02, name
        same = compiled[name].argmax(axis=1) == original.argmax(axis=1)
        assert same.mean() >= 0.9, name


def test_int8_heads_follow_the_mean_over_the_float_early_views(
    build: Build, images: npt.NDArray[np.float32]
) -> None:
    original = run_original(DIGITS.path, images)
    mean = np.mean([original[name] for name in VIEWS], axis=0, dtype=np.float64)
    compiled = build.run(images)
    assert np.abs(compiled["probabilities"] - mean).mean() < 0.02
    entropy = -(mean * np.log(np.maximum(mean, 1e-30))).sum(axis=1)
    assert np.abs(compiled["entropy"] - entropy).mean() < 0.1
    assert (compiled["label"] == mean.argmax(axis=1)).mean() >= 0.9


def test_integer_arithmetic_follows_onnxruntime_on_the_qdq_model(
    images: npt.NDArray[np.float32],
) -> None:
    build = qutec.compile(DIGITS.path, calibration=images, exits="all")
    session = ort.InferenceSession(build.files["model.onnx"], providers=["CPUExecutionProvider"])
    compiled = build.run(images)
    names = [output.name for output in session.get_outputs()]
    assert names == list(compiled)
    rows = [session.run(None, {session.get_inputs()[0].name: image[np.newaxis]}) for image in images]
    original = run_original(DIGITS.path, images)
    for name, expected in zip(names, zip(*rows, strict=True), strict=True):
        simulated = np.concatenate(expected)
        # Values that are rounded twice instead of once move a logit by a step or two, here and there; what
        # counts is that the integers are no farther from float than the simulation of them.
        assert np.abs(compiled[name] - simulated).mean() <= 2 / 256, name
        error = np.abs(compiled[name] - original[name]).mean()
        assert error <= 1.25 * np.abs(simulated - original[name]).mean(), name


def test_random_calibration_compiles_and_warns() -> None:
    build = qutec.compile(DIGITS.path, target="cortex-m4", calibration="random")
    assert any("random" in warning for warning in build.report.warnings)


def test_same_compile_gives_the_same_bytes(images: npt.NDArray[np.float32]) -> None:
    first, second = (qutec.compile(DIGITS.path, calibration=images).files for _ in range(2))
    assert first == second


def test_limit_of_a_byte_less_is_refused_with_what_is_missing(
    build: Build, images: npt.NDArray[np.float32]
) -> None:
    smallest = qutec.compile(DIGITS.path, calibration=images, optimize="sram")
    needed = smallest.report.sram_bytes
    assert needed <= build.report.sram_bytes
    with pytest.raises(DoesNotFitError, match="are missing"):
        qutec.compile(DIGITS.path, calibration=images, sram=needed - 1)
    assert qutec.compile(DIGITS.path, calibration=images, sram=needed).report.sram_bytes <= needed


@pytest.mark.emulated
def test_verify_says_what_it_compared(build: Build, images: npt.NDArray[np.float32]) -> None:
    require("zig", "unicorn", "cc")
    words = verify_build(build, images)
    assert "reference = host C = cortex-m4 in unicorn" in words
