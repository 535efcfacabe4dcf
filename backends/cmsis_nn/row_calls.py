"""How a region that runs row by row is written in C: a function for a row of each layer, and the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from qutec.backends.cmsis_nn.const_data import ConstData
from qutec.backends.cmsis_nn.expressions import activation, add_call, braces, mul_call, plus, tile, window
from qutec.backends.cmsis_nn.text import comment
from qutec.program import (
    AvgPool2D,
    Call,
    Conv2D,
    DepthwiseConv2D,
    InputRows,
    Lookup,
    MaxPool2D,
    Mul,
    RowRegion,
    Tensor,
)
from qutec.program.row_layout import row_layout
from qutec.program.row_schedule import RowStage

__all__ = ["RegionWriter", "progress_count", "progress_parameter"]

Address: TypeAlias = Callable[[Tensor], str]
"""Writes the C expression of a tensor's first byte, of type int8_t *."""

_Window: TypeAlias = Conv2D | DepthwiseConv2D | AvgPool2D | MaxPool2D


def progress_parameter(call: Call) -> list[str]:
    """The parameter, besides the arena, of a call that is given the network's input row by row."""
    return ["int32_t *rows_done"] if _takes_rows(call) else []


def progress_count(region: RowRegion) -> int:
    """How many numbers say how far a region is between two rows of the input, that of the input the first."""
    return len(region.calls)


def _takes_rows(call: Call) -> bool:
    return isinstance(call, RowRegion) and isinstance(call.calls[0], InputRows)


class RegionWriter:
    """Writes one region; collects its row functions and what to ask the linked library's getters."""

    def __init__(
        self, index: int, region: RowRegion, scratch_offset: int, address: Address, const_data: ConstData
    ) -> None:
        self._index = index
        self._region = region
        self._base = scratch_offset
        self._address = address
        self._const = const_data
        self._layout = row_layout(region)
        self._takes_rows = _takes_rows(region)
        self._stages = self._layout.schedule.stages
        self._maps = {tensor.buffer: f"map_{k}" for k, tensor in enumerate(self._all_maps())}
        self.functions: list[str] = []
        self.checks: list[tuple[str, int]] = []

    def write(self) -> str:
        """The body of the region's function."""
        last = self._stages[-1]
        lines = [*self._declarations(), ""]
        turns = [
            f"    {line}"
            for number in self._region.order
            if not isinstance(self._stages[number].call, InputRows)
            for line in self._turn(number, self._stages[number])
        ]
        if self._takes_rows:
            lines += ["do", "{", *turns]
            more = f"{self._done(self._stages[0])} == {self._stages[0].rows}"
            lines.append(f"}} while ({more} && {self._done(last)} < {last.rows});")
        else:
            lines += [f"while ({self._done(last)} < {last.rows})", "{", *turns, "}"]
        ends = []
        if last.pools:
            assert isinstance(last.call, AvgPool2D)
            pixels = last.call.input_shape[1] * last.call.input_shape[2]
            limits = f"{last.call.activation_min}, {last.call.activation_max}"
            ends.append(
                f"qute_average_end_s8(sums, {last.row_bytes}, {pixels}, {limits},"
                f" {self._address(last.call.output)});"
            )
        if self._takes_rows:
            first = self._maps[self._stages[0].call.output.buffer]
            ends = [
                f"if ({first}.done < {self._stages[0].rows})",
                "{",
                f"    (void)qute_rows_next(&{first}); /* makes room for the next row */",
                "}",
                *(["else", "{", *(f"    {line}" for line in ends), "}"] if ends else []),
                *(f"rows_done[{n}] = {self._done(stage)};" for n, stage in enumerate(self._stages)),
            ]
        return "\n".join([*lines, *ends, "return ARM_CMSIS_NN_SUCCESS;"])

    def _all_maps(self) -> list[Tensor]:
        """The inputs of the region, then the maps that its calls make."""
        made = [stage.call.output for stage in self._stages if not stage.pools]
        return [*(() if self._takes_rows else self._region.reads), *made]

    def _declarations(self) -> list[str]:
        lines = []
        windows = {needed.buffer: needed for stage in self._stages for needed in stage.windows}
        for tensor in () if self._takes_rows else self._region.reads:
            source = windows[tensor.buffer]
            values = f"{self._address(tensor)}, {source.row_bytes}, {source.rows}, 0, {source.rows}"
            lines.append(f"qute_rows {self._maps[tensor.buffer]} = {{{values}}};")
        for number, stage in enumerate(self._stages):
            if stage.pools:
                continue
            name = stage.call.output.buffer
            held = self._layout.schedule.held.get(name)
            if held is None:
                place, capacity = self._address(stage.call.output), stage.rows
            else:
                capacity = held.rows
                place = "NULL" if held.within else plus("arena", self._base + self._layout.rows[name])
            values = f"{place}, {stage.row_bytes}, {capacity}"
            if self._takes_rows:
                # Of the input there is one more: the row that the application has just written.
                made = f"rows_done[{number}]{' + 1' if isinstance(stage.call, InputRows) else ''}"
                begun = f"qute_rows_resumed({values}, {made})"
            else:
                begun = f"{{{values}, 0, 0}}"
            lines.append(f"qute_rows {self._maps[name]} = {begun};")
        if self._layout.sums is not None:
            place = plus("arena", self._base + self._layout.sums)
            size = 4 * self._stages[-1].row_bytes
            lines.append(f"int32_t *const sums = (int32_t *)(void *)({place});")
            if self._takes_rows:
                lines += [f"int32_t rows_summed = rows_done[{len(self._stages) - 1}];"]
                lines += ["if (rows_done[0] == 0)", "{", f"    memset(sums, 0, {size});", "}"]
            else:
                lines += [f"memset(sums, 0, {size});", "int32_t rows_summed = 0;"]
        most = max(len(stage.windows) for stage in self._stages)
        return [*lines, f"qute_window {', '.join(f'window_{k}' for k in range(most))};"]

    def _done(self, stage: RowStage) -> str:
        return "rows_summed" if stage.pools else f"{self._maps[stage.call.output.buffer]}.done"

    def _turn(self, number: int, stage: RowStage) -> list[str]:
        """The next row of one layer, if what it needs is there."""
        done = self._done(stage)
        is_last = number == len(self._stages) - 1 and not self._takes_rows
        conditions = [] if is_last else [f"{done} < {stage.rows}"]
        for k, needed in enumerate(stage.windows):
            source = f"&{self._maps[needed.buffer]}, {needed.rows}"
            numbers = f"{needed.stride}, {needed.padding}, {needed.extent}"
            conditions.append(f"qute_rows_window({source}, {done}, {numbers}, &window_{k})")
        lines = [f"if ({conditions[0]}"]
        lines += [f"    && {condition}" for condition in conditions[1:]]
        lines[-1] += ")"
        body = self._summed(stage) if stage.pools else self._called(number, stage)
        return [*lines, "{", *(f"    {line}" for line in [*body, f"++{done};"]), "}"]

    def _summed(self, stage: RowStage) -> list[str]:
        assert isinstance(stage.call, AvgPool2D)
        return [f"qute_average_row_s8(window_0.rows, {stage.call.input_shape[2]}, {stage.row_bytes}, sums);"]

    def _called(self, number: int, stage: RowStage) -> list[str]:
        name = stage.call.output.buffer
        target = self._maps[name]
        lines = []
        held = self._layout.schedule.held.get(name)
        if held is not None and held.within is not None:
            lines.append(f"{target}.memory = qute_rows_next(&{self._maps[held.within]});")
        function = self._function(number, stage)
        windows = ", ".join(f"&window_{k}" for k in range(len(stage.windows)))
        return [
            *lines,
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
        if not any("arena" in line for line in body):
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
            case InputRows():
                raise AssertionError("the application makes these rows")
            case Lookup() as call:
                table = self._const.array(f"table_{self._index}_{number}", call.table)
                return [f"qute_lookup_s8(window_0->rows, {table}, output, {stage.row_bytes});", _SUCCESS]
            case Mul() as call:
                return _returned(mul_call(call, *_OPERANDS, "output", stage.row_bytes))
            case call:
                return _returned(add_call(call, *_OPERANDS, "output", stage.row_bytes))

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
        dims = [self._dims(shape) for shape in (filter_shape, (1, 1, 1, outputs), self._row_shape(call))]
        # The layers know the window's size only when they run, so that no constant has it.
        whole = f"(const cmsis_nn_dims){braces(self._window_shape(stage, call))}"
        getter = f"{function}_get_buffer_size(&{params}, &{whole},\n            &{dims[0]}, &{dims[2]})"
        self.checks.append((getter, self._layout.scratch[number][1]))
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
            self.checks.append((f"arm_avgpool_s8_get_buffer_size({sizes})", self._layout.scratch[number][1]))
        kernel, result = self._dims((1, *call.kernel, 1)), self._dims(self._row_shape(call))
        return [
            *self._prologue(number, "cmsis_nn_pool_params", params, call),
            f"return {function}(&context, &params, &input_dims, window_0->rows,",
            f"    &{kernel}, &{result}, output);",
        ]

    def _prologue(self, number: int, kind: str, params: str, call: _Window) -> list[str]:
        """Scratch, the parameters with the padding above this window, and the window's size."""
        offset, size = self._layout.scratch[number]
        place = plus("arena", self._base + offset) if offset is not None else "NULL"
        return [
            f"const cmsis_nn_context context = {{{place}, {size}}};",
            f"{kind} params = {params};",
            "params.padding.h = window_0->above;",
            f"const cmsis_nn_dims input_dims = "
            f"{{1, window_0->count, {call.input_shape[2]}, {call.input_shape[3]}}};",
        ]

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
