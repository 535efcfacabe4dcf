"""`qutec evaluate`: its options, and what it prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from qutec.calibrate import CalibrationMethod
from qutec.command_options import ExitsName, ExitThreshold, confidences
from qutec.detection import WINDOW

__all__ = ["evaluate_command"]


def evaluate_command(
    model: Annotated[
        Path,
        typer.Argument(help="A trained .onnx, or a folder that `qutec compile` wrote.", show_default=False),
    ],
    data: Annotated[Path, typer.Option(help=".npz with x_test, y_test (or x, y).")],
    corrupted: Annotated[
        list[Path] | None,
        typer.Option(
            help=".npz with x, y, and optionally names and severity for each sample; can be given several "
            "times, one corruption each."
        ),
    ] = None,
    ood: Annotated[Path | None, typer.Option(help=".npz with x (or x_test) out of distribution.")] = None,
    calibration: Annotated[
        str | None,
        typer.Option(help="For int8, as in compile; 500 samples of x_train in --data by default."),
    ] = None,
    method: Annotated[
        CalibrationMethod | None,
        typer.Option(help="How activation ranges are read off; minmax by default.", show_default=False),
    ] = None,
    exits: Annotated[
        ExitsName, typer.Option(help="Which exits answer, as in compile; with all, the final one.")
    ] = ExitsName.AUTO,
    exit_threshold: ExitThreshold = None,
    scale: Annotated[
        float, typer.Option(help="Inputs are divided by this, such as 255; not those of --calibration.")
    ] = 1.0,
    samples: Annotated[
        int | None, typer.Option(metavar="N", help="So many of each group, evenly spaced, not all.")
    ] = None,
    emulated: Annotated[
        int | None, typer.Option(metavar="N", help="Samples on the emulated core, for a build; 32.")
    ] = None,
    window: Annotated[int, typer.Option(help="Samples in the monitor's sliding window.")] = WINDOW,
    suggest_threshold: Annotated[
        bool,
        typer.Option("--suggest-threshold", help="Choose abstain level, monitor threshold, temperature."),
    ] = False,
    target_accuracy: Annotated[
        float | None,
        typer.Option(help="Of what is answered with --abstain; what halves the error by default."),
    ] = None,
    false_alarms: Annotated[
        float, typer.Option(help="Share of clean windows, for the monitor without --corrupted.")
    ] = 0.01,
    network: Annotated[
        str | None,
        typer.Option(help="Which network of a build that several share.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure accuracy, calibration and detection of a trained network or a build."""
    from qutec.evaluate import evaluate
    from qutec.executions import network_folder

    evaluation = evaluate(
        network_folder(model, network) if network is not None else model,
        data,
        corrupted=corrupted or (),
        ood=ood,
        calibration=calibration,
        method=method,
        exits=exits.value,
        exit_threshold=confidences(exit_threshold),
        scale=scale,
        samples=samples,
        emulated=emulated,
        window=window,
        suggest_thresholds=suggest_threshold,
        target_accuracy=target_accuracy,
        false_alarm_share=false_alarms,
        progress=sys.stderr.isatty(),
    )
    print(json.dumps(evaluation.to_json(), indent=1, allow_nan=False) if as_json else evaluation.to_text())
