"""The command line: `qutec inspect | attach | train | compile | evaluate | run | profile | report | ...`.

Exit codes: 0 done; 1 internal error; 2 usage; 3 invalid or unsupported model; 4 does not fit;
5 verification failed; 6 a needed tool is missing.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qutec.calibrate import CalibrationMethod
from qutec.command_options import ExitsName, ExitThreshold, confidences, pinned_offsets
from qutec.dispatch import ONNX_RUNTIME
from qutec.errors import QutecError, UsageError
from qutec.evaluation.command import evaluate_command
from qutec.profile_command import profile_command
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
from qutec.train.command import train_command

if TYPE_CHECKING:
    from qutec.backends.onnxruntime import OnnxRuntimeBuild
    from qutec.build import Build
    from qutec.passes.find_exits import OutputRole
    from qutec.shared import SharedBuild

__all__ = ["main"]

app = typer.Typer(
    name="qutec",
    help="Compile early-exit ONNX networks into small, uncertainty-aware C for microcontrollers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class EmulatorName(StrEnum):
    """The emulators that `qutec run` knows."""

    UNICORN = "unicorn"
    QEMU = "qemu"


class ActivationName(StrEnum):
    """What follows the depthwise layers that `qutec attach` adds."""

    RELU = "relu"
    NONE = "none"


class GoalName(StrEnum):
    """What `qutec compile` makes the code good at."""

    SPEED = "speed"
    SRAM = "sram"
    FLASH = "flash"


class CompilerName(StrEnum):
    """The cross compilers that `qutec run` knows."""

    AUTO = "auto"
    ZIG = "zig"
    GCC = "gcc"


Model = Annotated[Path, typer.Argument(help="An ONNX model.", show_default=False)]
Project = Annotated[Path, typer.Argument(help="A folder that `qutec compile` wrote.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CmsisNN = Annotated[
    Path | None,
    typer.Option(
        "--cmsis-nn",
        envvar="CMSIS_NN_PATH",
        help="Link Arm's CMSIS-NN from this folder, not the bundled kernels.",
    ),
]

Models = Annotated[
    list[Path],
    typer.Argument(
        metavar="MODEL...",
        help="An ONNX model; several with --ensemble or --share-arena.",
        show_default=False,
    ),
]
NetworkName = Annotated[
    str | None,
    typer.Option("--network", help="Which network of a project that several share.", show_default=False),
]
OutputIs = Annotated[
    list[str] | None,
    typer.Option(
        "--output-is", metavar="NAME=exit|aux", help="Say what an output is; can be given several times."
    ),
]


@app.command("inspect")
def inspect_command(model: Model, output_is: OutputIs = None, as_json: AsJson = False) -> None:
    """Show exits, layers, parameters, MACs and a memory bound of a network."""
    from qutec.inspect import format_inspection, inspect_model

    inspection = inspect_model(model, _output_roles(output_is))
    _print_json(inspection.to_json()) if as_json else print(format_inspection(inspection))


app.command("train")(train_command)
app.command("evaluate")(evaluate_command)
app.command("profile")(profile_command)


@app.command("attach")
def attach_command(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="The training graph, an .onnx file.")],
    heads: Annotated[
        int | None, typer.Option(help="Early exits and early views; 2, or the exits that are there.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Places of the early exits, separated by commas, not equally spaced.")
    ] = None,
    activation: Annotated[
        ActivationName, typer.Option(help="After the depthwise layers; none lets early views fold away.")
    ] = ActivationName.NONE,
    plus: Annotated[
        bool, typer.Option("--plus", help="QUTE+: two more separable convolutions in each early view.")
    ] = False,
    kernel: Annotated[int, typer.Option(help="Width of the depthwise kernels.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the initial weights.")] = 0,
    output_is: OutputIs = None,
    as_json: AsJson = False,
) -> None:
    """Add early exits and early views (QUTE) to a network; the result is to be trained."""
    from dataclasses import asdict

    from qutec.attach import attach, write_training_graph

    graph = attach(
        model,
        heads=heads,
        at=_names(at),
        activation="relu" if activation is ActivationName.RELU else "none",
        plus=plus,
        kernel=kernel,
        seed=seed,
        output_is=_output_roles(output_is),
    )
    write_training_graph(graph, output)
    if as_json:
        _print_json({"heads": [asdict(head) for head in graph.heads], "warnings": list(graph.warnings)})
        return
    for head in graph.heads:
        print(f"{head.kind.replace('_', ' '):<12}{head.index or '':<4}{head.output}")
    for text in graph.warnings:
        print(f"warning: {text}")
    print(f"written to  {output}")


@app.command("compile")
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
        GoalName | None,
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
    if share_arena and pin:
        raise UsageError("--pin is for one network, not for --share-arena")
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
        build = shared = compile_many(models, names=_names(names), **common, **device)
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
        _print_json(build.report.to_json())
        return
    print(build.files["report.txt"])
    if verified:
        print(f"verified    {verified}")
    print(f"written to  {folder}")


@app.command("run")
def run_command(
    project: Project,
    input_file: Annotated[
        Path, typer.Option("--input", help="Input: .npy, or .npz with x or one array per input.")
    ],
    network: NetworkName = None,
    index: Annotated[int, typer.Option(min=0, help="Which sample of the input is run.")] = 0,
    sram: Annotated[
        str | None, typer.Option(help="SRAM that is emulated; what was compiled for, or plenty, by default.")
    ] = None,
    emulator: Annotated[EmulatorName, typer.Option(help="QEMU must be on PATH.")] = EmulatorName.UNICORN,
    compiler: Annotated[CompilerName, typer.Option(help="auto takes zig.")] = CompilerName.AUTO,
    cmsis_nn: CmsisNN = None,
    as_json: AsJson = False,
) -> None:
    """Build a compiled project and run one input on the emulated target."""
    from qutec.executions import network_folder, run_project

    result = run_project(
        network_folder(project, network),
        input_file,
        index=index,
        sram=sram,
        emulator=emulator.value,
        compiler=compiler.value,
        cmsis_nn=cmsis_nn,
    )
    _print_json(result.to_json()) if as_json else print(result.to_text())


@app.command("report")
def report_command(
    project: Project,
    network: NetworkName = None,
    html: Annotated[bool, typer.Option("--html", help="Print the HTML page instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the report of a compiled project again; of all networks in it, or of one."""
    from qutec.executions import network_folder

    if network is not None:
        project = network_folder(project, network)
    suffix = "json" if as_json else "html" if html else "txt"
    path = project / f"report.{suffix}"
    try:
        sys.stdout.write(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"'{project}' is not a compiled project: cannot read '{path.name}'") from error


@app.command("supported-ops")
def supported_ops_command(as_json: AsJson = False) -> None:
    """List the ONNX operators that can be compiled."""
    from qutec.load import SUPPORTED_OPS

    names = sorted(str(op) for op in SUPPORTED_OPS)
    _print_json({"supported_ops": names}) if as_json else print("\n".join(names))


@app.command("targets")
def targets_command(as_json: AsJson = False) -> None:
    """List the cores and boards that can be compiled for."""
    from qutec.targets import target, target_names

    found = [target(name) for name in target_names()]
    if as_json:
        rows = [
            {"name": t.name, "core": t.core.name, "sram_bytes": t.sram_bytes, "flash_bytes": t.flash_bytes}
            for t in found
        ]
        _print_json({"targets": rows})
        return
    for t in found:
        memory = (
            f"{t.sram_bytes // 1024:>5} KiB SRAM {t.flash_bytes // 1024:>5} KiB flash"
            if t.sram_bytes and t.flash_bytes
            else ""
        )
        print(f"{t.name:<22}{t.core.name:<16}{memory}".rstrip())


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(f"qutec {installed('qutec')}")
        raise typer.Exit


def main() -> None:
    """Entry point: turns errors into one clear message and an exit code."""
    sys.exit(_run())


def _run() -> int:
    try:
        code = app(standalone_mode=False)
        return code if isinstance(code, int) else 0
    except QutecError as error:
        return _failed(str(error), error.exit_code)
    except typer.Exit as leave:
        return leave.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return _failed("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output left; keep the interpreter from complaining when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is not None:
            return _usage(error, usage())
        if os.environ.get("QUTEC_DEBUG"):
            traceback.print_exc()
        return _failed(
            f"internal error: {type(error).__name__}: {error}\n"
            "This is a fault of qutec; please report it with the model (QUTEC_DEBUG=1 shows where)",
            1,
        )


def _usage(error: Exception, message: str) -> int:
    """A wrong command line, or none at all, which prints the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message)
        return 2
    return _failed(f"{message} (see --help)", 2)


def _failed(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


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


def _output_roles(given: list[str] | None) -> dict[str, OutputRole]:
    """--output-is NAME=exit|aux; a name may hold '='."""
    roles: dict[str, OutputRole] = {}
    for text in given or []:
        name, _, role = text.rpartition("=")
        if not name or role not in ("exit", "aux"):
            raise UsageError(f"--output-is {text!r} is not NAME=exit or NAME=aux")
        roles[name] = "exit" if role == "exit" else "aux"
    return roles


def _names(given: str | None) -> list[str] | None:
    return None if given is None else [name.strip() for name in given.split(",") if name.strip()]


def _command_line() -> str:
    return shlex.join(["qutec", *sys.argv[1:]])


def _print_json(data: object) -> None:
    print(json.dumps(data, indent=1))
