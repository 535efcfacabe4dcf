"""Options of the command line that say how ONNX Runtime runs a model and how it is measured."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from qutec.errors import UsageError

__all__ = [
    "Batch",
    "DataFile",
    "Execution",
    "ExecutionName",
    "Optimization",
    "OptimizationName",
    "Provider",
    "Runs",
    "Threads",
    "Warmup",
    "given",
    "refuse",
]


class OptimizationName(StrEnum):
    """Levels of ONNX Runtime's own graph optimisation."""

    DISABLED = "disabled"
    BASIC = "basic"
    EXTENDED = "extended"
    ALL = "all"


class ExecutionName(StrEnum):
    """How ONNX Runtime goes through the nodes of a graph."""

    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"


DataFile = Annotated[
    Path | None,
    typer.Option("--data", help="onnxruntime: inputs to measure with, .npz (x, and labels y) or .npy."),
]
Runs = Annotated[int | None, typer.Option(help="onnxruntime: inferences that are measured; 200.")]
Warmup = Annotated[int | None, typer.Option(help="onnxruntime: inferences before those; 20.")]
Batch = Annotated[
    str | None, typer.Option(metavar="N[,N...]", help="onnxruntime: batch sizes, each is profiled; 1.")
]
Threads = Annotated[int | None, typer.Option(help="onnxruntime: threads of an operator; 1.")]
Provider = Annotated[str | None, typer.Option(help="onnxruntime: execution provider; cpu.")]
Optimization = Annotated[
    OptimizationName | None,
    typer.Option("--graph-optimization", help="onnxruntime: its own graph optimisation; all."),
]
Execution = Annotated[
    ExecutionName | None,
    typer.Option("--execution-mode", help="onnxruntime: nodes in sequence or in parallel; sequential."),
]


def given(**options: Any) -> dict[str, Any]:
    """The options that are not None: those that the command line has."""
    return {name: value for name, value in options.items() if value is not None}


def refuse(options: dict[str, Any], target: str) -> None:
    """Raises UsageError where there are options that mean nothing for a target."""
    if options:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in options)
        raise UsageError(f"{names} cannot be used with the target {target}")
