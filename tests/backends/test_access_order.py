"""Kernels keep the order that the planner relies on: every access of the emulated kernels is watched.

Each call runs twice. With its tensors apart the trace tells how near they could have been; the distances that
`safe_overlap` gives are never below these. With its output at exactly the safe distance no byte is read after
it was overwritten, and the outputs are those of the reference.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from qutec.backends.cmsis_nn.kernel_index import KERNEL_DIRECTORY
from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.planner import is_pointwise, safe_overlap
from qutec.program import Call, Conv2D, Copy, DepthwiseConv2D, Gather, Lookup, MaxPool2D, Move, Tensor
from qutec.targets import target
from tests import random_calls
from tests.backends.access_traces import Distance, Trace, distances_in, renamed, run_traced
from tests.backends.kernel_cases import wrong_in_arm
from tests.end_to_end.compiled import require

X, Y = Tensor("x"), Tensor("y")

BUILDS = [
    pytest.param(core, library, id=f"{library}-{core}")
    for library in ("bundled", "small", "arm")
    for core in ("cortex-m4", "cortex-m3", "cortex-m0plus")
]


def kernel_set(library: str) -> KernelSet:
    return KernelSet.SMALL if library == "small" else KernelSet.FAST


def library_folder(library: str) -> Path | None:
    if library != "arm":
        return None
    root = os.environ.get("CMSIS_NN_PATH")
    if not root:
        pytest.skip("CMSIS_NN_PATH is not set")
    return Path(root)


@cache
def calls() -> tuple[Call, ...]:
    """Random shapes of every kind whose order is stated, and the shapes that kernels treat specially."""
    rng = np.random.default_rng(20)
    made: list[Call] = []
    makers = (
        random_calls.conv2d,
        random_calls.depthwise_conv2d,
        random_calls.avg_pool2d,
        random_calls.max_pool2d,
        random_calls.fully_connected,
        random_calls.add,
        random_calls.mul,
    )
    for _ in range(3):
        made += [make(rng) for make in makers]
    made += [pointwise(rng, 8, 8, 7, 5), pointwise(rng, 5, 12, 4, 4), pointwise(rng, 12, 3, 1, 9)]
    made.append(pointwise(rng, 70, 6, 3, 3))
    made += [pointwise(rng, 6, 8, 7, 5, stride=(2, 2)), pointwise(rng, 4, 4, 6, 6, stride=(1, 3))]
    made += [depthwise_3x3(rng, 8, (1, 1)), depthwise_3x3(rng, 12, (2, 2)), depthwise_3x3(rng, 5, (1, 1))]
    made.append(random_calls.softmax(rng))
    table = rng.permutation(np.arange(-128, 128)).astype(np.int8)
    made += [
        Lookup("lookup", X, Y, 70, table),
        Gather("gather", X, Y, np.array([3, 4, 4, 9, 7, 12, 30, 20], dtype=np.int32)),
        Copy("slice", X, Y, (1, 1, 5, 6), (0, 0, 9, 1), (0, 0, 6, 1)),
        Copy("pad", X, Y, (1, 1, 5, 6), (0, 0, 6, 1), (0, 0, 9, 1)),
        Copy("transpose", X, Y, (1, 2, 3, 4), (0, 12, 1, 3), (0, 12, 4, 1)),
        Move("move", X, Y, 75),
        Move("move of words", X, Y, 64),
    ]
    kept = [call for call in made if not wrong_in_arm(call) and not shifts_left(call)]
    return tuple(renamed(kept))


def pointwise(
    rng: np.random.Generator,
    inputs: int,
    outputs: int,
    height: int,
    width: int,
    stride: tuple[int, int] = (1, 1),
) -> Conv2D:
    call = random_calls.conv2d(rng)
    size = [-(-n // step) for n, step in zip((height, width), stride, strict=True)]
    return replace(
        call,
        input_shape=(1, height, width, inputs),
        output_shape=(1, *size, outputs),
        weights=random_calls.int8(rng, outputs, 1, 1, inputs),
        bias=np.resize(call.bias, outputs),
        multiplier=np.resize(call.multiplier, outputs),
        shift=np.full(outputs, -9, dtype=np.int32),
        stride=stride,
        padding=(0, 0),
        dilation=(1, 1),
    )


def depthwise_3x3(rng: np.random.Generator, channels: int, stride: tuple[int, int]) -> DepthwiseConv2D:
    call = random_calls.depthwise_conv2d(rng)
    return replace(
        call,
        input_shape=(1, 9, 6, channels),
        output_shape=(1, -(-9 // stride[0]), -(-6 // stride[1]), channels),
        weights=random_calls.int8(rng, 3, 3, channels),
        bias=np.resize(call.bias, channels),
        multiplier=np.resize(call.multiplier, channels),
        shift=np.full(channels, -8, dtype=np.int32),
        channel_multiplier=1,
        stride=stride,
        padding=(1, 1) if stride == (1, 1) else (0, 0),
        dilation=(1, 1),
    )


def shifts_left(call: Call) -> bool:
    """Arm's library and the reference differ where shifts of additions lead out of int32."""
    return getattr(call, "input_1_shift", 0) > 0 or getattr(call, "input_2_shift", 0) > 0


def traced(
    core: str, library: str, made: list[Call], distances: list[Distance | None], folder: Path
) -> list[Trace]:
    """Watched runs of all calls; without events where Unicorn cannot watch them (see `run_traced`).

    That is only on Armv7-M: Armv6-M has no IT blocks. A call that fails while it is watched must be right
    when it is not, and is watched on Armv6-M.
    """
    has_it_blocks = core != "cortex-m0plus"
    cmsis_nn = library_folder(library)
    doubtful = [has_it_blocks and library == "arm" and isinstance(call, MaxPool2D) for call in made]
    for attempt in ("first", "second"):
        watched = [k for k, is_doubtful in enumerate(doubtful) if not is_doubtful]
        found = run_traced(
            renamed([made[k] for k in watched]),
            [distances[k] for k in watched],
            target(core).core,
            folder / attempt,
            cmsis_nn,
            kernels=kernel_set(library),
        )
        wrong = [k for k, trace in zip(watched, found, strict=True) if not trace.correct]
        if not wrong or not has_it_blocks:
            break
        for k in wrong:
            doubtful[k] = True
    rest = [k for k, is_doubtful in enumerate(doubtful) if is_doubtful]
    results = dict(zip(watched, found, strict=True))
    if rest:
        unwatched = run_traced(
            renamed([made[k] for k in rest]),
            [distances[k] for k in rest],
            target(core).core,
            folder / "unwatched",
            cmsis_nn,
            kernels=kernel_set(library),
            watch=False,
        )
        results |= zip(rest, unwatched, strict=True)
    return [results[k] for k in range(len(made))]


@pytest.mark.parametrize(("core", "library"), BUILDS)
def test_no_kernel_needs_more_distance_than_is_kept(core: str, library: str, tmp_path: Path) -> None:
    require("gcc", "unicorn")
    made = list(calls())
    traces = traced(core, library, made, [None] * len(made), tmp_path)
    assert sum(bool(trace.events) for trace in traces) > 0.8 * len(traces)
    for trace in traces:
        assert trace.correct, trace.call
        if walks_map_for_every_channel(trace.call, library):
            continue
        for k, safe in enumerate(safe_overlap(trace.call, target(core).core)):
            below, above = distances_in(trace, k)
            assert below <= safe.below, trace.call
            assert above <= safe.above, trace.call


def walks_map_for_every_channel(call: Call, library: str) -> bool:
    """Pointwise kernels that do not go from pixel to pixel get an overlapping map in blocks, else whole."""
    in_order = "#define QUTE_POINTWISE_IN_ORDER" in (KERNEL_DIRECTORY / "arm_nnfunctions.h").read_text()
    return isinstance(call, Conv2D) and is_pointwise(call) and not (library != "arm" and in_order)


@pytest.mark.parametrize("direction", ["below", "above"])
@pytest.mark.parametrize(("core", "library"), BUILDS)
def test_output_at_the_safe_distance_reads_nothing_stale(
    core: str, library: str, direction: str, tmp_path: Path
) -> None:
    require("gcc", "unicorn")
    made: list[Call] = []
    distances: list[Distance | None] = []
    for call in calls():
        for k, safe in enumerate(safe_overlap(call, target(core).core)):
            made.append(call)
            distances.append(Distance(k, safe.below if direction == "below" else -safe.above))
    near = traced(core, library, made, distances, tmp_path / "near")
    apart = traced(core, library, made, [None] * len(made), tmp_path / "apart")
    for trace, other in zip(near, apart, strict=True):
        assert trace.correct, trace.call
        assert not stale_inputs(trace, other), trace.call


def stale_inputs(near: Trace, apart: Trace) -> list[int]:
    """Which reads of `near` found an overwritten byte where the kernel wants an input.

    The same access of the run with tensors apart tells whether it is the input or the output that is read:
    some kernels clamp what they have written. Where the runs differ every such read counts.
    """
    same = len(near.events) == len(apart.events)
    return [k for k in near.stale if not same or apart.events[k].operand >= 0]


def test_one_byte_less_than_the_safe_distance_is_noticed(tmp_path: Path) -> None:
    """The watch is able to fail: for kinds whose distance is exact, one byte nearer reads a stale byte."""
    require("gcc", "unicorn")
    rng = np.random.default_rng(3)
    table = rng.permutation(np.arange(-128, 128)).astype(np.int8)
    exact: list[Call] = [
        Lookup("lookup", X, Y, 70, table),
        Copy("transpose", X, Y, (1, 2, 3, 4), (0, 12, 1, 3), (0, 12, 4, 1)),
        depthwise_3x3(rng, 4, (1, 1)),
    ]
    core = target("cortex-m3").core
    nearer = [Distance(0, safe_overlap(call, core)[0].below - 1) for call in exact[:2]]
    # A depthwise row is one unit of the contract; the C kernel itself goes pixel by pixel.
    nearer.append(Distance(0, 6 * 4))
    traces = run_traced(renamed(exact), nearer, core, tmp_path)
    assert all(trace.stale for trace in traces)
