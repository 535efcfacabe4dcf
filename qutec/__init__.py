"""qutec: from an early-exit ONNX network to C for a microcontroller, step by step or in one call.

    build = qutec.compile("net.onnx", target="cortex-m4", sram="256k", calibration=x)
    build.report.arena_bytes
    build.save("build/net")
    build.run(x)

Every step is a function of its own that works on plain onnx / onnx_ir objects: `load`, `attach`,
`quantize`, `lower`, `plan`, `emit`, `evaluate`.
"""

from importlib.metadata import version as _version

from qutec.attach import TrainingGraph, attach
from qutec.backends.cmsis_nn import emit_project as emit
from qutec.build import Build
from qutec.compiler import compile_model as _compile_model
from qutec.dispatch import by_target as _by_target
from qutec.errors import (
    DataError,
    DoesNotFitError,
    ModelError,
    QutecError,
    ToolMissingError,
    UnsupportedModelError,
    UsageError,
    VerificationError,
)
from qutec.evaluate import Evaluation, evaluate
from qutec.load import LoadedModel, load
from qutec.lower import lower
from qutec.planner import plan_program as plan
from qutec.quantize import quantize
from qutec.shared import SharedBuild, compile_many
from qutec.train import TrainingOptions, train

__all__ = [
    "Build",
    "DataError",
    "DoesNotFitError",
    "Evaluation",
    "LoadedModel",
    "ModelError",
    "QutecError",
    "SharedBuild",
    "ToolMissingError",
    "TrainingGraph",
    "TrainingOptions",
    "UnsupportedModelError",
    "UsageError",
    "VerificationError",
    "attach",
    "compile",
    "compile_many",
    "emit",
    "evaluate",
    "load",
    "lower",
    "plan",
    "quantize",
    "train",
]

compile = _by_target(_compile_model)

__version__ = _version("qutec")
