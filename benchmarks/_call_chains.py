"""Building a program call by call: every call reads what the one before wrote.

Weights and parameters come from a seeded generator; they are valid, and otherwise of no meaning.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

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
    ExitCheck,
    Fill,
    FullyConnected,
    Gather,
    HeadFeatures,
    HeadLogits,
    HeadUncertainty,
    Int32Array,
    Lookup,
    MaxPool2D,
    Move,
    Mul,
    Pair,
    Port,
    Program,
    Quantization,
    Shape,
    Softmax,
    Tensor,
)

__all__ = ["Chain"]

_UNIT = Quantization(1.0, 0)


@dataclass
class Chain:
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

    def transpose(self) -> None:
        """[1, 1, rows, columns] with rows and columns exchanged."""
        _, _, rows, columns = self.shape
        name, source, target = self._step((1, 1, columns, rows))
        self.calls.append(
            Copy(name, source, target, (1, 1, rows, columns), (0, 0, columns, 1), (0, 0, 1, rows))
        )

    def move(self) -> None:
        name, source, target = self._step(self.shape)
        self.calls.append(Move(name, source, target, int(np.prod(self.shape))))

    def gather(self) -> None:
        count = int(np.prod(self.shape))
        index = self.generator.permutation(count).astype(np.int32)
        name, source, target = self._step(self.shape)
        self.calls.append(Gather(name, source, target, index))

    def head_features(
        self, heads: int, kernel: Pair, *, relu: bool, stride: int = 1, padding: int = 0
    ) -> None:
        _, height, width, channels = self.shape
        source_shape = self.shape
        pixels = _windows((height, width), kernel, stride, (padding, padding), 1)
        name, source, target = self._step((1, heads, channels, 2))
        count = heads * channels
        bias = self._int32(-500, 500, count).astype(np.int16).reshape(heads, channels) if relu else None
        self.calls.append(
            HeadFeatures(
                name, source, target, source_shape, pixels, self._int8(heads, *kernel, channels),
                self._int32(1 << 14, (1 << 16) - 1, count).astype(np.uint16).reshape(heads, channels),
                8, (stride, stride), (padding, padding), self._offset(), bias,
            )
        )  # fmt: skip

    def head_logits(self, heads: int, classes: int, input_bits: Literal[8, 16]) -> None:
        inputs = int(np.prod(self.shape)) // heads // (input_bits // 8)
        offset = self._offset() if input_bits == 8 else 0
        name, source, target = self._step((1, heads, classes, 4))
        count = heads * classes
        self.calls.append(
            HeadLogits(
                name, source, target, heads, classes, inputs, input_bits, offset,
                self._int8(heads, classes, inputs), self._int32(-500, 500, count).reshape(heads, classes),
                self._int32(1 << 30, (1 << 31) - 1, count).reshape(heads, classes), 0,
            )
        )  # fmt: skip

    def head_uncertainty(self, heads: int) -> None:
        classes = int(np.prod(self.shape)) // 4 // heads
        name, source, target = self._step((1, 1, classes + HeadUncertainty.SCALARS, 4))
        self.calls.append(HeadUncertainty(name, source, target, heads, classes, 1 << 29))

    def exit_check(self) -> None:
        """All of them write the one output, which has to be there at every exit."""
        checks = [call for call in self.calls if isinstance(call, ExitCheck)]
        if checks:
            name, source, target = f"call {len(self.calls)}", checks[0].input, checks[0].output
        else:
            name, source, target = self._step((1, 1, 1, 4))
        self.calls.append(ExitCheck(name, source, target, len(checks), 1 << 30))

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
