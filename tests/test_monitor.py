"""The accuracy-drop monitor: its C against its Python twin, and both against the definition."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from fractions import Fraction

import numpy as np
import pytest

from qutec.backends.cmsis_nn.kernel_index import KERNEL_DIRECTORY
from qutec.monitor import CONFIDENCE_ONE, Monitor, quantize_confidence, threshold_code, window_alarms
from qutec.simulate.toolchain import warning_flags


class CMonitor(ctypes.Structure):
    _fields_ = (
        ("window", ctypes.c_void_p),
        ("sum", ctypes.c_uint32),
        ("length", ctypes.c_uint16),
        ("count", ctypes.c_uint16),
        ("next", ctypes.c_uint16),
        ("threshold", ctypes.c_uint8),
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    target = tmp_path_factory.mktemp("monitor") / "monitor.so"
    sanitize = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    source = KERNEL_DIRECTORY / "qute_monitor.c"
    command = ["gcc", *warning_flags(), *sanitize, "-O1", "-shared", "-fPIC", str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(target))


def confidences(rng: np.random.Generator, count: int) -> list[int]:
    """All of int32, the edges of the codes, and the usual range."""
    kind = rng.integers(0, 3, count)
    edges = (2 * rng.integers(0, 256, count) + 1) * CONFIDENCE_ONE // 510 + rng.integers(-1, 2, count)
    wild = rng.integers(-(1 << 31), 1 << 31, count)
    usual = rng.integers(0, CONFIDENCE_ONE + 1, count)
    return [int(value) for value in np.choose(kind, [edges, wild, usual])]


@pytest.mark.parametrize("length", [0, 1, 2, 100, 65535])
def test_c_and_python_agree(library: ctypes.CDLL, length: int) -> None:
    rng = np.random.default_rng(length)
    stream = confidences(rng, 3 * length + 5 if length <= 100 else length + 300)
    threshold = int(np.median(quantize_confidence(stream)))
    window = ctypes.create_string_buffer(length + 1)
    window[length] = b"\x5a"
    state = CMonitor()
    library.qute_monitor_init(ctypes.byref(state), window, length, threshold)
    twin = Monitor(length, threshold)
    alarms = []
    library.qute_monitor_mean.restype = ctypes.c_uint16
    for confidence in stream:
        alarms.append(twin.push(confidence))
        assert library.qute_monitor_push(ctypes.byref(state), confidence) == alarms[-1]
        assert library.qute_monitor_mean(ctypes.byref(state)) == twin.mean
    assert window[length] == b"\x5a"
    np.testing.assert_array_equal(window_alarms(stream, length, threshold), alarms)
    assert 0 < sum(alarms) < len(alarms) or length in (0, 65535)


def test_c_rounds_every_edge_like_the_definition(library: ctypes.CDLL) -> None:
    """A window of one value shows the code of that value."""
    window = ctypes.create_string_buffer(1)
    state = CMonitor()
    library.qute_monitor_init(ctypes.byref(state), window, 1, 0)
    for code in range(256):
        middle = -(-(2 * code - 1) * CONFIDENCE_ONE // 510)
        for confidence in (middle - 1, middle, middle + 1):
            exact = Fraction(255 * min(max(confidence, 0), CONFIDENCE_ONE), CONFIDENCE_ONE)
            wanted = int(exact + Fraction(1, 2))
            library.qute_monitor_push(ctypes.byref(state), confidence)
            assert window.raw[0] == wanted == int(quantize_confidence(confidence))


def test_alarm_comes_with_the_first_full_window_below_the_threshold() -> None:
    monitor = Monitor(length=4, threshold=threshold_code(0.5))
    low, high = CONFIDENCE_ONE // 4, CONFIDENCE_ONE
    assert [monitor.push(low) for _ in range(3)] == [False] * 3
    assert monitor.push(low)
    assert [monitor.push(high) for _ in range(4)] == [True, False, False, False]
    assert monitor.mean == 255 * 256


@pytest.mark.parametrize(("length", "threshold"), [(-1, 0), (65536, 0), (4, 256), (4, -1)])
def test_impossible_monitors_are_refused(length: int, threshold: int) -> None:
    with pytest.raises(ValueError, match="monitor"):
        Monitor(length, threshold)


def test_a_threshold_is_a_confidence() -> None:
    assert [threshold_code(rho) for rho in (0.0, 0.1, 0.5, 1.0)] == [0, 26, 128, 255]
    with pytest.raises(ValueError, match="threshold"):
        threshold_code(1.2)
