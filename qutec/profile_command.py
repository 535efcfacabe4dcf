"""`qutec profile`: any ONNX models with ONNX Runtime, side by side in one run."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

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
)

__all__ = ["profile_command"]


def profile_command(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL...", help="ONNX models; the first is the base of ratios.")
    ],
    data: DataFile = None,
    runs: Runs = None,
    warmup: Warmup = None,
    batch: Batch = None,
    threads: Threads = None,
    provider: Provider = None,
    graph_optimization: Optimization = None,
    execution_mode: Execution = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the reports and the raw traces.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure ONNX models with ONNX Runtime: latency, time by node, ratios with an interval."""
    from qutec.backends.onnxruntime import profile_models

    options = given(
        data=data,
        runs=runs,
        warmup=warmup,
        batch=batch,
        threads=threads,
        provider=provider,
        graph_optimization=graph_optimization,
        execution_mode=execution_mode,
    )
    profile = profile_models(models, **options, command=shlex.join(["qutec", *sys.argv[1:]]))
    folder = profile.save(output) if output is not None else None
    if as_json:
        print(json.dumps(profile.report.to_json(), indent=1))
        return
    print(profile.files["report.txt"])
    if folder is not None:
        print(f"written to  {folder}")
