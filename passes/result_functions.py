"""What the passes have in common that turn classifiers into one answer with its uncertainty.

The answer is computed by a function of the model (domain `qutec`) written in standard ONNX operators, so
that onnxruntime runs the result; compilers match it by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from qutec.errors import UnsupportedModelError
from qutec.heads import HEAD_DOMAIN, INTEGER_RESULTS, write_heads
from qutec.lower.shapes import static_shape
from qutec.passes.classifiers import activation_of

__all__ = [
    "MEAN_UNCERTAINTY",
    "SINGLE_ANSWER",
    "classifier_logits",
    "replace_outputs",
    "result_function",
    "stacked_logits",
]

MEAN_UNCERTAINTY = """
    each = Softmax <axis = -1> (logits)
    head_axis = Constant <value_ints = [0]> ()
    class_axis = Constant <value_ints = [1]> ()
    each_class_axis = Constant <value_ints = [2]> ()
    tiny = Constant <value_float = 1e-30> ()
    none = Constant <value_float = 0.0> ()
    threshold = Constant <value_float: float = @abstain_below> ()
    probabilities = ReduceMean <keepdims = 0> (each, head_axis)
    label = ArgMax <axis = 1, keepdims = 0> (probabilities)
    confidence = ReduceMax <keepdims = 0> (probabilities, class_axis)
    mean_floor = Max (probabilities, tiny)
    mean_log = Log (mean_floor)
    mean_terms = Mul (probabilities, mean_log)
    mean_sum = ReduceSum <keepdims = 0> (mean_terms, class_axis)
    entropy = Neg (mean_sum)
    each_floor = Max (each, tiny)
    each_log = Log (each_floor)
    each_terms = Mul (each, each_log)
    each_sum = ReduceSum <keepdims = 0> (each_terms, each_class_axis)
    each_mean = ReduceMean <keepdims = 0> (each_sum, head_axis)
    difference = Add (entropy, each_mean)
    disagreement = Max (difference, none)
    unsure = Less (confidence, threshold)
    abstain = Cast <to = 7> (unsure)
"""
"""Function body: the six results of `qutec.heads.RESULTS` from `logits` [K, N, L] of K heads and N samples.

The probabilities are the mean over K softmaxes, [N, L]; everything else is [N].
"""

SINGLE_ANSWER = """
    class_axis = Constant <value_ints = [1]> ()
    tiny = Constant <value_float = 1e-30> ()
    none = Constant <value_float = 0.0> ()
    threshold = Constant <value_float: float = @abstain_below> ()
    probabilities = Identity (soft)
    label = ArgMax <axis = 1, keepdims = 0> (soft)
    confidence = ReduceMax <keepdims = 0> (soft, class_axis)
    floor = Max (soft, tiny)
    logarithm = Log (floor)
    terms = Mul (soft, logarithm)
    sum_of_terms = ReduceSum <keepdims = 0> (terms, class_axis)
    entropy = Neg (sum_of_terms)
    disagreement = Mul (entropy, none)
    unsure = Less (confidence, threshold)
    abstain = Cast <to = 7> (unsure)
"""
"""Function body: the six results from the probabilities `soft` [N, L] of one exit, with no disagreement."""


def classifier_logits(outputs: Sequence[ir.Value]) -> tuple[list[ir.Value], int]:
    """The logits [1, L] of each output, its softmax left out, and L.

    Raises:
        UnsupportedModelError: they are no classifiers of the same classes.
    """
    logits = [_logits(output) for output in outputs]
    shapes = {static_shape(value) for value in logits}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise UnsupportedModelError(
            "the exits cannot be averaged: their logits have the shapes "
            + ", ".join(sorted(f"[{', '.join(map(str, shape))}]" for shape in shapes))
        )
    return logits, next(iter(shapes))[1]


def _logits(output: ir.Value) -> ir.Value:
    """What the output's softmax reads; the output itself where it has none."""
    node, logits = activation_of(output)
    if node is None:
        producer = output.producer()
        while producer is not None and producer.op_type == "Identity" and producer.inputs[0] is not None:
            logits = producer.inputs[0]
            producer = logits.producer()
        return logits
    if node.op_type == "Sigmoid":
        raise UnsupportedModelError(f"the exit '{output.name}' ends in a sigmoid; answers are of softmaxes")
    axis = node.attributes.get_int("axis", -1)
    if axis not in (-1, len(logits.shape or ()) - 1):
        raise UnsupportedModelError(f"the exit '{output.name}' has its softmax over axis {axis}")
    return logits


def stacked_logits(names: Sequence[str], result: str) -> str:
    """Lines of a function body: the values `names`, each [N, L], as `result` [K, N, L].

    They are joined before anything changes their shape: behind a value that is stored in 8 bits, ONNX Runtime
    1.31 moves the storing through a change of shape and then refuses what it made.
    """
    return f"""
    joined_logits = Concat <axis = 1> ({", ".join(names)})
    stack_shape = Constant <value_ints = [0, {len(names)}, -1]> ()
    logits_by_sample = Reshape (joined_logits, stack_shape)
    {result} = Transpose <perm = [1, 0, 2]> (logits_by_sample)"""


def result_function(
    name: str, inputs: Sequence[str], results: Sequence[str], attributes: str, body: str, extra: str = ""
) -> ir.Function:
    """A function whose body is `body`; it gives the `results`, and one value more where `extra` names it."""
    outputs = ", ".join([*results, *([extra] if extra else [])])
    text = (
        f'<domain: "{HEAD_DOMAIN}", opset_import: ["" : 21]>\n'
        f"{name} <{attributes}> ({', '.join(inputs)}) => ({outputs})\n{{{body}}}"
    )
    return ir.serde.deserialize_function(onnx.parser.parse_function(text))


def replace_outputs(
    model: ir.Model, node: ir.Node, function: ir.Function, results: Sequence[str], classes: int
) -> None:
    """Make the first outputs of `node`, a call of `function`, the outputs of the model, named `results`.

    What only the former outputs needed goes. Nothing remains in the metadata of heads.
    """
    graph = model.graph
    model.functions[function.identifier()] = function
    model.opset_imports[HEAD_DOMAIN] = 1
    graph.append(node)
    _name_results(graph, node, results, classes)
    graph.outputs.clear()
    graph.outputs.extend(node.outputs[: len(results)])
    write_heads(model, [])
    common_passes.RemoveUnusedNodesPass()(model)


def _name_results(graph: ir.Graph, node: ir.Node, results: Sequence[str], classes: int) -> None:
    for output in graph.outputs:
        if output.name in results:
            output.name = f"{output.name}_of_exit"
    taken = {value.name for n in graph if n is not node for value in n.outputs}
    taken |= {value.name for value in graph.inputs}
    for position, name in enumerate(results):
        value = node.outputs[position]
        value.name = f"qutec_{name}" if name in taken else name
        value.shape = ir.Shape([1, classes] if name == "probabilities" else [1])
        value.dtype = ir.DataType.INT64 if name in INTEGER_RESULTS else ir.DataType.FLOAT
