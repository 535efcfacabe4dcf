"""`qutec compile`: its options, and what it prints."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qutec.calibrate import CalibrationMethod
from qutec.command_options import (
    AsJson,
    CmsisNN,
    ExitsName,
    ExitThreshold,
    confidences,
    listed_names,
    pinned_offsets,
    print_json,
)
from qutec.dispatch import ONNX_RUNTIME
from qutec.errors import UsageError
from qutec.optimize import Optimize
from qutec.profile_options import (
    Batch,
    DataFile,
    Execution,
    Optimization,
    Provider,
    Runs,
    Threads,
    Warmup,
    given,
    refuse,
)

if TYPE_CHECKING:
    from qutec.backends.onnxruntime import OnnxRuntimeBuild
    from qutec.build import Build
    from qutec.shared import SharedBuild

__all__ = ["compile_command"]


Models = Annotated[
    list[Path],
    typer.Argument(
        metavar="MODEL...",
        help="An ONNX model; several with --ensemble or --share-arena.",
        show_default=False,
    ),
]


def compile_command(
    models: Models,
    target: Annotated[
        str, typer.Option(help="A core (cortex-m4), a board (nucleo-l432kc), or onnxruntime.")
    ] = "cortex-m4",
    sram: Annotated[str | None, typer.Option(help="SRAM that there is, such as 64k: a hard limit.")] = None,
    flash: Annotated[str | None, typer.Option(help="Flash that there is, such as 1m: a hard limit.")] = None,
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            help="Sample inputs for a float model: .npz with array x, .npy, or the word random. With "
            "--share-arena once for all models, or once for each."
        ),
    ] = None,
    method: Annotated[
        CalibrationMethod, typer.Option(help="How activation ranges are read off the samples.")
    ] = CalibrationMethod.MINMAX,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Project folder; build/<name> by default.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Prefix of all C symbols; the model's name by default.")
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME...",
            help="With --share-arena: prefixes of the networks, in order; the models' names by default.",
        ),
    ] = None,
    exits: Annotated[
        ExitsName,
        typer.Option(
            help="qute: mean over early views; ensemble: mean over all exits; dynamic: stop at the first "
            "that is sure enough; final: the last alone; all: every output; auto: qute where there are early "
            "views, else all."
        ),
    ] = ExitsName.AUTO,
    abstain: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Confidence below which a mean sets its abstain flag.")
    ] = 0.0,
    ensemble: Annotated[
        bool,
        typer.Option(
            "--ensemble", help="Deep ensemble: run the models in turn in one arena, answer with the mean."
        ),
    ] = False,
    share_arena: Annotated[
        bool,
        typer.Option(
            "--share-arena",
            help="One project of several networks that run in turn in one arena, that of the largest.",
        ),
    ] = False,
    exit_threshold: ExitThreshold = None,
    temperature: Annotated[
        float, typer.Option(help="Divides the logits of the exits (temperature scaling); folded, so free.")
    ] = 1.0,
    optimize: Annotated[
        Optimize | None,
        typer.Option(
            help="speed: the fastest plan that fits; sram: the smallest arena, layers row by row; flash: the "
            "smallest kernels."
        ),
    ] = None,
    keep_input: Annotated[
        bool, typer.Option("--keep-input", help="Do not reuse the memory of the inputs.")
    ] = False,
    pin: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=OFFSET", help="Place an input or output at this offset of the arena."),
    ] = None,
    stream_input: Annotated[
        bool,
        typer.Option(
            "--stream-input",
            help="Do not keep the input in SRAM: the application hands in row after row as it is needed.",
        ),
    ] = False,
    plan_seconds: Annotated[
        float | None, typer.Option(help="How long to search for a smaller arena, counted in steps; 10.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run reference, host C and emulated C and compare every byte.")
    ] = False,
    dump: Annotated[Path | None, typer.Option(help="Write one numbered .onnx for each step here.")] = None,
    simplify: Annotated[bool, typer.Option("--simplify/--no-simplify", help="Run onnx-simplifier.")] = True,
    data: DataFile = None,
    runs: Runs = None,
    warmup: Warmup = None,
    batch: Batch = None,
    threads: Threads = None,
    provider: Provider = None,
    graph_optimization: Optimization = None,
    execution_mode: Execution = None,
    cmsis_nn: CmsisNN = None,
    as_json: AsJson = False,
) -> None:
    """Compile a network into a C project, or into a model for ONNX Runtime, and report what it costs."""
    from qutec import compile as compile_model
    from qutec import compile_many
    from qutec.backends.cmsis_nn.text import c_identifier

    _check_models(models, ensemble=ensemble, share_arena=share_arena, names=names)
    device = given(
        sram=sram,
        flash=flash,
        optimize=optimize and optimize.value,
        keep_input=keep_input or None,
        pin=pinned_offsets(pin) if pin else None,
        stream_input=stream_input or None,
        plan_seconds=plan_seconds,
    )
    measuring = given(
        data=data,
        runs=runs,
        warmup=warmup,
        batch=batch,
        threads=threads,
        provider=provider,
        graph_optimization=graph_optimization,
        execution_mode=execution_mode,
    )
    on_device = target != ONNX_RUNTIME
    if share_arena and not on_device:
        raise UsageError(f"--share-arena is for microcontrollers, not for --target {target}")
    for flag, is_given in (("--pin", pin), ("--stream-input", stream_input)):
        if share_arena and is_given:
            raise UsageError(f"{flag} is for one network, not for --share-arena")
    samples = _calibration(calibration, share_arena)
    refuse(measuring if on_device else {**device, **given(verify=verify or None)}, target)
    common = {
        "target": target,
        "calibration": samples,
        "method": method,
        "name": name,
        "exits": exits.value,
        "abstain": abstain,
        "exit_threshold": confidences(exit_threshold),
        "temperature": temperature,
        "simplify": simplify,
        "dump": dump,
        "progress": sys.stderr.isatty(),
        "command": _command_line(),
    }
    verified = ""
    build: Build | SharedBuild | OnnxRuntimeBuild
    if share_arena:
        build = shared = compile_many(models, names=listed_names(names), **common, **device)
        default = shared.report.name
        if verify:
            from qutec.executions import verify_shared_build

            verified = verify_shared_build(shared, samples, cmsis_nn=cmsis_nn)
    else:
        build = single = compile_model(
            models if ensemble else models[0], **common, **(device if on_device else measuring)
        )
        default = c_identifier(name or models[0].stem)
        if verify:
            from qutec.executions import verify_build

            verified = verify_build(single, samples, cmsis_nn=cmsis_nn)
    folder = build.save(output or Path("build") / default)
    if as_json:
        print_json(build.report.to_json())
        return
    print(build.files["report.txt"])
    if verified:
        print(f"verified    {verified}")
    print(f"written to  {folder}")


def _check_models(models: list[Path], *, ensemble: bool, share_arena: bool, names: str | None) -> None:
    """Several models, and how they belong together."""
    if ensemble and share_arena:
        raise UsageError(
            "--ensemble makes one network of the models, --share-arena several; choose one of them"
        )
    for flag, is_given in (("--ensemble", ensemble), ("--share-arena", share_arena)):
        if is_given and len(models) < 2:
            raise UsageError(f"{flag} needs two models or more")
    if len(models) > 1 and not (ensemble or share_arena):
        raise UsageError(
            f"{len(models)} models are given: --ensemble makes one network of them, which answers with their "
            "mean; --share-arena one project of networks that run in turn in one arena"
        )
    if names is not None and not share_arena:
        raise UsageError("--names names the networks of --share-arena; --name is for one network")


def _calibration(given_data: list[str] | None, share_arena: bool) -> Any:
    """None, one, or with --share-arena one for each model."""
    if not given_data or len(given_data) == 1:
        return given_data[0] if given_data else None
    if not share_arena:
        raise UsageError(f"--calibration is given {len(given_data)} times; that is for --share-arena")
    return given_data


def _command_line() -> str:
    return shlex.join(["qutec", *sys.argv[1:]])
