"""How the calls of QUTE heads are written in C."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from qutec.backends.cmsis_nn.const_data import ConstData
from qutec.backends.cmsis_nn.expressions import braces
from qutec.backends.cmsis_nn.head_features import (
    feature_kernel,
    feature_params,
    takes_scratch,
)
from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.program import ExitCheck, HeadFeatures, HeadLogits, HeadUncertainty, Tensor

__all__ = ["wide", "write_head_call"]

Address: TypeAlias = Callable[[Tensor], str]
"""Writes the C expression of a tensor's first byte, of type int8_t *."""


def write_head_call(
    index: int,
    call: HeadFeatures | HeadLogits | HeadUncertainty | ExitCheck,
    address: Address,
    const_data: ConstData,
    kernels: KernelSet,
    scratch: tuple[str, int],
) -> str:
    """The statements of call `index`; they return an arm_cmsis_nn_status.

    `scratch` is where the scratch of the call is, in C, and its bytes. Wide data is in the arena, never in an
    array of bytes in flash: the planner aligns what it places.
    """
    match call:
        case HeadFeatures():
            statement = _features(index, call, address, const_data, kernels, scratch)
        case HeadLogits():
            statement = _logits(index, call, address, const_data)
        case HeadUncertainty():
            statement = _uncertainty(call, address)
        case _:
            statement = f"*{wide(address(call.output), 32)} = {call.number};"
    return f"{statement}\nreturn ARM_CMSIS_NN_SUCCESS;"


def _features(
    index: int,
    call: HeadFeatures,
    address: Address,
    const_data: ConstData,
    kernels: KernelSet,
    scratch: tuple[str, int],
) -> str:
    function = feature_kernel(call, kernels)
    params = feature_params(index, call, const_data, function)
    room = f"{scratch[0]}, {scratch[1]}, " if takes_scratch(function) else ""
    return f"{function}(&{params}, {address(call.input)}, {room}{wide(address(call.output), 16)});"


def _logits(index: int, call: HeadLogits, address: Address, const_data: ConstData) -> str:
    names = (
        const_data.array(f"weights_{index}", call.weights),
        const_data.array(f"bias_{index}", call.bias),
        const_data.array(f"multiplier_{index}", call.multiplier),
    )
    sizes = (call.heads, call.classes, call.inputs, call.input_offset, call.limit, call.left_shift)
    params = const_data.struct("qute_head_logits_params", f"head_params_{index}", braces((*sizes, *names)))
    source = address(call.input)
    if call.input_bits == 16:
        source = wide(source, 16, const=True)
    return f"qute_head_logits_s{call.input_bits}(&{params}, {source}, {wide(address(call.output), 32)});"


def _uncertainty(call: HeadUncertainty, address: Address) -> str:
    source, target = wide(address(call.input), 32, const=True), wide(address(call.output), 32)
    sizes = f"{call.heads}, {call.classes}, {call.abstain_below}"
    return f"qute_head_uncertainty_s32({source}, {sizes}, {target});"


def wide(address: str, bits: int, *, const: bool = False) -> str:
    """A pointer to int8_t as one to wider values."""
    qualifier = "const " if const else ""
    return f"({qualifier}int{bits}_t *)({qualifier}void *)({address})"
