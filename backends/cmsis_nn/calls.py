"""How each kernel call of a Program is written in C: one function for each kind of call.

Every call becomes the body of one static function of the network. Parameter structs are static const
data, so that they cost flash and not stack or code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qutec.backends.cmsis_nn.call_scratch import CallScratch, ScratchCheck
from qutec.backends.cmsis_nn.const_data import ConstData
from qutec.backends.cmsis_nn.expressions import activation, add_call, braces, mul_call, plus, tile, window
from qutec.backends.cmsis_nn.head_calls import write_head_call
from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.backends.cmsis_nn.row_calls import RegionWriter
from qutec.backends.cmsis_nn.text import c_int
from qutec.planner import is_pointwise, pointwise_block
from qutec.program import (
    Add,
    AvgPool2D,
    BufferKind,
    Call,
    Concat,
    Conv2D,
    Copy,
    DepthwiseConv2D,
    ExitCheck,
    Fill,
    FullyConnected,
    Gather,
    HeadFeatures,
    HeadLogits,
    HeadUncertainty,
    InputRows,
    Int8Array,
    Lookup,
    MaxPool2D,
    Move,
    Mul,
    Program,
    RowRegion,
    Shape,
    Softmax,
    Tensor,
)

__all__ = ["CallWriter"]


class CallWriter:
    """Writes the C of calls, one after the other; collects const data and scratch checks."""

    def __init__(
        self, program: Program, offsets: dict[str, int], const_data: ConstData, kernels: KernelSet
    ) -> None:
        self._program = program
        self._offsets = offsets
        self._const = const_data
        self._kernels = kernels
        self.checks: list[ScratchCheck] = []
        self.functions: list[str] = []
        """C functions that the call written last needs before its own."""

    def write(self, index: int, call: Call, scratch: CallScratch) -> str:
        """The statements of call `index`; they return an arm_cmsis_nn_status."""
        self.functions = []
        match call:
            case RowRegion():
                writer = RegionWriter(index, call, scratch, self.address, self._const)
                body = writer.write()
                self.checks += writer.checks
                self.functions = writer.functions
                return body
            case Conv2D():
                return self._conv(index, call, scratch)
            case DepthwiseConv2D():
                return self._depthwise_conv(index, call, scratch)
            case FullyConnected():
                return self._fully_connected(index, call, scratch)
            case AvgPool2D():
                return self._avg_pool(index, call, scratch)
            case MaxPool2D():
                return self._max_pool(index, call)
            case Add():
                return self._add(call)
            case Mul():
                return self._mul(call)
            case Softmax():
                return self._softmax(call)
            case Lookup():
                return self._lookup(index, call)
            case Concat():
                return self._concat(call)
            case Copy():
                return self._copy(index, call)
            case Gather():
                return self._gather(index, call)
            case Move():
                return self._move(call)
            case Fill():
                return self._fill(call)
            case InputRows():
                raise ValueError(f"{call.name} is not within a region")
            case HeadFeatures() | HeadLogits() | HeadUncertainty() | ExitCheck():
                return write_head_call(index, call, self.address, self._const, self._kernels, scratch.planned)

    def address(self, tensor: Tensor) -> str:
        """C expression of a tensor's first byte: in the arena, or a const array."""
        buffer = self._program.buffers[tensor.buffer]
        if buffer.kind is BufferKind.CONSTANT:
            assert buffer.data is not None
            return plus(
                self._const.array(f"constant_{_ordinal(self._program, buffer.name)}", buffer.data),
                tensor.offset,
            )
        return plus("arena", self._offsets[tensor.buffer] + tensor.offset)

    def _conv(self, index: int, call: Conv2D, scratch: CallScratch) -> str:
        filters, height, width, channels = call.weights.shape
        params = self._const.struct(
            "cmsis_nn_conv_params",
            f"conv_params_{index}",
            f"{{{call.input_offset}, {call.output_offset}, {window(call)}, {activation(call)}}}",
        )
        dims = [
            self._dims(call.input_shape),
            self._dims((filters, height, width, channels)),
            self._dims((1, 1, 1, filters)),
            self._dims(call.output_shape),
        ]
        getter = "arm_convolve_wrapper_s8_get_buffer_size"
        arguments = f"&{params}, &{dims[0]},\n            &{dims[1]}, &{dims[3]}"
        self.checks.append(scratch.check(f"{getter}({arguments})"))
        context, pointer = self._context(scratch)
        quant = self._per_channel(index, call)
        if is_pointwise(call) and (block := self._pixels_at_once(call)) is not None:
            return _lines(*context, *quant, *self._pointwise_blocks(index, call, params, pointer, block))
        return _lines(
            *context,
            *quant,
            f"return arm_convolve_wrapper_s8({pointer}, &{params}, &quant,",
            f"                               &{dims[0]}, {self.address(call.input)},",
            f"                               &{dims[1]}, {self._weights(index, call.weights)},",
            f"                               &{dims[2]}, {self._array(index, 'bias', call.bias)},",
            f"                               &{dims[3]}, {self.address(call.output)});",
        )

    def _pixels_at_once(self, call: Conv2D) -> int | None:
        """Pixels of a pointwise convolution that may be in flight together; None where all may."""
        if self._program.buffers[call.input.buffer].kind is BufferKind.CONSTANT:
            return None
        source = self._offsets[call.input.buffer] + call.input.offset
        target = self._offsets[call.output.buffer] + call.output.offset
        block = pointwise_block(call, source - target)
        return block if block < call.input_shape[1] * call.input_shape[2] else None

    def _pointwise_blocks(self, index: int, call: Conv2D, params: str, context: str, block: int) -> list[str]:
        """The output lies over pixels that are finished with, so no more than `block` pixels go in one call.

        Arm's kernel takes all the pixels that it is given once for every two channels. The bundled one goes
        from pixel to pixel and says so: it is given all of them.
        """
        filters, _, _, channels = call.weights.shape
        pixels = call.input_shape[1] * call.input_shape[2]
        filter_dims = self._dims((filters, 1, 1, channels))
        bias_dims = self._dims((1, 1, 1, filters))
        return [
            "#if defined(QUTE_POINTWISE_IN_ORDER)",
            f"enum {{ pixels_at_once = {pixels} }};",
            "#else",
            f"enum {{ pixels_at_once = {block} }};",
            "#endif",
            f"for (int32_t pixel = 0; pixel < {pixels}; pixel += pixels_at_once)",
            "{",
            f"    const int32_t left = {pixels} - pixel;",
            "    const int32_t width = left < pixels_at_once ? left : pixels_at_once;",
            f"    cmsis_nn_dims input_dims = {self._dims(call.input_shape)};",
            f"    cmsis_nn_dims output_dims = {self._dims(call.output_shape)};",
            "    arm_cmsis_nn_status status;",
            "    input_dims.h = output_dims.h = 1;",
            "    input_dims.w = output_dims.w = width;",
            f"    status = arm_convolve_wrapper_s8({context}, &{params}, &quant,",
            f"        &input_dims, {self.address(call.input)} + pixel * {channels},",
            f"        &{filter_dims}, {self._weights(index, call.weights)},",
            f"        &{bias_dims}, {self._array(index, 'bias', call.bias)},",
            f"        &output_dims, {self.address(call.output)} + pixel * {filters});",
            "    if (status != ARM_CMSIS_NN_SUCCESS)",
            "    {",
            "        return status;",
            "    }",
            "}",
            _SUCCESS,
        ]

    def _depthwise_conv(self, index: int, call: DepthwiseConv2D, scratch: CallScratch) -> str:
        height, width, channels = call.weights.shape
        params = self._const.struct(
            "cmsis_nn_dw_conv_params",
            f"depthwise_params_{index}",
            f"{{{call.input_offset}, {call.output_offset}, {call.channel_multiplier}, "
            f"{window(call)}, {activation(call)}}}",
        )
        dims = [
            self._dims(call.input_shape),
            self._dims((1, height, width, channels)),
            self._dims((1, 1, 1, channels)),
            self._dims(call.output_shape),
        ]
        getter = "arm_depthwise_conv_wrapper_s8_get_buffer_size"
        arguments = f"&{params}, &{dims[0]},\n            &{dims[1]}, &{dims[3]}"
        self.checks.append(scratch.check(f"{getter}({arguments})"))
        context, pointer = self._context(scratch)
        quant = self._per_channel(index, call)
        return _lines(
            *context,
            *quant,
            f"return arm_depthwise_conv_wrapper_s8({pointer}, &{params}, &quant,",
            f"                                     &{dims[0]}, {self.address(call.input)},",
            f"                                     &{dims[1]}, {self._weights(index, call.weights)},",
            f"                                     &{dims[2]}, {self._array(index, 'bias', call.bias)},",
            f"                                     &{dims[3]}, {self.address(call.output)});",
        )

    def _fully_connected(self, index: int, call: FullyConnected, scratch: CallScratch) -> str:
        outputs, inputs = call.weights.shape
        params = self._const.struct(
            "cmsis_nn_fc_params",
            f"dense_params_{index}",
            f"{{{call.input_offset}, {call.filter_offset}, {call.output_offset}, {activation(call)}}}",
        )
        quant = self._const.struct(
            "cmsis_nn_per_tensor_quant_params",
            f"dense_quant_{index}",
            f"{{{c_int(call.multiplier)}, {call.shift}}}",
        )
        dims = [
            self._dims((call.rows, 1, 1, inputs)),
            self._dims((inputs, 1, 1, outputs)),
            self._dims((1, 1, 1, outputs)),
            self._dims((call.rows, 1, 1, outputs)),
        ]
        self.checks.append(scratch.check(f"arm_fully_connected_s8_get_buffer_size(&{dims[1]})"))
        context, pointer = self._context(scratch)
        return _lines(
            *context,
            f"return arm_fully_connected_s8({pointer}, &{params}, &{quant},",
            f"                              &{dims[0]}, {self.address(call.input)},",
            f"                              &{dims[1]}, {self._weights(index, call.weights)},",
            f"                              &{dims[2]}, {self._array(index, 'bias', call.bias)},",
            f"                              &{dims[3]}, {self.address(call.output)});",
        )

    def _avg_pool(self, index: int, call: AvgPool2D, scratch: CallScratch) -> str:
        getter = f"arm_avgpool_s8_get_buffer_size({call.output_shape[2]}, {call.input_shape[3]})"
        self.checks.append(scratch.check(getter))
        return self._pool(index, call, "arm_avgpool_s8", scratch)

    def _max_pool(self, index: int, call: MaxPool2D) -> str:
        return self._pool(index, call, "arm_max_pool_s8", CallScratch())

    def _pool(self, index: int, call: AvgPool2D | MaxPool2D, function: str, scratch: CallScratch) -> str:
        params = self._const.struct(
            "cmsis_nn_pool_params",
            f"pool_params_{index}",
            f"{{{tile(call.stride)}, {tile(call.padding)}, {activation(call)}}}",
        )
        kernel = self._dims((1, *call.kernel, 1))
        indent = " " * (len(function) + 8)
        context, pointer = self._context(scratch)
        return _lines(
            *context,
            f"return {function}({pointer}, &{params},",
            f"{indent}&{self._dims(call.input_shape)}, {self.address(call.input)},",
            f"{indent}&{kernel}, &{self._dims(call.output_shape)}, {self.address(call.output)});",
        )

    def _add(self, call: Add) -> str:
        return self._blocks(call, partial(add_call, call))

    def _mul(self, call: Mul) -> str:
        return self._blocks(call, partial(mul_call, call))

    def _blocks(self, call: Add | Mul, one: _Elementwise) -> str:
        first, second = self.address(call.input_1), self.address(call.input_2)
        output = self.address(call.output)
        if call.outer == 1:
            *head, last = one(first, second, output, call.inner)
            head[0] = f"return {head[0]}"
            return _lines(*head, f"{last};")
        moved = [
            f"{base} + block * {stride}" if stride else base
            for base, stride in ((first, call.stride_1), (second, call.stride_2), (output, call.inner))
        ]
        *head, last = one(moved[0], moved[1], moved[2], call.inner)
        head[0] = f"const arm_cmsis_nn_status status = {head[0]}"
        return _lines(
            f"for (int32_t block = 0; block < {call.outer}; block++)",
            "{",
            *(f"    {line}" for line in head),
            f"    {last};",
            "    if (status != ARM_CMSIS_NN_SUCCESS)",
            "    {",
            "        return status;",
            "    }",
            "}",
            "return ARM_CMSIS_NN_SUCCESS;",
        )

    def _softmax(self, call: Softmax) -> str:
        return _lines(
            f"arm_softmax_s8({self.address(call.input)}, {call.rows}, {call.row_size},",
            f"               {c_int(call.multiplier)}, {call.shift}, {c_int(call.diff_min)},",
            f"               {self.address(call.output)});",
            _SUCCESS,
        )

    def _lookup(self, index: int, call: Lookup) -> str:
        table = self._array(index, "table", call.table)
        source, target = self.address(call.input), self.address(call.output)
        return _lines(f"qute_lookup_s8({source}, {table}, {target}, {call.count});", _SUCCESS)

    def _concat(self, call: Concat) -> str:
        lines: list[str] = []
        offset, row = 0, sum(call.inner)
        # The kernel takes its sizes as uint16_t.
        fits = max(row, call.outer) <= _UINT16_MAX
        for tensor, inner in zip(call.inputs, call.inner, strict=True):
            source = self.address(tensor)
            target = self.address(Tensor(call.output.buffer, call.output.offset + offset))
            if call.outer == 1:
                lines.append(f"memcpy({target}, {source}, {inner});")
            elif fits:
                lines += [
                    f"arm_concatenation_s8_x({source}, {inner}, {call.outer}, 1, 1, "
                    f"{self.address(call.output)}, {row}, {offset});"
                ]
            else:
                lines += [
                    f"for (int32_t block = 0; block < {call.outer}; block++)",
                    "{",
                    f"    memcpy({target} + block * {row}, {source} + block * {inner}, {inner});",
                    "}",
                ]
            offset += inner
        return _lines(*lines, _SUCCESS)

    def _copy(self, index: int, call: Copy) -> str:
        return _lines(
            f"static const int32_t dims[4] = {braces(call.dims)};",
            f"static const int32_t input_strides[4] = {braces(call.input_strides)};",
            f"static const int32_t output_strides[4] = {braces(call.output_strides)};",
            f"qute_copy_s8({self.address(call.input)}, dims, input_strides, output_strides, "
            f"{self.address(call.output)});",
            _SUCCESS,
        )

    def _gather(self, index: int, call: Gather) -> str:
        source, target, count = self.address(call.input), self.address(call.output), call.index.size
        if int(call.index.max()) <= _UINT16_MAX:
            table = self._array(index, "index", call.index.astype(np.uint16))
            return _lines(f"qute_gather_s8({source}, {table}, {target}, {count});", _SUCCESS)
        table = self._array(index, "index", call.index.astype(np.int32))
        return _lines(
            f"const int8_t *const input = {source};",
            f"int8_t *const output = {target};",
            f"for (int32_t i = 0; i < {count}; i++)",
            "{",
            f"    output[i] = input[{table}[i]];",
            "}",
            _SUCCESS,
        )

    def _move(self, call: Move) -> str:
        source, target = self.address(call.input), self.address(call.output)
        return _lines(f"qute_move_s8({source}, {target}, {call.count});", _SUCCESS)

    def _fill(self, call: Fill) -> str:
        return _lines(f"memset({self.address(call.output)}, {call.value & 0xFF}, {call.count});", _SUCCESS)

    def _per_channel(self, index: int, call: Conv2D | DepthwiseConv2D) -> list[str]:
        # The API takes pointers to non-const data that no kernel writes.
        multiplier = self._array(index, "multiplier", call.multiplier)
        shift = self._array(index, "shift", call.shift)
        return [
            "static const cmsis_nn_per_channel_quant_params quant =",
            f"    {{(int32_t *)(uintptr_t){multiplier}, (int32_t *)(uintptr_t){shift}}};",
        ]

    def _context(self, scratch: CallScratch) -> tuple[list[str], str]:
        """Statements that declare the cmsis_nn_context of a call, and the pointer to pass."""
        if scratch.is_none:
            return [], "&" + self._const.struct("cmsis_nn_context", "no_scratch", "{NULL, 0}")
        return scratch.context(), "&context"

    def _weights(self, index: int, weights: Int8Array) -> str:
        return self._array(index, "weights", weights)

    def _array(self, index: int, what: str, data: npt.NDArray[np.generic]) -> str:
        return self._const.array(f"{what}_{index}", data)

    def _dims(self, shape: Shape | Sequence[int]) -> str:
        stem = "dims_" + "x".join(map(str, shape))
        return self._const.struct("cmsis_nn_dims", stem, braces(shape))


_SUCCESS = "return ARM_CMSIS_NN_SUCCESS;"
_UINT16_MAX = 0xFFFF


_Elementwise: TypeAlias = Callable[[str, str, str, int], list[str]]
"""Writes one elementwise call for the addresses of both inputs and the output, and the number of elements."""


def _ordinal(program: Program, name: str) -> int:
    return list(program.buffers).index(name)


def _lines(*lines: str) -> str:
    return "\n".join(lines)
