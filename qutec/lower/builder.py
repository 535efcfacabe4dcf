"""Collects the buffers and calls of a Program, and moves views where a kernel needs them moved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from qutec.lower.stages import by_stage
from qutec.lower.view import FreeOrder, View, affine_loops, row_major
from qutec.program import (
    Buffer,
    BufferKind,
    Call,
    Copy,
    Gather,
    Int8Array,
    Int32Array,
    Lookup,
    Port,
    Program,
    Quantization,
    Tensor,
)

__all__ = ["Builder", "Refused"]


class Refused(Exception):  # noqa: N818 (an answer, not a fault)
    """Why a node cannot be lowered, in words that reach the user.

    `origin` names the node where that is not the one at hand: a kernel is made when its result is stored,
    which is the business of a later QuantizeLinear.
    """

    def __init__(self, reason: str, origin: str = "") -> None:
        super().__init__(reason)
        self.origin = origin


class Builder:
    """The Program in the making. Every method that returns a View may have added calls."""

    def __init__(self) -> None:
        self.buffers: dict[str, Buffer] = {}
        self.calls: list[Call] = []
        self.inputs: list[tuple[str, View]] = []
        self.outputs: list[tuple[str, View] | Port] = []

    def add(self, call: Call) -> None:
        """Append a call."""
        self.calls.append(call)

    def unique(self, wanted: str) -> str:
        """A buffer name that is not taken yet."""
        name, count = wanted, 1
        while name in self.buffers:
            count += 1
            name = f"{wanted}_{count}"
        return name

    def buffer(self, name: str, size: int, kind: BufferKind = BufferKind.INTERNAL) -> Tensor:
        """A new buffer of `size` bytes; the name is made unique."""
        unique = self.unique(name)
        self.buffers[unique] = Buffer(unique, size, kind)
        return Tensor(unique)

    def constant(self, name: str, data: Int8Array) -> Tensor:
        """A new constant buffer in flash."""
        unique = self.unique(name)
        self.buffers[unique] = Buffer(unique, data.size, BufferKind.CONSTANT, np.ascontiguousarray(data))
        return Tensor(unique)

    def network_input(self, name: str, shape: tuple[int, ...], quantization: Quantization) -> View:
        """A new network input; its memory order stays open until a kernel wants one."""
        size = int(np.prod(shape, dtype=np.int64))
        tensor = self.buffer(name, size, BufferKind.INPUT)
        view = View(tensor, shape, row_major(size), quantization, FreeOrder())
        self.inputs.append((name, view))
        return view

    def output_view(
        self, name: str, shape: tuple[int, ...], quantization: Quantization, order: Int32Array
    ) -> View:
        """A view on a new buffer for the result of a call."""
        return View(self.buffer(name, order.size), shape, order, quantization)

    def settled(self, view: View) -> View:
        """The view with its memory order fixed (a free input becomes row-major)."""
        if view.free is None:
            return view
        return replace(view, order=view.memory_order(), free=None)

    def ordered(self, view: View, order: Int32Array, name: str) -> View:
        """The view with exactly this memory order: as it is, or copied."""
        if view.free is not None and view.free.order is None:
            source = np.empty_like(view.order)
            source[view.order] = row_major(view.size)
            view.free.order = source[order]
            return replace(view, order=order, free=None)
        view = self.settled(view)
        if np.array_equal(view.order, order):
            return view
        position = np.empty(view.size, np.int64)
        position[view.order] = np.arange(view.size)
        return self.picked(view, position[order], view.shape, order, name)

    def picked(
        self,
        view: View,
        positions: npt.NDArray[np.int64],
        shape: tuple[int, ...],
        order: Int32Array,
        name: str,
    ) -> View:
        """A new tensor whose memory position i is position positions[i] of a settled view.

        Where the positions are one run of memory the result is a view into the same buffer.
        """
        first = int(positions[0])
        if np.array_equal(positions, np.arange(first, first + positions.size)):
            tensor = Tensor(view.tensor.buffer, view.tensor.offset + first)
            return replace(view, tensor=tensor, shape=shape, order=order)
        target = self.output_view(name, shape, view.quantization, order)
        self.moved(name, view.tensor, positions, target.tensor, np.arange(positions.size))
        return target

    def moved(
        self,
        name: str,
        source: Tensor,
        read: npt.NDArray[np.int64],
        target: Tensor,
        written: npt.NDArray[np.int64],
    ) -> None:
        """Add the calls that copy byte read[i] of `source` to byte written[i] of `target`."""
        loops = affine_loops(np.stack([read, written], axis=1).astype(np.int64))
        if loops is not None:
            dims, strides = loops
            self.add(
                Copy(
                    name,
                    Tensor(source.buffer, source.offset + int(read[0])),
                    Tensor(target.buffer, target.offset + int(written[0])),
                    (dims[0], dims[1], dims[2], dims[3]),
                    (strides[0][0], strides[1][0], strides[2][0], strides[3][0]),
                    (strides[0][1], strides[1][1], strides[2][1], strides[3][1]),
                )
            )
            return
        if not np.array_equal(written, np.arange(written.size)):
            raise Refused("the re-ordering is too irregular to be copied in loops")
        if int(read.max()) > 0xFFFF:
            raise Refused("the re-ordering is irregular and its input is larger than 64 KiB")
        self.add(Gather(name, source, target, read.astype(np.int32)))

    def requantized(self, view: View, quantization: Quantization, name: str) -> View:
        """The view at another scale and zero point: as it is, or through a table."""
        if view.quantization == quantization:
            return view
        values = np.arange(-128, 128, dtype=np.float64)
        real = (values - view.quantization.zero_point) * view.quantization.scale
        return self.looked_up(view, quantize_array(real, quantization), quantization, name)

    def looked_up(self, view: View, table: Int8Array, quantization: Quantization, name: str) -> View:
        """The view after a 256-entry table; table[q + 128] is the result for q.

        A table that gives every code back only changes what the codes stand for, which costs nothing.
        """
        if np.array_equal(table, np.arange(-128, 128)):
            return replace(view, quantization=quantization)
        # A table reads any order, so that of a network input stays open behind it.
        target = replace(view, tensor=self.buffer(name, view.size), quantization=quantization)
        self.add(Lookup(name, view.tensor, target.tensor, view.size, table))
        return target

    def result(self, name: str, shape: tuple[int, ...], tensor: Tensor, scale: float) -> None:
        """An output of int32 values that stand for scale * value."""
        self.outputs.append(Port(name, tensor, shape, Quantization(scale, 0), dtype="int32"))

    def program(self, name: str) -> Program:
        """The finished Program."""
        outputs = [
            entry if isinstance(entry, Port) else self._port(entry[0], self._owned(*entry))
            for entry in self.outputs
        ]
        for port in outputs:
            buffer = self.buffers[port.tensor.buffer]
            self.buffers[buffer.name] = replace(buffer, kind=BufferKind.OUTPUT)
        inputs = [self._port(port, view) for port, view in self.inputs]
        return Program(name, self.buffers, tuple(by_stage(self.calls)), tuple(inputs), tuple(outputs))

    def _owned(self, name: str, view: View) -> View:
        """An output lies in a buffer that a call has written, never in an input or a constant."""
        view = self.settled(view)
        if self.buffers[view.tensor.buffer].kind in (BufferKind.INTERNAL, BufferKind.OUTPUT):
            return view
        target = self.output_view(name, view.shape, view.quantization, view.order)
        positions = np.arange(view.size)
        self.moved(name, view.tensor, positions, target.tensor, positions)
        return target

    def _port(self, name: str, view: View) -> Port:
        order = view.memory_order()
        plain = np.array_equal(order, row_major(view.size))
        return Port(name, view.tensor, view.shape, view.quantization, None if plain else order)


def quantize_array(real: npt.NDArray[np.float64], quantization: Quantization) -> Int8Array:
    """round(real / scale) + zero_point, saturated to int8; ties to even as ONNX QuantizeLinear."""
    scaled = np.rint(real / quantization.scale) + quantization.zero_point
    codes: Int8Array = np.clip(scaled, -128, 127).astype(np.int8)
    return codes
