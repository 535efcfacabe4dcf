"""An ONNX graph as a torch module that can be trained, and the way of its weights back into the graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from qutec.errors import ModelError, UnsupportedModelError
from qutec.ingest.operators import UnsupportedNode, UnsupportedOperatorsError, standard_domain
from qutec.ingest.walk import printable
from qutec.train.call import Call
from qutec.train.operators import OPERATORS, unsupported_use
from qutec.train.weights import constant_tensor, find_weights

__all__ = ["OnnxModule", "write_back"]


class OnnxModule(nn.Module):
    """Runs the nodes of an ONNX graph in torch, in float32.

    Parameters and buffers are called as the initializers are, but for "%" and ".", which torch does not
    allow in names and which are written %25 and %2E; `weights` and `statistics` go by the real names.
    Batch normalisation and dropout behave as in training after `train()`, except in nodes that `freeze`
    names. A graph with a fixed batch size runs with any: see `qutec.train.shapes.reshape`.

    Raises:
        UnsupportedModelError: operators that cannot be trained (all are listed), weights that are not
            float32, or an initializer that is both trained and a running statistic.
        ModelError: an initializer without data.
    """

    def __init__(self, model: ir.Model) -> None:
        super().__init__()
        graph = model.graph
        self._nodes = _needed(graph, graph.outputs)
        _check_operators(self._nodes)
        self._opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 1))
        self._inputs = {_name(value): value for value in graph.inputs if not value.is_initializer()}
        self._outputs = tuple(graph.outputs)
        self._values = {_name(value): value for node in self._nodes for value in node.outputs if value.name}
        self._values |= self._inputs | {_name(value): value for value in graph.initializers.values()}
        self._frozen: frozenset[ir.Node] = frozenset()
        self._schedules: dict[tuple[str, ...], tuple[_Step, ...]] = {}
        self._roles = find_weights(graph)
        self._host: dict[ir.Value, Tensor] = {}
        self._stored: dict[ir.Value, str] = {}
        self._store_constants(graph)
        self._from_input = _depends_on(self._nodes, self._inputs.values())
        self._fixed_batch = _fixed_batch(self._inputs.values())

    @property
    def input_names(self) -> tuple[str, ...]:
        """Graph inputs that are not initializers, in graph order."""
        return tuple(self._inputs)

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """Trained parameters by the name of their initializer (or of their Constant node's output)."""
        return {_name(value): self.get_parameter(self._stored[value]) for value in self._roles.trained}

    @property
    def statistics(self) -> dict[str, Tensor]:
        """Running means and variances of batch normalisation by the name of their initializer."""
        return {_name(value): self.get_buffer(self._stored[value]) for value in self._roles.statistics}

    def freeze(self, nodes: Iterable[ir.Node]) -> None:
        """Keep the weights and statistics that these nodes use as they are; () thaws everything.

        Gradients are no longer computed for them, and the nodes run as in evaluation also in training.
        """
        self._frozen = frozenset(nodes)
        for value, users in self._roles.trained.items():
            parameter = self.get_parameter(self._stored[value])
            parameter.requires_grad_(self._frozen.isdisjoint(users))

    def forward(self, inputs: Mapping[str, Tensor], wanted: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Values by name: those wanted, else the graph's outputs. Inputs are [batch, ...].

        Only nodes that the wanted values need are run; a value is let go after its last use.

        Raises:
            ModelError: an unknown value, a missing input, or a node that fails on these shapes.
        """
        names = tuple(wanted) if wanted is not None else tuple(_name(value) for value in self._outputs)
        missing = [name for name in self._inputs if name not in inputs]
        if missing:
            raise ModelError(f"no data for the input {missing[0]!r}")
        values: dict[ir.Value, Tensor] = {value: inputs[name] for name, value in self._inputs.items()}
        batch = None
        if self._fixed_batch is not None:
            batch = (self._fixed_batch, inputs[next(iter(self._inputs))].shape[0])
        for node, last_uses in self._schedule(names):
            self._run(node, values, batch)
            for value in last_uses:
                values.pop(value, None)
        return {name: self._operand(self._values[name], values) for name in names}

    def shapes(self, inputs: Mapping[str, Tensor]) -> dict[ir.Value, tuple[int, ...]]:
        """The shape of every value that a node computes for these inputs, in evaluation."""
        names = tuple(_name(value) for node in self._nodes for value in node.outputs[:1])
        was_training = self.training
        self.eval()
        with torch.no_grad():
            results = self(inputs, names)
        self.train(was_training)
        return {self._values[name]: tuple(result.shape) for name, result in results.items()}

    def _run(self, node: ir.Node, values: dict[ir.Value, Tensor], batch: tuple[int, int] | None) -> None:
        operands = [None if value is None else self._operand(value, values) for value in node.inputs]
        training = self.training and node not in self._frozen
        call = Call(self._opset, training, batch if node in self._from_input else None)
        try:
            results = OPERATORS[node.op_type](node, operands, call)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(f"node {_label(node)} ({node.op_type}): {reason}") from error
        if isinstance(results, Tensor):
            values[node.outputs[0]] = results
            return
        values.update(zip(node.outputs, results, strict=True))

    def _operand(self, value: ir.Value, values: dict[ir.Value, Tensor]) -> Tensor:
        found = values.get(value)
        if found is None:
            found = self._host.get(value)
        if found is None:
            found = getattr(self, self._stored[value])
            assert isinstance(found, Tensor)
        return found

    def _schedule(self, names: tuple[str, ...]) -> tuple[_Step, ...]:
        if names not in self._schedules:
            unknown = [name for name in names if name not in self._values]
            if unknown:
                raise ModelError(f"the graph has no value {unknown[0]!r}")
            wanted = [self._values[name] for name in names]
            self._schedules[names] = _with_last_uses(_needed_of(self._nodes, wanted), wanted)
        return self._schedules[names]

    def _store_constants(self, graph: ir.Graph) -> None:
        used = dict.fromkeys(value for node in self._nodes for value in node.inputs if value is not None)
        used |= dict.fromkeys(self._outputs)
        tensors = {value: constant_tensor(value) for value in used}
        _check_weights(self._roles.trained.keys(), self._roles.statistics.keys(), tensors)
        for value, tensor in tensors.items():
            if tensor is None:
                if value.is_initializer():
                    raise ModelError(f"the initializer {value.name!r} has no data")
                continue
            self._values.setdefault(_name(value), value)
            data = torch.from_numpy(np.array(tensor.numpy()))
            name = _name(value).replace("%", "%25").replace(".", "%2E")
            if name in dir(self):
                name = f"{name}%"
            if value in self._roles.trained:
                self.register_parameter(name, nn.Parameter(data))
            elif data.is_floating_point():
                self.register_buffer(name, data, persistent=value in self._roles.statistics)
            else:
                self._host[value] = data
                continue
            self._stored[value] = name
        # Weights of nodes that no output needs are not trained.
        for role in (self._roles.trained, self._roles.statistics):
            for value in [value for value in role if value not in self._stored]:
                del role[value]


def write_back(module: OnnxModule, model: ir.Model) -> ir.Model:
    """A copy of the model with the module's weights and running statistics; all else is as it was.

    `model` is the one that the module was made from, or an equal one. The same weights give the same bytes.

    Raises:
        ModelError: the model lacks one of the weights, or has it in another shape.
    """
    trained = model.clone()
    constants = {
        _name(node.outputs[0]): node for node in trained.graph if node.op_type == "Constant" and node.outputs
    }
    for name, weight in {**module.weights, **module.statistics}.items():
        array = np.ascontiguousarray(weight.detach().cpu().numpy())
        value = trained.graph.initializers.get(name)
        if value is not None:
            old = value.const_value
        else:
            old = constant_tensor(constants[name].outputs[0]) if name in constants else None
        if old is None or tuple(old.shape) != array.shape:
            raise ModelError(f"the model has no weight {name!r} of shape {list(array.shape)}")
        if np.array_equal(old.numpy(), array):
            continue
        tensor = ir.tensor(array, name=old.name, doc_string=old.doc_string)
        if value is not None:
            value.const_value = tensor
        else:
            attributes = constants[name].attributes
            for form in ("value_float", "value_floats"):
                with suppress(KeyError):
                    del attributes[form]
            attributes.add(ir.AttrTensor("value", tensor))
    return trained


_Step = tuple[ir.Node, tuple[ir.Value, ...]]
"""A node, and the values that no later node needs."""


def _name(value: ir.Value) -> str:
    assert value.name is not None
    return value.name


def _label(node: ir.Node) -> str:
    return repr(node.name) if node.name else f"-> {node.outputs[0].name!r}"


def _check_operators(nodes: Sequence[ir.Node]) -> None:
    unsupported = []
    for node in nodes:
        domain = standard_domain(node.domain)
        if domain or node.op_type not in OPERATORS:
            name = f"{domain}.{node.op_type}" if domain else node.op_type
            unsupported.append(UnsupportedNode(printable(name), _label(node)))
        elif reason := unsupported_use(node):
            unsupported.append(UnsupportedNode(node.op_type, f"{_label(node)}: {reason}"))
    if unsupported:
        raise UnsupportedOperatorsError(unsupported)


def _check_weights(
    trained: Iterable[ir.Value],
    statistics: Iterable[ir.Value],
    tensors: Mapping[ir.Value, ir.TensorProtocol | None],
) -> None:
    both = set(trained) & set(statistics)
    reasons = [
        f"{value.name!r} is both trained and a running statistic" for value in tensors if value in both
    ]
    for value in (*trained, *statistics):
        tensor = tensors.get(value)
        if tensor is not None and tensor.dtype != ir.DataType.FLOAT:
            reasons.append(f"the weight {value.name!r} is {tensor.dtype.name}; training needs FLOAT")
    if reasons:
        raise UnsupportedModelError("; ".join(reasons))


def _needed(graph: ir.Graph, outputs: Sequence[ir.Value]) -> tuple[ir.Node, ...]:
    """The nodes that outputs need, in graph order, without Constant nodes."""
    return tuple(
        node for node in _needed_of(tuple(graph), outputs) if constant_tensor(node.outputs[0]) is None
    )


def _needed_of(nodes: Sequence[ir.Node], outputs: Iterable[ir.Value]) -> tuple[ir.Node, ...]:
    wanted = set(outputs)
    needed = []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            needed.append(node)
            wanted.update(value for value in node.inputs if value is not None)
    return tuple(reversed(needed))


def _with_last_uses(nodes: Sequence[ir.Node], wanted: Iterable[ir.Value]) -> tuple[_Step, ...]:
    later = set(wanted)
    steps: list[_Step] = []
    for node in reversed(nodes):
        touched = [value for value in (*node.inputs, *node.outputs) if value is not None]
        steps.append((node, tuple(value for value in dict.fromkeys(touched) if value not in later)))
        later.update(touched)
    return tuple(reversed(steps))


def _depends_on(nodes: Sequence[ir.Node], sources: Iterable[ir.Value]) -> frozenset[ir.Node]:
    """The nodes whose data come from a source; Shape and Size give no data."""
    reached = set(sources)
    found = []
    for node in nodes:
        if node.op_type not in ("Shape", "Size") and not reached.isdisjoint(node.inputs):
            found.append(node)
            reached.update(node.outputs)
    return frozenset(found)


def _fixed_batch(inputs: Iterable[ir.Value]) -> int | None:
    """The batch size that the graph fixes for all its inputs, or None where it is symbolic."""
    sizes = {value.shape[0] if value.shape is not None and len(value.shape) else None for value in inputs}
    only = sizes.pop() if len(sizes) == 1 else None
    return only if isinstance(only, int) else None
