"""The errors that qutec raises on purpose, each with the exit code of the command line.

0 done; 1 internal error; 2 usage; 3 invalid or unsupported model; 4 does not fit; 5 verification
failed; 6 a needed tool is missing.
"""

from __future__ import annotations

__all__ = [
    "DataError",
    "DoesNotFitError",
    "ModelError",
    "QutecError",
    "ToolMissingError",
    "UnsupportedModelError",
    "UsageError",
    "VerificationError",
]


class QutecError(Exception):
    """Base of every error that qutec raises on purpose; its text is one clear line or a short list."""

    exit_code = 1


class UsageError(QutecError):
    """A wrong argument: an unknown target, a size that does not parse, a missing file."""

    exit_code = 2


class DataError(UsageError):
    """Calibration, input or training data that cannot be used."""


class ModelError(QutecError):
    """The model is not valid ONNX, or breaks a limit of the importer."""

    exit_code = 3


class UnsupportedModelError(ModelError):
    """The model is valid ONNX, but uses what qutec cannot compile; every reason is listed."""


class DoesNotFitError(QutecError):
    """The compiled network needs more SRAM or flash than there is."""

    exit_code = 4


class VerificationError(QutecError):
    """Two executions of one program disagree."""

    exit_code = 5


class ToolMissingError(QutecError):
    """A compiler, an emulator or an optional package that a command needs is not installed."""

    exit_code = 6
