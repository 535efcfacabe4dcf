"""Small programs for the planner's tests; buffers are sized by what the calls read and write."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np

from qutec.program import (
    Add,
    Buffer,
    BufferKind,
    Call,
    Concat,
    Copy,
    Fill,
    FullyConnected,
    Gather,
    Lookup,
    MaxPool2D,
    Port,
    Program,
    Quantization,
    Tensor,
)

SCALE = Quantization(0.05, 0)


def lookup(source: str, target: str, count: int) -> Call:
    table = np.arange(-128, 128, dtype=np.int8)
    return Lookup(f"{target}_lookup", Tensor(source), Tensor(target), count, table)


def dense(source: str, target: str, inputs: int, outputs: int) -> Call:
    return FullyConnected(
        name=f"{target}_dense",
        input=Tensor(source),
        output=Tensor(target),
        rows=1,
        weights=np.ones((outputs, inputs), dtype=np.int8),
        bias=np.zeros(outputs, dtype=np.int32),
        multiplier=1 << 30,
        shift=0,
        input_offset=0,
        filter_offset=0,
        output_offset=0,
        activation_min=-128,
        activation_max=127,
    )


def add(
    source_1: str | Tensor,
    source_2: str | Tensor,
    target: str,
    inner: int,
    *,
    outer: int = 1,
    stride_2: int = 0,
) -> Call:
    """outer blocks of inner values; input 1 moves with the output, input 2 by stride_2."""
    return Add(
        name=f"{target}_add",
        input_1=Tensor(source_1) if isinstance(source_1, str) else source_1,
        input_2=Tensor(source_2) if isinstance(source_2, str) else source_2,
        output=Tensor(target),
        outer=outer,
        inner=inner,
        stride_1=inner,
        stride_2=stride_2,
        input_1_offset=0,
        input_1_multiplier=1 << 30,
        input_1_shift=0,
        input_2_offset=0,
        input_2_multiplier=1 << 30,
        input_2_shift=0,
        left_shift=20,
        output_offset=0,
        output_multiplier=1 << 30,
        output_shift=-19,
        activation_min=-128,
        activation_max=127,
    )


def pool(source: str, target: str, rows: int, width: int) -> Call:
    """The maximum of three rows, padded: while a row is written, the row above it is still read."""
    shape = (1, rows, width, 1)
    return MaxPool2D(
        f"{target}_pool", Tensor(source), Tensor(target), shape, shape, (3, 1), (1, 1), (1, 0), -128, 127
    )


def concat(sources: Sequence[str], target: str, outer: int, inner: Sequence[int]) -> Call:
    return Concat(f"{target}_concat", tuple(map(Tensor, sources)), Tensor(target), outer, tuple(inner))


def fill(target: str, count: int) -> Call:
    return Fill(f"{target}_fill", Tensor(target), count, -128)


def copy_rows(source: str, target: str, rows: int, width: int, *, at: int, pitch: int) -> Call:
    """Rows of `width` bytes, side by side in the source, `pitch` bytes apart in the target from byte `at`."""
    return Copy(
        f"{target}_copy",
        Tensor(source),
        Tensor(target, at),
        (1, 1, rows, width),
        (0, 0, width, 1),
        (0, 0, pitch, 1),
    )


def gather(source: str, target: str, index: Sequence[int]) -> Call:
    return Gather(f"{target}_gather", Tensor(source), Tensor(target), np.asarray(index, dtype=np.int32))


def program(
    calls: Sequence[Call],
    sizes: dict[str, int],
    *,
    inputs: Sequence[str] = ("x",),
    outputs: Sequence[str] = ("y",),
    constants: Sequence[str] = (),
) -> Program:
    """A program with one port for each input and output, which covers the whole buffer."""

    def kind(name: str) -> BufferKind:
        if name in constants:
            return BufferKind.CONSTANT
        if name in inputs:
            return BufferKind.INPUT
        return BufferKind.OUTPUT if name in outputs else BufferKind.INTERNAL

    def ports(names: Sequence[str]) -> tuple[Port, ...]:
        return tuple(Port(name, Tensor(name), (sizes[name],), SCALE) for name in names)

    buffers = {
        name: Buffer(name, size, kind(name), np.zeros(size, dtype=np.int8) if name in constants else None)
        for name, size in sizes.items()
    }
    return Program("net", buffers, tuple(calls), ports(inputs), ports(outputs))


def random_program(seed: int, calls: int, sizes: Sequence[int], *, reach: int = 3) -> Program:
    """A random network: tables, dense layers and additions on one of the last `reach` tensors."""
    random = Random(seed)
    made = ["x"]
    size = {"x": random.choice(sizes)}
    body: list[Call] = []
    for i in range(calls):
        name = "y" if i == calls - 1 else f"t{i}"
        source = random.choice(made[-reach:])
        twins = [m for m in made[-reach:] if size[m] == size[source] and m != source]
        match random.choice(("lookup", "dense", "dense", "add")):
            case "add" if twins:
                size[name] = size[source]
                body.append(add(source, random.choice(twins), name, size[source]))
            case "dense":
                size[name] = random.choice(sizes)
                body.append(dense(source, name, size[source], size[name]))
            case _:
                size[name] = size[source]
                body.append(lookup(source, name, size[source]))
        made.append(name)
    return program(body, size)
