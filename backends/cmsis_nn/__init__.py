"""Backend for Cortex-M: C99 that calls the CMSIS-NN API, with bundled kernels that implement it."""

from qutec.backends.cmsis_nn.cost import CodeCost, code_cost, stack_bytes
from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.backends.cmsis_nn.prepare import prepare
from qutec.backends.cmsis_nn.project import EmittedProject, Provenance, emit_project
from qutec.backends.cmsis_nn.result_api import context_bytes
from qutec.backends.cmsis_nn.scratch import scratch_bytes

__all__ = [
    "CodeCost",
    "EmittedProject",
    "KernelSet",
    "Provenance",
    "code_cost",
    "context_bytes",
    "emit_project",
    "prepare",
    "scratch_bytes",
    "stack_bytes",
]
