"""Which values of a float graph are stored between kernels, and which must share their parameters.

Not a pass: the analysis that QuantizePass stands on. A value is *stored* unless it exists only inside
one kernel: before a clamp that the kernel applies, before the Add that brings the bias, or between
pointwise operators that become one table. Values are *tied* where an operator only moves or selects
elements (pool, reshape, slice ...), so that both sides need the same scale and zero point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qutec.heads import is_head_node
from qutec.lower.constants import Constant, constant, real
from qutec.lower.pointwise import BINARY, UNARY, clamp_bounds

__all__ = ["KernelValues"]

_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMean"})
_MOVES = frozenset(
    {
        "Cast",
        "Dropout",
        "Flatten",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
_WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
_CLAMPING = _WEIGHTED | _POOLS | {"Add", "BatchNormalization", "Mul", "Sub"}


class KernelValues:
    """The analysis of one graph. Constant values (see `qutec.lower.constants`) never appear."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._nodes = [n for n in graph if any(constant(output) is None for output in n.outputs)]
        self._live = set(self._nodes)
        self._fused_clamps: set[ir.Node] = set()
        self._bias_adds: dict[ir.Node, ir.Node] = {}
        self._base: dict[ir.Value, ir.Value] = {}
        self.weighted = {
            node for node in self._nodes if node.op_type in _WEIGHTED and constant(node.inputs[1]) is not None
        }
        inputs = [value for value in graph.inputs if value.name not in graph.initializers]
        for value in inputs:
            self._base[value] = value
        for node in self._nodes:
            self._visit(node)
        self.stored = [
            value
            for value in [*inputs, *(output for node in self._nodes for output in node.outputs)]
            if value.dtype in (None, ir.DataType.FLOAT)
            and self._is_used(value)
            and not self._inside(value)
            and not _is_result(value)
        ]
        self._stored = set(self.stored)

    def output_axis(self, node: ir.Node, rank: int) -> int:
        """The axis of a weighted node's weights that counts output channels."""
        if node.op_type == "Conv":
            return 0
        if node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0:
            return 0
        return rank - 1

    def bias(self, node: ir.Node) -> tuple[ir.Node, int, Constant | None]:
        """(node, input position, value) of the constant that is added to a weighted node's sum."""
        if node.op_type in ("Conv", "Gemm") and len(node.inputs) > 2 and node.inputs[2] is not None:
            return node, 2, constant(node.inputs[2])
        for add, weighted in self._bias_adds.items():
            if weighted is node:
                position = 1 if constant(add.inputs[1]) is not None else 0
                return add, position, constant(add.inputs[position])
        return node, 2, None

    @staticmethod
    def accumulated_bias(
        node: ir.Node, bias: npt.NDArray[np.float64] | None
    ) -> npt.NDArray[np.float64] | None:
        """The bias in the units of the accumulator, where Gemm's alpha and beta are not yet applied."""
        if bias is None or node.op_type != "Gemm":
            return bias
        alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
        return bias * (beta / alpha) if alpha else bias

    def concat_inputs(self) -> Iterator[tuple[ir.Node, int, ir.Value]]:
        """(node, position, value) for the data inputs of every Concat."""
        for node in self._nodes:
            if node.op_type == "Concat":
                for position, value in enumerate(node.inputs):
                    if value is not None and value in self._stored:
                        yield node, position, value

    def groups(self, joinable: Callable[[ir.Value], bool]) -> list[list[ir.Value]]:
        """Stored values by shared parameters; Concat joins inputs that nobody else reads."""
        group = {value: [value] for value in self.stored}

        def join(first: ir.Value, second: ir.Value) -> None:
            if group[first] is group[second]:
                return
            merged = group[first] + group[second]
            for value in merged:
                group[value] = merged

        for node in self._nodes:
            source = self._tied_input(node)
            for output in node.outputs:
                if source is not None and output in self._stored:
                    join(source, output)
        for node, _, value in self.concat_inputs():
            output = node.outputs[0]
            if (
                self._ends_in(group[value], node)
                and all(map(joinable, group[value]))
                and all(map(joinable, group[output]))
            ):
                join(value, output)
        unique = {id(members): members for members in group.values()}
        return list(unique.values())

    def _ends_in(self, members: list[ir.Value], concat: ir.Node) -> bool:
        """Whether nothing but one Concat reads these values, apart from the moves that tie them."""
        return all(
            not value.is_graph_output()
            and all(
                reader is concat or any(output in members for output in reader.outputs)
                for reader, _ in value.uses()
            )
            for value in members
        )

    def _tied_input(self, node: ir.Node) -> ir.Value | None:
        """The stored value whose parameters the output of `node` keeps."""
        source = node.inputs[0] if node.inputs else None
        if node in self._fused_clamps and source is not None:
            producer = source.producer()
            if producer is not None and producer.op_type in _POOLS:
                source = producer.inputs[0]
            else:
                return None
        elif node.op_type not in _POOLS | _MOVES:
            return None
        return source if source in self._stored else None

    def _visit(self, node: ir.Node) -> None:
        for output in node.outputs:
            self._base[output] = output
        source = node.inputs[0] if node.inputs else None
        if source is None:
            return
        if node.op_type in UNARY:
            if self._clamp_is_fused(node, source):
                self._fused_clamps.add(node)
            elif source in self._base:
                self._base[node.outputs[0]] = self._base[source]
        elif node.op_type in BINARY:
            self._visit_binary(node)

    def _visit_binary(self, node: ir.Node) -> None:
        data = [value for value in node.inputs if value is not None and constant(value) is None]
        known = [c for value in node.inputs if (c := constant(value)) is not None]
        if len(data) == 1 and len(known) == 1:
            weighted = self._takes_bias(node, data[0], known[0])
            if weighted is not None:
                self._bias_adds[node] = weighted
            elif real(known[0]).size == 1 and data[0] in self._base:
                self._base[node.outputs[0]] = self._base[data[0]]
        elif len(data) == 2 and all(value in self._base for value in data):
            first, second = (self._base[value] for value in data)
            if first is second and (data[0] is not first or data[1] is not first or data[0] is data[1]):
                self._base[node.outputs[0]] = first

    def _takes_bias(self, node: ir.Node, value: ir.Value, offset: Constant) -> ir.Node | None:
        """The weighted node before an Add of one constant for each output channel."""
        weighted = value.producer()
        if node.op_type != "Add" or weighted not in self.weighted or not self._read_once(value):
            return None
        assert weighted is not None
        if len(weighted.inputs) > 2 and weighted.inputs[2] is not None:
            return None
        shape = value.shape
        if shape is None or not shape.is_static():
            return None
        axis = 1 if weighted.op_type == "Conv" else len(shape) - 1
        aligned = (1,) * (len(shape) - len(offset.shape)) + tuple(offset.shape)
        fits = len(aligned) == len(shape) and all(n == 1 for i, n in enumerate(aligned) if i != axis)
        return weighted if fits else None

    def _clamp_is_fused(self, node: ir.Node, source: ir.Value) -> bool:
        """Whether the kernel that computes `source` can clamp it."""
        if clamp_bounds(node) is None or not self._read_once(source):
            return False
        producer = source.producer()
        if producer is None or producer not in self._live or producer in self._fused_clamps:
            return producer in self._fused_clamps
        return producer.op_type in _CLAMPING and self._base.get(source) is source

    def _inside(self, value: ir.Value) -> bool:
        """Whether a value exists only within one kernel."""
        if value.is_graph_output():
            return False
        readers = [node for node, _ in value.uses() if node in self._live]
        if self._is_head_logits(value, readers):
            return True
        if len(readers) == 1 and (readers[0] in self._fused_clamps or readers[0] in self._bias_adds):
            return True
        base = self._base.get(value)
        if base is value or base is None:
            return False
        return bool(readers) and all(
            reader not in self._fused_clamps and self._base.get(reader.outputs[0]) is base
            for reader in readers
        )

    def _is_head_logits(self, value: ir.Value, readers: list[ir.Node]) -> bool:
        """Whether a dense layer's sum is read by heads alone, which take it wider than int8."""
        producer = value.producer()
        if producer is None:
            return False
        dense = producer in self._bias_adds or (producer in self.weighted and producer.op_type != "Conv")
        return dense and bool(readers) and all(map(is_head_node, readers))

    def _read_once(self, value: ir.Value) -> bool:
        return len(value.uses()) == 1 and not value.is_graph_output()

    def _is_used(self, value: ir.Value) -> bool:
        return bool(value.uses()) or value.is_graph_output()


def _is_result(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and is_head_node(producer)
