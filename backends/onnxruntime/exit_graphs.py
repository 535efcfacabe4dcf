"""A network with dynamic exits in the two forms in which ONNX Runtime can stop early.

Stages: one model for each exit, that of exit k computes what no earlier one has:

    x  -> stage 1 -> results of exit 0, feature maps
    feature maps -> stage 2 -> results of exit 1, ...            run where exit 0 was not sure

One graph, the rest of the network in the branch of an If:

    x -> trunk -> p_0 -> max >= threshold -> If (then: p_0; else: rest -> p_1 -> ... If) -> results

In both, rows of a batch that are sure leave, and only the others go on: between stages the caller drops them
(`qutec.backends.onnxruntime.runners`), in the graph Gather and ScatterND do. Where an exit is cut behind a
DequantizeLinear, the cut is before it, so that the rest still computes in int8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from qutec.backends.onnxruntime.plain_model import inline_functions, serialized
from qutec.graphs import ancestors, is_constant
from qutec.heads import EXIT_RESULTS, HEAD_DOMAIN
from qutec.passes.result_functions import SINGLE_ANSWER, result_function

__all__ = ["ExitNetwork", "Stage", "read_exits"]

_ANSWER = "exit_answer"


@dataclass(frozen=True)
class Stage:
    """One stage as a model of its own."""

    model: bytes
    inputs: tuple[str, ...]
    """Of the network's inputs and the values that earlier stages give."""
    results: tuple[str, ...]
    """Names of the outputs that are the answer, in the order of `qutec.heads.EXIT_RESULTS`."""
    passed_on: tuple[str, ...]
    """Names of the other outputs, which later stages read."""
    threshold: float | None
    """Confidence at which the network ends here; None for the last stage."""


@dataclass(frozen=True)
class _Part:
    """What exit k computes that earlier exits have not."""

    logits: ir.Value
    inputs: tuple[ir.Value, ...]
    passed_on: tuple[ir.Value, ...]


@dataclass(frozen=True)
class ExitNetwork:
    """A model that ends in qutec.DynamicExit, cut at its exits."""

    model: onnx.ModelProto
    results: tuple[str, ...]
    thresholds: tuple[float, ...]
    """For each exit but the last."""
    abstain_below: float
    parts: tuple[_Part, ...]
    batched: bool
    """Whether the batch is symbolic; otherwise it is 1."""

    def stages(self) -> tuple[Stage, ...]:
        """The stages, by depth."""
        return tuple(self._stage(number) for number in range(len(self.parts)))

    def _stage(self, number: int) -> Stage:
        part = self.parts[number]
        model = _extract(self.model, part.inputs, [part.logits, *part.passed_on])
        level = helper.make_attribute("abstain_below", self.abstain_below)
        body = f"""
    soft = Softmax <axis = -1> (logits){SINGLE_ANSWER}
    number = Constant <value_int = {number}> ()
    zero_number = Constant <value_int = 0> ()
    zeros = Mul (label, zero_number)
    exit = Add (zeros, number)
"""
        function = result_function("StageAnswer", ["logits"], EXIT_RESULTS, "abstain_below", body)
        call = helper.make_node(
            "StageAnswer", [_name(part.logits)], self.results, _ANSWER, domain=HEAD_DOMAIN
        )
        call.attribute.append(level)
        passed_on = [_name(value) for value in part.passed_on]
        self._finish(model, call, function, passed_on)
        threshold = self.thresholds[number] if number < len(self.thresholds) else None
        return Stage(
            serialized(inline_functions(ir.from_proto(model))),
            tuple(_name(value) for value in part.inputs),
            self.results,
            tuple(passed_on),
            threshold,
        )

    def if_model(self) -> bytes:
        """One model, the rest of the network behind each exit but the last in the branch of an If."""
        model = _extract(self.model, self.parts[0].inputs, [self.parts[0].logits])
        names = {_name(value): _name(value) for part in self.parts for value in part.inputs}
        taken, number = self._answer(model.graph, 0, _name(self.parts[0].logits), names)
        body = "\n    soft = Identity (taken)\n    exit = Identity (number)" + SINGLE_ANSWER
        function = result_function("Answer", ["taken", "number"], EXIT_RESULTS, "abstain_below", body)
        call = helper.make_node("Answer", [taken, number], self.results, _ANSWER, domain=HEAD_DOMAIN)
        call.attribute.append(helper.make_attribute("abstain_below", self.abstain_below))
        self._finish(model, call, function, [])
        return serialized(inline_functions(ir.from_proto(model)))

    def _finish(
        self, model: onnx.ModelProto, call: onnx.NodeProto, function: ir.Function, kept: Sequence[str]
    ) -> None:
        """Let the model end in a call of the function: results, then what is `kept` of its outputs."""
        graph = model.graph
        graph.node.append(call)
        others = [value for value in graph.output if value.name in kept]
        known = {value.name: value for value in self.model.graph.output}
        del graph.output[:]
        graph.output.extend([*(known[name] for name in self.results), *others])
        model.functions.append(ir.to_proto(function))
        if HEAD_DOMAIN not in {item.domain for item in model.opset_import}:
            model.opset_import.append(helper.make_opsetid(HEAD_DOMAIN, 1))

    def _answer(
        self, graph: onnx.GraphProto, number: int, logits: str, names: Mapping[str, str]
    ) -> tuple[str, str]:
        """Append to a graph what follows the logits of an exit; names of (probabilities, exit number).

        `names` says what a value of the network is called where this graph can read it.
        """
        add = _Writer(graph, f"exit_{number}/")
        soft = add.node("Softmax", [logits], axis=-1)
        if number == len(self.thresholds):
            return soft, self._numbers(add, soft, number)
        confidence = add.node("ReduceMax", [soft, add.constant([-1])], keepdims=0)
        level = add.constant(np.float32(self.thresholds[number]))
        sure = add.node("GreaterOrEqual", [confidence, level])
        numbers = self._numbers(add, soft, number)
        then = helper.make_graph([], f"exit_{number}_taken", [], [])
        inside = _Writer(then, f"exit_{number}/taken/")
        for value, kind in ((soft, TensorProto.FLOAT), (numbers, TensorProto.INT64)):
            then.output.append(helper.make_tensor_value_info(inside.node("Identity", [value]), kind, None))
        if self.batched:
            condition = add.node("ReduceMin", [add.node("Cast", [sure], to=TensorProto.INT32)], keepdims=0)
            condition = add.node("Cast", [condition], to=TensorProto.BOOL)
        else:
            condition = add.node("Squeeze", [sure])
        rest = self._rest(number, soft, numbers, sure, names)
        results = add.nodes("If", [condition], 2, then_branch=then, else_branch=rest)
        return results[0], results[1]

    def _numbers(self, add: _Writer, soft: str, number: int) -> str:
        """The exit's number for every row."""
        if not self.batched:
            return add.constant([number])
        rows = add.node("Shape", [soft], start=0, end=1)
        return add.node("Expand", [add.constant([number]), rows])

    def _rest(
        self, number: int, soft: str, numbers: str, sure: str, names: Mapping[str, str]
    ) -> onnx.GraphProto:
        """The graph behind exit `number`; in a batch only for rows that are not sure."""
        prefix = f"stage_{number + 2}/"
        part = self.parts[number + 1]
        extracted = _extract(self.model, part.inputs, [part.logits]).graph
        onnx.compose.add_prefix_graph(extracted, prefix, inplace=True)
        graph = helper.make_graph([], f"after_exit_{number}", [], [])
        graph.initializer.extend(extracted.initializer)
        add = _Writer(graph, f"exit_{number}/rest/")
        inner, rows = dict(names), ""
        if self.batched:
            unsure = add.node("NonZero", [add.node("Not", [sure])])
            rows = add.node("Squeeze", [unsure, add.constant([0])])
            later = {_name(value) for item in self.parts[number + 1 :] for value in item.inputs}
            made = {_name(value) for item in self.parts[number + 1 :] for value in item.passed_on}
            for name in sorted(later - made):
                inner[name] = add.node("Gather", [names[name], rows], axis=0)
        outside = {prefix + _name(value): inner[_name(value)] for value in part.inputs}
        for node in extracted.node:
            copy = graph.node.add()
            copy.CopyFrom(node)
            copy.input[:] = [outside.get(name, name) for name in node.input]
        for value in part.passed_on:
            inner[_name(value)] = prefix + _name(value)
        results = self._answer(graph, number + 1, prefix + _name(part.logits), inner)
        if self.batched:
            places = add.node("Unsqueeze", [rows, add.constant([1])])
            results = (
                add.node("ScatterND", [soft, places, results[0]]),
                add.node("ScatterND", [numbers, places, results[1]]),
            )
        for name, kind in zip(results, (TensorProto.FLOAT, TensorProto.INT64), strict=True):
            graph.output.append(helper.make_tensor_value_info(name, kind, None))
        return graph


class _Writer:
    """Appends nodes and constants to a graph under a prefix of their names."""

    def __init__(self, graph: onnx.GraphProto, prefix: str) -> None:
        self._graph, self._prefix = graph, prefix

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node; the name of its output."""
        return self.nodes(op, inputs, 1, **attributes)[0]

    def nodes(self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Append a node with several outputs; their names."""
        name = f"{self._prefix}{op}_{len(self._graph.node)}"
        names = [f"{name}:{index}" for index in range(outputs)]
        self._graph.node.append(helper.make_node(op, inputs, names, name, **attributes))
        return names

    def constant(self, value: Sequence[int] | np.float32) -> str:
        """Add an initializer: a list as int64, else float32; its name."""
        name = f"{self._prefix}constant_{len(self._graph.initializer)}"
        array = value if isinstance(value, np.float32) else np.array(value, np.int64)
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name


def read_exits(model: ir.Model) -> ExitNetwork:
    """Cut a model that `qutec.passes.dynamic_exit` made, quantised or not; its batch is 1 or symbolic."""
    node = next(node for node in model.graph if node.domain == HEAD_DOMAIN)
    attributes = node.attributes
    logits = [value for value in node.inputs if value is not None]
    thresholds = attributes.get_floats("thresholds", [])[: len(logits) - 1]
    done: set[ir.Node] = set()
    inputs = []
    for value in logits:
        inputs.append(_inputs(value, done))
        done |= ancestors([value])
    parts = []
    for number, value in enumerate(logits):
        later = {item for crossing in inputs[number + 1 :] for item in crossing}
        own = ancestors([value]) - (ancestors(logits[:number]) if number else set())
        passed_on = sorted((item for item in later if item.producer() in own), key=_name)
        parts.append(_Part(value, inputs[number], tuple(passed_on)))
    proto = ir.to_proto(model)
    assert isinstance(proto, onnx.ModelProto)
    batched = not isinstance((logits[0].shape or ir.Shape([1]))[0], int)
    return ExitNetwork(
        proto,
        tuple(_name(value) for value in node.outputs),
        tuple(float(level) for level in thresholds),
        attributes.get_float("abstain_below", 0.0),
        tuple(parts),
        batched,
    )


def _inputs(logits: ir.Value, done: set[ir.Node]) -> tuple[ir.Value, ...]:
    """What the computation of the logits reads of the graph's inputs and of what is `done`."""
    found: dict[ir.Value, None] = {}
    pending, seen = [logits], set[ir.Value]()
    while pending:
        value = pending.pop()
        producer = value.producer()
        if value in seen or (producer is None and not value.is_graph_input()) or value.is_initializer():
            continue
        seen.add(value)
        repeated = producer is not None and producer.op_type == "DequantizeLinear"
        if producer is None or (producer in done and not repeated and not is_constant(value)):
            found[value] = None
        else:
            pending.extend(item for item in producer.inputs if item is not None)
    return tuple(sorted(found, key=_name))


def _extract(
    model: onnx.ModelProto, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]
) -> onnx.ModelProto:
    """The part of a model between some values."""
    extractor = onnx.utils.Extractor(model)
    extracted: onnx.ModelProto = extractor.extract_model(
        [_name(value) for value in inputs], [_name(value) for value in outputs]
    )
    del extracted.functions[:]
    return extracted


def _name(value: ir.Value) -> str:
    return value.name or ""
