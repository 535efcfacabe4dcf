"""Small programs made of one kind of kernel call, to find out what such a call costs in code and stack.

Every call reads what the one before wrote. `repeated` gives calls as networks have them, each with
parameters of its own, for code size; `variants` gives one call for each way through the kernels, for the
deepest stack. Weights and parameters come from a seeded generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from qutec.program import (
    Add,
    AvgPool2D,
    Buffer,
    BufferKind,
    Call,
    Concat,
    Conv2D,
    Copy,
    DepthwiseConv2D,
    Fill,
    FullyConnected,
    Gather,
    Int32Array,
    Lookup,
    MaxPool2D,
    Mul,
    Pair,
    Port,
    Program,
    Quantization,
    Shape,
    Softmax,
    Tensor,
)

__all__ = ["KINDS", "mixed", "repeated", "variants"]

_UNIT = Quantization(1.0, 0)
_CHANNELS = (16, 24, 32, 48, 20)


@dataclass
class _Chain:
    """A program under construction; `shape` (NHWC) is that of the last buffer."""

    shape: Shape
    calls: list[Call] = field(default_factory=list)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    filled: list[str] = field(default_factory=list)
    steps: int = 0
    generator: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    _first: Shape = field(init=False)

    def __post_init__(self) -> None:
        self._first = self.shape
        self.buffers["b0"] = Buffer("b0", int(np.prod(self.shape)), BufferKind.INPUT)

    @property
    def _last(self) -> Tensor:
        return Tensor(f"b{self.steps}")

    def _step(self, shape: Shape) -> tuple[str, Tensor, Tensor]:
        """Name of the next call, its input, and its output, a new buffer of that shape."""
        source, name = self._last, f"b{self.steps + 1}"
        self.steps += 1
        self.buffers[name] = Buffer(name, int(np.prod(shape)), BufferKind.INTERNAL)
        self.shape = shape
        return f"call {len(self.calls)}", source, Tensor(name)

    def _int8(self, *shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
        return self.generator.integers(-127, 128, shape, np.int8)

    def _int32(self, low: int, high: int, count: int) -> Int32Array:
        return self.generator.integers(low, high, count, np.int32)

    def _offset(self) -> int:
        return int(self.generator.integers(-128, 128))

    def conv(
        self,
        filters: int,
        kernel: Pair,
        stride: int = 1,
        padding: Pair = (0, 0),
        groups: int = 1,
        dilation: int = 1,
    ) -> None:
        _, height, width, channels = self.shape
        source_shape = self.shape
        shape = (1, *_windows((height, width), kernel, stride, padding, dilation), filters)
        name, source, target = self._step(shape)
        self.calls.append(
            Conv2D(
                name, source, target, source_shape, shape,
                self._int8(filters, *kernel, channels // groups), self._int32(-5000, 5000, filters),
                self._int32(1 << 30, (1 << 31) - 1, filters), self._int32(-9, -6, filters),
                (stride, stride), padding, (dilation, dilation), self._offset(), self._offset(), -128, 127,
            )
        )  # fmt: skip

    def depthwise(
        self, kernel: Pair, stride: int = 1, padding: Pair = (0, 0), multiplier: int = 1, dilation: int = 1
    ) -> None:
        _, height, width, channels = self.shape
        source_shape, filters = self.shape, channels * multiplier
        shape = (1, *_windows((height, width), kernel, stride, padding, dilation), filters)
        name, source, target = self._step(shape)
        self.calls.append(
            DepthwiseConv2D(
                name, source, target, source_shape, shape,
                self._int8(*kernel, filters), self._int32(-5000, 5000, filters),
                self._int32(1 << 30, (1 << 31) - 1, filters), self._int32(-9, -6, filters), multiplier,
                (stride, stride), padding, (dilation, dilation), self._offset(), self._offset(), -128, 127,
            )
        )  # fmt: skip

    def dense(self, outputs: int, filter_offset: int = 0) -> None:
        inputs = int(np.prod(self.shape))
        name, source, target = self._step((1, 1, 1, outputs))
        self.calls.append(
            FullyConnected(
                name, source, target, 1, self._int8(outputs, inputs), self._int32(-5000, 5000, outputs),
                int(self._int32(1 << 30, (1 << 31) - 1, 1)[0]), -8, self._offset(), filter_offset,
                self._offset(), -128, 127,
            )
        )  # fmt: skip

    def pool(
        self, kind: type[AvgPool2D] | type[MaxPool2D], kernel: Pair, stride: int, padding: Pair = (0, 0)
    ) -> None:
        source_shape = self.shape
        shape = (1, *_windows(self.shape[1:3], kernel, stride, padding, 1), self.shape[3])
        name, source, target = self._step(shape)
        self.calls.append(
            kind(name, source, target, source_shape, shape, kernel, (stride, stride), padding, -128, 127)
        )

    def add(self, outer: int = 1) -> None:
        inner = int(np.prod(self.shape)) // outer
        name, source, target = self._step(self.shape)
        first, second, third = (int(value) for value in self._int32(1 << 30, (1 << 31) - 1, 3))
        self.calls.append(
            Add(
                name, source, source, target, outer, inner, inner, 0 if outer > 1 else inner, self._offset(),
                first, -1, self._offset(), second, -2, 20, self._offset(), third, -17, -128, 127,
            )
        )  # fmt: skip

    def multiply(self, outer: int = 1) -> None:
        inner = int(np.prod(self.shape)) // outer
        name, source, target = self._step(self.shape)
        self.calls.append(
            Mul(
                name, source, source, target, outer, inner, inner, 0 if outer > 1 else inner, self._offset(),
                self._offset(), self._offset(), int(self._int32(1 << 30, (1 << 31) - 1, 1)[0]), -7, -128, 127,
            )
        )  # fmt: skip

    def softmax(self, rows: int = 1) -> None:
        row = int(np.prod(self.shape)) // rows
        name, source, target = self._step(self.shape)
        multiplier = int(self._int32(1 << 30, (1 << 31) - 1, 1)[0])
        self.calls.append(Softmax(name, source, target, rows, row, multiplier, 23, -248))

    def lookup(self) -> None:
        count = int(np.prod(self.shape))
        name, source, target = self._step(self.shape)
        self.calls.append(Lookup(name, source, target, count, self._int8(256)))

    def concat(self, outer: int) -> None:
        _, height, width, channels = self.shape
        inner = int(np.prod(self.shape)) // outer
        name, source, target = self._step((1, height, width, 2 * channels))
        self.calls.append(Concat(name, (source, source), target, outer, (inner, inner)))

    def copy(self) -> None:
        _, height, width, channels = self.shape
        name, source, target = self._step((1, width, height, channels))
        strides = (width * channels, channels, 1)
        turned = (channels, height * channels, 1)
        self.calls.append(
            Copy(name, source, target, (1, height, width, channels), (0, *strides), (0, *turned))
        )

    def gather(self) -> None:
        count = int(np.prod(self.shape))
        index = self.generator.permutation(count).astype(np.int32)
        name, source, target = self._step(self.shape)
        self.calls.append(Gather(name, source, target, index))

    def fill(self) -> None:
        """Writes an output of its own: nothing can be chained to what it does not read."""
        name = f"filled{len(self.filled)}"
        count = 100 + 20 * len(self.filled)
        self.buffers[name] = Buffer(name, count, BufferKind.OUTPUT)
        self.filled.append(name)
        self.calls.append(Fill(f"call {len(self.calls)}", Tensor(name), count, self._offset()))

    def program(self) -> Program:
        """What was chained so far; the caller reads the last buffer, and all that were filled."""
        buffers, outputs = dict(self.buffers), list(self.filled)
        if self.steps:
            last = self._last.buffer
            buffers[last] = Buffer(last, buffers[last].bytes, BufferKind.OUTPUT)
            outputs.append(last)
        ports = tuple(Port(name, Tensor(name), (1, buffers[name].bytes), _UNIT) for name in outputs)
        source = Port("b0", Tensor("b0"), self._first, _UNIT)
        return Program("chain", buffers, tuple(self.calls), (source,), ports)


def _windows(size: Pair, kernel: Pair, stride: int, padding: Pair, dilation: int) -> Pair:
    rows, columns = (
        (size[i] + 2 * padding[i] - dilation * (kernel[i] - 1) - 1) // stride + 1 for i in range(2)
    )
    return rows, columns


def _conv(chain: _Chain, i: int) -> None:
    if i % 2:
        chain.conv(_CHANNELS[i % len(_CHANNELS)], (1, 1))
    else:
        chain.conv(_CHANNELS[i % len(_CHANNELS)], (3, 3), padding=(1, 1))


def _depthwise(chain: _Chain, i: int) -> None:
    chain.depthwise((3, 3), stride=1 + i % 2, padding=(1, 1))


def _dense(chain: _Chain, i: int) -> None:
    chain.dense(40 - 4 * i)


def _average(chain: _Chain, i: int) -> None:
    chain.pool(AvgPool2D, (2, 2), 1)


def _maximum(chain: _Chain, i: int) -> None:
    chain.pool(MaxPool2D, (2, 2), 1)


_REPEATED: dict[type[Call], tuple[Shape, Callable[[_Chain, int], None]]] = {
    Conv2D: ((1, 8, 8, 12), _conv),
    DepthwiseConv2D: ((1, 16, 16, 8), _depthwise),
    FullyConnected: ((1, 1, 1, 64), _dense),
    AvgPool2D: ((1, 12, 12, 8), _average),
    MaxPool2D: ((1, 12, 12, 8), _maximum),
    Add: ((1, 8, 8, 8), lambda chain, i: chain.add()),
    Mul: ((1, 8, 8, 8), lambda chain, i: chain.multiply()),
    Softmax: ((1, 1, 1, 10), lambda chain, i: chain.softmax()),
    Lookup: ((1, 1, 1, 64), lambda chain, i: chain.lookup()),
    Concat: ((1, 2, 2, 4), lambda chain, i: chain.concat(outer=4 if i % 2 else 1)),
    Copy: ((1, 4, 6, 8), lambda chain, i: chain.copy()),
    Gather: ((1, 1, 1, 64), lambda chain, i: chain.gather()),
    Fill: ((1, 1, 1, 16), lambda chain, i: chain.fill()),
}

KINDS = tuple(_REPEATED)
"""Every kind of call that is emitted."""


def repeated(kind: type[Call], count: int) -> Program:
    """`count` calls of one kind, one after the other, with parameters as networks have them."""
    shape, append = _REPEATED[kind]
    chain = _Chain(shape)
    for i in range(count):
        append(chain, i)
    return chain.program()


def variants(kind: type[Call]) -> list[Program]:
    """Programs with calls of one kind that together take every way through its kernel."""
    chains = {
        Conv2D: _conv_variants,
        DepthwiseConv2D: _depthwise_variants,
        FullyConnected: _dense_variants,
    }
    if kind in chains:
        return chains[kind]()
    shape, append = _REPEATED[kind]
    chain = _Chain(shape)
    for i in range(2):
        append(chain, i)
    if kind is Add:
        chain.add(outer=4)
    elif kind is Mul:
        chain.multiply(outer=4)
    elif kind is Softmax:
        chain.softmax(rows=2)
    elif kind is AvgPool2D:
        chain.pool(AvgPool2D, (3, 3), 2, (1, 1))
        chain.pool(AvgPool2D, chain.shape[1:3], 1)
    elif kind is MaxPool2D:
        chain.pool(MaxPool2D, (3, 3), 2, (1, 1))
    return [chain.program()]


def mixed() -> Program:
    """One network with most kinds of calls, several of each: its frame holds the arguments of all of them."""
    chain = _Chain((1, 32, 32, 3))
    for filters in (16, 24, 32):
        chain.conv(filters, (3, 3), padding=(1, 1))
        chain.depthwise((3, 3), stride=2, padding=(1, 1))
        chain.conv(filters, (1, 1))
        chain.add()
    chain.copy()
    chain.lookup()
    chain.concat(outer=16)
    chain.pool(MaxPool2D, (2, 2), 2)
    chain.pool(AvgPool2D, (2, 2), 1)
    chain.multiply()
    chain.gather()
    chain.fill()
    chain.dense(10)
    chain.softmax()
    return chain.program()


def _conv_variants() -> list[Program]:
    chain = _Chain((1, 16, 16, 3))
    chain.conv(16, (3, 3), padding=(1, 1))
    chain.conv(16, (3, 3), padding=(1, 1))
    chain.conv(18, (1, 1))
    chain.conv(10, (3, 3), stride=2, padding=(1, 1))
    chain.conv(12, (1, 1), stride=2)
    chain.conv(16, (3, 3), padding=(2, 2), dilation=2)
    chain.conv(8, (3, 3), padding=(1, 1), groups=4)
    chain.conv(8, (1, 3), padding=(0, 1))
    chain.conv(10, (4, 4))
    chain.conv(640, (1, 1))
    chain.conv(10, (1, 1))
    narrow = _Chain((1, 25, 10, 1))
    narrow.conv(64, (10, 4), stride=2, padding=(4, 1))
    narrow.conv(7, (1, 1))
    return [chain.program(), narrow.program()]


def _depthwise_variants() -> list[Program]:
    chain = _Chain((1, 16, 16, 8))
    chain.depthwise((3, 3), padding=(1, 1))
    chain.depthwise((3, 3), stride=2, padding=(1, 1))
    chain.depthwise((2, 2), stride=1)
    chain.depthwise((5, 5), padding=(2, 2))
    chain.depthwise((3, 3), padding=(2, 2), dilation=2)
    chain.depthwise((3, 3), padding=(1, 1), multiplier=2)
    chain.depthwise((7, 7))
    odd = _Chain((1, 8, 8, 10))
    odd.depthwise((3, 3), padding=(1, 1))
    odd.depthwise((2, 2), stride=2)
    single = _Chain((1, 8, 8, 1))
    single.depthwise((3, 3), padding=(1, 1), multiplier=8)
    return [chain.program(), odd.program(), single.program()]


def _dense_variants() -> list[Program]:
    chain = _Chain((1, 1, 1, 64))
    chain.dense(40)
    chain.dense(7)
    chain.dense(10, filter_offset=3)
    return [chain.program()]
