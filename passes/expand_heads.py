"""The merged early views with a convolution for each view, which ONNX Runtime runs faster.

    f -> Conv (C groups, K C channels) -> [Relu] -> GlobalAveragePool -> MatMul -> logits [K, N, L]
becomes
    f -> Conv_k (C groups, C channels) -> [Relu] -> GlobalAveragePool -> Concat -> MatMul -> logits

ONNX Runtime has fast kernels for depthwise convolutions, but not for those with a channel multiplier: on an
8x8 map of 64 channels, two of the former take 6 us and one of the latter 31 us (1.31, x86-64 with AVX-512).
For microcontrollers the merged form is what the kernels compute. Requires `qutec.passes.merge_heads`.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qutec.heads import HEAD_DOMAIN, RESULTS
from qutec.lower.constants import constant, real
from qutec.passes.result_functions import MEAN_UNCERTAINTY, result_function

__all__ = ["ExpandHeadsPass"]

_MERGED = "QuteHead"


class ExpandHeadsPass(ir.passes.InPlacePass):
    """Replace the function of merged early views by one that computes the same, faster."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Return the model, modified when it has merged early views."""
        heads = [n for n in model.graph if n.domain == HEAD_DOMAIN and n.op_type.startswith(_MERGED)]
        for node in heads:
            _expand(model, node)
        return ir.passes.PassResult(model, modified=bool(heads))


def _expand(model: ir.Model, node: ir.Node) -> None:
    feature_map, *operands = node.inputs
    known = [constant(value) for value in operands[:3]]
    depthwise, bias, dense = (real(array) for array in known if array is not None)
    heads, channels, _ = dense.shape
    # Channel c * K + k of the merged convolution is channel c of view k.
    weights = depthwise.reshape(channels, heads, 1, *depthwise.shape[2:])
    offsets = bias.reshape(channels, heads)
    arrays = {f"depthwise_{k}": weights[:, k] for k in range(heads)}
    arrays |= {f"bias_{k}": offsets[:, k] for k in range(heads)}
    name = f"Expanded{node.op_type}"
    names = ["feature_map", *arrays, "dense", "dense_bias"]
    body = _body(heads, channels, active=node.op_type.endswith("Relu"))
    function = result_function(name, names, RESULTS, "strides, pads, group, abstain_below", body)
    values = [_initializer(model.graph, f"{node.name}_{key}", array) for key, array in arrays.items()]
    results = node.outputs[: len(RESULTS)]
    call = ir.node(
        name,
        [feature_map, *values, *operands[2:]],
        attributes=dict(node.attributes),
        domain=HEAD_DOMAIN,
        outputs=[ir.Value(name=value.name, shape=value.shape, type=value.type) for value in results],
        name=node.name,
    )
    ir.convenience.replace_nodes_and_values(model.graph, node, [node], [call], results, call.outputs)
    del model.functions[node.op_identifier()]
    model.functions[function.identifier()] = function


def _body(heads: int, channels: int, *, active: bool) -> str:
    """Of the function: features [K, N, C], logits and results."""
    lines = [f"\n    row_shape = Constant <value_ints = [1, -1, {channels}]> ()"]
    for k in range(heads):
        lines += [
            f"    maps_{k} = Conv <strides: ints = @strides, pads: ints = @pads, group: int = @group>",
            f"        (feature_map, depthwise_{k}, bias_{k})",
            f"    active_{k} = {'Relu' if active else 'Identity'} (maps_{k})",
            f"    pooled_{k} = GlobalAveragePool (active_{k})",
            f"    row_{k} = Reshape (pooled_{k}, row_shape)",
        ]
    rows = ", ".join(f"row_{k}" for k in range(heads))
    lines += [
        f"    features = Concat <axis = 0> ({rows})",
        "    products = MatMul (features, dense)",
        "    logits = Add (products, dense_bias)",
    ]
    return "\n".join(lines) + MEAN_UNCERTAINTY


def _initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(np.ascontiguousarray(array, np.float32), name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value
