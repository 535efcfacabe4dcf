"""What is evaluated on: labelled samples, corrupted ones, foreign ones, and what calibrates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qutec.errors import DataError, UsageError
from qutec.labelled import Arrays, DataSource, Part, checked_inputs, labelled_part, read_data

__all__ = ["Corruption", "EvaluationData", "InputArray", "read_evaluation_data", "real_inputs"]

InputArray = npt.NDArray[np.generic]

_CALIBRATION_SAMPLES = 500


@dataclass(frozen=True, eq=False)
class Corruption:
    """Samples of one corruption (and severity), with labels."""

    name: str
    part: Part


@dataclass(frozen=True, eq=False)
class EvaluationData:
    """Inputs [samples, *shape of the input without batch] in their own type, not divided by the scale yet."""

    clean: Part
    clean_arrays: str
    """Which arrays `clean` is: "x_test, y_test"."""
    corrupted: tuple[Corruption, ...]
    foreign: InputArray | None
    calibration: InputArray | None
    """Training samples of the same source, evenly spaced."""
    calibration_array: str
    warnings: tuple[str, ...]

    def only_clean(self, samples: int) -> EvaluationData:
        """So many of the clean samples, evenly spaced, and no others."""
        return replace(self, clean=_thinned(self.clean, samples), corrupted=(), foreign=None)


def read_evaluation_data(
    source: DataSource,
    shape: tuple[int, ...],
    classes: int,
    *,
    corrupted: Sequence[DataSource] = (),
    foreign: DataSource | None = None,
    scale: float = 1.0,
    samples: int | None = None,
) -> EvaluationData:
    """Read and check everything for an input of `shape` (without batch) and so many classes.

    Evaluated is on x_test and y_test where the source has them, else on x and y, else on x_val and y_val.
    For calibration 500 evenly spaced samples are taken of x_train, else of an x beside x_test: never of what
    is evaluated. Corrupted sources have x and y (or x_test and y_test), and optionally `names` and `severity`
    for each sample, which make groups of them. Foreign samples are x or x_test. With `samples`, so many of
    each group are taken, evenly spaced, in their order.

    Raises:
        UsageError: a scale or a number of samples that cannot be.
        DataError: see `qutec.labelled`; names or severities that do not fit, or two groups of one name.
    """
    if not 0.0 < scale < float("inf"):
        raise UsageError(f"scale is {scale:g}; it must be above 0")
    if samples is not None and samples < 1:
        raise UsageError(f"{samples} samples; at least 1 is needed")
    arrays = read_data(source)
    with _named(source):
        name, clean = _evaluated(arrays, shape, classes)
        training, calibration = _calibration(arrays, name, shape)
    groups = []
    for position, given in enumerate(corrupted, 1):
        with _named(given):
            found = _corruptions(given, position, shape, classes)
        groups += [Corruption(group.name, _thinned(group.part, samples)) for group in found]
    names = [group.name for group in groups]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"two groups of corrupted samples are called '{twice}'; rename the file or the group")
    return EvaluationData(
        clean=_thinned(clean, samples),
        clean_arrays=", ".join(_pair(name)),
        corrupted=tuple(groups),
        foreign=None if foreign is None else _foreign(foreign, shape, samples),
        calibration=calibration,
        calibration_array=training,
        warnings=_warnings(clean.x, scale),
    )


def real_inputs(x: InputArray, scale: float) -> npt.NDArray[np.float32]:
    """Inputs as the network takes them: float32, divided by the scale, as in training."""
    return np.divide(x, np.float32(scale), dtype=np.float32)


@contextmanager
def _named(source: DataSource) -> Iterator[None]:
    """Says in errors which of several files is meant."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{source}: {error}" if isinstance(source, str | Path) else str(error)) from error


def _pair(name: str) -> tuple[str, str]:
    return (f"x_{name}", f"y_{name}") if name else ("x", "y")


def _evaluated(arrays: Arrays, shape: tuple[int, ...], classes: int) -> tuple[str, Part]:
    for name in ("test", "", "val"):
        x, y = _pair(name)
        # Beside x_test or x_val, an x without labels is calibration data.
        if name == "" and x in arrays and y not in arrays and "x_val" in arrays:
            continue
        part = labelled_part(arrays, name, shape, classes)
        if part is not None:
            return name, part
    found = ", ".join(f"'{name}'" for name in arrays) or "nothing"
    raise DataError(f"the data have neither x and y nor x_test and y_test; they have {found}")


def _calibration(arrays: Arrays, evaluated: str, shape: tuple[int, ...]) -> tuple[str, InputArray | None]:
    for name in ("x_train", "x"):
        if name in arrays and name != _pair(evaluated)[0]:
            x = checked_inputs(arrays[name], name, shape)
            return name, x[_spaced(len(x), _CALIBRATION_SAMPLES)]
    return "", None


def _corruptions(source: DataSource, position: int, shape: tuple[int, ...], classes: int) -> list[Corruption]:
    arrays = read_data(source)
    part = labelled_part(arrays, "", shape, classes) or labelled_part(arrays, "test", shape, classes)
    if part is None:
        found = ", ".join(f"'{name}'" for name in arrays) or "nothing"
        raise DataError(f"the corrupted data have no x and y; they have {found}")
    title = Path(source).stem if isinstance(source, str | Path) else f"corrupted {position}"
    keys = [_keys(arrays, key, len(part)) for key in ("names", "severity")]
    if keys == [None, None]:
        return [Corruption(title, part)]
    names, severities = keys
    labels = [
        (names[row] if names else title) + (f" {severities[row]}" if severities else "")
        for row in range(len(part))
    ]
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    return [Corruption(name, Part(part.x[chosen], part.y[chosen])) for name, chosen in rows.items()]


def _keys(arrays: Arrays, key: str, count: int) -> list[str] | None:
    """One word for each sample: the name or the severity of its corruption."""
    if key not in arrays:
        return None
    words = np.asarray(arrays[key])
    if words.shape != (count,) or words.dtype.kind not in "Uiu":
        raise DataError(
            f"'{key}' of the corrupted data is {words.dtype} {list(words.shape)}; one word or integer for"
            f" each of {count} samples is wanted"
        )
    return [str(word) for word in words.tolist()]


def _foreign(source: DataSource, shape: tuple[int, ...], samples: int | None) -> InputArray:
    arrays = read_data(source)
    with _named(source):
        for name in ("x", "x_test"):
            if name in arrays:
                x = checked_inputs(arrays[name], name, shape)
                return x if samples is None else x[_spaced(len(x), samples)]
        found = ", ".join(f"'{name}'" for name in arrays) or "nothing"
        raise DataError(f"the out-of-distribution data have no x; they have {found}")


def _thinned(part: Part, samples: int | None) -> Part:
    if samples is None or samples >= len(part):
        return part
    rows = _spaced(len(part), samples)
    return Part(part.x[rows], part.y[rows])


def _spaced(count: int, wanted: int) -> npt.NDArray[np.int64]:
    return np.linspace(0, count - 1, min(count, wanted)).astype(np.int64)


def _warnings(x: InputArray, scale: float) -> tuple[str, ...]:
    if x.dtype.kind not in "iu" or scale != 1.0:
        return ()
    text = f"the data are {x.dtype} from {x.min()} to {x.max()} and reach the network as such real values"
    hint = "; stored codes of a quantised input are not meant" if x.dtype == np.int8 else " (--scale divides)"
    return (text + hint,)
