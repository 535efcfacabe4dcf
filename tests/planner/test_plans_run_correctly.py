"""Plans are executed: what the validator accepts computes the same bytes as buffers of their own do.

The executor writes one byte at a time and reads its operands afresh for every byte, as a kernel that keeps
nothing in registers would, so every harmful overlap shows in the values.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import numpy.typing as npt
import pytest

from qutec.planner import Plan, PlanError, plan_program, validate_plan
from qutec.program import Add, Call, FullyConnected, Lookup, Program
from tests.planner.programs import random_program

Bytes = npt.NDArray[np.int64]
CALLS = 9


def run(net: Program, scratch: list[int], plan: Plan) -> list[list[int]]:
    """What each call wrote, then the output ports at the end, of a run in one arena of garbage."""
    arena = np.random.default_rng(7).integers(0, 1 << 30, plan.arena_bytes)
    seen: list[list[int]] = []

    def look(name: str) -> None:
        seen.append(arena[plan.offsets[name] :][: net.buffers[name].bytes].tolist())

    for port in net.inputs:
        start = plan.offsets[port.tensor.buffer]
        arena[start : start + port.size] = np.arange(port.size) + 1000
    for i, call in enumerate(net.calls):
        for moment in ("before", "after"):
            offset = plan.scratch_offsets[i]
            if offset is not None:
                arena[offset : offset + scratch[i]] = -i - 1
            if moment == "before":
                execute(call, arena, plan, i)
        look(call.output.buffer)
    for port in net.outputs:
        look(port.tensor.buffer)
    return seen


def execute(call: Call, arena: Bytes, plan: Plan, seed: int) -> None:
    match call:
        case Lookup():
            source, target = plan.offsets[call.input.buffer], plan.offsets[call.output.buffer]
            for k in range(call.count):
                arena[target + k] = (3 * arena[source + k] + seed) % 1_000_003
        case Add():
            source, target = plan.offsets[call.input_1.buffer], plan.offsets[call.output.buffer]
            other = plan.offsets[call.input_2.buffer]
            for k in range(call.inner):
                arena[target + k] = (5 * arena[source + k] + 7 * arena[other + k] + seed) % 1_000_003
        case FullyConnected():
            source, target = plan.offsets[call.input.buffer], plan.offsets[call.output.buffer]
            outputs, inputs = call.weights.shape
            for k in range(outputs):
                weights = np.arange(k + 1, k + 1 + inputs)
                arena[target + k] = (weights @ arena[source : source + inputs] + seed) % 1_000_003
        case _:
            raise NotImplementedError(call.name)


def apart(net: Program, plan: Plan) -> Plan:
    """Every buffer at a place of its own, without scratch: the values that must come out."""
    offsets: dict[str, int] = {}
    end = 0
    for buffer in net.arena_buffers():
        offsets[buffer.name] = end
        end += buffer.bytes
    return replace(plan, offsets=offsets, scratch_offsets=(None,) * CALLS, arena_bytes=end)


def shuffled(net: Program, scratch: list[int], plan: Plan, random: Random) -> Plan:
    """The plan with a few things at random places; half of the moved buffers go where another one is."""
    offsets = dict(plan.offsets)
    places = list(plan.scratch_offsets)
    for name in random.sample(sorted(offsets), k=random.randint(1, 3)):
        start = random.choice(sorted(offsets.values())) if random.randrange(2) else random.randrange(0, 96, 4)
        offsets[name] = min(start, plan.arena_bytes - net.buffers[name].bytes) // 4 * 4
    for i, place in enumerate(places):
        if place is not None and not random.randrange(4):
            places[i] = random.randrange(0, plan.arena_bytes - scratch[i] + 1, 4)
    allocations = tuple(
        replace(a, offset=offsets[a.name] if a.scratch_of is None else places[a.scratch_of] or 0)
        for a in plan.allocations
    )
    return replace(plan, offsets=offsets, scratch_offsets=tuple(places), allocations=allocations)


@pytest.mark.parametrize("seed", range(10))
def test_planned_arena_computes_what_separate_buffers_do(seed: int) -> None:
    net = random_program(seed, CALLS, (8, 12, 13, 20), reach=4)
    scratch = [6 * (i % 3) for i in range(CALLS)]
    plan = plan_program(net, scratch)
    assert run(net, scratch, plan) == run(net, scratch, apart(net, plan))


def test_validator_accepts_only_plans_that_compute_the_same() -> None:
    random = Random(11)
    verdicts = {"accepted": 0, "rejected and wrong": 0, "rejected and right": 0}
    for seed in range(40):
        net = random_program(seed, CALLS, (8, 12, 13, 20), reach=4)
        scratch = [6 * (i % 3) for i in range(CALLS)]
        plan = plan_program(net, scratch)
        plan = replace(plan, arena_bytes=plan.arena_bytes + 32)
        wanted = run(net, scratch, apart(net, plan))
        for _ in range(25):
            other = shuffled(net, scratch, plan, random)
            right = run(net, scratch, other) == wanted
            try:
                validate_plan(net, scratch, other)
            except PlanError:
                verdicts["rejected and right" if right else "rejected and wrong"] += 1
            else:
                assert right
                verdicts["accepted"] += 1
    assert verdicts["accepted"] > 100
    assert verdicts["rejected and wrong"] > 100
    assert verdicts["rejected and right"] < 10
