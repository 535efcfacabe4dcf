"""The driver: from a model to a Build, one step after the other.

load -> select exits -> fold -> quantize -> lower -> prepare -> plan -> emit -> report
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from qutec.build import Build
from qutec.calibrate import CalibrationMethod
from qutec.exits import ExitChoice, ExitOptions
from qutec.finish import finish
from qutec.load import ModelSource
from qutec.misfit import check_budgets
from qutec.optimize import Optimize
from qutec.planner import DEFAULT_PLAN_SECONDS
from qutec.quantize import Calibration
from qutec.remedies import boards, other_options
from qutec.stages import CompileOptions, lower_network, plan_within
from qutec.targets import parse_size
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
        method=CalibrationMethod(method),
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
        other_options(network, options, sram_budget, flash_budget),
        boards(network, options),
    )
    return build
