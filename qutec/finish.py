"""The end of a compile: the C project of a planned network, and the report of what it costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import onnx_ir as ir

from qutec.backends.cmsis_nn import (
    Provenance,
    arm_stack_bytes,
    code_cost,
    context_bytes,
    emit_project,
    stack_bytes,
)
from qutec.build import Build
from qutec.calibrate import CalibrationMethod
from qutec.load import LoadedModel
from qutec.passes.quantize import is_quantized
from qutec.planner import LAYERWISE, Plan, PlannedNetwork
from qutec.ports import PortInfo
from qutec.program import Call, ExitCheck, InputRows, Int8Array, Port, Program, RowRegion, Shape
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
from qutec.stages import CompileOptions, LoweredNetwork, lowered, plan_within

__all__ = ["example_sample", "finish"]


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
        alone = lowered(quantize(network.base, calibration, options.method), prefix, options)
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
    stack = stack_bytes(program.calls, scratch, core, kernels)
    arm_stack = arm_stack_bytes(program.calls, core)
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
        arena_arm_bytes=project.arena_arm_bytes,
        sram_arm_bytes=project.arena_arm_bytes + context_bytes(program) + arm_stack,
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
    """NHWC shapes of a call; (1, 1, 1, bytes) where it sees bytes only.

    A region has those of the calls that read its input and make its output, if there is one of each.
    """
    first: Call = call
    last: Call = call
    if isinstance(call, RowRegion) and len(call.reads) == len(call.writes) == 1:
        maps = [one for one in call.calls if not isinstance(one, InputRows)]
        first, last = maps[0], maps[-1]
    size_in, size_out = _sizes(program, call)
    shape_in, shape_out = getattr(first, "input_shape", None), getattr(last, "output_shape", None)
    return shape_in or (1, 1, 1, size_in), shape_out or (1, 1, 1, size_out)


def _sizes(program: Program, call: Call) -> tuple[int, int]:
    sources = [program.buffers[tensor.buffer].bytes - tensor.offset for tensor in call.reads]
    targets = [program.buffers[tensor.buffer].bytes - tensor.offset for tensor in call.writes]
    return sum(sources), sum(targets)
