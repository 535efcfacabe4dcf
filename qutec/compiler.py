"""The driver: from a model to a Build, one step after the other.

load -> select exits -> fold -> quantize -> lower -> prepare -> plan -> emit -> report
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from qutec.backends.cmsis_nn import (
    Provenance,
    code_bytes,
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
from qutec.errors import DoesNotFitError, UsageError
from qutec.exits import ExitChoice, ExitOptions, base_network, choose_exits, choose_from_members
from qutec.load import LoadedModel, ModelSource, load
from qutec.lower import lower
from qutec.passes.quantize import is_quantized
from qutec.planner import DEFAULT_PLAN_SECONDS, LAYERWISE, Goal, Plan, explain_misfit, plan_network
from qutec.ports import PortInfo
from qutec.program import Call, ExitCheck, Int8Array, Program, Shape
from qutec.quantize import Calibration, calibration_samples, quantize
from qutec.report import (
    SCHEMA_VERSION,
    BufferReport,
    ExitReport,
    LayerReport,
    Report,
    TechniqueReport,
    report_html,
    report_text,
)
from qutec.targets import Core, parse_size
from qutec.targets import target as find_target

__all__ = ["compile_model"]


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
    optimize: str | Goal = Goal.SPEED,
    keep_input: bool = False,
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
        optimize: "speed" takes the fastest plan that fits `sram`; "sram" the smallest, at the price of moving
            buffers within the arena and of running layers row by row.
        keep_input: leave the input buffers as they are, so that a caller may run the same input again.
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
    chosen = find_target(target)
    sram_budget = parse_size(sram) if sram is not None else chosen.sram_bytes
    flash_budget = parse_size(flash) if flash is not None else chosen.flash_bytes
    method = _method(method)
    steps = Dump(Path(dump)) if dump is not None else None
    sources = _several(source)
    members = [load(one, simplify=simplify, on_step=steps.write if steps else None) for one in sources]
    options = ExitOptions(exits, abstain, exit_threshold, temperature)
    base = base_network(members[0])
    if len(members) > 1:
        chosen_exits = choose_from_members(members, options, steps)
    else:
        chosen_exits = choose_exits(members[0], options, steps)
    loaded, heads = chosen_exits.loaded, chosen_exits.heads
    quantized = quantize(loaded.model, calibration, method, progress=progress)
    if steps is not None and quantized is not loaded.model:
        steps.write("quantize", quantized)
    plan_options = _PlanOptions(chosen.core, Goal(optimize), keep_input, plan_seconds)
    program = prepare(lower(quantized, name or loaded.name), chosen.core)
    program, scratch, plan = _planned(program, plan_options, sram_budget)
    prefix = c_identifier(name or loaded.name)
    qutec_version = version("qutec")
    command = command or f"qutec.compile({loaded.name}, target={target})"
    provenance = Provenance(qutec_version, command, loaded.name, loaded.sha256, target)
    sample = _sample(program, loaded.model, calibration)
    project = emit_project(program, plan, scratch, prefix, provenance, sample, chosen.core)
    flash_bytes = {"weights": project.weights_bytes, "code": code_bytes(program.calls, chosen.core)}
    overhead = None
    if heads and base is not None:
        alone = prepare(lower(quantize(base, calibration, method), prefix), chosen.core)
        alone, scratch_alone, plan_alone = _planned(alone, plan_options, None)
        weights = emit_project(alone, plan_alone, scratch_alone, prefix, provenance, sample).weights_bytes
        overhead = {
            "macs": _macs(program) - _macs(alone),
            "flash_bytes": sum(flash_bytes.values()) - weights - code_bytes(alone.calls, chosen.core),
            "arena_bytes": plan.arena_bytes - plan_alone.arena_bytes,
        }
    report = Report(
        schema_version=SCHEMA_VERSION,
        qutec_version=qutec_version,
        command=command,
        model={"name": loaded.name, "sha256": loaded.sha256},
        symbol_prefix=prefix,
        target=target,
        core=chosen.core.name,
        exits=heads or tuple(port.name for port in program.outputs),
        heads=heads,
        members=tuple({"name": m.name, "sha256": m.sha256} for m in members) if len(members) > 1 else (),
        dynamic_exits=_dynamic_exits(program, heads),
        inputs=tuple(PortInfo.of(port).to_json() for port in program.inputs),
        outputs=tuple(PortInfo.of(port).to_json() for port in program.outputs),
        parameters=sum(_parameters(call) for call in program.calls),
        macs=_macs(program),
        calibration=_calibration_words(loaded.model, calibration, method),
        warnings=_warnings(loaded, calibration),
        arena_bytes=plan.arena_bytes,
        arena_lower_bound_bytes=plan.lower_bound_bytes,
        arena_optimal=plan.optimal,
        arena_layerwise_bytes=_layerwise_bytes(plan),
        arena_techniques=tuple(TechniqueReport(t.name, t.arena_bytes, t.optimal) for t in plan.techniques),
        stack_estimate_bytes=stack_bytes(program.calls, chosen.core),
        sram_bytes=plan.arena_bytes + context_bytes(program) + stack_bytes(program.calls, chosen.core),
        sram_budget_bytes=sram_budget,
        flash_bytes=flash_bytes,
        flash_budget_bytes=flash_budget,
        layers=tuple(
            _layer(program, call, plan.live_bytes[i], scratch[i]) for i, call in enumerate(program.calls)
        ),
        buffers=tuple(
            BufferReport(a.name, a.bytes, a.offset, a.first_use, a.last_use) for a in plan.allocations
        ),
        uncertainty_overhead=overhead,
    )
    _check_budgets(report, program, plan)
    files: dict[str, str | bytes] = {
        **project.files,
        "model.onnx": ir.to_proto(quantized).SerializeToString(deterministic=True),
        "report.json": json.dumps(report.to_json(), indent=1) + "\n",
        "report.txt": report_text(report),
        "report.html": report_html(report, plan),
    }
    return Build(program=program, plan=plan, target=chosen, report=report, model=quantized, files=files)


def _several(source: ModelSource | Sequence[ModelSource]) -> Sequence[ModelSource]:
    if isinstance(source, str | Path | bytes | onnx.ModelProto):
        return [source]
    if not source:
        raise UsageError("there is no model")
    return source


@dataclass(frozen=True)
class _PlanOptions:
    """What is asked of the memory planner."""

    core: Core
    goal: Goal
    keep_input: bool
    seconds: float


def _planned(
    program: Program, options: _PlanOptions, sram_budget: int | None
) -> tuple[Program, tuple[int, ...], Plan]:
    """The program in its final order, the scratch of its calls in bytes, and its plan."""
    if not options.seconds > 0:
        raise UsageError(f"plan_seconds must be above 0, not {options.seconds:g}")
    outside = context_bytes(program) + stack_bytes(program.calls, options.core)
    planned = plan_network(
        program,
        [scratch_bytes(call, options.core) for call in program.calls],
        core=options.core,
        goal=options.goal,
        arena_limit=None if sram_budget is None else sram_budget - outside,
        keep_input=options.keep_input,
        seconds=options.seconds,
    )
    return planned.program, planned.scratch, planned.plan


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


def _check_budgets(report: Report, program: Program, plan: Plan) -> None:
    if report.sram_budget_bytes is not None and report.sram_bytes > report.sram_budget_bytes:
        outside = report.sram_bytes - report.arena_bytes
        raise DoesNotFitError(
            f"{report.sram_bytes:,} bytes of SRAM are needed and {report.sram_budget_bytes:,} are there: "
            f"{report.sram_bytes - report.sram_budget_bytes:,} are missing\n"
            + explain_misfit(program, plan, max(report.sram_budget_bytes - outside, 0))
        )
    if report.flash_budget_bytes is not None and report.flash_total_bytes > report.flash_budget_bytes:
        largest = sorted(report.layers, key=lambda layer: -layer.weights_bytes)[:5]
        lines = [f"  {layer.name}: {layer.weights_bytes:,} bytes" for layer in largest]
        raise DoesNotFitError(
            f"{report.flash_total_bytes:,} bytes of flash are needed and {report.flash_budget_bytes:,} are "
            f"there: {report.flash_total_bytes - report.flash_budget_bytes:,} are missing\n"
            f"most of it is the weights ({report.flash_bytes['weights']:,} bytes); the largest layers:\n"
            + "\n".join(lines)
        )


def _sample(program: Program, model: ir.Model, calibration: Calibration | None) -> Sequence[Int8Array]:
    """One input for example/main.c: the first calibration sample, else the zero points."""
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
    arrays = call.constants()
    return sum(int(arrays[name].size) for name in ("weights", "bias") if name in arrays)


def _layer(program: Program, call: Call, live: int, scratch: int) -> LayerReport:
    weights = sum(array.nbytes for array in call.constants().values())
    shape_in, shape_out = _shapes(program, call)
    return LayerReport(call.name, type(call).__name__, call.macs, weights, shape_in, shape_out, live, scratch)


def _shapes(program: Program, call: Call) -> tuple[Shape, Shape]:
    """NHWC shapes of a call; calls that see bytes only give (1, 1, 1, bytes)."""
    shape_in, shape_out = getattr(call, "input_shape", None), getattr(call, "output_shape", None)
    if shape_in is not None and shape_out is not None:
        return shape_in, shape_out
    size_in, size_out = _sizes(program, call)
    return (1, 1, 1, size_in), (1, 1, 1, size_out)


def _sizes(program: Program, call: Call) -> tuple[int, int]:
    sources = [program.buffers[tensor.buffer].bytes - tensor.offset for tensor in call.reads]
    target = call.writes
    return sum(sources), program.buffers[target.buffer].bytes - target.offset
