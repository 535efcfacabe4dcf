"""How the calls of QUTE heads are written in C."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qutec.backends.cmsis_nn.const_data import ConstData
from qutec.program import ExitCheck, HeadFeatures, HeadLogits, HeadUncertainty, Tensor

__all__ = ["write_head_call"]

Address: TypeAlias = Callable[[Tensor], str]
"""Writes the C expression of a tensor's first byte, of type int8_t *."""


def write_head_call(
    index: int,
    call: HeadFeatures | HeadLogits | HeadUncertainty | ExitCheck,
    address: Address,
    const_data: ConstData,
) -> str:
    """The statements of call `index`; they return an arm_cmsis_nn_status.

    Wide data is in the arena, never in an array of bytes in flash: the planner aligns what it places.
    """
    match call:
        case HeadFeatures():
            statement = _features(index, call, address, const_data)
        case HeadLogits():
            statement = _logits(index, call, address, const_data)
        case HeadUncertainty():
            statement = _uncertainty(call, address)
        case _:
            statement = f"*{_wide(address(call.output), 32)} = {call.number};"
    return f"{statement}\nreturn ARM_CMSIS_NN_SUCCESS;"


def _features(index: int, call: HeadFeatures, address: Address, const_data: ConstData) -> str:
    _, height, width, channels = call.input_shape
    geometry = (
        call.heads,
        channels,
        height,
        width,
        *call.weights.shape[1:3],
        *call.output_pixels,
        *call.stride,
        *call.padding,
        call.input_offset,
    )
    params = _params("qute_head_features_params", geometry, index, call, const_data)
    function = "qute_head_features_relu_s8" if call.relu else "qute_head_features_s8"
    return f"{function}(&{params}, {address(call.input)}, {_wide(address(call.output), 16)});"


def _logits(index: int, call: HeadLogits, address: Address, const_data: ConstData) -> str:
    sizes = (call.heads, call.classes, call.inputs, call.input_offset, call.limit)
    params = _params("qute_head_logits_params", sizes, index, call, const_data)
    source = address(call.input)
    if call.input_bits == 16:
        source = _wide(source, 16, const=True)
    return f"qute_head_logits_s{call.input_bits}(&{params}, {source}, {_wide(address(call.output), 32)});"


def _uncertainty(call: HeadUncertainty, address: Address) -> str:
    source, target = _wide(address(call.input), 32, const=True), _wide(address(call.output), 32)
    sizes = f"{call.heads}, {call.classes}, {call.abstain_below}"
    return f"qute_head_uncertainty_s32({source}, {sizes}, {target});"


def _params(
    c_type: str,
    numbers: tuple[int, ...],
    index: int,
    call: HeadFeatures | HeadLogits,
    const_data: ConstData,
) -> str:
    """The name of a params struct: numbers first, then the arrays that all of these structs end with."""
    data: dict[str, npt.NDArray[np.generic]] = {
        "weights": call.weights,
        "bias": call.bias,
        "multiplier": call.multiplier,
        "shift": call.shift,
    }
    arrays = [const_data.array(f"{what}_{index}", values) for what, values in data.items()]
    fields = ", ".join([*map(str, numbers), *arrays])
    return const_data.struct(c_type, f"head_params_{index}", f"{{{fields}}}")


def _wide(address: str, bits: int, *, const: bool = False) -> str:
    """A pointer to int8_t as one to wider values."""
    qualifier = "const " if const else ""
    return f"({qualifier}int{bits}_t *)({qualifier}void *)({address})"
