"""Random networks so small that everything can be tried: branches, residuals, exits, concatenations."""

from __future__ import annotations

from collections import Counter
from random import Random

from qutec.program import Add, Call, Concat, MaxPool2D, Program, Tensor
from tests.planner.programs import add, concat, dense, lookup, pool, program

_MOST_JOINED = 32
"""Bytes; what is longer makes the search for places long, and says nothing else."""


def random_graph(seed: int) -> tuple[Program, list[int]]:
    """Three to five calls on small maps, with branches, unread results, several outputs and scratch."""
    random = Random(seed)
    sizes = {"x": random.choice((8, 12, 16))}
    calls: list[Call] = []
    for i in range(random.randint(3, 5)):
        name = f"t{i}"
        source = random.choice(list(sizes)[-3:])
        size = sizes[source]
        others = [other for other in sizes if other != source]
        twins = [other for other in others if sizes[other] == size]
        joinable = [other for other in others if sizes[other] + size <= _MOST_JOINED]
        match random.choice(("lookup", "pool", "pool", "dense", "add", "concat")):
            case "add" if twins:
                calls.append(add(source, random.choice(twins), name, size))
            case "concat" if joinable:
                other = random.choice(joinable)
                outer = random.choice((1, 1, 2))
                calls.append(concat([source, other], name, outer, (size // outer, sizes[other] // outer)))
                size += sizes[other]
            case "lookup":
                calls.append(lookup(source, name, size))
            case "pool":
                calls.append(pool(source, name, size // 4, 4))
            case _:
                size = random.choice((4, 8, 12, 20))
                calls.append(dense(source, name, sizes[source], size))
        sizes[name] = size
    outputs = {f"t{len(calls) - 1}", random.choice(list(sizes)[1:])}
    scratch = [random.choice((0, 0, 0, 6, 8)) for _ in calls]
    return program(calls, sizes, outputs=sorted(outputs)), scratch


def random_maps(seed: int) -> tuple[Program, list[int]]:
    """Three or four calls on maps of a few rows, with branches, several outputs, exits and scratch."""
    random = Random(seed)
    shapes = {"x": (random.choice((3, 4, 6)), 4)}
    calls: list[Call] = []
    outputs: set[str] = set()
    count = random.randint(3, 4)
    for i in range(count):
        name = f"t{i}"
        maps = [one for one in shapes if shapes[one][0] > 1 or one == "x"]
        source = random.choice(maps[-2:])
        height, width = shapes[source]
        level = [one for one in shapes if shapes[one][0] == height and one != source]
        twins = [one for one in level if shapes[one][1] == width]
        match random.choice(("lookup", "pool", "pool", "pool", "half", "dense", "add", "add", "concat")):
            case "add" if twins:
                calls.append(add(source, random.choice(twins), name, width * height))
            case "concat" if level and width == 4:
                other = random.choice(level)
                inner = (width, shapes[other][1])
                calls.append(concat([source, other], name, height, inner))
                width = sum(inner)
            case "half" if height % 2 == 0:
                calls.append(halving(source, name, height, width))
                height //= 2
            case "lookup":
                calls.append(lookup(source, name, width * height))
            case "dense" if i == count - 1 or random.random() < 0.5:
                calls.append(dense(source, name, width * height, 4))
                height, width = 1, 4
                outputs.add(name)
            case _:
                calls.append(pool(source, name, height, width))
        shapes[name] = height, width
    outputs.add(f"t{count - 1}")
    if random.random() < 0.2:
        outputs.add(random.choice(list(shapes)[1:]))
    scratch = [random.choice((0, 0, 0, 4)) for _ in calls]
    return program(calls, {n: h * w for n, (h, w) in shapes.items()}, outputs=sorted(outputs)), scratch


def halving(source: str, target: str, rows: int, width: int) -> Call:
    """The maximum of two rows."""
    shape, half = (1, rows, width, 1), (1, rows // 2, width, 1)
    return MaxPool2D(
        f"{target}_half", Tensor(source), Tensor(target), shape, half, (2, 1), (2, 1), (0, 0), -128, 127
    )


def features(net: Program) -> set[str]:
    """What there is in a network that makes its plan anything but a chain of buffers."""
    readers = Counter(tensor.buffer for call in net.calls for tensor in {*call.reads})
    found = set()
    if any(count > 1 for count in readers.values()):
        found.add("branches")
    if any(isinstance(call, Add) for call in net.calls):
        found.add("additions")
    if any(isinstance(call, Concat) for call in net.calls):
        found.add("concatenations")
    if len(net.outputs) > 1:
        found.add("several outputs")
    return found
