"""Scratch against the getters of Arm's CMSIS-NN, which exist on a host for every kind of core."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from qutec.backends.cmsis_nn.scratch import arm_scratch_bytes, scratch_bytes
from qutec.program import AvgPool2D, Conv2D, DepthwiseConv2D, FullyConnected
from qutec.targets import Core
from tests.backends.kernel_cases import Case, conv, depthwise, draw_cases, fully_connected, pool

_GETTERS = (
    "arm_convolve_get_buffer_sizes_s8",
    "arm_depthwise_conv_get_buffer_sizes_s8",
    "arm_fully_connected_get_buffer_sizes_s8",
    "arm_avgpool_get_buffer_sizes_s8",
)
_CORES = {"dsp": Core("dsp", dsp=True), "mve": Core("mve", dsp=True, mve=True)}
_Words = ctypes.Array[ctypes.c_int32]


@pytest.fixture(scope="module")
def getters(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    root = os.environ.get("CMSIS_NN_PATH")
    if not root:
        pytest.skip("CMSIS_NN_PATH is not set")
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    sources = [path for path in Path(root, "Source").rglob("*.c") if path.stem in _GETTERS]
    library = tmp_path_factory.mktemp("getters") / "getters.so"
    command = ["gcc", "-O1", "-fPIC", "-shared", f"-I{Path(root, 'Include')}", *map(str, sources)]
    subprocess.run([*command, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def _dims(*nhwc: int) -> _Words:
    return (ctypes.c_int32 * 4)(*nhwc)


def _tile(pair: tuple[int, int]) -> tuple[int, int]:
    """A cmsis_nn_tile is {w, h}."""
    return pair[1], pair[0]


def _asked(library: ctypes.CDLL, call: object, kind: str) -> int:
    """What the getter for `kind` of core returns; the structs are runs of int32."""
    match call:
        case Conv2D():
            tiles = [*_tile(call.stride), *_tile(call.padding), *_tile(call.dilation)]
            params = (ctypes.c_int32 * 10)(0, 0, *tiles, 0, 0)
            getter = getattr(library, f"arm_convolve_wrapper_s8_get_buffer_size_{kind}")
            shapes = (call.input_shape, call.weights.shape, call.output_shape)
            return int(getter(params, *(_dims(*shape) for shape in shapes)))
        case DepthwiseConv2D():
            tiles = [*_tile(call.stride), *_tile(call.padding), *_tile(call.dilation)]
            params = (ctypes.c_int32 * 11)(0, 0, call.channel_multiplier, *tiles, 0, 0)
            getter = getattr(library, f"arm_depthwise_conv_wrapper_s8_get_buffer_size_{kind}")
            shapes = (call.input_shape, (1, *call.weights.shape), call.output_shape)
            return int(getter(params, *(_dims(*shape) for shape in shapes)))
        case FullyConnected():
            outputs, depth = call.weights.shape
            return int(
                getattr(library, f"arm_fully_connected_s8_get_buffer_size_{kind}")(
                    _dims(depth, 1, 1, outputs)
                )
            )
        case AvgPool2D():
            getter = getattr(library, f"arm_avgpool_s8_get_buffer_size_{kind}")
            return int(getter(call.output_shape[2], call.input_shape[3]))
        case _:
            return 0


@dataclass(frozen=True)
class _Sizes:
    known: int
    asked: int
    call: object


def _sizes(library: ctypes.CDLL, cases: list[Case], kind: str) -> list[_Sizes]:
    return [
        _Sizes(arm_scratch_bytes(case.call, _CORES[kind]), _asked(library, case.call, kind), case.call)
        for case in cases
    ]


@pytest.mark.parametrize("kind", ["dsp", "mve"])
def test_arm_never_asks_for_more_than_is_known(getters: ctypes.CDLL, kind: str) -> None:
    cases = draw_cases([conv, depthwise, fully_connected, pool], 300, 11)
    short = [size for size in _sizes(getters, cases, kind) if size.asked > size.known]
    assert not short, short[0]


def test_what_is_known_of_the_dsp_path_is_what_arm_asks_for(getters: ctypes.CDLL) -> None:
    """No byte of arena is given away."""
    cases = draw_cases([conv, depthwise, fully_connected, pool], 300, 12)
    different = [size for size in _sizes(getters, cases, "dsp") if size.asked != size.known]
    assert not different, different[0]


def test_bundled_kernels_on_the_dsp_path_need_no_more_than_arms(getters: ctypes.CDLL) -> None:
    cases = draw_cases([conv, depthwise, fully_connected, pool], 300, 13)
    dsp = _CORES["dsp"]
    more = [case.call for case in cases if scratch_bytes(case.call, dsp) > arm_scratch_bytes(case.call, dsp)]
    assert not more, more[0]
