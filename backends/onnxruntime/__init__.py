"""Backend for ONNX Runtime: the optimised model and its measured profile."""

from qutec.backends.onnxruntime.build import OnnxRuntimeBuild
from qutec.backends.onnxruntime.compile import TARGET, compile_for_onnxruntime
from qutec.backends.onnxruntime.session import ExecutionMode, GraphOptimization, SessionSettings

__all__ = [
    "TARGET",
    "ExecutionMode",
    "GraphOptimization",
    "OnnxRuntimeBuild",
    "SessionSettings",
    "compile_for_onnxruntime",
]
