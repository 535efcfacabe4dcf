"""The accuracy-drop monitor of the device (kernels/qute_monitor.h) in Python, equal to the bit.

QUTE raises the alarm when the mean confidence of the last m inferences falls below a threshold rho.
Confidences are kept in one byte each, as round(255 * confidence) with halves up.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = [
    "CONFIDENCE_ONE",
    "MAX_LENGTH",
    "Monitor",
    "quantize_confidence",
    "threshold_code",
    "window_alarms",
]

CONFIDENCE_ONE = 1 << 30
"""A confidence of 1, as the device gives it (Q30)."""
MAX_LENGTH = 65535
_SCALE = 255


def quantize_confidence(confidence_q30: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """round(255 * confidence) in [0, 255] for confidences in Q30; outside of [0, 1] the nearer end counts."""
    clipped = np.clip(np.asarray(confidence_q30, dtype=np.int64), 0, CONFIDENCE_ONE)
    return (_SCALE * clipped + (CONFIDENCE_ONE >> 1)) // CONFIDENCE_ONE


def threshold_code(rho: float) -> int:
    """The `threshold` of `qute_monitor_init` for a mean confidence of rho.

    Raises ValueError where rho is outside of [0, 1].
    """
    if not 0.0 <= rho <= 1.0:
        raise ValueError(f"the threshold of a monitor is a confidence between 0 and 1, not {rho}")
    return int(np.floor(_SCALE * rho + 0.5))


@dataclass
class Monitor:
    """A window of `length` confidences (0 to 65535; with 0 there is no alarm) and a `threshold` in [0, 255].

    Raises ValueError where one of them is out of range.
    """

    length: int
    threshold: int
    _window: deque[int] = field(init=False, repr=False)
    _sum: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        """Checks the fields."""
        if not 0 <= self.length <= MAX_LENGTH:
            raise ValueError(f"a monitor's window has 0 to {MAX_LENGTH} values, not {self.length}")
        if not 0 <= self.threshold <= _SCALE:
            raise ValueError(f"a monitor's threshold is 0 to {_SCALE}, not {self.threshold}")
        self._window = deque(maxlen=self.length)

    def push(self, confidence_q30: int) -> bool:
        """Takes a confidence (Q30); whether the window is full and its mean below the threshold."""
        if self.length == 0:
            return False
        if len(self._window) == self.length:
            self._sum -= self._window[0]
        value = int(quantize_confidence(confidence_q30))
        self._window.append(value)
        self._sum += value
        return len(self._window) == self.length and self._sum < self.threshold * self.length

    @property
    def mean(self) -> int:
        """The mean confidence in the window, 1 being 255 * 256, rounded down; 0 for an empty one."""
        return (self._sum << 8) // len(self._window) if self._window else 0


def window_alarms(confidences_q30: npt.ArrayLike, length: int, threshold: int) -> npt.NDArray[np.bool_]:
    """What `Monitor.push` returns for each of a stream of confidences [n] (Q30), all at once."""
    Monitor(length, threshold)
    values = quantize_confidence(confidences_q30)
    alarms = np.zeros(values.shape, dtype=np.bool_)
    if 0 < length <= values.size:
        sums = np.concatenate([[0], np.cumsum(values)])
        alarms[length - 1 :] = sums[length:] - sums[:-length] < threshold * length
    return alarms
