"""Random changes of batches, against the same done by hand."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qutec.errors import UsageError
from qutec.train.options import Augmentation, Layout, parse_augmentation

torch = pytest.importorskip("torch")

from qutec.train.augment import Augmenter, image_layout  # noqa: E402
from tests.train.graphs import single  # noqa: E402


def _augmented(
    x: torch.Tensor, augmentation: Augmentation, layout: Layout = Layout.NCHW, seed: int = 0
) -> torch.Tensor:
    return Augmenter(augmentation, x.ndim, layout)(x, torch.Generator().manual_seed(seed))


def _batch(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(9)) + 0.5


def _moved(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """[C, H, W] moved with zeros entering."""
    _, height, width = image.shape
    result = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[:, row, column] = image[:, row - down, column - right]
    return result


def test_every_shift_up_to_the_limit_occurs_and_no_other() -> None:
    x = _batch(300, 2, 5, 4)
    y = _augmented(x, Augmentation(shift=1))
    moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    counts = dict.fromkeys(moves, 0)
    for before, after in zip(x, y, strict=True):
        (found,) = [move for move in moves if torch.equal(after, _moved(before, *move))]
        counts[found] += 1
    assert min(counts.values()) > 10


def test_flip_turns_about_half_of_the_samples_over() -> None:
    x = _batch(200, 3, 4, 5)
    y = _augmented(x, Augmentation(flip=True))
    flipped = sum(torch.equal(a, b.flip(-1)) for a, b in zip(x, y, strict=True))
    kept = sum(torch.equal(a, b) for a, b in zip(x, y, strict=True))
    assert flipped + kept == 200
    assert 60 < flipped < 140


def test_rotation_by_zero_degrees_changes_nothing_and_small_ones_move_the_rim_only() -> None:
    x = _batch(4, 1, 9, 9)
    torch.testing.assert_close(_augmented(x, Augmentation(rotate=1e-6)), x)
    y = _augmented(x, Augmentation(rotate=30.0))
    torch.testing.assert_close(y[:, :, 4, 4], x[:, :, 4, 4])  # the centre stays
    assert not torch.allclose(y[:, :, 0, 0], x[:, :, 0, 0])


@pytest.mark.parametrize(("height", "width"), [(21, 21), (15, 31)])
def test_rotation_keeps_distances_on_images_of_any_proportion(height: int, width: int) -> None:
    x = torch.zeros(64, 1, height, width)
    x[:, 0, height // 2 + 4, width // 2] = 1.0  # a dot 4 pixels below the centre
    y = _augmented(x, Augmentation(rotate=60.0))[:, 0]
    mass = y.sum(dim=(1, 2))
    rows = (y.sum(2) * torch.arange(height)).sum(1) / mass - height // 2
    columns = (y.sum(1) * torch.arange(width)).sum(1) / mass - width // 2
    torch.testing.assert_close(torch.hypot(rows, columns), torch.full((64,), 4.0), atol=0.25, rtol=0.0)
    angles = torch.rad2deg(torch.atan2(columns, rows)).abs()
    assert 45.0 < float(angles.max()) <= 63.0


def test_same_generator_gives_the_same_batch_in_both_layouts() -> None:
    x = _batch(8, 3, 6, 5)
    everything = Augmentation(shift=2, flip=True, rotate=20.0)
    first = _augmented(x, everything)
    torch.testing.assert_close(first, _augmented(x, everything))
    assert not torch.equal(first, _augmented(x, everything, seed=1))
    nhwc = _augmented(x.permute(0, 2, 3, 1).contiguous(), everything, Layout.NHWC)
    torch.testing.assert_close(nhwc.permute(0, 3, 1, 2), first)


def test_sequences_are_shifted_along_their_length() -> None:
    x = _batch(50, 2, 7)
    y = _augmented(x, Augmentation(shift=2))
    for before, after in zip(x, y, strict=True):
        assert any(torch.equal(after[:, None], _moved(before[:, None], 0, move)) for move in range(-2, 3))


def test_nothing_is_done_by_default() -> None:
    x = _batch(4, 1, 5, 5)
    assert _augmented(x, Augmentation()) is x


def test_unfit_inputs_are_refused() -> None:
    with pytest.raises(UsageError, match="rank 2"):
        Augmenter(Augmentation(flip=True), 2, Layout.NCHW)
    with pytest.raises(UsageError, match="rotated"):
        Augmenter(Augmentation(rotate=5.0), 3, Layout.NCHW)


def _transposed() -> onnx.ModelProto:
    return single("Transpose", (8, 9, 3), perm=[0, 3, 1, 2])


@pytest.mark.parametrize(
    ("model", "layout"),
    [
        (single("Conv", (3, 8, 3), (np.ones((2, 3, 3, 3), np.float32),)), Layout.NCHW),
        (_transposed(), Layout.NHWC),
        (single("Flatten", (3, 8, 8)), Layout.NCHW),
        (single("Flatten", (8, 8, 3)), Layout.NHWC),
        (single("Flatten", (1, 8, 2)), Layout.NCHW),
    ],
)
def test_layout_is_read_off_the_graph(model: onnx.ModelProto, layout: Layout) -> None:
    assert image_layout(ir.from_proto(model), Layout.AUTO) is layout
    assert image_layout(ir.from_proto(model), Layout.NHWC) is Layout.NHWC


def test_flags_are_parsed() -> None:
    assert parse_augmentation("shift=2,flip,rotate=10") == Augmentation(2, True, 10.0)
    assert parse_augmentation(" crop=4 ") == Augmentation(shift=4)
    assert parse_augmentation("") == Augmentation()


@pytest.mark.parametrize(
    "text", ["mirror", "shift", "shift=a", "flip=1", "rotate=", "shift=-1", "rotate=200", "rotate=nan"]
)
def test_wrong_flags_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="augmentation"):
        parse_augmentation(text)
