"""Labelled data for training, checked before the first step; nothing here needs torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from qutec.errors import DataError
from qutec.labelled import DataSource, Part, labelled_part, read_data

__all__ = ["Dataset", "load_dataset"]

_HELD_OUT_SHARE = 0.1
_PARTS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Disjoint parts: what is trained on, and what each epoch is validated on."""

    train: Part
    validation: Part
    validation_name: str
    """Where the validation part comes from: x_val, x_test, or a held-out part of the training data."""

    def digest(self) -> str:
        """SHA-256 over all samples and labels."""
        state = hashlib.sha256()
        for part in (self.train, self.validation):
            for array in (part.x, part.y):
                state.update(f"{array.dtype.str}{array.shape}".encode())
                state.update(np.ascontiguousarray(array).data)
        return state.hexdigest()


def load_dataset(
    source: DataSource, shape: tuple[int, ...], classes: int, *, seed: int, selects: bool = False
) -> Dataset:
    """Read and check labelled data for an input of `shape` (without batch) and so many classes.

    The source is an .npz, or arrays by name: x_train and y_train, or x and y; optional x_val and y_val,
    x_test and y_test. x has numbers of any type and the shape of the input; axes of length 1 may be left out.
    y has integers from 0. Validated is on x_val; else on x_test; else on a seeded, stratified tenth of the
    training data, which is then not trained on. `selects` says that validation chooses the epoch that is
    kept: then test data stay unseen, and the tenth is taken instead.

    Raises:
        DataError: a missing key, wrong shapes or types, labels out of range, values that are not finite, or
            too few samples. The message names the array.
    """
    arrays = read_data(source)
    parts = {name: labelled_part(arrays, name, shape, classes) for name in _PARTS}
    train = parts["train"]
    if train is None:
        train = labelled_part(arrays, "", shape, classes)
    if train is None:
        found = ", ".join(f"'{name}'" for name in arrays) or "nothing"
        raise DataError(f"the data have neither x_train and y_train nor x and y; they have {found}")
    if parts["val"] is not None:
        return Dataset(_trainable(train), parts["val"], "x_val")
    if parts["test"] is not None and not selects:
        return Dataset(_trainable(train), parts["test"], "x_test")
    kept, held_out = _split(train, seed)
    return Dataset(_trainable(kept), held_out, "held-out training data")


def _trainable(part: Part) -> Part:
    if len(part) < 2:
        raise DataError(f"there is {len(part)} sample to train on; at least 2 are needed")
    return part


def _split(part: Part, seed: int) -> tuple[Part, Part]:
    """A seeded, stratified split: what is trained on, and about a tenth, one sample at least, held out."""
    generator = np.random.default_rng([seed, len(part)])
    shuffled = generator.permutation(len(part))
    # By class, in random order within one; every tenth of that sequence has all classes in proportion.
    by_class = shuffled[np.argsort(part.y[shuffled], kind="stable")]
    stride = round(1 / _HELD_OUT_SHARE)
    held_out = np.zeros(len(part), np.bool_)
    held_out[by_class[min(stride // 2, len(part) - 1) :: stride]] = True
    return Part(part.x[~held_out], part.y[~held_out]), Part(part.x[held_out], part.y[held_out])
