"""What the demo does to digits so that they are hard to read, or none: computed, seeded, not stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["CORRUPTIONS", "NOT_A_DIGIT", "Images"]

Images: TypeAlias = npt.NDArray[np.float32]
"""NCHW [n, 1, height, width] in 0..1."""

_NOISE = 0.35
_PATCH = 4
_SEED = 11
_BINOMIAL = np.array([1.0, 2.0, 1.0], np.float32) / 4.0


def _noisy(images: Images) -> Images:
    """Normal noise of a third of the range, clipped to it."""
    noise = np.random.default_rng(_SEED).normal(0.0, _NOISE, images.shape)
    return np.clip(images + noise, 0.0, 1.0).astype(np.float32)


def _blurred(images: Images) -> Images:
    """3x3 binomial filter; zeros enter."""
    for axis in (2, 3):
        widths = [(1, 1) if axis == other else (0, 0) for other in range(4)]
        padded = np.pad(images, widths)
        size = images.shape[axis]
        shifted = [padded.take(range(start, start + size), axis) for start in range(3)]
        images = sum(weight * part for weight, part in zip(_BINOMIAL, shifted, strict=True))
    return images


def _occluded(images: Images) -> Images:
    """A black patch of 4x4 pixels somewhere in each image."""
    generator = np.random.default_rng(_SEED)
    result = images.copy()
    for image in result:
        row, column = (generator.integers(0, length - _PATCH + 1) for length in image.shape[1:])
        image[:, row : row + _PATCH, column : column + _PATCH] = 0.0
    return result


def _shuffled(images: Images) -> Images:
    """The pixels of each image in another order: as much ink, but no digit."""
    generator = np.random.default_rng(_SEED)
    return np.stack([generator.permutation(image.reshape(-1)).reshape(image.shape) for image in images])


CORRUPTIONS: Mapping[str, Callable[[Images], Images]] = MappingProxyType(
    {"noise": _noisy, "blur": _blurred, "occlusion": _occluded}
)
"""Of digits that stay digits; the same images give the same images."""

NOT_A_DIGIT: Mapping[str, Callable[[Images], Images]] = MappingProxyType({"shuffled pixels": _shuffled})
"""What remains has no label."""
