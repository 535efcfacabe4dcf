"""The command line: `qutec inspect | attach | train | compile | evaluate | run | profile | report | ...`.

Exit codes: 0 done; 1 internal error; 2 usage; 3 invalid or unsupported model; 4 does not fit;
5 verification failed; 6 a needed tool is missing.
"""

from __future__ import annotations

import os
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qutec.command_options import AsJson, CmsisNN, listed_names, print_json
from qutec.compile_command import compile_command
from qutec.errors import QutecError, UsageError
from qutec.evaluation.command import evaluate_command
from qutec.profile_command import profile_command
from qutec.train.command import train_command

if TYPE_CHECKING:
    from qutec.passes.find_exits import OutputRole

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


class CompilerName(StrEnum):
    """The cross compilers that `qutec run` knows."""

    AUTO = "auto"
    ZIG = "zig"
    GCC = "gcc"


Model = Annotated[Path, typer.Argument(help="An ONNX model.", show_default=False)]
Project = Annotated[Path, typer.Argument(help="A folder that `qutec compile` wrote.", show_default=False)]
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
    print_json(inspection.to_json()) if as_json else print(format_inspection(inspection))


app.command("compile")(compile_command)
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
        at=listed_names(at),
        activation="relu" if activation is ActivationName.RELU else "none",
        plus=plus,
        kernel=kernel,
        seed=seed,
        output_is=_output_roles(output_is),
    )
    write_training_graph(graph, output)
    if as_json:
        print_json({"heads": [asdict(head) for head in graph.heads], "warnings": list(graph.warnings)})
        return
    for head in graph.heads:
        print(f"{head.kind.replace('_', ' '):<12}{head.index or '':<4}{head.output}")
    for text in graph.warnings:
        print(f"warning: {text}")
    print(f"written to  {output}")


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
    print_json(result.to_json()) if as_json else print(result.to_text())


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
    print_json({"supported_ops": names}) if as_json else print("\n".join(names))


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
        print_json({"targets": rows})
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


def _output_roles(given: list[str] | None) -> dict[str, OutputRole]:
    """--output-is NAME=exit|aux; a name may hold '='."""
    roles: dict[str, OutputRole] = {}
    for text in given or []:
        name, _, role = text.rpartition("=")
        if not name or role not in ("exit", "aux"):
            raise UsageError(f"--output-is {text!r} is not NAME=exit or NAME=aux")
        roles[name] = "exit" if role == "exit" else "aux"
    return roles
