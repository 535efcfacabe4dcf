"""Backend for Cortex-M: C99 that calls the CMSIS-NN API, with bundled kernels that implement it."""

from qutec.backends.cmsis_nn.cost import (
    CodeCost,
    arm_stack_bytes,
    code_cost,
    shared_code_bytes,
    stack_bytes,
)
from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.backends.cmsis_nn.prepare import prepare
from qutec.backends.cmsis_nn.project import (
    EmittedNetwork,
    EmittedProject,
    Provenance,
    emit_network,
    emit_project,
)
from qutec.backends.cmsis_nn.result_api import context_bytes
from qutec.backends.cmsis_nn.scratch import scratch_bytes, useful_scratch_bytes

__all__ = [
    "CodeCost",
    "EmittedNetwork",
    "EmittedProject",
    "KernelSet",
    "Provenance",
    "arm_stack_bytes",
    "code_cost",
    "context_bytes",
    "emit_network",
    "emit_project",
    "prepare",
    "scratch_bytes",
    "shared_code_bytes",
    "stack_bytes",
    "useful_scratch_bytes",
]
