"""Single kernel calls to measure: a table of shapes, and every layer of the networks that there are.

A row of the table builds one call on a map of a given shape; `benchmarks._call_chains` has the kinds of
calls. To measure one more shape, add a row.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

import qutec
from benchmarks._call_chains import Chain
from benchmarks._networks import find_networks, read_samples
from qutec.program import (
    AvgPool2D,
    Buffer,
    BufferKind,
    Call,
    Concat,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Port,
    Program,
    Quantization,
    Shape,
    Softmax,
    Tensor,
)

__all__ = ["Case", "network_cases", "program_of", "table_cases"]

_WORD = 4
_NOT_SHAPES = frozenset({"name", "input", "inputs", "input_1", "input_2", "output"})
_QUANTIZATION = ("offset", "shift", "multiplier", "_min", "_max")
_UNIT = Quantization(1.0, 0)


@dataclass(frozen=True, eq=False)
class Case:
    """One call by itself."""

    name: str
    call: Call

    @property
    def unit(self) -> str:
        """What its work is counted in: "MAC", or "input" or "output" bytes."""
        if self.call.macs:
            return "MAC"
        return "input" if isinstance(self.call, AvgPool2D | MaxPool2D | Softmax) else "output"

    @property
    def work(self) -> int:
        """How many of these units there are."""
        if self.call.macs:
            return self.call.macs
        return self.call.read_region(0).size if self.unit == "input" else self.call.written_region().size


_Step = Callable[[Chain], None]


def _conv(filters: int, kernel: int, stride: int = 1) -> _Step:
    """Padded as TensorFlow's SAME."""
    return lambda chain: chain.conv(filters, (kernel, kernel), stride, (kernel // 2, kernel // 2))


def _depthwise(kernel: int, stride: int = 1) -> _Step:
    return lambda chain: chain.depthwise((kernel, kernel), stride, (kernel // 2, kernel // 2))


def _only_depthwise(kernel: int) -> _Step:
    """Without padding."""
    return lambda chain: chain.depthwise((kernel, kernel))


def _wide_depthwise(kernel: int) -> _Step:
    """Along a row."""
    return lambda chain: chain.depthwise((1, kernel), padding=(0, kernel // 2))


_TO_A_PIXEL = ((3, 1), (3, 3), (3, 64), (4, 24), (5, 6), (5, 32), (7, 2), (7, 20))
"""Kernels as large as their map, and channels."""

_TABLE: tuple[tuple[str, Shape, _Step], ...] = (
    ("conv 3x3 3->16 32x32", (1, 32, 32, 3), _conv(16, 3)),
    ("conv 3x3 16->16 32x32", (1, 32, 32, 16), _conv(16, 3)),
    ("conv 3x3 s2 16->32", (1, 32, 32, 16), _conv(32, 3, 2)),
    ("conv 3x3 32->32 16x16", (1, 16, 16, 32), _conv(32, 3)),
    ("conv 3x3 64->64 8x8", (1, 8, 8, 64), _conv(64, 3)),
    ("conv 10x4 s2 1->64", (1, 49, 10, 1), lambda chain: chain.conv(64, (10, 4), 2, (4, 1))),
    ("conv 5x5 5->7 17x13", (1, 17, 13, 5), _conv(7, 5)),
    ("conv 1x3 12->8 1x96", (1, 1, 96, 12), lambda chain: chain.conv(8, (1, 3), 1, (0, 1))),
    ("conv 2x2 s2 16->16", (1, 16, 16, 16), lambda chain: chain.conv(16, (2, 2), 2)),
    (
        "conv 3x3 8->8 d2",
        (1, 16, 16, 8),
        lambda chain: chain.conv(8, (3, 3), padding=(2, 2), dilation=2),
    ),
    ("conv 3x3 16->16 g4", (1, 16, 16, 16), lambda chain: chain.conv(16, (3, 3), 1, (1, 1), groups=4)),
    ("conv 1x1 64->64 25x5", (1, 25, 5, 64), _conv(64, 1)),
    ("conv 1x1 8->16 48x48", (1, 48, 48, 8), _conv(16, 1)),
    ("conv 1x1 32->32 24x24", (1, 24, 24, 32), _conv(32, 1)),
    ("conv 1x1 128->128 6x6", (1, 6, 6, 128), _conv(128, 1)),
    ("conv 1x1 256->256 3x3", (1, 3, 3, 256), _conv(256, 1)),
    ("conv 1x1 s2 16->32", (1, 32, 32, 16), _conv(32, 1, 2)),
    ("conv 1x1 13->11 9x9", (1, 9, 9, 13), _conv(11, 1)),
    ("fully connected 640->128", (1, 1, 1, 640), lambda chain: chain.dense(128)),
    ("fully connected 64->10", (1, 1, 1, 64), lambda chain: chain.dense(10)),
    ("fully connected 37->7", (1, 1, 1, 37), lambda chain: chain.dense(7)),
    ("depthwise 3x3 64ch 25x5", (1, 25, 5, 64), _depthwise(3)),
    ("depthwise 3x3 16ch 48x48", (1, 48, 48, 16), _depthwise(3)),
    ("depthwise 3x3 s2 16ch", (1, 48, 48, 16), _depthwise(3, 2)),
    ("depthwise 3x3 128ch 6x6", (1, 6, 6, 128), _depthwise(3)),
    ("depthwise 3x3 s2 128ch 6x6", (1, 6, 6, 128), _depthwise(3, 2)),
    ("depthwise 5x5 32ch 24x24", (1, 24, 24, 32), _depthwise(5)),
    (
        "depthwise 3x3 m8 1ch 16x16",
        (1, 16, 16, 1),
        lambda chain: chain.depthwise((3, 3), 2, (1, 1), multiplier=8),
    ),
    *((f"depthwise 3x3 {c}ch 24x24", (1, 24, 24, c), _depthwise(3)) for c in (1, 2, 3, 5, 6, 7)),
    *((f"depthwise 3x3 s2 {c}ch 24x24", (1, 24, 24, c), _depthwise(3, 2)) for c in (1, 3, 6)),
    *((f"depthwise 5x5 {c}ch 16x16", (1, 16, 16, c), _depthwise(5)) for c in (1, 2, 3, 6)),
    *((f"depthwise 1x5 {c}ch 1x96", (1, 1, 96, c), _wide_depthwise(5)) for c in (1, 3, 8)),
    *((f"depthwise {k}x{k} {c}ch to a pixel", (1, k, k, c), _only_depthwise(k)) for k, c in _TO_A_PIXEL),
    ("multiply 16x16x16", (1, 16, 16, 16), lambda chain: chain.multiply()),
    ("max pool 2x2 16ch 16x16", (1, 16, 16, 16), lambda chain: chain.pool(MaxPool2D, (2, 2), 2)),
    ("lookup 4096", (1, 16, 16, 16), lambda chain: chain.lookup()),
    ("add 16x16x16", (1, 16, 16, 16), lambda chain: chain.add()),
    ("average pool global 8x8x64", (1, 8, 8, 64), lambda chain: chain.pool(AvgPool2D, (8, 8), 1)),
    ("softmax 2", (1, 1, 1, 2), lambda chain: chain.softmax()),
    ("softmax 10", (1, 1, 1, 10), lambda chain: chain.softmax()),
    ("softmax 100", (1, 1, 1, 100), lambda chain: chain.softmax()),
    ("softmax 1000", (1, 1, 1, 1000), lambda chain: chain.softmax()),
    ("concatenation of rows of 16", (1, 16, 16, 16), lambda chain: chain.concat(outer=256)),
    ("copy, rows of 16", (1, 16, 16, 16), lambda chain: chain.copy()),
    ("copy, transposed", (1, 1, 64, 64), lambda chain: chain.transpose()),
    ("gather 4096", (1, 16, 16, 16), lambda chain: chain.gather()),
    ("move 4096", (1, 16, 16, 16), lambda chain: chain.move()),
)


def table_cases() -> list[Case]:
    """The shapes of the table, with random weights and parameters."""
    return [Case(name, _only_call(shape, step)) for name, shape, step in _TABLE]


def _only_call(shape: Shape, step: _Step) -> Call:
    chain = Chain(shape)
    step(chain)
    return chain.calls[0]


def network_cases(target: str) -> Iterator[Case]:
    """Every layer of every network for `target`, once for each shape, with its own weights and parameters."""
    seen: set[Hashable] = set()
    for network in find_networks():
        samples = read_samples(network)
        if samples is None:
            continue
        program = qutec.compile(network.path, target=target, calibration=samples.calibration).program
        for index, call in enumerate(program.calls):
            if _geometry(call) not in seen:
                seen.add(_geometry(call))
                yield Case(f"{network.name.removesuffix('_b1')}:{index} {_words(call)}", call)


def _geometry(call: Call) -> Hashable:
    """What distinguishes one call from another in work: its sizes, not its numbers."""
    values: list[Hashable] = [type(call)]
    for field in fields(call):
        value = getattr(call, field.name)
        if isinstance(value, np.ndarray):
            values.append(value.shape)
        elif field.name not in _NOT_SHAPES and not field.name.endswith(_QUANTIZATION):
            values.append(value)
    return tuple(values)


def _words(call: Call) -> str:
    match call:
        case Conv2D():
            filters, height, width, channels = call.weights.shape
            kernel = f"conv {height}x{width}{_stride(call.stride)} {channels}->{filters}"
        case DepthwiseConv2D():
            height, width, channels = call.weights.shape
            kernel = f"depthwise {height}x{width}{_stride(call.stride)} {channels}ch"
        case FullyConnected():
            return f"fully connected {call.weights.shape[1]}->{call.weights.shape[0]}"
        case AvgPool2D() | MaxPool2D():
            kernel = f"{type(call).__name__} {call.kernel[0]}x{call.kernel[1]} {call.input_shape[3]}ch"
        case _:
            return f"{type(call).__name__} {call.written_region().size}"
    return f"{kernel} {call.input_shape[1]}x{call.input_shape[2]}"


def _stride(stride: tuple[int, int]) -> str:
    return "" if stride == (1, 1) else f" s{stride[0]}" if stride[0] == stride[1] else f" s{stride}"


def program_of(cases: list[Case]) -> Program:
    """All cases one after the other: each reads the network's only input, and writes an output of its own."""
    calls, buffers = [], {}
    input_bytes = 0
    for index, case in enumerate(cases):
        moved, used = _moved(case.call, f"out{index}")
        input_bytes = max(input_bytes, used)
        size = int(moved.written_region().max()) + 1
        buffers[f"out{index}"] = Buffer(f"out{index}", size, BufferKind.OUTPUT)
        calls.append(replace(moved, name=f"call {index}"))
    everything = {"in": Buffer("in", input_bytes, BufferKind.INPUT), **buffers}
    outputs = tuple(Port(name, Tensor(name), (1, buffer.bytes), _UNIT) for name, buffer in buffers.items())
    source = Port("in", Tensor("in"), (1, input_bytes), _UNIT)
    return Program("kernels", everything, tuple(calls), (source,), outputs)


def _moved(call: Call, output: str) -> tuple[Call, int]:
    """The call with its inputs one behind the other in "in", and how many bytes of that it reads."""
    used = 0
    places: list[Tensor] = []
    for k in range(len(call.reads)):
        region = call.read_region(k)
        start = used - min(int(region.min()), 0)
        places.append(Tensor("in", start))
        used = -(-(start + int(region.max()) + 1) // _WORD) * _WORD
    if isinstance(call, Concat):
        return replace(call, inputs=tuple(places), output=Tensor(output)), used
    # A field named so may also be a number: the features of a head.
    names = [
        field.name
        for field in fields(call)
        if "input" in field.name and isinstance(getattr(call, field.name), Tensor)
    ]
    sources: dict[str, Any] = dict(zip(names, places, strict=True))
    return replace(call, **sources, output=Tensor(output)), used
