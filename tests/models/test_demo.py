"""What `make demo` shows: spoiled digits, a level chosen from data, and answers of the emulated core."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

import qutec
from models import demo
from models._corruptions import CORRUPTIONS, NOT_A_DIGIT, Images
from models._device import Device
from models.digits import MODEL, load_digits
from qutec.heads import RESULTS
from tests.end_to_end.compiled import require

SAMPLES = 30


@pytest.mark.parametrize("name", [*CORRUPTIONS, *NOT_A_DIGIT])
def test_spoiled_images_are_images_again_and_repeat(name: str) -> None:
    spoil = {**CORRUPTIONS, **NOT_A_DIGIT}[name]
    images = np.random.default_rng(0).random((5, 1, 8, 8), np.float32)
    before = images.copy()
    first, second = spoil(images), spoil(images)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float32
    assert first.shape == images.shape
    assert 0.0 <= first.min() < first.max() <= 1.0
    assert all(not np.array_equal(a, b) for a, b in zip(first, images, strict=True))


def test_blur_of_a_point_is_the_binomial_filter() -> None:
    image = np.zeros((1, 1, 8, 8), np.float32)
    image[0, 0, 3, 4] = 1.0
    expected = np.zeros((8, 8), np.float32)
    expected[2:5, 3:6] = np.outer([1, 2, 1], [1, 2, 1]) / 16
    np.testing.assert_allclose(CORRUPTIONS["blur"](image)[0, 0], expected)


def test_shuffled_pixels_are_the_same_pixels() -> None:
    images = np.random.default_rng(1).random((3, 1, 8, 8), np.float32)
    shuffled = NOT_A_DIGIT["shuffled pixels"](images)
    np.testing.assert_array_equal(np.sort(shuffled.reshape(3, -1)), np.sort(images.reshape(3, -1)))


def test_commands_are_those_of_the_installed_programs() -> None:
    programs = [shlex.split(command)[0] for command in demo.commands(0.9)]
    assert programs == ["python", "qutec", "qutec", "qutec"]
    assert "--abstain 0.900" in demo.commands(0.9)[2]


@pytest.fixture(scope="module")
def digits() -> tuple[Images, Images, Images]:
    pytest.importorskip("sklearn")
    data = load_digits()
    return data.x_train[:200], data.x_val, data.x_test[:SAMPLES]


@pytest.mark.emulated
def test_the_chip_is_less_sure_of_spoiled_digits(
    digits: tuple[Images, Images, Images], tmp_path: Path
) -> None:
    require("zig", "unicorn")
    calibration, validation, images = digits
    level = demo.abstain_level(calibration, validation)
    build = qutec.compile(MODEL, exits="qute", calibration=calibration, abstain=level)
    assert build.run(validation)["abstain"].mean() == pytest.approx(demo.ABSTAINED, abs=0.01)
    device = Device(build.save(tmp_path / "net"))
    clean = device.answers(images)
    assert list(clean) == list(RESULTS)
    for name, values in build.run(images).items():
        np.testing.assert_array_equal(clean[name], values.reshape(len(images), -1), err_msg=name)
    for name, spoil in {**CORRUPTIONS, **NOT_A_DIGIT}.items():
        answers = device.answers(spoil(images))
        assert answers["confidence"].mean() < clean["confidence"].mean() - 0.05, name
        assert answers["entropy"].mean() > clean["entropy"].mean() + 0.1, name
        assert answers["disagreement"].mean() > clean["disagreement"].mean(), name
        assert answers["abstain"].mean() > clean["abstain"].mean() + 0.2, name
