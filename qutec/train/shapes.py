"""ONNX operators that move data or compute shapes, in torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from qutec.train.call import Call, Operands, given, optional

__all__ = [
    "CAST_TYPES",
    "PAD_MODES",
    "cast",
    "concat",
    "constant_of_shape",
    "expand",
    "flatten",
    "gather",
    "integers",
    "pad",
    "reshape",
    "shape",
    "size",
    "slice_",
    "split",
    "squeeze",
    "transpose",
    "unsqueeze",
]

CAST_TYPES: dict[int, torch.dtype] = {
    ir.DataType.FLOAT.value: torch.float32,
    ir.DataType.INT32.value: torch.int32,
    ir.DataType.INT64.value: torch.int64,
    ir.DataType.BOOL.value: torch.bool,
}
"""ONNX element types that Cast may go to."""

PAD_MODES = frozenset({"constant", "reflect", "edge", "wrap"})


def integers(node: ir.Node, operands: Operands, attribute: str, index: int) -> tuple[int, ...]:
    """A list that older opsets have as an attribute and newer ones as an input; empty if left out."""
    if attribute in node.attributes:
        return tuple(node.attributes.get_ints(attribute, ()))
    operand = optional(operands, index)
    return () if operand is None else tuple(int(item) for item in operand.reshape(-1).tolist())


def reshape(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    """Reshape; a batch that the target fixes to the graph's own stands for the batch that there is."""
    x = given(operands[0])
    target = list(integers(node, operands, "shape", 1))
    if not node.attributes.get_int("allowzero", 0):
        target = [x.shape[axis] if length == 0 else length for axis, length in enumerate(target)]
    if call.batch is not None and target:
        declared, actual = call.batch
        if target[0] == declared and x.shape[0] == actual:
            target[0] = actual
    return x.reshape(target)


def flatten(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    """Flatten to two axes."""
    x = given(operands[0])
    axis = node.attributes.get_int("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def squeeze(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    """Squeeze; without axes all that have length 1, but never the batch of a graph that fixes it."""
    x = given(operands[0])
    axes = integers(node, operands, "axes", 1)
    if not axes:
        first = 0 if call.batch is None else 1
        axes = tuple(axis for axis in range(first, x.ndim) if x.shape[axis] == 1)
    return x.squeeze(tuple(axis % x.ndim for axis in axes))


def unsqueeze(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    """Unsqueeze; axes count in the result."""
    x = given(operands[0])
    axes = integers(node, operands, "axes", 1)
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def transpose(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    """Transpose; without perm the axes are reversed."""
    x = given(operands[0])
    return x.permute(tuple(node.attributes.get_ints("perm", tuple(reversed(range(x.ndim))))))


def concat(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    """Concat."""
    return torch.cat([given(operand) for operand in operands], dim=node.attributes.get_int("axis", 0))


def split(node: ir.Node, operands: Operands, call: Call) -> tuple[Tensor, ...]:
    """Split by given lengths, or into equal parts of which the last may be smaller."""
    x = given(operands[0])
    axis = node.attributes.get_int("axis", 0)
    lengths = integers(node, operands, "split", 1)
    parts = list(lengths) if lengths else -(-x.shape[axis] // len(node.outputs))
    return tuple(torch.split(x, parts, dim=axis))


def slice_(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    """Slice, with negative steps; a slice over the whole fixed batch keeps the batch that there is."""
    x = given(operands[0])
    starts = integers(node, operands, "starts", 1)
    ends = integers(node, operands, "ends", 2)
    axes = integers(node, operands, "axes", 3) or tuple(range(len(starts)))
    steps = integers(node, operands, "steps", 4) or (1,) * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= x.ndim
        if axis == 0 and call.batch is not None and start == 0 and step == 1 and end >= call.batch[0]:
            continue
        kept = _sliced(x.shape[axis], start, end, step)
        if kept.step > 0:
            x = x[(slice(None),) * axis + (slice(kept.start, kept.stop, kept.step),)]
        else:
            x = _taken(x, axis, list(kept))
    return x


def _sliced(length: int, start: int, end: int, step: int) -> range:
    """The indices that a slice keeps: as Python's, but a negative end counts from the back once only."""
    low, high = (0, length) if step > 0 else (-1, length - 1)
    start = min(max(start + length if start < 0 else start, 0), high)
    end = min(max(end + length if end < 0 else end, low), high)
    return range(start, end, step)


def gather(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    """Gather along one axis; indices of any rank."""
    x, indices = given(operands[0]), given(operands[1])
    axis = node.attributes.get_int("axis", 0) % x.ndim
    length = x.shape[axis]
    flat = [index + length if index < 0 else index for index in indices.reshape(-1).tolist()]
    return _taken(x, axis, flat).reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def pad(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    """Pad; negative amounts cut off."""
    x = given(operands[0])
    amounts = integers(node, operands, "pads", 1)
    axes = integers(node, operands, "axes", 3) or tuple(range(x.ndim))
    mode = node.attributes.get_string("mode", "constant")
    sides = {axis % x.ndim: pair for axis, *pair in zip(axes, amounts, amounts[len(axes) :], strict=False)}
    if mode == "constant":
        value = optional(operands, 2)
        fill = node.attributes.get_float("value", 0.0) if value is None else float(value.item())
        flat = [amount for axis in reversed(range(x.ndim)) for amount in sides.get(axis, (0, 0))]
        return functional.pad(x, flat, value=fill)
    for axis, (before, after) in sides.items():
        positions = np.arange(x.shape[axis])[max(-before, 0) : x.shape[axis] - max(-after, 0)]
        width = (max(before, 0), max(after, 0))
        if mode == "reflect":
            positions = np.pad(positions, width, "reflect")
        else:
            positions = np.pad(positions, width, "edge" if mode == "edge" else "wrap")
        x = _taken(x, axis, positions.tolist())
    return x


def shape(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    """Shape of a tensor, or a part of it, in host memory."""
    x = given(operands[0])
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", x.ndim)
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


def size(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    """Number of elements, in host memory."""
    return torch.tensor(given(operands[0]).numel(), dtype=torch.int64)


def cast(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    """Cast among `CAST_TYPES`."""
    return given(operands[0]).to(CAST_TYPES[node.attributes.get_int("to", ir.DataType.FLOAT.value)])


def expand(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    """Expand: broadcast in both directions."""
    x = given(operands[0])
    target = integers(node, operands, "shape", 1)
    if call.batch is not None and len(target) == x.ndim and target[0] == call.batch[0]:
        target = (x.shape[0], *target[1:])
    return x.expand(torch.broadcast_shapes(tuple(x.shape), target))


def constant_of_shape(node: ir.Node, operands: Operands, call: Call) -> Tensor:
    """ConstantOfShape: zeros of float32 unless the node says otherwise."""
    target = integers(node, operands, "shape", 0)
    value = node.attributes.get("value")
    filler = np.zeros(1, np.float32) if value is None else value.as_tensor().numpy()
    return torch.from_numpy(np.full(target, filler.reshape(-1)[0], filler.dtype))


def _taken(x: Tensor, axis: int, positions: Sequence[int]) -> Tensor:
    return x.index_select(axis, torch.tensor(positions, dtype=torch.int64, device=x.device))
