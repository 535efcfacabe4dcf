"""How a region that runs row by row is written in C: a function for a row of each layer, and the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from qutec.backends.cmsis_nn.call_scratch import CallScratch, ScratchCheck
from qutec.backends.cmsis_nn.checked_constants import CHECKED_CONSTANTS, can_scale
from qutec.backends.cmsis_nn.const_data import ConstData
from qutec.backends.cmsis_nn.expressions import activation, add_call, braces, mul_call, plus, tile, window
from qutec.backends.cmsis_nn.head_calls import wide
from qutec.backends.cmsis_nn.head_features import feature_row_kernels, feature_row_params
from qutec.backends.cmsis_nn.text import comment
from qutec.program import (
    Add,
    AvgPool2D,
    Call,
    Concat,
    Conv2D,
    Copy,
    DepthwiseConv2D,
    HeadFeatures,
    InputRows,
    Lookup,
    MaxPool2D,
    Mul,
    RowRegion,
    Tensor,
)
from qutec.program.row_layout import row_layout
from qutec.program.row_stages import RowStage, single_row

__all__ = ["RegionWriter", "progress_count", "progress_parameter"]

Address: TypeAlias = Callable[[Tensor], str]
"""Writes the C expression of a tensor's first byte, of type int8_t *."""

_Window: TypeAlias = Conv2D | DepthwiseConv2D | AvgPool2D | MaxPool2D


def progress_parameter(call: Call) -> list[str]:
    """The parameter, besides the arena, of a call that is given the network's input row by row."""
    return ["int32_t *rows_done"] if isinstance(call, RowRegion) and _rows_of(call) is not None else []


def progress_count(region: RowRegion) -> int:
    """How many numbers say how far a region is between two rows of the input, that of the input the first."""
    stages = row_layout(region).schedule.stages
    return len(stages) + sum(1 for stage in stages if stage.sums_bytes)


def _rows_of(region: RowRegion) -> InputRows | None:
    """The call of a region, its first, that takes in the network's input."""
    first = region.calls[0]
    return first if isinstance(first, InputRows) else None


class RegionWriter:
    """Writes one region; collects its row functions and what to ask the linked library's getters."""

    def __init__(
        self, index: int, region: RowRegion, scratch: CallScratch, address: Address, const_data: ConstData
    ) -> None:
        self._index = index
        self._region = region
        self._base = scratch.offset or 0
        self._scratch = scratch
        self._address = address
        self._const = const_data
        self._layout = row_layout(region)
        self._stages = self._layout.schedule.stages
        self._rows = _rows_of(region)
        self._maps = {tensor.buffer: f"map_{k}" for k, tensor in enumerate(self._all_maps())}
        self.functions: list[str] = []
        self.checks: list[ScratchCheck] = []

    def write(self) -> str:
        """The body of the region's function."""
        rounds = self._layout.schedule.rounds
        loop = f"for (int32_t round = 0; round < {rounds}; ++round)"
        turns = [
            f"    {line}"
            for number in self._region.order
            if not isinstance(self._stages[number].call, InputRows)
            for line in self._turn(number, self._stages[number])
        ]
        if self._rows is None:
            return "\n".join([*self._declarations(), "", loop, "{", *turns, "}", _SUCCESS])
        # One round for each row; what is left when the last is there runs to the end.
        first, rows = self._maps[self._rows.output.buffer], self._rows.rows
        lines = [
            *self._declarations(),
            f"const int32_t rounds = {first}.done < {rows} ? 1 : {rounds - rows + 1};",
            "",
            "for (int32_t round = 0; round < rounds; ++round)",
            "{",
            *turns,
            "}",
            f"if ({first}.done < {rows})",
            "{",
            f"    (void)qute_rows_next(&{first}); /* makes room for the next row */",
            "}",
            *self._progress(),
        ]
        return "\n".join([*lines, _SUCCESS])

    def _progress(self) -> list[str]:
        """Statements that keep how far each layer is until the next row of the input comes."""
        done = [f"{self._maps[stage.call.output.buffer]}.done" for stage in self._stages]
        taken = [f"taken_{number}" for number, stage in enumerate(self._stages) if stage.sums_bytes]
        return [f"rows_done[{k}] = {value};" for k, value in enumerate([*done, *taken])]

    def _all_maps(self) -> list[Tensor]:
        """The inputs of the region, then what its calls make."""
        return [*self._arena_reads(), *(stage.call.output for stage in self._stages)]

    def _arena_reads(self) -> list[Tensor]:
        """What the region reads besides rows that the application makes."""
        return [t for t in self._region.reads if self._rows is None or t.buffer != self._rows.input.buffer]

    def _declarations(self) -> list[str]:
        lines = []
        windows = {needed.buffer: needed for stage in self._stages for needed in stage.windows}
        for tensor in self._arena_reads():
            source = windows[tensor.buffer]
            values = f"{self._address(tensor)}, {source.row_bytes}, {source.rows}, 0, {source.rows}"
            lines.append(f"qute_rows {self._maps[tensor.buffer]} = {{{values}}};")
        for number, stage in enumerate(self._stages):
            name = stage.call.output.buffer
            held = self._layout.schedule.held.get(name)
            if held is None:
                place, capacity = self._address(stage.call.output), stage.rows
            else:
                capacity = held.rows
                place = "NULL" if held.within else plus("arena", self._base + self._layout.rows[name])
            begun = self._begun(number, f"{place}, {stage.row_bytes}, {capacity}")
            lines.append(f"qute_rows {self._maps[name]} = {begun};")
            if (sums := self._layout.sums[number]) is not None:
                place = plus("arena", self._base + sums)
                lines.append(f"int32_t *const sums_{number} = (int32_t *)(void *)({place});")
                lines.append(f"int32_t taken_{number} = {self._taken_before(number)};")
        most = max(len(stage.windows) for stage in self._stages)
        return [*lines, f"qute_window {', '.join(f'window_{k}' for k in range(most))};"]

    def _begun(self, number: int, values: str) -> str:
        """The initial value of a map: nothing made, or as many rows as before this row of the input."""
        if self._rows is None:
            return f"{{{values}, 0, 0}}"
        # Of the input there is one more: the row that the application has just written.
        new = " + 1" if isinstance(self._stages[number].call, InputRows) else ""
        return f"qute_rows_resumed({values}, rows_done[{number}]{new})"

    def _taken_before(self, number: int) -> str:
        if self._rows is None:
            return "0"
        position = sum(1 for stage in self._stages[:number] if stage.sums_bytes)
        return f"rows_done[{len(self._stages) + position}]"

    def _turn(self, number: int, stage: RowStage) -> list[str]:
        """The next step of one layer, if what it needs is there."""
        turn = f"taken_{number}" if stage.sums_bytes else f"{self._maps[stage.call.output.buffer]}.done"
        conditions = [f"{turn} < {stage.turns}"]
        for k, needed in enumerate(stage.windows):
            source = f"&{self._maps[needed.buffer]}, {needed.rows}"
            numbers = f"{needed.stride}, {needed.padding}, {needed.extent}"
            conditions.append(f"qute_rows_window({source}, {turn}, {numbers}, &window_{k})")
        lines = [f"if ({conditions[0]}", *(f"    && {condition}" for condition in conditions[1:])]
        lines[-1] += ")"
        body = self._taken_in(number, stage) if stage.sums_bytes else self._called(number, stage)
        return [*lines, "{", *(f"    {line}" for line in [*body, f"++{turn};"]), "}"]

    def _taken_in(self, number: int, stage: RowStage) -> list[str]:
        """A row that goes into sums, and what is made of them when the last one is there."""
        taken, sums = f"taken_{number}", f"sums_{number}"
        target = self._maps[stage.call.output.buffer]
        if isinstance(stage.call, HeadFeatures):
            added, end = self._feature_sums(number, stage.call, taken, sums)
        else:
            added, end = self._pool_sums(stage, taken, sums)
        place = f"{taken} % {stage.turns_each}" if stage.rows > 1 else taken
        lines = [*self._claimed(stage), end, f"++{target}.done;"]
        return [
            f"if ({place} == 0)",
            "{",
            f"    memset({sums}, 0, {stage.sums_bytes});",
            "}",
            *added,
            f"if ({place} == {stage.first_turns - 1})",
            "{",
            *(f"    {line}" for line in lines),
            "}",
        ]

    def _pool_sums(self, stage: RowStage, taken: str, sums: str) -> tuple[list[str], str]:
        """Statements that add a row to the sums, and the one that makes the row of their means."""
        assert isinstance(stage.call, AvgPool2D)
        (kernel_h, kernel_w), (stride_h, stride_w) = stage.call.kernel, stage.call.stride
        outputs, channels = stage.call.output_shape[2:]
        sizes = f"{outputs}, {kernel_w}, {stride_w}, {channels}"
        added = [f"qute_average_row_s8(window_0.rows, {sizes}, {sums});"]
        if stage.rows > 1 and stride_h > kernel_h:
            added = [f"if ({taken} % {stride_h} < {kernel_h})", "{", f"    {added[0]}", "}"]
        limits = f"{stage.call.activation_min}, {stage.call.activation_max}"
        place = f"qute_rows_next(&{self._maps[stage.call.output.buffer]})"
        end = f"qute_average_end_s8({sums}, {stage.row_bytes}, {kernel_h * kernel_w}, {limits}, {place});"
        return added, end

    def _feature_sums(self, number: int, call: HeadFeatures, taken: str, sums: str) -> tuple[list[str], str]:
        """Statements that add a row to the sums of all heads, and the one that makes features of them."""
        row_kernel, end_kernel = feature_row_kernels(call)
        params = feature_row_params(f"{self._index}_{number}", call, self._const, row_kernel)
        where = "window_0.count, window_0.above" if call.relu else taken
        place = wide(f"qute_rows_next(&{self._maps[call.output.buffer]})", 16)
        return (
            [f"{row_kernel}(&{params}, window_0.rows, {where}, {sums});"],
            f"{end_kernel}(&{params}.features, {sums}, {place});",
        )

    def _claimed(self, stage: RowStage) -> list[str]:
        """Where a row is made in the place of another map's next row: its address now."""
        name = stage.call.output.buffer
        held = self._layout.schedule.held.get(name)
        if held is None or held.within is None:
            return []
        return [f"{self._maps[name]}.memory = qute_rows_next(&{self._maps[held.within]});"]

    def _called(self, number: int, stage: RowStage) -> list[str]:
        target = self._maps[stage.call.output.buffer]
        function = self._function(number, stage)
        windows = ", ".join(f"&window_{k}" for k in range(len(stage.windows)))
        return [
            *self._claimed(stage),
            f"if ({function}(arena, {windows}, qute_rows_next(&{target})) != ARM_CMSIS_NN_SUCCESS)",
            "{",
            "    return ARM_CMSIS_NN_ARG_ERROR;",
            "}",
        ]

    def _function(self, number: int, stage: RowStage) -> str:
        """Writes the function that computes one row; returns its name."""
        name = f"layer_{self._index}_row_{number}"
        parameters = ", ".join(
            ["int8_t *arena", *(f"const qute_window *window_{k}" for k in range(len(stage.windows)))]
        )
        body = self._row(number, stage)
        # Which lines use it depends on the library.
        body.insert(0, "(void)arena;")
        lines = [
            f"/* a row of {comment(stage.call.name)} */",
            f"static arm_cmsis_nn_status {name}({parameters}, int8_t *output)",
            "{",
            *(f"    {line}" for line in body),
            "}",
        ]
        self.functions.append("\n".join(lines))
        return name

    def _row(self, number: int, stage: RowStage) -> list[str]:
        match stage.call:
            case Conv2D() | DepthwiseConv2D():
                return self._convolution(number, stage, stage.call)
            case AvgPool2D() | MaxPool2D():
                return self._pool(number, stage, stage.call)
            case Lookup() as call:
                table = self._const.array(f"table_{self._index}_{number}", call.table)
                return [f"qute_lookup_s8(window_0->rows, {table}, output, {stage.row_bytes});", _SUCCESS]
            case Mul() as call:
                return _returned(mul_call(call, *_OPERANDS, "output", stage.row_bytes))
            case Add() as call:
                return _returned(add_call(call, *_OPERANDS, "output", stage.row_bytes))
            case Copy():
                return self._copy(stage, stage.call)
            case Concat():
                return self._concat(stage, stage.call)
            case HeadFeatures():
                raise AssertionError("heads take in rows")
            case InputRows():
                raise AssertionError("the application makes these rows")

    def _convolution(self, number: int, stage: RowStage, call: Conv2D | DepthwiseConv2D) -> list[str]:
        stem = f"{self._index}_{number}"
        if isinstance(call, Conv2D):
            kind, function, extra = "cmsis_nn_conv_params", "arm_convolve_wrapper_s8", ""
            filter_shape: tuple[int, ...] = call.weights.shape
            outputs = int(call.weights.shape[0])
        else:
            kind, function = "cmsis_nn_dw_conv_params", "arm_depthwise_conv_wrapper_s8"
            extra = f"{call.channel_multiplier}, "
            filter_shape = (1, *call.weights.shape)
            outputs = int(call.weights.shape[2])
        params = self._const.struct(
            kind,
            f"row_params_{stem}",
            f"{{{call.input_offset}, {call.output_offset}, {extra}{window(call)}, {activation(call)}}}",
        )
        dims = [
            self._dims(filter_shape),
            self._checked_dims(outputs) if can_scale(call) else self._dims((1, 1, 1, outputs)),
            self._dims(self._row_shape(call)),
        ]
        # The layers know the window's size only when they run, so that no constant has it.
        whole = f"(const cmsis_nn_dims){braces(self._window_shape(stage, call))}"
        getter = f"{function}_get_buffer_size(&{params}, &{whole},\n            &{dims[0]}, &{dims[2]})"
        self.checks.append(self._kernel_scratch(number).check(getter))
        names = ("multiplier", "shift", "weights", "bias")
        multiplier, shift, weights, bias = (
            self._const.array(f"{what}_{stem}", getattr(call, what)) for what in names
        )
        return [
            "static const cmsis_nn_per_channel_quant_params quant =",
            f"    {{(int32_t *)(uintptr_t){multiplier}, (int32_t *)(uintptr_t){shift}}};",
            *self._prologue(number, kind, params, call),
            f"return {function}(&context, &params, &quant, &input_dims, window_0->rows,",
            f"    &{dims[0]}, {weights}, &{dims[1]}, {bias}, &{dims[2]}, output);",
        ]

    def _checked_dims(self, outputs: int) -> str:
        """Dimensions of a bias, with which a kernel need not look through the constants for each row."""
        fields = braces((CHECKED_CONSTANTS, 1, 1, outputs))
        return self._const.struct("cmsis_nn_dims", f"checked_dims_{outputs}", fields)

    def _pool(self, number: int, stage: RowStage, call: AvgPool2D | MaxPool2D) -> list[str]:
        is_mean = isinstance(call, AvgPool2D)
        function = "arm_avgpool_s8" if is_mean else "arm_max_pool_s8"
        params = self._const.struct(
            "cmsis_nn_pool_params",
            f"row_params_{self._index}_{number}",
            f"{{{tile(call.stride)}, {tile(call.padding)}, {activation(call)}}}",
        )
        if is_mean:
            sizes = f"{call.output_shape[2]}, {call.input_shape[3]}"
            getter = f"arm_avgpool_s8_get_buffer_size({sizes})"
            self.checks.append(self._kernel_scratch(number).check(getter))
        kernel, result = self._dims((1, *call.kernel, 1)), self._dims(self._row_shape(call))
        return [
            *self._prologue(number, "cmsis_nn_pool_params", params, call),
            f"return {function}(&context, &params, &input_dims, window_0->rows,",
            f"    &{kernel}, &{result}, output);",
        ]

    def _copy(self, stage: RowStage, call: Copy) -> list[str]:
        row = single_row(call, stage.rows)
        assert row is not None
        source = plus("window_0->rows", call.input.offset)
        return [
            f"static const int32_t dims[4] = {braces(row.dims)};",
            f"static const int32_t input_strides[4] = {braces(row.input_strides)};",
            f"static const int32_t output_strides[4] = {braces(row.output_strides)};",
            f"qute_copy_s8({source}, dims, input_strides, output_strides, output);",
            _SUCCESS,
        ]

    def _concat(self, stage: RowStage, call: Concat) -> list[str]:
        lines = []
        offset, pixel, pixels = 0, sum(call.inner), call.outer // stage.rows
        for k, inner in enumerate(call.inner):
            target = plus("output", offset)
            lines += [
                f"for (int32_t pixel = 0; pixel < {pixels}; ++pixel)",
                "{",
                f"    memcpy({target} + pixel * {pixel}, window_{k}->rows + pixel * {inner}, {inner});",
                "}",
            ]
            offset += inner
        return [*lines, _SUCCESS]

    def _prologue(self, number: int, kind: str, params: str, call: _Window) -> list[str]:
        """Scratch, the parameters with the padding above this window, and the window's size."""
        return [
            *self._kernel_scratch(number).context(),
            f"{kind} params = {params};",
            "params.padding.h = window_0->above;",
            f"const cmsis_nn_dims input_dims = "
            f"{{1, window_0->count, {call.input_shape[2]}, {call.input_shape[3]}}};",
        ]

    def _kernel_scratch(self, number: int) -> CallScratch:
        """That of one layer's kernel, within the region's."""
        offset, size = self._layout.scratch[number]
        place = None if offset is None else self._base + offset
        return self._scratch.of_layer(number, place, size)

    def _row_shape(self, call: _Window) -> tuple[int, ...]:
        return (1, 1, *call.output_shape[2:])

    def _window_shape(self, stage: RowStage, call: _Window) -> tuple[int, ...]:
        needed = stage.windows[0]
        return (1, min(needed.extent, needed.rows), *call.input_shape[2:])

    def _dims(self, shape: tuple[int, ...]) -> str:
        stem = "dims_" + "x".join(map(str, shape))
        return self._const.struct("cmsis_nn_dims", stem, braces(shape))


_SUCCESS = "return ARM_CMSIS_NN_SUCCESS;"
_OPERANDS = ("window_0->rows", "window_1->rows")


def _returned(call: list[str]) -> list[str]:
    """The lines of a call as a return statement."""
    return [f"return {call[0]}", *call[1:-1], f"{call[-1]};"]
