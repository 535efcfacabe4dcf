"""Backend for ONNX Runtime: the optimised model and its measured profile."""

from qutec.backends.onnxruntime.build import OnnxRuntimeBuild
from qutec.backends.onnxruntime.compile import compile_for_onnxruntime
from qutec.backends.onnxruntime.profile_models import Profile, profile_models
from qutec.backends.onnxruntime.session import ExecutionMode, GraphOptimization, SessionSettings

__all__ = [
    "ExecutionMode",
    "GraphOptimization",
    "OnnxRuntimeBuild",
    "Profile",
    "SessionSettings",
    "compile_for_onnxruntime",
    "profile_models",
]
