"""Accuracy, calibration and detection of a trained network or of a build, and thresholds from data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qutec.calibrate import CalibrationMethod, load_samples
from qutec.compiler import compile_model
from qutec.detection import WINDOW, Answers
from qutec.errors import ToolMissingError, UsageError
from qutec.evaluation.data import EvaluationData, InputArray, read_evaluation_data, real_inputs
from qutec.evaluation.networks import (
    DeviceNetwork,
    FloatNetwork,
    IntegerNetwork,
    Network,
    Predictions,
    SavedBuild,
    read_build,
)
from qutec.evaluation.scores import CorruptionAnswers, Scores, score
from qutec.evaluation.suggestions import Suggestions, TemperatureSuggestion, suggest, suggest_temperature
from qutec.evaluation.text import evaluation_text
from qutec.exits import DEFAULT_EXIT_THRESHOLD, ExitChoice, exit_mode
from qutec.ingest.source import ModelSource
from qutec.labelled import DataSource
from qutec.load import LoadedModel, load
from qutec.metrics import FloatArray, IntArray
from qutec.monitor import MAX_LENGTH
from qutec.passes.quantize import is_quantized
from qutec.passes.select_exits import SelectExitsPass
from qutec.progress_bar import progress_bar
from qutec.quantize import Calibration

__all__ = ["Evaluation", "evaluate"]

_EMULATED = 32
_FAR_RANGES = 10.0


@dataclass(frozen=True)
class Evaluation:
    """Scores by execution ("float", "int8", "device"); None where there is none, with its reason.

    `exits` are those that the answer is made of; `calibration` says what int8 was calibrated on.
    """

    model: str
    exits: tuple[str, ...]
    data: str
    scale: float
    calibration: str
    executions: Mapping[str, Scores | None]
    reasons: Mapping[str, str]
    suggestions: Suggestions | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The object that `qutec evaluate --json` prints; a figure that does not exist is null."""
        return {
            "schema_version": 1,
            "model": self.model,
            "exits": list(self.exits),
            "data": self.data,
            "scale": self.scale,
            "calibration": self.calibration,
            **{name: None if found is None else found.to_json() for name, found in self.executions.items()},
            "reasons": dict(self.reasons),
            "suggestions": None if self.suggestions is None else self.suggestions.to_json(),
            "warnings": list(self.warnings),
        }

    def to_text(self) -> str:
        """The same for a terminal."""
        head = [
            ("model", f"{self.model}, exits {', '.join(self.exits)}"),
            ("data", self.data + (f", divided by {self.scale:g}" if self.scale != 1.0 else "")),
            ("calibration", self.calibration),
            *((name, f"none: {reason}") for name, reason in self.reasons.items()),
        ]
        return evaluation_text(head, self.executions, self.suggestions, self.warnings)


@dataclass(frozen=True, eq=False)
class _Answered:
    """One execution's scores, and the answers that thresholds are chosen from; `foreign` are confidences."""

    scores: Scores
    clean: Predictions
    labels: IntArray
    corrupted: tuple[CorruptionAnswers, ...]
    foreign: FloatArray | None


def evaluate(
    source: ModelSource,
    data: DataSource,
    *,
    corrupted: Sequence[DataSource] = (),
    ood: DataSource | None = None,
    calibration: Calibration | None = None,
    method: str | CalibrationMethod | None = None,
    exits: ExitChoice = "auto",
    exit_threshold: float | Sequence[float] | None = None,
    scale: float = 1.0,
    samples: int | None = None,
    emulated: int | None = None,
    window: int = WINDOW,
    suggest_thresholds: bool = False,
    target_accuracy: float | None = None,
    false_alarm_share: float = 0.01,
    progress: bool = False,
) -> Evaluation:
    """Evaluate a trained ONNX network, or the folder of a build.

    An .onnx is run as "float" (ONNX Runtime on the graph that would be quantised) and "int8" (compiled, in
    the integer reference); a build as "int8" (its model.onnx, lowered again) and "device" (its C on the
    emulated core, which has to equal the reference in every byte).

    Args:
        source: path of an .onnx file, its bytes, a protobuf, or the folder of a build.
        data: labelled samples, and 500 of x_train for calibration where there are any; see
            `qutec.evaluation.data.read_evaluation_data`.
        corrupted: labelled samples of corruptions, for detection of dropped accuracy.
        ood: samples of other things, without labels.
        calibration: for int8, as `qutec.compile` takes it: real inputs, never divided by the scale.
        method: how activation ranges are read off the calibration samples; minmax by default.
        exits: which exits answer, as in `qutec.compile`; with "all", the final one.
        exit_threshold: with exits "dynamic", as in `qutec.compile`.
        scale: what data, corrupted and foreign samples are divided by, as in training.
        samples: so many of each group, evenly spaced, instead of all.
        emulated: samples for the emulated core, evenly spaced; 32 by default, 0 for none.
        window: samples in the monitor's sliding window.
        suggest_thresholds: choose abstain level, monitor threshold and temperature on a random half of the
            data, and measure what they cost on the other.
        target_accuracy: of the answers that are not abstained from; by default what halves the error.
        false_alarm_share: of clean windows, for the monitor where there are no corrupted data.
        progress: show progress bars on stderr.

    Raises:
        UsageError, ModelError, UnsupportedModelError: see `qutec.compile`.
        DataError: data that cannot be used; names the file and the array.
        VerificationError: the emulated core differs from the reference.
        ToolMissingError: `emulated` asks for an emulation that cannot be had.
    """
    _check_numbers(window, target_accuracy, false_alarm_share, emulated)
    read = _Reading(data, tuple(corrupted), ood, scale, samples, progress)
    if isinstance(source, str | Path) and Path(source).is_dir():
        given = [option for option in (calibration, method, exit_threshold) if option is not None]
        if exits != "auto" or given:
            raise UsageError(
                "a build is evaluated as it was compiled: leave out --exits, --exit-threshold, --calibration"
                " and --method"
            )
        found = _evaluate_build(Path(source), read, emulated, window)
    else:
        if emulated is not None:
            raise UsageError("--emulated is for a folder that `qutec compile` wrote, not for an .onnx")
        chosen = _Exits(exits, exit_threshold)
        found = _evaluate_model(source, read, calibration, method, chosen, window)
    evaluation, answered = found
    if not suggest_thresholds:
        return evaluation
    name = "int8" if "int8" in answered else "float"
    basis = answered[name]
    suggestions = suggest(
        name,
        Answers.of(basis.clean.probabilities, basis.labels),
        [item.answers for item in basis.corrupted],
        basis.foreign,
        _temperature(answered.get("float")),
        has_flag=not basis.clean.heads or len(basis.clean.heads) > 1,
        window=window,
        target_accuracy=target_accuracy,
        false_alarm_share=false_alarm_share,
    )
    return replace(evaluation, suggestions=suggestions)


def _temperature(answered: _Answered | None) -> TemperatureSuggestion:
    if answered is None:
        reason = "a temperature is chosen on float logits; evaluate the .onnx"
        return TemperatureSuggestion(None, 0, None, None, reason)
    if not answered.clean.heads:
        reason = "which exit answers depends on the temperature; evaluate one exit"
        return TemperatureSuggestion(None, 0, None, None, reason)
    return suggest_temperature(answered.clean.log_probabilities(), answered.labels)


@dataclass(frozen=True)
class _Exits:
    """Which exits answer, as `qutec.compile` takes it."""

    choice: ExitChoice
    thresholds: float | Sequence[float] | None


@dataclass(frozen=True)
class _Reading:
    """Where the data come from, and whether work on them shows a bar."""

    data: DataSource
    corrupted: tuple[DataSource, ...]
    ood: DataSource | None
    scale: float
    samples: int | None
    progress: bool

    def read(self, shape: tuple[int, ...], classes: int) -> EvaluationData:
        return read_evaluation_data(
            self.data,
            shape,
            classes,
            corrupted=self.corrupted,
            foreign=self.ood,
            scale=self.scale,
            samples=self.samples,
        )

    def words(self, data: EvaluationData) -> str:
        return f"{_title(self.data)} ({data.clean_arrays}), {len(data.clean):,} samples"


def _check_numbers(
    window: int, target_accuracy: float | None, false_alarm_share: float, emulated: int | None
) -> None:
    if not 1 <= window <= MAX_LENGTH:
        raise UsageError(f"window is {window}; a monitor has 1 to {MAX_LENGTH} samples")
    if target_accuracy is not None and not 0.0 < target_accuracy <= 1.0:
        raise UsageError(f"target accuracy is {target_accuracy:g}; it lies above 0 and up to 1")
    if not 0.0 <= false_alarm_share < 1.0:
        raise UsageError(f"the share of false alarms is {false_alarm_share:g}; it lies in 0..1, 1 excluded")
    if emulated is not None and emulated < 0:
        raise UsageError(f"{emulated} emulated samples; 0 or more are meant")


def _evaluate_model(
    source: ModelSource,
    read: _Reading,
    calibration: Calibration | None,
    method: str | CalibrationMethod | None,
    exits: _Exits,
    window: int,
) -> tuple[Evaluation, dict[str, _Answered]]:
    loaded = load(source)
    mode = exit_mode(loaded.model, exits.choice)
    if mode != "dynamic" and exits.thresholds is not None:
        raise UsageError(f"exit thresholds are for --exits dynamic, not for {mode}")
    loaded = replace(loaded, model=SelectExitsPass(mode)(loaded.model).model)
    thresholds = DEFAULT_EXIT_THRESHOLD if exits.thresholds is None else exits.thresholds
    network = FloatNetwork(loaded.model, mode, thresholds)
    data = read.read(network.shape, network.classes)
    answered = {"float": _answer(network, "float", data, read, window)}
    warnings = [*data.warnings]
    samples, words = _calibration(loaded, calibration, data, read)
    reasons = {"device": "an .onnx has no C to run; evaluate the folder of a build"}
    if words is None:
        reasons["int8"] = (
            "int8 needs calibration data: --calibration, or training samples (x_train) beside those evaluated"
        )
        warnings += loaded.warnings
    else:
        build = compile_model(
            source,
            calibration=samples,
            method=method or CalibrationMethod.MINMAX,
            exits=exits.choice,
            exit_threshold=exits.thresholds,
            progress=read.progress,
        )
        integer = IntegerNetwork(build.program, build.model)
        answered["int8"] = _answer(integer, "int8", data, read, window)
        warnings += build.report.warnings
        warnings += _calibration_warnings(loaded, samples, data, read)
    evaluation = Evaluation(
        model=loaded.name,
        exits=network.heads,
        data=read.words(data),
        scale=read.scale,
        calibration=words or "none",
        executions={name: _scores(answered, name) for name in ("float", "int8", "device")},
        reasons=reasons,
        suggestions=None,
        warnings=tuple(warnings),
    )
    return evaluation, answered


def _evaluate_build(
    folder: Path, read: _Reading, emulated: int | None, window: int
) -> tuple[Evaluation, dict[str, _Answered]]:
    build = read_build(folder)
    network = IntegerNetwork(build.program, build.model)
    data = read.read(network.shape, network.classes)
    answered = {"int8": _answer(network, "int8", data, read, window)}
    reasons = {"float": "a build holds the quantised network only; evaluate the .onnx that it was made of"}
    warnings = [*data.warnings, *build.warnings]
    device, reason = _on_device(build, network, data, read, emulated, window)
    if device is not None:
        answered["device"] = device
    else:
        reasons["device"] = reason
    evaluation = Evaluation(
        model=build.name,
        exits=network.heads or build.heads,
        data=read.words(data),
        scale=read.scale,
        calibration=build.calibration,
        executions={name: _scores(answered, name) for name in ("float", "int8", "device")},
        reasons=reasons,
        suggestions=None,
        warnings=tuple(warnings),
    )
    return evaluation, answered


def _on_device(
    build: SavedBuild,
    network: IntegerNetwork,
    data: EvaluationData,
    read: _Reading,
    emulated: int | None,
    window: int,
) -> tuple[_Answered | None, str]:
    """The emulated core on some clean samples; a missing tool is an error only where it was asked for."""
    count = _EMULATED if emulated is None else emulated
    if count == 0:
        return None, "no sample was to be emulated"
    try:
        device = DeviceNetwork(build, network)
        return _answer(device, "device", data.only_clean(count), read, window), ""
    except ToolMissingError as error:
        if emulated is not None:
            raise
        return None, str(error)


def _scores(answered: Mapping[str, _Answered], name: str) -> Scores | None:
    return answered[name].scores if name in answered else None


def _answer(network: Network, name: str, data: EvaluationData, read: _Reading, window: int) -> _Answered:
    total = len(data.clean) + sum(len(item.part) for item in data.corrupted)
    total += 0 if data.foreign is None else len(data.foreign)
    with progress_bar(name, total, shown=read.progress) as advance:

        def predict(x: InputArray) -> Predictions:
            predictions = network.predict(real_inputs(x, read.scale))
            advance(len(x))
            return predictions

        predictions = predict(data.clean.x)
        corrupted = tuple(
            CorruptionAnswers(item.name, Answers.of(predict(item.part.x).probabilities, item.part.y))
            for item in data.corrupted
        )
        foreign: FloatArray | None = None
        if data.foreign is not None:
            foreign = predict(data.foreign).probabilities.max(axis=1)
    scores = score(predictions, data.clean.y, corrupted, foreign, window)
    return _Answered(scores, predictions, data.clean.y, corrupted, foreign)


def _calibration(
    loaded: LoadedModel, given: Calibration | None, data: EvaluationData, read: _Reading
) -> tuple[Calibration | None, str | None]:
    """What int8 is calibrated on, and what it is called; None where there is nothing."""
    if is_quantized(loaded.model):
        return given, "the model's own parameters"
    if given is not None:
        return given, _title(given)
    if data.calibration is None:
        return None, None
    words = f"{len(data.calibration):,} samples of {data.calibration_array} in {_title(read.data)}"
    return real_inputs(data.calibration, read.scale), words


def _calibration_warnings(
    loaded: LoadedModel, calibration: Calibration | None, data: EvaluationData, read: _Reading
) -> list[str]:
    """Calibration that is certainly not of the evaluated kind, or is what is evaluated."""
    if calibration is None or is_quantized(loaded.model):
        return []
    if isinstance(calibration, str) and calibration == "random":
        return []
    found = []
    if _same_file(calibration, read.data) and data.clean_arrays.startswith("x,"):
        found.append("int8 is calibrated on the samples that are evaluated: its figures are too good")
    (samples,) = load_samples(calibration, loaded.model).values()
    theirs, ours = (float(np.abs(x).max()) for x in (samples, real_inputs(data.clean.x, read.scale)))
    if max(theirs, ours) > _FAR_RANGES * min(theirs, ours):
        found.append(
            f"calibration samples reach {theirs:g}, evaluated ones {ours:g}: calibration data are taken as"
            " the network takes them, --scale does not divide them"
        )
    return found


def _same_file(one: Calibration, other: DataSource) -> bool:
    if not isinstance(one, str | Path) or not isinstance(other, str | Path):
        return False
    return Path(one).resolve() == Path(other).resolve()


def _title(source: object) -> str:
    return Path(source).name if isinstance(source, str | Path) else "the given arrays"
