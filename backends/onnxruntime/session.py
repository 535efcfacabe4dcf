"""ONNX Runtime sessions with options that are chosen and recorded, and errors in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from qutec.backends.onnxruntime.bare_session import session_options
from qutec.errors import ModelError, ToolMissingError, UsageError
from qutec.ingest.validity import first_line

__all__ = [
    "Arrays",
    "ExecutionMode",
    "GraphOptimization",
    "SessionSettings",
    "open_session",
    "run_session",
]

Arrays: TypeAlias = dict[str, npt.NDArray[np.generic]]
"""Values by name, the batch in front."""


class GraphOptimization(StrEnum):
    """Levels of ONNX Runtime's own graph optimisation."""

    DISABLED = "disabled"
    BASIC = "basic"
    EXTENDED = "extended"
    ALL = "all"


class ExecutionMode(StrEnum):
    """Whether nodes run one after the other, or beside each other where the graph allows."""

    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"


_Word = TypeVar("_Word", bound=StrEnum)


def _word(kind: type[_Word], label: str, text: str) -> _Word:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{label} '{text}' is not known; there are {', '.join(kind)}") from None


@dataclass(frozen=True)
class SessionSettings:
    """What is chosen of onnxruntime.SessionOptions. One thread is the default: its times vary least."""

    threads: int = 1
    """Threads of one operator, and with the execution mode "parallel" as many operators at a time."""
    provider: str = "cpu"
    """Execution provider, in full or short ("cuda" for CUDAExecutionProvider)."""
    graph_optimization: GraphOptimization = GraphOptimization.ALL
    execution_mode: ExecutionMode = ExecutionMode.SEQUENTIAL

    @classmethod
    def parse(
        cls, threads: int, provider: str, graph_optimization: str, execution_mode: str
    ) -> SessionSettings:
        """Settings from words.

        Raises:
            UsageError: an unknown word, or a number of threads that makes no sense.
            ToolMissingError: this installation has no such provider.
        """
        if threads < 1:
            raise UsageError(f"threads: {threads} are not possible; 1 is the least")
        settings = cls(
            threads,
            provider,
            _word(GraphOptimization, "graph optimisation", graph_optimization),
            _word(ExecutionMode, "execution mode", execution_mode),
        )
        settings.provider_name()
        return settings

    def provider_name(self) -> str:
        """The provider's full name. Raises ToolMissingError where this installation has no such provider."""
        available: list[str] = ort.get_available_providers()
        for name in available:
            if self.provider.lower() in (name.lower(), name.removesuffix("ExecutionProvider").lower()):
                return name
        raise ToolMissingError(
            f"onnxruntime {ort.__version__} has no execution provider '{self.provider}' here; it has "
            + ", ".join(name.removesuffix("ExecutionProvider").lower() for name in available)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, the provider's name in full."""
        return {**asdict(self), "provider": self.provider_name()}


def open_session(
    model: bytes,
    settings: SessionSettings,
    *,
    profile_prefix: Path | None = None,
    optimized_path: Path | None = None,
) -> ort.InferenceSession:
    """A session for a serialised model.

    Args:
        model: an ONNX model without external data.
        settings: the session's options.
        profile_prefix: profile the session; `end_profiling` writes <prefix>_<time>.json.
        optimized_path: where the graph is written that the session really runs.

    Raises:
        ModelError: ONNX Runtime refuses the model.
        ToolMissingError: the provider is not available, or does not start.
    """
    options = session_options(settings.threads, settings.graph_optimization, settings.execution_mode)
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    if optimized_path is not None:
        options.optimized_model_filepath = str(optimized_path)
    provider = settings.provider_name()
    try:
        session = ort.InferenceSession(model, options, providers=[provider])
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise ModelError(f"ONNX Runtime refuses the model: {first_line(error)}") from error
    if provider not in session.get_providers():
        raise ToolMissingError(f"the execution provider {provider} does not start on this machine")
    return session


def run_session(
    session: ort.InferenceSession, feed: Mapping[str, npt.NDArray[np.generic]], names: Sequence[str] = ()
) -> Arrays:
    """Outputs by name; `names` are all of them, asked for anew where they are not given.

    Raises ModelError where ONNX Runtime fails on the inputs.
    """
    names = names or [value.name for value in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, feed), strict=True))
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise ModelError(f"ONNX Runtime fails on the model: {first_line(error)}") from error
