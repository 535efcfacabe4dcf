"""A finished compile for ONNX Runtime: the model, its report, and the files of the folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from qutec.backends.onnxruntime.exit_graphs import Stage
from qutec.backends.onnxruntime.feeds import Data, Port, read_rows
from qutec.backends.onnxruntime.runners import Runner
from qutec.backends.onnxruntime.session import Arrays
from qutec.build import save_files
from qutec.report.profile_data import ModelProfile, OnnxRuntimeReport
from qutec.report.profile_html import report_html
from qutec.report.profile_text import report_text

__all__ = ["OnnxRuntimeBuild"]

_ROWS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class OnnxRuntimeBuild:
    """What `qutec.compile(..., target="onnxruntime")` returns. Nothing is written before `save`."""

    report: OnnxRuntimeReport
    model: onnx.ModelProto
    """The optimised model, in one graph; with dynamic exits the one with If."""
    stages: tuple[onnx.ModelProto, ...]
    """The stages, where dynamic exits run faster in that form; `report.stages` says how they fit together."""
    files: Mapping[str, str | bytes]
    """Contents of the folder by relative path."""
    _ports: Sequence[Port] = field(repr=False)
    _runner: Runner = field(repr=False)

    @classmethod
    def of(
        cls,
        report: OnnxRuntimeReport,
        model: bytes,
        stages: Sequence[Stage],
        traces: Mapping[str, bytes],
        ports: Sequence[Port],
        runner: Runner,
    ) -> OnnxRuntimeBuild:
        """A build with the files that belong to it."""
        files: dict[str, str | bytes] = {
            "model.onnx": model,
            **{f"stages/stage_{number}.onnx": stage.model for number, stage in enumerate(stages, 1)},
            **traces,
            "report.json": json.dumps(report.to_json(), indent=1) + "\n",
            "report.txt": report_text(report),
            "report.html": report_html(report),
        }
        protos = tuple(onnx.load_from_string(stage.model) for stage in stages)
        return cls(report, onnx.load_from_string(model), protos, files, ports, runner)

    @property
    def profile(self) -> ModelProfile:
        """What was measured."""
        return self.report.profile

    def run(self, x: Data) -> Arrays:
        """Outputs by name, [samples, ...]; `x` is [samples, *shape], or arrays by input name.

        A model whose batch is symbolic computes 64 samples at once, any other one after the other. Raises
        DataError.
        """
        rows = read_rows(x, self._ports)
        step = _ROWS_AT_ONCE if all(port.batch is None for port in self._ports) else 1
        count = len(next(iter(rows.values())))
        results = [
            self._runner.run({name: array[start : start + step] for name, array in rows.items()})
            for start in range(0, count, step)
        ]
        return {name: np.concatenate([result[name] for result in results]) for name in results[0]}

    def save(self, folder: str | Path) -> Path:
        """Write the folder: all of it, or nothing. Raises UsageError."""
        return save_files(self.files, folder)
