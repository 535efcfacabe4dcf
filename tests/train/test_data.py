"""Labelled data: what is taken, and what is refused before the first step."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from qutec.errors import DataError
from qutec.train.data import load_dataset

SHAPE = (1, 4, 4)
Arrays = dict[str, npt.NDArray[np.generic]]


def _arrays(count: int = 40, **changed: npt.NDArray[np.generic] | None) -> Arrays:
    rng = np.random.default_rng(0)
    arrays: dict[str, npt.NDArray[np.generic] | None] = {
        "x": rng.standard_normal((count, *SHAPE)).astype(np.float32),
        "y": np.arange(count) % 3,
    }
    arrays |= changed
    return {name: array for name, array in arrays.items() if array is not None}


def test_validation_prefers_x_val_then_x_test_then_a_tenth(tmp_path: Path) -> None:
    held = _arrays(8)
    with_test = _arrays() | {"x_test": held["x"], "y_test": held["y"]}
    with_val = with_test | {"x_val": held["x"][:5], "y_val": held["y"][:5]}
    np.savez(tmp_path / "d.npz", **with_val)
    chosen = load_dataset(tmp_path / "d.npz", SHAPE, 3, seed=0)
    assert (len(chosen.train), len(chosen.validation), chosen.validation_name) == (40, 5, "x_val")
    chosen = load_dataset(with_test, SHAPE, 3, seed=0)
    assert (len(chosen.train), len(chosen.validation), chosen.validation_name) == (40, 8, "x_test")
    chosen = load_dataset(_arrays(), SHAPE, 3, seed=0)
    assert (len(chosen.train), len(chosen.validation)) == (36, 4)


def test_selection_leaves_test_data_unseen() -> None:
    held = _arrays(8)
    chosen = load_dataset(
        _arrays() | {"x_test": held["x"], "y_test": held["y"]}, SHAPE, 3, seed=0, selects=True
    )
    assert chosen.validation_name == "held-out training data"
    seen = {row.tobytes() for part in (chosen.train, chosen.validation) for row in part.x}
    assert len(seen) == 40
    assert len(chosen.validation) == 4


def test_held_out_tenth_is_stratified_and_seeded() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    arrays = {"x": np.random.default_rng(0).random((1000, *SHAPE)).astype(np.float32), "y": labels}
    first, again, other = (load_dataset(arrays, SHAPE, 3, seed=seed) for seed in (1, 1, 2))
    assert np.bincount(first.validation.y).tolist() == [60, 30, 10]
    np.testing.assert_array_equal(first.validation.x, again.validation.x)
    assert not np.array_equal(first.validation.x, other.validation.x)
    assert first.digest() == again.digest() != other.digest()


def test_bytes_stay_bytes() -> None:
    x = np.zeros((40, *SHAPE), np.uint8)
    assert load_dataset(_arrays(x=x), SHAPE, 3, seed=0).train.x.dtype == np.uint8


@pytest.mark.parametrize("shape", [(1, 4, 4), (4, 4, 1)])
def test_axis_of_length_one_may_be_left_out(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random((40, 4, 4)).astype(np.float32)
    dataset = load_dataset(_arrays(x=x), shape, 3, seed=0)
    assert dataset.train.x.shape == (36, *shape)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"x": None, "y": None}, "neither x_train and y_train nor x and y"),
        ({"y": None}, "'x' but no 'y'"),
        ({"x_test": np.zeros((3, *SHAPE), np.float32)}, "'x_test' but no 'y_test'"),
        ({"x": np.zeros((40, 1, 5, 4), np.float32)}, r"'x' has shape \[40, 1, 5, 4\].*\[samples, 1, 4, 4\]"),
        ({"x": np.zeros((0, *SHAPE), np.float32)}, "'x' is empty"),
        ({"x": np.array(1.0)}, "'x'"),
        ({"x": np.full((40, *SHAPE), np.nan)}, "not a finite float32, in sample 0"),
        ({"x": np.full((40, *SHAPE), 1e300)}, "not a finite float32"),
        ({"x": np.full((40, *SHAPE), "a")}, "'x' is of type"),
        ({"x": np.zeros((40, *SHAPE), object)}, "'x' is of type object"),
        ({"y": np.arange(40)}, r"labels 0\.\.39; the network has classes 0\.\.2"),
        ({"y": np.arange(40) % 3 - 1}, r"labels -1\.\.1"),
        ({"y": np.zeros(40, np.float32)}, "labels are integers"),
        ({"y": np.eye(3, dtype=int)[np.arange(40) % 3]}, "one-hot"),
        ({"y": np.zeros(39, int)}, "40 samples, but 'y' has 39"),
        ({"x": np.zeros((1, *SHAPE), np.float32), "y": np.zeros(1, int)}, "at least 2"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_bad_data_are_refused(changed: dict[str, npt.NDArray[np.generic] | None], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        load_dataset(_arrays(**changed), SHAPE, 3, seed=0)


def test_the_bad_sample_is_named() -> None:
    arrays = _arrays(5000)
    arrays["x"][4321, 0, 2, 2] = np.inf
    with pytest.raises(DataError, match="sample 4321"):
        load_dataset(arrays, SHAPE, 3, seed=0)


@pytest.mark.parametrize(
    ("found", "wanted", "axes"),
    [((32, 30, 3), (3, 32, 30), r"\(0, 3, 1, 2\)"), ((3, 32, 30), (32, 30, 3), r"\(0, 2, 3, 1\)")],
)
def test_swapped_layout_is_told(found: tuple[int, ...], wanted: tuple[int, ...], axes: str) -> None:
    with pytest.raises(DataError, match=axes):
        load_dataset(_arrays(x=np.zeros((40, *found), np.uint8)), wanted, 3, seed=0)


def test_files_that_are_no_archive_of_plain_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        load_dataset(tmp_path / "missing.npz", SHAPE, 3, seed=0)
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(DataError):
        load_dataset(tmp_path / "text.npz", SHAPE, 3, seed=0)
    np.savez(tmp_path / "objects.npz", x=np.array([{}, None], object), y=np.zeros(2, int))
    with pytest.raises(DataError):
        load_dataset(tmp_path / "objects.npz", SHAPE, 3, seed=0)


def test_real_data_load_without_preparation() -> None:
    path = Path(os.environ.get("QUTEC_SHARED", "-")) / "data" / "mnist.npz"
    if not path.is_file():
        pytest.skip("QUTEC_SHARED does not name a folder with data/mnist.npz")
    dataset = load_dataset(path, (1, 28, 28), 10, seed=0)
    assert dataset.train.x.shape == (60000, 1, 28, 28)
    assert dataset.train.x.dtype == np.uint8
    assert len(dataset.validation) == 10000
