"""The data flow of a graph: feature maps, what every path passes through, places between blocks.

    x -> conv -> relu -+-> conv -> relu -> conv -+-> add -> relu -> pool -> dense -> softmax
                       +-------------------------+
         places:     a |                                    b |

a and b are on every path to the output (they dominate it); the values inside the residual block are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from qutec.graphs import ancestors, dims, is_constant, macs_of

__all__ = ["DataFlow", "Place"]

_SIZES = frozenset({"Shape", "Size"})
_MAP_MAKERS = frozenset(
    {
        "AveragePool",
        "BatchNormalization",
        "Conv",
        "ConvTranspose",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "MaxPool",
    }
)
_LAYOUT_CHANGERS = frozenset({"Flatten", "Gemm", "MatMul", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_NOT_A_PLACE = frozenset(
    {
        "AveragePool",
        "Cast",
        "Dropout",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Identity",
        "Pad",
        "QuantizeLinear",
        "ReduceMean",
        "Slice",
    }
)
"""Operators that no block of a trunk ends with: they pool, pad or select for what comes next."""


@dataclass(frozen=True)
class Place:
    """A feature map on every path to the end of the trunk.

    `inner` is true between the layers of a depthwise-separable or inverted-bottleneck block; such a
    place takes an exit, but no network is designed with one there.
    """

    value: ir.Value
    macs: int
    """MACs of everything that the value depends on."""
    inner: bool


class DataFlow:
    """What the inputs of a graph flow through; sizes (Shape) and constants do not count as data.

    Requires nodes in topological order, as every valid ONNX graph has them. Sets of nodes are bit masks
    over their position in the graph.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._nodes = list(graph)
        self._index: dict[ir.Node, int] = {}
        self._data: set[ir.Value] = {value for value in graph.inputs if not is_constant(value)}
        self._ancestors: dict[ir.Node, int] = {}
        self._dominators: dict[ir.Node, int] = {}
        self._depth: dict[ir.Node, int] = {}
        self._maps: set[ir.Value] = set()
        for index, node in enumerate(self._nodes):
            self._add(index, node)

    def data_inputs(self, node: ir.Node) -> list[ir.Value]:
        """What a node reads of the data, in its order."""
        return [value for value in node.inputs if value is not None and value in self._data]

    def position(self, node: ir.Node) -> int:
        """The node's place in the graph."""
        return self._index[node]

    def depth(self, value: ir.Value) -> int:
        """Convolutions of feature maps on the longest path from an input to the value."""
        producer = value.producer()
        return self._depth.get(producer, 0) if producer is not None else 0

    def depends(self, value: ir.Value, on: ir.Value) -> bool:
        """Whether `value` is computed from `on` (a value depends on itself)."""
        if value is on:
            return True
        later, earlier = value.producer(), on.producer()
        if later is None or earlier is None or earlier not in self._ancestors:
            return False
        return bool(self._ancestors.get(later, 0) >> self._index[earlier] & 1)

    def dominates(self, value: ir.Value, end: ir.Value) -> bool:
        """Whether every path from an input to `end` passes the node that makes `value`."""
        node, last = value.producer(), end.producer()
        if node is None or last is None or node not in self._index:
            return False
        return bool(self._dominators.get(last, 0) >> self._index[node] & 1)

    def is_map(self, value: ir.Value) -> bool:
        """A feature map in the order of Conv, [N, C, *spatial], with more than one position."""
        shape = dims(value)
        return value in self._maps and shape is not None and math.prod(dim or 2 for dim in shape[2:]) > 1

    def common_maps(self, values: list[ir.Value]) -> list[ir.Value]:
        """The feature maps that every path from an input to each of the values passes, in graph order.

        Without those before the first convolution, and those that only prepare the next operator.
        """
        masks = [self._dominators.get(node, 0) for value in values if (node := value.producer()) is not None]
        if len(masks) < len(values):
            return []
        common = -1
        for mask in masks:
            common &= mask
        found = []
        for node in self._members(common & ((1 << len(self._nodes)) - 1)):
            used = [value for value in node.outputs if value.uses() or value.is_graph_output()]
            if len(used) == 1 and self._depth[node] > 0 and self.is_map(used[0]):
                found.append(used[0])
        return [value for value in found if not _only_prepares(value)]

    def places(self, end: ir.Value) -> tuple[Place, ...]:
        """The places between the layers of the trunk that ends with the map `end`, which is the last."""
        values = [value for value in self.common_maps([end]) if value is not end]
        values.append(end)
        steps = [self._layers_between(a, b) for a, b in pairwise(values)]
        kept = [value for value, step in zip(values, steps, strict=False) if step] + [end]
        before = [self._layers_between(a, b) for a, b in pairwise([None, *kept]) if b is not None]
        inner = [self._is_inner(before, index) for index in range(len(kept))]
        return tuple(
            Place(value, macs_of(ancestors([value])), is_inner)
            for value, is_inner in zip(kept, inner, strict=True)
        )

    def _add(self, index: int, node: ir.Node) -> None:
        self._index[node] = index
        inputs = self.data_inputs(node)
        if not inputs or node.op_type in _SIZES:
            return
        own = 1 << index
        producers = [value.producer() for value in inputs]
        common, reached, depth = -1, 0, 0
        for producer in producers:
            common &= self._dominators[producer] if producer is not None else 0
            reached |= self._ancestors[producer] if producer is not None else 0
            depth = max(depth, self._depth[producer] if producer is not None else 0)
        self._dominators[node] = common | own
        self._ancestors[node] = reached | own
        self._data.update(node.outputs)
        if _is_layer(node):
            self._maps.update(value for value in inputs if _rank(value) >= 3)
        if node.op_type in _MAP_MAKERS or (
            node.op_type not in _LAYOUT_CHANGERS and all(value in self._maps for value in inputs)
        ):
            self._maps.update(value for value in node.outputs if _rank(value) >= 3)
        counts = _is_layer(node) and self.is_map(node.outputs[0])
        self._depth[node] = depth + (1 if counts else 0)

    def _members(self, mask: int) -> Iterator[ir.Node]:
        while mask:
            lowest = mask & -mask
            yield self._nodes[lowest.bit_length() - 1]
            mask ^= lowest

    def _layers_between(self, start: ir.Value | None, end: ir.Value) -> list[ir.Node]:
        """Convolutions of feature maps that `end` needs and `start` does not, in graph order."""
        first, last = start.producer() if start is not None else None, end.producer()
        if last is None:
            return []
        mask = self._ancestors[last] & ~(self._ancestors[first] if first is not None else 0)
        return [node for node in self._members(mask) if _is_layer(node) and self.is_map(node.outputs[0])]

    def _is_inner(self, before: list[list[ir.Node]], index: int) -> bool:
        """Whether the place after block `index` lies between the layers of one block by design.

        Depthwise | pointwise, and wide pointwise | depthwise, narrow pointwise.
        """

        def one(position: int) -> ir.Node | None:
            return before[position][0] if position < len(before) and len(before[position]) == 1 else None

        here, after, then = one(index), one(index + 1), one(index + 2)
        if here is None or after is None:
            return False
        if _is_depthwise(here) and _is_pointwise(after):
            return True
        if then is None or not (_is_pointwise(here) and _is_depthwise(after) and _is_pointwise(then)):
            return False
        narrow_in, wide, narrow_out = (
            _channels(here.inputs[0]),
            _channels(here.outputs[0]),
            _channels(then.outputs[0]),
        )
        return narrow_in < wide and narrow_out < wide


def _only_prepares(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type in _NOT_A_PLACE


def _is_layer(node: ir.Node) -> bool:
    return node.op_type == "Conv" and node.domain == ""


def _is_depthwise(node: ir.Node) -> bool:
    return 1 < node.attributes.get_int("group", 1) == _channels(node.inputs[0]) == _channels(node.outputs[0])


def _is_pointwise(node: ir.Node) -> bool:
    weights = node.inputs[1]
    shape = dims(weights) if weights is not None else None
    return (
        shape is not None and all(dim == 1 for dim in shape[2:]) and node.attributes.get_int("group", 1) == 1
    )


def _channels(value: ir.Value | None) -> int:
    shape = dims(value) if value is not None else None
    return (shape[1] or 0) if shape is not None and len(shape) > 1 else 0


def _rank(value: ir.Value) -> int:
    shape = dims(value)
    return len(shape) if shape is not None else 0
