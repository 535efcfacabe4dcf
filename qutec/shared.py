"""`qutec.compile_many`: several networks that run in turn in one arena, as one C project.

Each is compiled as it would be alone; what they share decides how: the arena is as large as the largest
network needs, so the others may be as fast as they can within that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

from qutec.backends.cmsis_nn import (
    EmittedNetwork,
    Provenance,
    arm_stack_bytes,
    code_cost,
    context_bytes,
    emit_network,
    shared_code_bytes,
    stack_bytes,
)
from qutec.backends.cmsis_nn.shared_project import check_names, emit_shared_project, sample_name, shared_arena
from qutec.backends.cmsis_nn.text import c_identifier
from qutec.build import NETWORK_FOLDER, Build, save_files
from qutec.calibrate import CalibrationMethod
from qutec.errors import DoesNotFitError, QutecError, UsageError
from qutec.exits import ExitChoice, ExitOptions
from qutec.finish import example_sample, finish
from qutec.load import ModelSource
from qutec.optimize import Optimize
from qutec.planner import DEFAULT_PLAN_SECONDS, Goal, PlannedNetwork
from qutec.program import Call
from qutec.quantize import Calibration
from qutec.report import (
    Report,
    SharedArena,
    SharedReport,
    report_html,
    report_text,
    shared_report_html,
    shared_report_text,
)
from qutec.stages import CompileOptions, LoweredNetwork, lower_network, plan_network_of, useful_scratch
from qutec.targets import parse_size
from qutec.targets import target as find_target

__all__ = ["Calibrations", "SharedBuild", "calibrations", "compile_many"]

Calibrations: TypeAlias = Calibration | Sequence[Calibration | None] | None
"""One for all networks, or a list or tuple with one for each."""


@dataclass(frozen=True, eq=False)
class SharedBuild:
    """What `qutec.compile_many` returns. Nothing is written before `save`."""

    networks: Mapping[str, Build]
    """Each network by its prefix, as a project of its own; `save` writes all of them as one."""
    report: SharedReport
    files: Mapping[str, str | bytes]
    """Contents of the project folder by relative path."""

    def save(self, folder: str | Path) -> Path:
        """Write the project folder: all of it, or nothing; see `Build.save`. Raises UsageError."""
        return save_files(self.files, folder)


def compile_many(
    sources: Sequence[ModelSource],
    *,
    names: Sequence[str] | None = None,
    name: str | None = None,
    calibration: Calibrations = None,
    target: str = "cortex-m4",
    sram: str | int | None = None,
    flash: str | int | None = None,
    method: str | CalibrationMethod = CalibrationMethod.MINMAX,
    exits: ExitChoice = "auto",
    abstain: float = 0.0,
    exit_threshold: float | Sequence[float] | None = None,
    temperature: float = 1.0,
    optimize: str | Optimize = Optimize.SPEED,
    keep_input: bool = False,
    plan_seconds: float = DEFAULT_PLAN_SECONDS,
    simplify: bool = True,
    dump: str | Path | None = None,
    progress: bool = False,
    command: str | None = None,
) -> SharedBuild:
    """Compile networks that run in turn into one C project with one arena.

    Every network keeps its context and its API under a prefix of its own. The options are those of
    `qutec.compile` and hold for all networks; `sram` and `flash` are for all of them together.

    Args:
        sources: two models or more.
        names: what to call the networks, in order; the models' names by default.
        name: of the project: its library, and its arena `<name>_arena`; the networks' names by default.
        calibration: one for all networks, or a list or tuple with one for each.
        dump: a folder that gets one folder for each network.

    Raises:
        UsageError: fewer than two models, or names that two networks would share.
        ModelError, UnsupportedModelError, DataError: say which network.
        DoesNotFitError: all together need more SRAM or flash than there is.
    """
    if len(sources) < 2:
        raise UsageError("networks that share an arena are two or more")
    if names is not None and len(names) != len(sources):
        raise UsageError(f"{len(sources)} models and {len(names)} names for them")
    options = CompileOptions(
        target=find_target(target),
        exits=ExitOptions(exits, abstain, exit_threshold, temperature),
        optimize=Optimize(optimize),
        method=CalibrationMethod(method),
        keep_input=keep_input,
        plan_seconds=plan_seconds,
        simplify=simplify,
        progress=progress,
        command=command,
    )
    sram_budget = parse_size(sram) if sram is not None else options.target.sram_bytes
    flash_budget = parse_size(flash) if flash is not None else options.target.flash_bytes
    data = calibrations(calibration, len(sources))
    networks = []
    for i, source in enumerate(sources):
        label = names[i] if names is not None else _label(source, i)
        folder = Path(dump) / c_identifier(label) if dump is not None else None
        with _named(label):
            networks.append(
                lower_network(source, options, data[i], names[i] if names is not None else None, folder)
            )
    prefixes = [network.prefix for network in networks]
    name = c_identifier(name or "_".join(prefixes))
    check_names(prefixes, name)
    planned = _planned(networks, options, sram_budget)
    return _build(networks, planned, options, name, sram_budget, flash_budget)


def calibrations(calibration: Calibrations, count: int) -> list[Calibration | None]:
    """One for each network. Raises UsageError where there are as many as neither one nor all."""
    if not isinstance(calibration, list | tuple):
        return [calibration] * count  # type: ignore[list-item]
    if len(calibration) not in (1, count):
        raise UsageError(f"{count} models and calibration data for {len(calibration)}")
    return list(calibration) * (count if len(calibration) == 1 else 1)


def _label(source: ModelSource, number: int) -> str:
    return Path(source).stem if isinstance(source, str | Path) else f"network {number}"


@contextmanager
def _named(label: str) -> Iterator[None]:
    """Errors say which network they are about."""
    try:
        yield
    except QutecError as error:
        raise type(error)(f"{label}: {error}") from error


def _planned(
    networks: Sequence[LoweredNetwork], options: CompileOptions, sram_budget: int | None
) -> list[PlannedNetwork]:
    """Plans for one arena: the largest as `options.optimize` says, the others the fastest within its size."""
    without_rows = [(n.program.calls, useful_scratch(n.program, options)) for n in networks]
    left = _outside(networks, without_rows, options)
    while True:
        limit = sram_budget - left if sram_budget is not None else None
        plans = []
        for network in networks:
            with _named(network.prefix):
                plans.append(plan_network_of(network.program, options, options.optimize.plan_goal, limit))
        if options.optimize.plan_goal is Goal.SRAM:
            largest = max(plan.plan.arena_bytes for plan in plans)
            plans = [
                _fastest_within(network, plan, options, largest)
                for network, plan in zip(networks, plans, strict=True)
            ]
        arena = max(plan.plan.arena_bytes for plan in plans)
        wanted = _outside(networks, [(plan.program.calls, plan.scratch) for plan in plans], options)
        # Rows have a deeper stack, which is known only once it is known what runs row by row.
        if sram_budget is None or wanted <= left or arena + wanted <= sram_budget:
            return plans
        left = wanted


def _fastest_within(
    network: LoweredNetwork, smallest: PlannedNetwork, options: CompileOptions, arena_bytes: int
) -> PlannedNetwork:
    """Nothing is gained by an arena smaller than the largest network's."""
    if smallest.plan.arena_bytes == arena_bytes:
        return smallest
    fastest = plan_network_of(network.program, options, Goal.SPEED, arena_bytes)
    return fastest if fastest.plan.arena_bytes <= arena_bytes else smallest


def _outside(
    networks: Sequence[LoweredNetwork],
    programs: Sequence[tuple[Sequence[Call], Sequence[int]]],
    options: CompileOptions,
) -> int:
    """SRAM besides the arena: all contexts, and the deepest stack of these calls with their scratch."""
    contexts = sum(context_bytes(network.program) for network in networks)
    core, kernels = options.target.core, options.optimize.kernels
    return contexts + max(stack_bytes(calls, scratch, core, kernels) for calls, scratch in programs)


def _build(
    networks: Sequence[LoweredNetwork],
    planned: Sequence[PlannedNetwork],
    options: CompileOptions,
    name: str,
    sram_budget: int | None,
    flash_budget: int | None,
) -> SharedBuild:
    core, target, kernels = options.target.core, options.target.name, options.optimize.kernels
    qutec_version = version("qutec")
    models = ", ".join(network.loaded.name for network in networks)
    command = options.command or f"qutec.compile_many([{models}], target={target})"
    options = replace(options, command=command)
    builds = {
        network.prefix: finish(network, plan, options, sram_budget, flash_budget)
        for network, plan in zip(networks, planned, strict=True)
    }
    origins = [
        Provenance(qutec_version, command, network.loaded.name, network.loaded.sha256, target)
        for network in networks
    ]
    emitted = [
        _emitted(network, plan, origin, name, options)
        for network, plan, origin in zip(networks, planned, origins, strict=True)
    ]
    arena_bytes = max(plan.plan.arena_bytes for plan in planned)
    alignment = max(plan.plan.alignment.arena for plan in planned)
    project = emit_shared_project(emitted, name, alignment, origins, kernels)
    calls = [plan.program.calls for plan in planned]
    costs = [
        code_cost(own, network.struct_bytes, core, kernels)
        for own, network in zip(calls, emitted, strict=True)
    ]
    report = SharedReport(
        name=name,
        qutec_version=qutec_version,
        command=command,
        target=target,
        core=core.name,
        arena_bytes=arena_bytes,
        arena_arm_bytes=project.arena_arm_bytes,
        context_bytes=sum(context_bytes(network.program) for network in networks),
        stack_estimate_bytes=max(
            stack_bytes(plan.program.calls, plan.scratch, core, kernels) for plan in planned
        ),
        stack_estimate_arm_bytes=max(arm_stack_bytes(one, core) for one in calls),
        sram_budget_bytes=sram_budget,
        flash_bytes={"weights": project.weights_bytes, "code": shared_code_bytes(costs)},
        flash_budget_bytes=flash_budget,
        networks=tuple(_sharing(prefix, builds, arena_bytes) for prefix in builds),
    )
    _check_budgets(report)
    plans = {prefix: build.plan for prefix, build in builds.items()}
    files: dict[str, str | bytes] = {
        **project.files,
        "report.json": _json(report.to_json()),
        "report.txt": shared_report_text(report),
        "report.html": shared_report_html(report, plans),
    }
    for own in report.networks:
        folder = f"{NETWORK_FOLDER}/{own.symbol_prefix}"
        files |= {
            f"{folder}/model.onnx": builds[own.symbol_prefix].files["model.onnx"],
            f"{folder}/report.json": _json(own.to_json()),
            f"{folder}/report.txt": report_text(own),
            f"{folder}/report.html": report_html(own, plans[own.symbol_prefix]),
        }
    return SharedBuild(builds, report, files)


def _emitted(
    network: LoweredNetwork, planned: PlannedNetwork, origin: Provenance, name: str, options: CompileOptions
) -> EmittedNetwork:
    sample = example_sample(network, planned.program)
    return emit_network(
        planned.program,
        planned.plan,
        planned.scratch,
        network.prefix,
        origin,
        sample,
        shared_arena(name),
        sample_name(network.prefix),
        options.optimize.kernels,
        options.target.core,
    )


def _sharing(prefix: str, builds: Mapping[str, Build], arena_bytes: int) -> Report:
    """The network's report, which says with whom it shares its arena."""
    others = tuple(other for other in builds if other != prefix)
    return replace(builds[prefix].report, shared_arena=SharedArena("../..", arena_bytes, others))


def _json(data: object) -> str:
    return json.dumps(data, indent=1) + "\n"


def _check_budgets(report: SharedReport) -> None:
    if report.sram_budget_bytes is not None and report.sram_bytes > report.sram_budget_bytes:
        lines = [
            f"  {network.symbol_prefix}: {network.arena_bytes:,} bytes of arena"
            for network in sorted(report.networks, key=lambda network: -network.arena_bytes)
        ]
        raise DoesNotFitError(
            f"{report.sram_bytes:,} bytes of SRAM are needed and {report.sram_budget_bytes:,} are there: "
            f"{report.sram_bytes - report.sram_budget_bytes:,} are missing\n"
            f"the shared arena takes {report.arena_bytes:,}, contexts and stack "
            f"{report.sram_bytes - report.arena_bytes:,}; the networks:\n" + "\n".join(lines)
        )
    if report.flash_budget_bytes is not None and report.flash_total_bytes > report.flash_budget_bytes:
        lines = [
            f"  {network.symbol_prefix}: {network.flash_bytes['weights']:,} bytes of weights"
            for network in sorted(report.networks, key=lambda network: -network.flash_bytes["weights"])
        ]
        raise DoesNotFitError(
            f"{report.flash_total_bytes:,} bytes of flash are needed and {report.flash_budget_bytes:,} are "
            f"there: {report.flash_total_bytes - report.flash_budget_bytes:,} are missing\n"
            f"code takes {report.flash_bytes['code']:,}, kernels counted once; the networks:\n"
            + "\n".join(lines)
        )
