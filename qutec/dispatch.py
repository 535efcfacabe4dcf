"""`qutec.compile`: the compile for a microcontroller, or for ONNX Runtime, by its target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, cast, overload

from qutec.build import Build
from qutec.calibrate import CalibrationMethod
from qutec.exits import ExitChoice
from qutec.load import ModelSource
from qutec.quantize import Calibration

if TYPE_CHECKING:
    from qutec.backends.onnxruntime import OnnxRuntimeBuild
    from qutec.backends.onnxruntime.feeds import Data

__all__ = ["ONNX_RUNTIME", "Compile", "by_target"]

ONNX_RUNTIME = "onnxruntime"
"""The target that is no microcontroller."""

_Options = ParamSpec("_Options")


class Compile(Protocol[_Options]):
    """A compile that returns what its target makes."""

    # A target that is only known as str is taken for a microcontroller.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        source: ModelSource | Sequence[ModelSource],
        *,
        target: Literal["onnxruntime"],
        calibration: Calibration | None = None,
        method: str | CalibrationMethod = ...,
        data: Data | None = None,
        name: str | None = None,
        exits: ExitChoice = "auto",
        abstain: float = 0.0,
        exit_threshold: float | Sequence[float] | None = None,
        temperature: float = 1.0,
        simplify: bool = True,
        dump: str | Path | None = None,
        runs: int = ...,
        warmup: int = ...,
        batch: str | int | Sequence[int] = 1,
        threads: int = 1,
        provider: str = "cpu",
        graph_optimization: str = "all",
        execution_mode: str = "sequential",
        progress: bool = False,
        command: str | None = None,
    ) -> OnnxRuntimeBuild: ...

    @overload
    def __call__(self, *args: _Options.args, **kwargs: _Options.kwargs) -> Build: ...


def by_target(device: Callable[_Options, Build]) -> Compile[_Options]:
    """`device` for all targets but onnxruntime, whose options are those of `compile_for_onnxruntime`."""

    @wraps(device)
    def compile_for_target(*args: Any, **kwargs: Any) -> Build | OnnxRuntimeBuild:
        if kwargs.get("target") == ONNX_RUNTIME:
            # Imported here because ONNX Runtime takes its time to load, and only this target needs it.
            from qutec.backends.onnxruntime import compile_for_onnxruntime

            return compile_for_onnxruntime(*args, **{k: v for k, v in kwargs.items() if k != "target"})
        return device(*args, **kwargs)

    return cast(Compile[_Options], compile_for_target)
