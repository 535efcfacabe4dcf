"""The driver of the target onnxruntime: from a model to an optimised one and its measured profile.

load -> select exits -> quantize -> free the batch -> inline, or cut at the exits -> measure -> report
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime as ort

from qutec.backends.onnxruntime.build import OnnxRuntimeBuild
from qutec.backends.onnxruntime.dynamic import DynamicNetwork, choose_form, exits_taken
from qutec.backends.onnxruntime.exit_graphs import Stage
from qutec.backends.onnxruntime.feeds import (
    Data,
    Labels,
    Port,
    batches_of,
    noise,
    parse_batches,
    ports_of,
    read_labels,
    read_rows,
)
from qutec.backends.onnxruntime.interleaved import Effort, compare_runners
from qutec.backends.onnxruntime.measure import Measured, machine_words, measure_model, measure_stages
from qutec.backends.onnxruntime.plain_model import inline_functions
from qutec.backends.onnxruntime.prepare import Prepared, prepare
from qutec.backends.onnxruntime.runners import Runner, SessionRunner
from qutec.backends.onnxruntime.scores import compare_with_network, with_accuracy, with_dynamic_exits
from qutec.backends.onnxruntime.session import (
    Arrays,
    ExecutionMode,
    GraphOptimization,
    SessionSettings,
    open_session,
)
from qutec.calibrate import CalibrationMethod
from qutec.dispatch import ONNX_RUNTIME
from qutec.dump import Dump
from qutec.errors import UsageError, VerificationError
from qutec.exits import ExitChoice, ExitOptions
from qutec.graphs import macs_of, node_macs
from qutec.load import ModelSource
from qutec.lower.constants import constant
from qutec.quantize import Calibration
from qutec.report import SCHEMA_VERSION
from qutec.report.profile_data import Comparison, DynamicForm, Equality, ModelProfile, OnnxRuntimeReport

__all__ = ["compile_for_onnxruntime"]

_FLOAT_LIMIT = 1e-3
"""Largest relative difference of a float output before it is a fault of an optimisation."""


@dataclass(frozen=True)
class _Samples:
    """What is measured with."""

    ports: tuple[Port, ...]
    rows: Arrays
    labels: Labels | None
    words: str


@dataclass(frozen=True)
class _Executable:
    """What runs: one session, or stages."""

    model: bytes
    """In one graph, also where stages run."""
    stages: tuple[Stage, ...]
    """Empty where they do not run."""
    runner: Runner
    dynamic: DynamicNetwork | None
    form: DynamicForm | None


def compile_for_onnxruntime(
    source: ModelSource | Sequence[ModelSource],
    *,
    calibration: Calibration | None = None,
    method: str | CalibrationMethod = CalibrationMethod.MINMAX,
    data: Data | None = None,
    name: str | None = None,
    exits: ExitChoice = "auto",
    abstain: float = 0.0,
    exit_threshold: float | Sequence[float] | None = None,
    temperature: float = 1.0,
    simplify: bool = True,
    dump: str | Path | None = None,
    runs: int = 200,
    warmup: int = 20,
    batch: str | int | Sequence[int] = 1,
    threads: int = 1,
    provider: str = "cpu",
    graph_optimization: str = GraphOptimization.ALL,
    execution_mode: str = ExecutionMode.SEQUENTIAL,
    progress: bool = False,
    command: str | None = None,
) -> OnnxRuntimeBuild:
    """Optimise an ONNX model for ONNX Runtime and measure it.

    Args:
        source: as for `qutec.compile`; several of them are a deep ensemble.
        calibration: sample inputs; with them the model becomes int8 (QDQ), without them it stays float.
        method: how activation ranges are read off the samples.
        data: inputs to measure with, and labels `y` where accuracy is wanted; the calibration inputs by
            default, noise where there are none.
        name: of the model in the report.
        exits: what becomes of the exits, as for `qutec.compile`; so are `abstain` and `exit_threshold`.
        abstain: confidence below which an answer sets its abstain flag.
        exit_threshold: confidence at which a dynamic exit is taken.
        temperature: divides the logits of every classifier that stays.
        simplify: run onnx-simplifier, checked against the original.
        dump: a folder for one numbered .onnx for each step of the graph.
        runs: inferences that are measured.
        warmup: inferences before them, which are not.
        batch: batch sizes, each of which is profiled: "1,8,32", or numbers. Other than 1 needs a model with
            a symbolic batch.
        threads: threads of an operator.
        provider: execution provider, such as "cpu" or "cuda".
        graph_optimization: "disabled", "basic", "extended" or "all".
        execution_mode: "sequential" or "parallel".
        progress: show progress bars on stderr.
        command: how the compile was asked for, for the report.

    Raises:
        UsageError, ModelError, UnsupportedModelError, DataError.
        ToolMissingError: this onnxruntime has no such provider.
        VerificationError: the optimised float model does not answer as the network does.
    """
    settings = SessionSettings.parse(threads, provider, graph_optimization, execution_mode)
    effort, batches = Effort.parse(runs, warmup), parse_batches(batch)
    prepared = prepare(
        source,
        ExitOptions(exits, abstain, exit_threshold, temperature),
        calibration,
        CalibrationMethod(method),
        simplify=simplify,
        steps=Dump(Path(dump)) if dump is not None else None,
        progress=progress,
    )
    if batches != (1,) and not prepared.conversion.symbolic_batch:
        raise UsageError(
            f"the batch of '{prepared.name}' is fixed at 1, so a batch of {max(batches)} cannot run; export "
            "the model with a symbolic batch"
        )
    samples = _samples(prepared, data, settings)
    executable = _executable(prepared, samples.rows, settings, effort)
    feeds = {size: batches_of(samples.rows, size) for size in batches}
    title = name or prepared.name
    if executable.stages:
        measured = measure_stages(title, executable.stages, settings, feeds, effort)
    else:
        nested = executable.dynamic is not None
        measured = measure_model(
            title, executable.model, settings, feeds, effort, prepared.exits, nested=nested
        )
    equality = compare_with_network(prepared.reference(), executable.runner, samples.rows)
    exact = prepared.precision == "float32" and executable.dynamic is None
    if exact and equality.relative_difference > _FLOAT_LIMIT:
        raise VerificationError(
            f"the optimised model's outputs differ by {equality.largest_difference:.2g} from the network's"
        )
    report = _report(
        prepared,
        title,
        command,
        settings,
        samples,
        executable,
        _scored(measured, prepared, executable, samples, settings, effort),
        equality,
        _over_final(prepared, title, executable.runner, samples.rows, settings, effort),
    )
    return OnnxRuntimeBuild.of(
        report, executable.model, executable.stages, measured.traces, samples.ports, executable.runner
    )


def _samples(prepared: Prepared, data: Data | None, settings: SessionSettings) -> _Samples:
    """The data, else the calibration inputs, else noise."""
    ports = tuple(ports_of(open_session(prepared.plain(), settings)))
    calibration = prepared.conversion.calibration
    if data is not None:
        rows, words = read_rows(data, ports), "data"
    elif calibration is not None and not (isinstance(calibration, str) and calibration == "random"):
        data, rows, words = calibration, read_rows(calibration, ports), "calibration data"
    else:
        rows, words = noise(ports), "random inputs"
    count = len(next(iter(rows.values())))
    labels = read_labels(data, count)
    labelled = "" if labels is None else ", labelled"
    return _Samples(ports, rows, labels, f"{count:,} samples of {words}{labelled}")


def _executable(prepared: Prepared, rows: Arrays, settings: SessionSettings, effort: Effort) -> _Executable:
    dynamic = prepared.dynamic()
    if dynamic is None:
        model = prepared.plain()
        return _Executable(model, (), SessionRunner(model, settings), None, None)
    form = choose_form(dynamic, settings, batches_of(rows, 1), effort)
    stages = dynamic.stages if form.form == "stages" else ()
    return _Executable(dynamic.if_model, stages, dynamic.runner(form.form, settings), dynamic, form)


def _scored(
    measured: Measured,
    prepared: Prepared,
    executable: _Executable,
    samples: _Samples,
    settings: SessionSettings,
    effort: Effort,
) -> ModelProfile:
    """The profile with what is known of the exits besides the time of their nodes."""
    runner, rows, labels = executable.runner, samples.rows, samples.labels
    if executable.dynamic is not None:
        stages = executable.dynamic.stages
        return with_dynamic_exits(
            measured.profile, runner, stages, settings, rows, labels, prepared.exits, effort
        )
    return with_accuracy(measured.profile, runner, rows, labels, merged=bool(prepared.heads))


def _over_final(
    prepared: Prepared, title: str, runner: Runner, rows: Arrays, settings: SessionSettings, effort: Effort
) -> Comparison | None:
    """What the exits and heads cost over the final exit alone, in one run."""
    model = prepared.final_alone()
    if model is None:
        return None
    alone, feeds = SessionRunner(model, settings), batches_of(rows, 1)
    kinds = exits_taken(runner, feeds) if prepared.mode == "dynamic" else None
    (ratio,) = compare_runners([alone, runner], [feeds, feeds], effort, kinds)[1]
    assert prepared.base is not None
    return Comparison(title, f"{prepared.base.graph.outputs[0].name} alone", 1, ratio, effort.runs)


def _report(
    prepared: Prepared,
    title: str,
    command: str | None,
    settings: SessionSettings,
    samples: _Samples,
    executable: _Executable,
    profile: ModelProfile,
    equality: Equality,
    over_final: Comparison | None,
) -> OnnxRuntimeReport:
    flat = inline_functions(prepared.network)
    return OnnxRuntimeReport(
        schema_version=SCHEMA_VERSION,
        qutec_version=version("qutec"),
        command=command or f"qutec.compile({prepared.name}, target={ONNX_RUNTIME})",
        model={"name": title, "sha256": prepared.sha256},
        target=ONNX_RUNTIME,
        onnxruntime_version=ort.__version__,
        machine=machine_words(),
        session=settings.to_json(),
        precision=prepared.precision,
        calibration=_calibration_words(prepared),
        exits=prepared.exits,
        heads=prepared.heads,
        members=tuple(
            {"name": m.name, "sha256": m.sha256} for m in prepared.members[1:] and prepared.members
        ),
        inputs=_values(prepared.converted.graph.inputs),
        outputs=_values(prepared.converted.graph.outputs),
        parameters=_parameters(flat.graph),
        macs=macs_of(flat.graph),
        warnings=prepared.warnings,
        data=samples.words,
        latency_us=profile.batches[0].latency_us,
        operators=profile.batches[0].operators,
        profile=profile,
        equality=equality,
        over_final=over_final,
        dynamic=executable.form,
        stages=tuple(
            {
                "file": f"stages/stage_{number}.onnx",
                "inputs": list(stage.inputs),
                "outputs": [*stage.results, *stage.passed_on],
                "threshold": stage.threshold,
            }
            for number, stage in enumerate(executable.stages, 1)
        ),
    )


def _calibration_words(prepared: Prepared) -> str:
    calibration = prepared.conversion.calibration
    if prepared.precision == "float32":
        return "float"
    if calibration is None:
        return "the model's own parameters"
    kind = "random inputs" if isinstance(calibration, str) and calibration == "random" else "sample inputs"
    return f"calibrated on {kind} ({prepared.conversion.method})"


def _values(values: Sequence[ir.Value]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "name": value.name,
            "dtype": value.dtype.name.lower() if value.dtype is not None else "unknown",
            "shape": [dim if isinstance(dim, int) else str(dim) for dim in value.shape or ()],
        }
        for value in values
        if value.const_value is None
    )


def _parameters(graph: ir.Graph) -> int:
    """Elements of the weights and biases of layers that multiply."""
    sizes = {
        value: math.prod(known.shape)
        for node in graph
        if node_macs(node)
        for value in node.inputs
        if (known := constant(value)) is not None
    }
    return sum(sizes.values())
