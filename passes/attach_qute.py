"""Attach K early exits and K early views (QUTE, arXiv 2404.12599): a network becomes a training graph.

    x -> block -+-> block -+-> block -> f_D -> pool -> dense -> softmax -> final
                |          |             +-> depthwise phi_1 -> pool -> dense -> softmax -> early_view_1
                |          |             +-> depthwise phi_2 -> pool -> dense -> softmax -> early_view_2
                |          +-> pointwise -> depthwise theta_2 -> pool -> dense -> softmax -> early_exit_2
                +-> pointwise -> depthwise theta_1 -> pool -> dense -> softmax -> early_exit_1

theta_k and phi_k have one shape and start equal; training copies theta_k to phi_k before every batch. The
pointwise layer brings the exit to the channels of f_D, the last feature map of the trunk. Depthwise layers
pad to the same size; the early view's stride is 1. At an exit the stride of each axis is the smallest power
of two that makes the map at most as large as f_D, but never more than the kernel, so that every position
is read. With activation `relu` a ReLU follows the depthwise layers, with `none` the early view stays linear.

Exits that the network has already are taken as they are. One whose head has a depthwise layer with no more
channels than f_D is the early exit of a pair: its early view reads the first channels of f_D, as in T-RecX.
The others stay as exits without an early view, numbered after the pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from qutec.errors import UnsupportedModelError, UsageError
from qutec.graphs import dims
from qutec.heads import Head, read_heads, write_heads
from qutec.passes.exit_pairs import Pair, named_pairs, spaced_pairs
from qutec.passes.find_exits import ExitAnalysis, FoundExit, OutputRole, find_exits
from qutec.passes.head_layers import HeadWriter, glorot_uniform, he_normal

__all__ = ["Activation", "AttachQutePass"]

Activation = Literal["relu", "none"]

_MAX_HEADS = 64
_MAX_KERNEL = 31
_PLUS_LAYERS = 2


class AttachQutePass(ir.passes.InPlacePass):
    """Append K early exits and K early views, each a softmax output, and write `qutec.heads` metadata.

    Requires a float classifier with shapes (a symbolic batch is fine), constants as initializers, batch
    normalisation as it is trained. Outputs that are there keep their names, order and values; logits get
    a softmax output besides. After a call `messages` says what the user should know about the result.

    Args:
        heads: K; by default 2, or the number of usable exits of the network where that is larger.
        at: places of the early exits instead of equally spaced ones: names of trunk values or of their
            nodes, or output names of usable exits of the network.
        activation: `relu` after the depthwise layers, or `none`.
        plus: QUTE+, two more depthwise-separable convolutions (always with ReLU) in each early view.
        kernel: width of the depthwise kernels in every spatial axis.
        seed: of the initial weights; those of early view k do not depend on K or the places.
        output_is: as `overrides` of `find_exits`.
    """

    def __init__(
        self,
        heads: int | None = None,
        at: Sequence[str] | None = None,
        activation: Activation = "none",
        plus: bool = False,
        kernel: int = 3,
        seed: int = 0,
        *,
        output_is: Mapping[str, OutputRole] | None = None,
    ) -> None:
        super().__init__()
        if activation not in ("relu", "none"):
            raise UsageError(f"activation {activation!r} is not known; there are relu and none")
        if heads is not None and not 1 <= heads <= _MAX_HEADS:
            raise UsageError(f"{heads} heads cannot be attached; 1 to {_MAX_HEADS} can")
        if not 1 <= kernel <= _MAX_KERNEL:
            raise UsageError(f"a kernel of {kernel} is not possible; 1 to {_MAX_KERNEL} are")
        if seed < 0:
            raise UsageError(f"the seed {seed} is negative")
        if at is not None and not at:
            raise UsageError("no place is named for the early exits")
        if at is not None and heads is not None and len(at) != heads:
            raise UsageError(f"{len(at)} places are named for {heads} heads")
        self._heads, self._at = heads, tuple(at) if at is not None else None
        self._activation, self._plus, self._kernel, self._seed = activation, plus, kernel, seed
        self._output_is = output_is
        self.messages: tuple[str, ...] = ()

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Attach the heads to the main graph.

        Raises:
            UsageError: the model has heads already or no classifier output, or a place that does not exist.
            UnsupportedModelError: a quantised model, no feature maps, or not a single-label classifier.
        """
        if read_heads(model):
            raise UsageError("the model has QUTE heads already; attach to the network without them")
        if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph):
            raise UnsupportedModelError("heads are attached to float networks; this one is quantised")
        analysis = find_exits(model, self._output_is)
        messages = list(analysis.messages)
        final, end = analysis.final, analysis.trunk_end
        if final is None or end is None:
            raise UsageError("no output is a classifier (--output-is NAME=exit names one)")
        _check(model, analysis, final, end)
        exits = _same_classes(analysis, final, messages)
        if self._at is not None:
            pairs = named_pairs(model, analysis, exits, self._at)
        else:
            pairs = spaced_pairs(analysis, exits, self._heads, messages)
        writer = HeadWriter(model.graph)
        used = {pair.existing.output for pair in pairs if pair.existing is not None}
        plain = [item for item in exits if item is not final and item.output not in used]
        found: list[Head] = []
        for index, pair in enumerate(pairs, 1):
            found += self._attach(writer, pair, end, index, final.classes)
        for index, item in enumerate(plain, len(pairs) + 1):
            found.append(Head(_probabilities(writer, item), "early_exit", index))
            messages.append(f"exit {item.name!r} stays as it is, without an early view")
        found.append(Head(_probabilities(writer, final), "final", 0))
        order = {"early_exit": 0, "early_view": 1, "final": 2}
        write_heads(model, sorted(found, key=lambda head: (order[head.kind], head.index)))
        self.messages = tuple(messages)
        return ir.passes.PassResult(model, modified=True)

    def ensures(self, model: ir.Model) -> None:
        """Every early view has an early exit of its index whose depthwise layer has its shape."""
        heads = read_heads(model)
        exits = {head.index: head for head in heads if head.kind == "early_exit"}
        for view in heads:
            if view.kind != "early_view":
                continue
            shapes = [
                [
                    initializer.shape
                    for name in (head.depthwise_weights, head.depthwise_bias)
                    if name and (initializer := model.graph.initializers.get(name)) is not None
                ]
                for head in (view, exits[view.index])
            ]
            if shapes[0] != shapes[1] or not shapes[0]:
                raise ir.passes.PostconditionError(f"pair {view.index} has depthwise layers of two shapes")

    def _attach(
        self, writer: HeadWriter, pair: Pair, end: ir.Value, index: int, classes: int
    ) -> tuple[Head, Head]:
        """The early exit, unless it is there, and the early view."""
        rng = np.random.default_rng([self._seed, index, 0])
        name = f"early_exit_{index}"
        if pair.existing is not None:
            depthwise = pair.existing.head.learning
            assert depthwise is not None
            weights, bias = depthwise.inputs[1], depthwise.inputs[2] if len(depthwise.inputs) > 2 else None
            assert weights is not None
            output = _probabilities(writer, pair.existing)
        else:
            weights, bias = self._depthwise_parameters(writer, rng, end, name)
            output = self._early_exit(writer, rng, pair.branch, end, weights, bias, name, classes)
        early_exit = Head(output, "early_exit", index, weights.name, bias.name if bias is not None else None)
        return early_exit, self._early_view(writer, end, weights, bias, index, classes)

    def _depthwise_parameters(
        self, writer: HeadWriter, rng: np.random.Generator, end: ir.Value, name: str
    ) -> tuple[ir.Value, ir.Value | None]:
        channels, rank = _sizes(end)[0], len(_sizes(end)) - 1
        weights = self._depthwise_weights(rng, channels, rank, relu=self._activation == "relu")
        return (
            writer.initializer(f"{name}_depthwise_weights", weights),
            writer.initializer(f"{name}_depthwise_bias", np.zeros(channels, np.float32)),
        )

    def _depthwise_weights(
        self, rng: np.random.Generator, channels: int, rank: int, *, relu: bool
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        shape, fan = (channels, 1, *[self._kernel] * rank), self._kernel**rank
        return he_normal(rng, shape, fan) if relu else glorot_uniform(rng, shape, fan, fan)

    def _early_exit(
        self,
        writer: HeadWriter,
        rng: np.random.Generator,
        branch: ir.Value,
        end: ir.Value,
        weights: ir.Value,
        bias: ir.Value | None,
        name: str,
        classes: int,
    ) -> str:
        inputs, sizes = _sizes(branch)[0], _sizes(branch)[1:]
        channels, last_sizes = _sizes(end)[0], _sizes(end)[1:]
        pointwise = glorot_uniform(rng, (channels, inputs, *[1] * len(sizes)), inputs, channels)
        x = writer.convolution(
            branch,
            writer.initializer(f"{name}_pointwise_weights", pointwise),
            writer.initializer(f"{name}_pointwise_bias", np.zeros(channels, np.float32)),
            f"{name}_pointwise",
            strides=[1] * len(sizes),
        )
        strides = [_stride(a, b, self._kernel) for a, b in zip(sizes, last_sizes, strict=True)]
        x = writer.convolution(x, weights, bias, f"{name}_depthwise", strides=strides, group=channels)
        return self._classified(writer, rng, x, name, classes)

    def _early_view(
        self,
        writer: HeadWriter,
        end: ir.Value,
        weights: ir.Value,
        bias: ir.Value | None,
        index: int,
        classes: int,
    ) -> Head:
        rng = np.random.default_rng([self._seed, index, 1])
        name = f"early_view_{index}"
        assert weights.const_value is not None
        own = writer.initializer(f"{name}_depthwise_weights", weights.const_value.numpy().copy())
        own_bias = None
        if bias is not None:
            assert bias.const_value is not None
            own_bias = writer.initializer(f"{name}_depthwise_bias", bias.const_value.numpy().copy())
        channels, strides = _sizes(own)[0], [1] * (len(_sizes(end)) - 1)
        x = writer.first_channels(end, channels, f"{name}_channels")
        x = writer.convolution(x, own, own_bias, f"{name}_depthwise", strides=strides, group=channels)
        if self._plus:
            x = self._separable_layers(writer, rng, x, name)
            output = self._classified(writer, rng, x, name, classes, activated=True)
        else:
            output = self._classified(writer, rng, x, name, classes)
        return Head(output, "early_view", index, own.name, own_bias.name if own_bias is not None else None)

    def _separable_layers(
        self, writer: HeadWriter, rng: np.random.Generator, x: ir.Value, name: str
    ) -> ir.Value:
        channels, rank = _sizes(x)[0], len(_sizes(x)) - 1
        if self._activation == "relu":
            x = writer.relu(x, f"{name}_relu")
        for layer in range(1, _PLUS_LAYERS + 1):
            pointwise = he_normal(rng, (channels, channels, *[1] * rank), channels)
            for kind, weights, group in (
                ("depthwise", self._depthwise_weights(rng, channels, rank, relu=True), channels),
                ("pointwise", pointwise, 1),
            ):
                stem = f"{name}_plus_{layer}_{kind}"
                x = writer.convolution(
                    x,
                    writer.initializer(f"{stem}_weights", weights),
                    writer.initializer(f"{stem}_bias", np.zeros(channels, np.float32)),
                    stem,
                    strides=[1] * rank,
                    group=group,
                )
                x = writer.relu(x, f"{stem}_relu")
        return x

    def _classified(
        self,
        writer: HeadWriter,
        rng: np.random.Generator,
        x: ir.Value,
        name: str,
        classes: int,
        *,
        activated: bool = False,
    ) -> str:
        """[ReLU,] pool, dense, softmax; returns the name of the output."""
        if self._activation == "relu" and not activated:
            x = writer.relu(x, f"{name}_relu")
        features = _sizes(x)[0]
        weights = glorot_uniform(rng, (classes, features), features, classes)
        logits = writer.dense(
            writer.pooled(x, name),
            writer.initializer(f"{name}_dense_weights", weights),
            writer.initializer(f"{name}_dense_bias", np.zeros(classes, np.float32)),
            f"{name}_dense",
        )
        return writer.softmax_output(logits, name)


def _check(model: ir.Model, analysis: ExitAnalysis, final: FoundExit, end: ir.Value) -> None:
    if not analysis.places:
        raise UnsupportedModelError(
            "early views read the last feature map [N, C, *spatial] before the classifier; there is none"
        )
    if end.dtype != ir.DataType.FLOAT:
        raise UnsupportedModelError(f"the last feature map {end.name!r} is not float32")
    if final.classes < 2:
        raise UnsupportedModelError(
            f"the final output {final.name!r} has one element; heads end in softmax over two classes or more"
        )
    for value in (end, *(place.value for place in analysis.places)):
        if None in (dims(value) or (None, None))[1:]:
            raise UnsupportedModelError(
                f"the shape of the feature map {value.name!r} is not known: {value.shape}"
            )


def _same_classes(analysis: ExitAnalysis, final: FoundExit, messages: list[str]) -> list[FoundExit]:
    """The exits that tell the final one's classes apart; the others are left alone.

    Raises:
        UnsupportedModelError: an exit ends in a sigmoid, so its classes do not exclude each other.
    """
    kept = [item for item in analysis.exits if item.classes == final.classes]
    for item in kept:
        if item.sigmoid and item.head.softmax is None:
            raise UnsupportedModelError(f"output {item.name!r} ends in a sigmoid; heads end in softmax")
    messages += [
        f"exit {item.name!r} has {item.classes} classes, the final one {final.classes}: it takes no part"
        for item in analysis.exits
        if item.classes != final.classes
    ]
    return kept


def _probabilities(writer: HeadWriter, item: FoundExit) -> str:
    """Name of the exit's softmax output [N, classes]; where it has none, one is added."""
    output, softmax = item.output, item.head.softmax
    producer = output.producer()
    if producer is not None and producer is softmax and softmax.op_type == "Softmax":
        shape = dims(output)
        if shape is not None and len(shape) == 2 and softmax.attributes.get_int("axis", -1) in (1, -1):
            return item.name
    logits = softmax.inputs[0] if softmax is not None else output
    assert logits is not None
    name = f"{item.name}_probabilities"
    return writer.softmax_output(writer.flat(logits, name), name)


def _stride(size: int, last: int, kernel: int) -> int:
    """The exit's stride in one axis; see the head of this file."""
    stride = 1
    while -(-size // stride) > last and 2 * stride <= kernel:
        stride *= 2
    return stride


def _sizes(value: ir.Value) -> list[int]:
    """Dimensions of an initializer; of any other value those after the batch."""
    shape = dims(value) or ()
    sizes = shape if value.is_initializer() else shape[1:]
    return [dim or 0 for dim in sizes]
