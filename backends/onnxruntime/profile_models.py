"""`qutec profile`: any ONNX models side by side in one run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import onnx
import onnxruntime as ort

from qutec.backends.onnxruntime.feeds import Data, Port, batches_of, noise, parse_batches, ports_of, read_rows
from qutec.backends.onnxruntime.interleaved import Effort, compare_runners
from qutec.backends.onnxruntime.measure import machine_words, measure_model
from qutec.backends.onnxruntime.runners import SessionRunner
from qutec.backends.onnxruntime.session import (
    Arrays,
    ExecutionMode,
    GraphOptimization,
    SessionSettings,
    open_session,
)
from qutec.build import save_files
from qutec.errors import ModelError, UsageError
from qutec.ingest.validity import first_line
from qutec.report import SCHEMA_VERSION
from qutec.report.profile_data import Comparison, ProfileReport
from qutec.report.profile_html import profile_html
from qutec.report.profile_text import profile_text

__all__ = ["Profile", "profile_models"]


@dataclass(frozen=True, eq=False)
class Profile:
    """What `profile_models` measured, and the files that tell it."""

    report: ProfileReport
    files: Mapping[str, str | bytes]

    def save(self, folder: str | Path) -> Path:
        """Write report.json, .txt, .html and the traces: all of them, or nothing. Raises UsageError."""
        return save_files(self.files, folder)


@dataclass(frozen=True)
class _Model:
    name: str
    data: bytes
    ports: tuple[Port, ...]


def profile_models(
    models: Sequence[str | Path],
    *,
    data: Data | None = None,
    runs: int = 200,
    warmup: int = 20,
    batch: str | int | Sequence[int] = 1,
    threads: int = 1,
    provider: str = "cpu",
    graph_optimization: str = GraphOptimization.ALL,
    execution_mode: str = ExecutionMode.SEQUENTIAL,
    command: str | None = None,
) -> Profile:
    """Profile ONNX files as they are, and compare the others with the first.

    The models run in turn, round by round, so that a drifting machine does not decide; a ratio is the median
    over rounds, its interval one of 95 %. Options are those of `compile_for_onnxruntime`.

    Raises:
        UsageError, DataError; ModelError where ONNX Runtime refuses a model.
        ToolMissingError: this onnxruntime has no such provider.
    """
    settings = SessionSettings.parse(threads, provider, graph_optimization, execution_mode)
    effort, batches = Effort.parse(runs, warmup), parse_batches(batch)
    if not models:
        raise UsageError("there is no model")
    opened = [_open(Path(path), settings) for path in models]
    names = _distinct([Path(path) for path in models])
    rows = [_rows(model, data) for model in opened]
    for model in opened:
        _check_batches(model, batches)
    profiles, files = [], dict[str, str | bytes]()
    for name, model, given in zip(names, opened, rows, strict=True):
        feeds = {size: batches_of(given, size) for size in batches}
        measured = measure_model(name, model.data, settings, feeds, effort)
        profiles.append(measured.profile)
        prefix = "" if len(opened) == 1 else f"{len(profiles)}_"
        files.update((f"{prefix}{path}", trace) for path, trace in measured.traces.items())
    report = ProfileReport(
        schema_version=SCHEMA_VERSION,
        qutec_version=version("qutec"),
        command=command or f"qutec.profile({', '.join(names)})",
        onnxruntime_version=ort.__version__,
        machine=machine_words(),
        session=settings.to_json(),
        data="random inputs" if data is None else "the given data",
        models=tuple(profiles),
        comparisons=_comparisons(names, opened, rows, batches, settings, effort),
        warnings=(),
    )
    files["report.json"] = json.dumps(report.to_json(), indent=1) + "\n"
    files["report.txt"] = profile_text(report)
    files["report.html"] = profile_html(report)
    return Profile(report, files)


def _open(path: Path, settings: SessionSettings) -> _Model:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {error.strerror or error}") from error
    data = _with_external_data(data, path.parent)
    return _Model(path.stem, data, tuple(ports_of(open_session(data, settings))))


def _with_external_data(data: bytes, folder: Path) -> bytes:
    """The model with the tensors that lie beside the file; as it is where it has none, or does not parse."""
    try:
        model = onnx.load_from_string(data)
        if not any(map(onnx.external_data_helper.uses_external_data, model.graph.initializer)):
            return data
        onnx.load_external_data_for_model(model, str(folder))
        whole: bytes = model.SerializeToString()
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"external data cannot be read: {first_line(error)}") from error
    except Exception:  # protobuf's DecodeError has no type information; ONNX Runtime says what is wrong
        return data
    return whole


def _distinct(paths: Sequence[Path]) -> list[str]:
    """File names without suffix where these differ, else as much of the path as was given."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    whole = [str(path) for path in paths]
    return whole if len(set(whole)) == len(whole) else [f"{name} ({i})" for i, name in enumerate(whole, 1)]


def _rows(model: _Model, data: Data | None) -> Arrays:
    return noise(model.ports) if data is None else read_rows(data, model.ports)


def _check_batches(model: _Model, batches: Sequence[int]) -> None:
    fixed = {port.batch for port in model.ports if port.batch is not None}
    unfit = [size for size in batches if fixed and fixed != {size}]
    if unfit:
        raise UsageError(
            f"the batch of '{model.name}' is fixed at {', '.join(map(str, sorted(fixed)))}, so a batch of "
            f"{unfit[0]} cannot run (--batch)"
        )


def _comparisons(
    names: Sequence[str],
    models: Sequence[_Model],
    rows: Sequence[Arrays],
    batches: Sequence[int],
    settings: SessionSettings,
    effort: Effort,
) -> tuple[Comparison, ...]:
    """Every model but the first against the first, for each batch size."""
    if len(models) == 1:
        return ()
    runners = [SessionRunner(model.data, settings) for model in models]
    found = []
    for size in batches:
        feeds = [batches_of(given, size) for given in rows]
        _, ratios = compare_runners(runners, feeds, effort)
        found += [
            Comparison(name, names[0], size, ratio, effort.runs)
            for name, ratio in zip(names[1:], ratios, strict=True)
        ]
    return tuple(found)
