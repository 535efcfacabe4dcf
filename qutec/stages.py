"""The steps of a compile for a microcontroller: from a model to a program, and to its plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import onnx
import onnx_ir as ir

from qutec.backends.cmsis_nn import (
    context_bytes,
    prepare,
    scratch_bytes,
    stack_bytes,
    useful_scratch_bytes,
)
from qutec.backends.cmsis_nn.text import c_identifier
from qutec.calibrate import CalibrationMethod
from qutec.dump import Dump
from qutec.errors import UsageError
from qutec.exits import ExitOptions, base_network, choose_exits, choose_from_members
from qutec.load import LoadedModel, ModelSource, load
from qutec.lower import lower
from qutec.optimize import Optimize
from qutec.pins import pinned_buffers
from qutec.planner import (
    Goal,
    PlannedNetwork,
    plan_network,
    with_input_rows,
    with_spare_row_scratch,
    with_spare_scratch,
)
from qutec.program import Call, Program
from qutec.quantize import Calibration, quantize
from qutec.targets import Target

__all__ = [
    "CompileOptions",
    "LoweredNetwork",
    "lower_network",
    "lowered",
    "plan_network_of",
    "plan_within",
    "useful_scratch",
]

_ROOMY_SHARE = 0.2
"""Of the planner's effort, for a second plan in which scratch that is of use has its place."""


@dataclass(frozen=True)
class CompileOptions:
    """What is asked of a compile besides its model, calibration data and budgets; see `qutec.compile`."""

    target: Target
    exits: ExitOptions
    optimize: Optimize
    method: CalibrationMethod
    keep_input: bool
    plan_seconds: float
    simplify: bool
    progress: bool
    command: str | None
    stream_input: bool = False
    pin: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.keep_input and self.stream_input:
            raise UsageError("a streamed input is not kept: choose --keep-input or --stream-input")
        if not self.plan_seconds > 0:
            raise UsageError(f"plan_seconds must be above 0, not {self.plan_seconds:g}")


@dataclass(frozen=True, eq=False)
class LoweredNetwork:
    """A network as a program that can be planned, and what its report will say of where it came from."""

    prefix: str
    loaded: LoadedModel
    members: tuple[LoadedModel, ...]
    """Of a deep ensemble; one for any other network."""
    heads: tuple[str, ...]
    base: ir.Model | None
    """The network with its final exit alone, where its heads are merged."""
    quantized: ir.Model
    program: Program
    calibration: Calibration | None


def lower_network(
    source: ModelSource | Sequence[ModelSource],
    options: CompileOptions,
    calibration: Calibration | None,
    name: str | None,
    dump: str | Path | None,
) -> LoweredNetwork:
    """Everything from the model to the program of the target's kernel calls."""
    steps = Dump(Path(dump)) if dump is not None else None
    members = [
        load(one, simplify=options.simplify, on_step=steps.write if steps else None)
        for one in _several(source)
    ]
    base = base_network(members[0])
    if len(members) > 1:
        chosen = choose_from_members(members, options.exits, steps)
    else:
        chosen = choose_exits(members[0], options.exits, steps)
    loaded = chosen.loaded
    quantized = quantize(loaded.model, calibration, options.method, progress=options.progress)
    if steps is not None and quantized is not loaded.model:
        steps.write("quantize", quantized)
    program = lowered(quantized, name or loaded.name, options)
    prefix = c_identifier(name or loaded.name)
    heads = tuple(chosen.heads)
    return LoweredNetwork(prefix, loaded, tuple(members), heads, base, quantized, program, calibration)


def lowered(quantized: ir.Model, name: str, options: CompileOptions) -> Program:
    """The program of the target's kernel calls."""
    program = prepare(lower(quantized, name), options.target.core)
    return with_input_rows(program) if options.stream_input else program


def _several(source: ModelSource | Sequence[ModelSource]) -> Sequence[ModelSource]:
    if isinstance(source, str | Path | bytes | onnx.ModelProto):
        return [source]
    if not source:
        raise UsageError("there is no model")
    return source


def useful_scratch(program: Program, options: CompileOptions) -> list[int]:
    """Bytes of scratch that are of use to each call's kernel; 0 where no more than it needs is."""
    return [_useful(options)(call) for call in program.calls]


def _useful(options: CompileOptions) -> Callable[[Call], int]:
    return partial(useful_scratch_bytes, core=options.target.core, kernels=options.optimize.kernels)


def plan_network_of(
    program: Program, options: CompileOptions, goal: Goal, arena_limit: int | None
) -> PlannedNetwork:
    """The plan of a prepared program with the target's scratch, and what is of use of the arena besides."""
    planned = _plan_with_spare(program, options, goal, arena_limit)
    return with_spare_row_scratch(planned, _useful(options), options.target.core)


def _plan_with_spare(
    program: Program, options: CompileOptions, goal: Goal, arena_limit: int | None
) -> PlannedNetwork:
    """The plan, with scratch of use to the calls that are not in regions."""
    core = options.target.core

    def planned(useful: Callable[[Call], int], seconds: float) -> PlannedNetwork:
        return plan_network(
            program,
            [max(scratch_bytes(call, core), useful(call)) for call in program.calls],
            core=core,
            goal=goal,
            arena_limit=arena_limit,
            keep_input=options.keep_input,
            pinned=pinned_buffers(program, options.pin),
            seconds=seconds,
        )

    smallest = planned(lambda _call: 0, options.plan_seconds)
    wanted = useful_scratch(smallest.program, options)
    filled = with_spare_scratch(smallest, wanted, core)
    has_all = all(size <= given for size, given in zip(wanted, filled.scratch, strict=True))
    if has_all or goal is Goal.SRAM:
        return filled
    # Another placement may have room for all of it.
    roomy = planned(_useful(options), options.plan_seconds * _ROOMY_SHARE)
    names = [[call.name for call in one.program.calls] for one in (roomy, smallest)]
    if roomy.plan.arena_bytes > smallest.plan.arena_bytes or sorted(names[0]) != sorted(names[1]):
        return filled
    proven = replace(
        roomy.plan,
        lower_bound_bytes=smallest.plan.lower_bound_bytes,
        scope=smallest.plan.scope,
        techniques=smallest.plan.techniques,
    )
    return replace(roomy, plan=proven)


def plan_within(program: Program, options: CompileOptions, sram_budget: int | None) -> PlannedNetwork:
    """The plan whose arena leaves room for context and stack, if there is one.

    What runs row by row has a deeper stack, and so has what finds no scratch in the arena, so a plan may want
    more besides its arena than was left for it; then another is made for what that leaves.
    """

    def outside(program: Program, scratch: Sequence[int]) -> int:
        stack = stack_bytes(program.calls, scratch, options.target.core, options.optimize.kernels)
        return context_bytes(program) + stack

    if sram_budget is None:
        return plan_network_of(program, options, options.optimize.plan_goal, None)
    left = outside(program, useful_scratch(program, options))
    while True:
        planned = plan_network_of(program, options, options.optimize.plan_goal, sram_budget - left)
        wanted = outside(planned.program, planned.scratch)
        if wanted <= left or planned.plan.arena_bytes + wanted <= sram_budget:
            return planned
        if planned.plan.arena_bytes > sram_budget - left:
            # It is the smallest already.
            return planned
        left = wanted
