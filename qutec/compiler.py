"""The driver: from a model to a Build, one step after the other.

load -> select exits -> fold -> quantize -> lower -> prepare -> plan -> emit -> report
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from qutec.backends.cmsis_nn import (
    Provenance,
    arm_stack_bytes,
    code_cost,
    context_bytes,
    emit_project,
    prepare,
    scratch_bytes,
    stack_bytes,
)
from qutec.backends.cmsis_nn.text import c_identifier
from qutec.build import Build
from qutec.calibrate import CalibrationMethod
from qutec.dump import Dump
from qutec.errors import UsageError
from qutec.exits import ExitChoice, ExitOptions, base_network, choose_exits, choose_from_members
from qutec.load import LoadedModel, ModelSource, load
from qutec.lower import lower
from qutec.misfit import Variant, check_budgets
from qutec.optimize import Optimize
from qutec.passes.quantize import is_quantized
from qutec.pins import pinned_buffers
from qutec.planner import (
    DEFAULT_PLAN_SECONDS,
    LAYERWISE,
    Goal,
    Plan,
    PlannedNetwork,
    plan_network,
    with_input_rows,
)
from qutec.ports import PortInfo
from qutec.program import Call, ExitCheck, Int8Array, Port, Program, RowRegion, Shape
from qutec.quantize import Calibration, calibration_samples, quantize
from qutec.report import (
    SCHEMA_VERSION,
    BufferReport,
    ExitReport,
    KernelReport,
    LayerReport,
    Report,
    TechniqueReport,
    region_reports,
    report_html,
    report_text,
)
from qutec.targets import Target, parse_size, target_names
from qutec.targets import target as find_target

__all__ = [
    "CompileOptions",
    "LoweredNetwork",
    "compile_model",
    "example_sample",
    "finish",
    "lower_network",
    "plan_network_of",
    "plan_within",
]


def compile_model(
    source: ModelSource | Sequence[ModelSource],
    *,
    target: str = "cortex-m4",
    sram: str | int | None = None,
    flash: str | int | None = None,
    calibration: Calibration | None = None,
    method: str | CalibrationMethod = CalibrationMethod.MINMAX,
    name: str | None = None,
    exits: ExitChoice = "auto",
    abstain: float = 0.0,
    exit_threshold: float | Sequence[float] | None = None,
    temperature: float = 1.0,
    optimize: str | Optimize = Optimize.SPEED,
    keep_input: bool = False,
    pin: Mapping[str, int] | None = None,
    stream_input: bool = False,
    plan_seconds: float = DEFAULT_PLAN_SECONDS,
    simplify: bool = True,
    dump: str | Path | None = None,
    progress: bool = False,
    command: str | None = None,
) -> Build:
    """Compile an ONNX model into a C project for a microcontroller.

    Args:
        source: path of an .onnx file, its bytes, or a protobuf. Several of them, as a list or tuple, are a
            deep ensemble: members that read the same inputs, run in turn in one arena, and answer with
            their mean.
        target: a core or board, see `qutec.targets`.
        sram: bytes that there are for arena, context and stack ('64k', 65536); a hard limit.
        flash: bytes that there are for weights and code; a hard limit. Boards bring both limits.
        calibration: sample inputs for a float model (see `qutec.quantize.Calibration`).
        method: how activation ranges are read off the samples: minmax, percentile or entropy.
        name: names the project and prefixes its symbols; the model's name by default.
        exits: what becomes of the exits. "qute": the mean over the early views, "ensemble": the mean over
            all exits, both with their uncertainty; "dynamic": the first exit that is sure enough, and the
            rest of the network does not run; "final": the final exit alone; "all": every output as it is.
            "auto" is "qute" for a network with early views, else "all". Each member of an ensemble brings
            its exits of "final" (which is "auto" there), "qute" or "ensemble".
        abstain: confidence below which an answer sets its abstain flag; 0 never does.
        temperature: divides the logits of every classifier that stays (temperature scaling), for free: it
            is folded into their weights.
        exit_threshold: confidence in (0, 1] at which a dynamic exit is taken, one for all exits or one for
            each but the last; `qutec.exits.DEFAULT_EXIT_THRESHOLD` by default.
        optimize: "speed" takes the fastest kernels, and the fastest plan that fits `sram`; "sram" the
            smallest plan, at the price of moving buffers within the arena and of running layers row by row;
            "flash" the smallest kernels, and a plan as for "speed".
        keep_input: leave the input buffers as they are, so that a caller may run the same input again.
        pin: offsets in the arena, in bytes, of inputs and outputs by name that may lie nowhere else: where
            DMA writes them, or where another program of the device looks for them.
        stream_input: do not keep the input in SRAM: the application hands in row after row while the first
            layers run. For networks with one input that is a map, whose first layers can run row by row.
        plan_seconds: how long the memory planner searches where it does not find the optimum at once. The
            plan does not depend on the machine: the time is counted in steps.
        simplify: run onnx-simplifier, checked against the original.
        dump: a folder for one numbered .onnx for each step of the graph.
        progress: show progress bars on stderr.
        command: how the compile was asked for, written into the heads of the emitted files.

    Raises:
        UsageError, ModelError, UnsupportedModelError, DataError.
        DoesNotFitError: more SRAM or flash is needed than there is; says how much, and what takes it.
    """
    options = CompileOptions(
        target=find_target(target),
        exits=ExitOptions(exits, abstain, exit_threshold, temperature),
        optimize=Optimize(optimize),
        method=_method(method),
        keep_input=keep_input,
        stream_input=stream_input,
        pin=pin or {},
        plan_seconds=plan_seconds,
        simplify=simplify,
        progress=progress,
        command=command,
    )
    sram_budget = parse_size(sram) if sram is not None else options.target.sram_bytes
    flash_budget = parse_size(flash) if flash is not None else options.target.flash_bytes
    network = lower_network(source, options, calibration, name, dump)
    plan = plan_within(network.program, options, sram_budget)
    build = finish(network, plan, options, sram_budget, flash_budget)
    check_budgets(
        build.report,
        build.program,
        build.plan,
        _other_options(network, options, sram_budget, flash_budget),
        _boards(network, options),
    )
    return build


@dataclass(frozen=True)
class CompileOptions:
    """What is asked of a compile besides its model, calibration data and budgets; see `compile_model`."""

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
    program = _lowered(quantized, name or loaded.name, options)
    prefix = c_identifier(name or loaded.name)
    heads = tuple(chosen.heads)
    return LoweredNetwork(prefix, loaded, tuple(members), heads, base, quantized, program, calibration)


def _lowered(quantized: ir.Model, name: str, options: CompileOptions) -> Program:
    """The program of the target's kernel calls."""
    program = prepare(lower(quantized, name), options.target.core)
    return with_input_rows(program) if options.stream_input else program


def finish(
    network: LoweredNetwork,
    planned: PlannedNetwork,
    options: CompileOptions,
    sram_budget: int | None,
    flash_budget: int | None,
) -> Build:
    """Emit and report a planned network; nothing is refused for its size."""
    loaded, heads, prefix, calibration = network.loaded, network.heads, network.prefix, network.calibration
    program, scratch, plan = planned.program, planned.scratch, planned.plan
    core, target = options.target.core, options.target.name
    qutec_version = version("qutec")
    command = options.command or f"qutec.compile({loaded.name}, target={target})"
    provenance = Provenance(qutec_version, command, loaded.name, loaded.sha256, target)
    sample = example_sample(network, program)
    kernels = options.optimize.kernels
    project = emit_project(program, plan, scratch, prefix, provenance, sample, kernels, core)
    code = code_cost(program.calls, project.struct_bytes, core, kernels)
    flash_bytes = {"weights": project.weights_bytes, "code": code.total}
    overhead = None
    if heads and network.base is not None:
        alone = _lowered(quantize(network.base, calibration, options.method), prefix, options)
        without = plan_within(alone, replace(options, pin={}), None)
        project_alone = emit_project(
            without.program, without.plan, without.scratch, prefix, provenance, sample, kernels, core
        )
        code_alone = code_cost(without.program.calls, project_alone.struct_bytes, core, kernels)
        overhead = {
            "macs": _macs(program) - _macs(without.program),
            "flash_bytes": sum(flash_bytes.values()) - project_alone.weights_bytes - code_alone.total,
            "arena_bytes": plan.arena_bytes - without.plan.arena_bytes,
        }
    stack, arm_stack = stack_bytes(program.calls, core, kernels), arm_stack_bytes(program.calls, core)
    members = network.members if len(network.members) > 1 else ()
    report = Report(
        schema_version=SCHEMA_VERSION,
        qutec_version=qutec_version,
        command=command,
        model={"name": loaded.name, "sha256": loaded.sha256},
        symbol_prefix=prefix,
        target=target,
        core=core.name,
        exits=heads or tuple(port.name for port in program.outputs),
        heads=heads,
        members=tuple({"name": m.name, "sha256": m.sha256} for m in members),
        dynamic_exits=_dynamic_exits(program, heads),
        inputs=tuple(_input_entry(program, port) for port in program.inputs),
        outputs=tuple(PortInfo.of(port).to_json() for port in program.outputs),
        parameters=sum(_parameters(call) for call in program.calls),
        macs=_macs(program),
        calibration=_calibration_words(loaded.model, calibration, options.method),
        warnings=_warnings(loaded, calibration),
        arena_bytes=plan.arena_bytes,
        arena_lower_bound_bytes=plan.lower_bound_bytes,
        arena_optimal=plan.optimal,
        arena_layerwise_bytes=_layerwise_bytes(plan),
        arena_techniques=tuple(TechniqueReport(t.name, t.arena_bytes, t.optimal) for t in plan.techniques),
        stack_estimate_bytes=stack,
        stack_estimate_arm_bytes=arm_stack,
        sram_bytes=plan.arena_bytes + context_bytes(program) + stack,
        sram_arm_bytes=plan.arena_bytes + context_bytes(program) + arm_stack,
        sram_budget_bytes=sram_budget,
        flash_bytes=flash_bytes,
        flash_budget_bytes=flash_budget,
        optimize=options.optimize.value,
        compiler_level=kernels.compiler_level,
        layers=tuple(
            _layer(program, call, plan.live_bytes[i], scratch[i], code.calls[i])
            for i, call in enumerate(program.calls)
        ),
        kernels=tuple(KernelReport(part.file, part.bytes, part.calls) for part in code.shared),
        buffers=tuple(
            BufferReport(a.name, a.bytes, a.offset, a.first_use, a.last_use) for a in plan.allocations
        ),
        uncertainty_overhead=overhead,
        arena_proof_scope=plan.scope,
        regions=region_reports(program, plan),
    )
    files: dict[str, str | bytes] = {
        **project.files,
        "model.onnx": ir.to_proto(network.quantized).SerializeToString(deterministic=True),
        "report.json": json.dumps(report.to_json(), indent=1) + "\n",
        "report.txt": report_text(report),
        "report.html": report_html(report, plan),
    }
    return Build(
        program=program,
        plan=plan,
        target=options.target,
        report=report,
        model=network.quantized,
        files=files,
    )


def _input_entry(program: Program, port: Port) -> dict[str, object]:
    """The entry of report.json: the port, and whether its rows are handed in one by one."""
    rows = program.input_rows
    how: dict[str, object] = {"streamed": rows is not None}
    if rows is not None:
        how |= {"rows": rows.rows, "row_bytes": rows.row_bytes}
    return {**PortInfo.of(port).to_json(), **how}


def _several(source: ModelSource | Sequence[ModelSource]) -> Sequence[ModelSource]:
    if isinstance(source, str | Path | bytes | onnx.ModelProto):
        return [source]
    if not source:
        raise UsageError("there is no model")
    return source


def plan_network_of(
    program: Program, options: CompileOptions, goal: Goal, arena_limit: int | None
) -> PlannedNetwork:
    """The plan of a prepared program with the target's scratch."""
    core = options.target.core
    return plan_network(
        program,
        [scratch_bytes(call, core) for call in program.calls],
        core=core,
        goal=goal,
        arena_limit=arena_limit,
        keep_input=options.keep_input,
        pinned=pinned_buffers(program, options.pin),
        seconds=options.plan_seconds,
    )


def plan_within(program: Program, options: CompileOptions, sram_budget: int | None) -> PlannedNetwork:
    """The plan whose arena leaves room for context and stack, if there is one.

    What runs row by row has a deeper stack, so a plan may want more besides its arena than was left for it;
    then another is made for what that leaves.
    """

    def outside(program: Program) -> int:
        stack = stack_bytes(program.calls, options.target.core, options.optimize.kernels)
        return context_bytes(program) + stack

    if sram_budget is None:
        return plan_network_of(program, options, options.optimize.plan_goal, None)
    left = outside(program)
    while True:
        planned = plan_network_of(program, options, options.optimize.plan_goal, sram_budget - left)
        wanted = outside(planned.program)
        if wanted <= left or planned.plan.arena_bytes + wanted <= sram_budget:
            return planned
        left = wanted


def _layerwise_bytes(plan: Plan) -> int:
    """The smallest arena without overlap."""
    return min(t.arena_bytes for t in plan.techniques if t.name in LAYERWISE)


def _macs(program: Program) -> int:
    return sum(call.macs for call in program.calls)


def _dynamic_exits(program: Program, names: Sequence[str]) -> tuple[ExitReport, ...]:
    """What has run when each exit is taken; nothing for a network that always runs to its end."""
    reports = []
    for end, call in enumerate(program.calls, 1):
        if isinstance(call, ExitCheck):
            threshold = call.threshold / 2**30 if call.threshold is not None else None
            macs = sum(done.macs for done in program.calls[:end])
            reports.append(ExitReport(names[call.number], threshold, end, macs))
    return tuple(reports)


def _method(method: str | CalibrationMethod) -> CalibrationMethod:
    return CalibrationMethod(method)


def _other_options(
    network: LoweredNetwork, options: CompileOptions, sram_budget: int | None, flash_budget: int | None
) -> Iterator[Variant]:
    """Options that may make the network smaller, for a network that does not fit."""

    def compiled(network: LoweredNetwork, options: CompileOptions) -> Report:
        plan = plan_within(network.program, options, sram_budget)
        return finish(network, plan, options, sram_budget, flash_budget).report

    if options.optimize is not Optimize.SRAM:
        yield "--optimize sram", lambda: compiled(network, replace(options, optimize=Optimize.SRAM))
    if options.optimize is not Optimize.FLASH:
        yield "--optimize flash", lambda: compiled(network, replace(options, optimize=Optimize.FLASH))
    if not options.stream_input and not options.keep_input and not options.pin:
        yield "--stream-input", lambda: compiled(*_streamed(network, options))
        if options.optimize is not Optimize.SRAM:
            smallest = replace(options, optimize=Optimize.SRAM)
            yield "--optimize sram --stream-input", lambda: compiled(*_streamed(network, smallest))
    if options.keep_input:
        yield "without --keep-input", lambda: compiled(network, replace(options, keep_input=False))
    if network.base is not None and len(network.members) == 1 and options.exits.mode != "final":
        alone = ExitOptions("final", temperature=options.exits.temperature)
        # Passes change the model that they are given.
        base = replace(network.loaded, model=ir.from_proto(ir.to_proto(network.base)))
        loaded = choose_exits(base, alone).loaded
        quantized = quantize(loaded.model, network.calibration, options.method)
        program = _lowered(quantized, network.program.name, options)
        final = replace(network, loaded=loaded, heads=(), base=None, quantized=quantized, program=program)
        yield "--exits final", lambda: compiled(final, options)


def _streamed(network: LoweredNetwork, options: CompileOptions) -> tuple[LoweredNetwork, CompileOptions]:
    """The network with its input handed in by rows. Raises UnsupportedModelError where that cannot be."""
    options = replace(options, stream_input=True)
    program = _lowered(network.quantized, network.program.name, options)
    return replace(network, program=program), options


def _boards(network: LoweredNetwork, options: CompileOptions) -> Iterator[Variant]:
    """The network on boards, those with the least SRAM first."""
    boards = (find_target(name) for name in target_names())
    for board in sorted((b for b in boards if b.sram_bytes), key=lambda b: (b.sram_bytes, b.flash_bytes)):

        def compiled(board: Target = board) -> Report:
            there = replace(options, target=board)
            program = _lowered(network.quantized, network.program.name, there)
            plan = plan_within(program, there, board.sram_bytes)
            moved = replace(network, program=program)
            return finish(moved, plan, there, board.sram_bytes, board.flash_bytes).report

        yield f"--target {board.name}", compiled


def example_sample(network: LoweredNetwork, program: Program) -> Sequence[Int8Array]:
    """One input for example/main.c: the first calibration sample, else the zero points."""
    model, calibration = network.loaded.model, network.calibration
    ports = [PortInfo.of(port) for port in program.inputs]
    if is_quantized(model) and (calibration is None or _is_random(calibration)):
        return [np.full(port.size, port.zero_point, np.int8) for port in ports]
    samples = calibration_samples(model, calibration)
    return [port.to_memory(port.stored(samples[port.name][:1])[0]) for port in ports]


def _is_random(calibration: Calibration | None) -> bool:
    # An array compared with a word would compare element by element.
    return isinstance(calibration, str) and calibration == "random"


def _calibration_words(model: ir.Model, calibration: Calibration | None, method: CalibrationMethod) -> str:
    if is_quantized(model):
        return "the model's own parameters"
    samples = calibration_samples(model, calibration)
    count = len(next(iter(samples.values())))
    kind = "random inputs" if _is_random(calibration) else "inputs"
    return f"calibrated on {count:,} {kind} ({method})"


def _warnings(loaded: LoadedModel, calibration: Calibration | None) -> tuple[str, ...]:
    found = list(loaded.warnings)
    if _is_random(calibration) and not is_quantized(loaded.model):
        found.append(
            "calibrated on random noise: sizes and speed are right, answers are worthless. "
            "Compile again with real inputs (--calibration data.npz) before this goes anywhere"
        )
    return tuple(found)


def _parameters(call: Call) -> int:
    if isinstance(call, RowRegion):
        return sum(map(_parameters, call.calls))
    arrays = call.constants()
    return sum(int(arrays[name].size) for name in ("weights", "bias") if name in arrays)


def _layer(program: Program, call: Call, live: int, scratch: int, code: int) -> LayerReport:
    weights = sum(array.nbytes for array in call.constants().values())
    shape_in, shape_out = _shapes(program, call)
    return LayerReport(
        call.name, type(call).__name__, call.macs, weights, code, shape_in, shape_out, live, scratch
    )


def _shapes(program: Program, call: Call) -> tuple[Shape, Shape]:
    """NHWC shapes of a call; calls that see bytes only give (1, 1, 1, bytes)."""
    shape_in, shape_out = getattr(call, "input_shape", None), getattr(call, "output_shape", None)
    if shape_in is not None and shape_out is not None:
        return shape_in, shape_out
    size_in, size_out = _sizes(program, call)
    return (1, 1, 1, size_in), (1, 1, 1, size_out)


def _sizes(program: Program, call: Call) -> tuple[int, int]:
    sources = [program.buffers[tensor.buffer].bytes - tensor.offset for tensor in call.reads]
    targets = [program.buffers[tensor.buffer].bytes - tensor.offset for tensor in call.writes]
    return sum(sources), sum(targets)
