"""Small programs made of one kind of kernel call, to find out what such a call costs in code and stack.

`repeated` gives calls as networks have them, each with parameters of its own, for code size; `variants` gives
one call for each way through the kernels, and `wide_variants` the same among others, for the deepest stack.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks._call_chains import Chain
from qutec.program import (
    Add,
    AvgPool2D,
    Call,
    Concat,
    Conv2D,
    Copy,
    DepthwiseConv2D,
    ExitCheck,
    Fill,
    FullyConnected,
    Gather,
    HeadFeatures,
    HeadLogits,
    HeadUncertainty,
    Lookup,
    MaxPool2D,
    Move,
    Mul,
    Program,
    Shape,
    Softmax,
)

__all__ = ["KINDS", "mixed", "repeated", "variants", "wide_variants"]

_CHANNELS = (16, 24, 32, 48, 20)


def _conv(chain: Chain, i: int) -> None:
    if i % 2:
        chain.conv(_CHANNELS[i % len(_CHANNELS)], (1, 1))
    else:
        chain.conv(_CHANNELS[i % len(_CHANNELS)], (3, 3), padding=(1, 1))


def _depthwise(chain: Chain, i: int) -> None:
    chain.depthwise((3, 3), stride=1 + i % 2, padding=(1, 1))


def _dense(chain: Chain, i: int) -> None:
    chain.dense(40 - 4 * i)


def _average(chain: Chain, i: int) -> None:
    chain.pool(AvgPool2D, (2, 2), 1)


def _maximum(chain: Chain, i: int) -> None:
    chain.pool(MaxPool2D, (2, 2), 1)


_REPEATED: dict[type[Call], tuple[Shape, Callable[[Chain, int], None]]] = {
    Conv2D: ((1, 8, 8, 12), _conv),
    DepthwiseConv2D: ((1, 16, 16, 8), _depthwise),
    FullyConnected: ((1, 1, 1, 64), _dense),
    AvgPool2D: ((1, 12, 12, 8), _average),
    MaxPool2D: ((1, 12, 12, 8), _maximum),
    Add: ((1, 8, 8, 8), lambda chain, i: chain.add()),
    Mul: ((1, 8, 8, 8), lambda chain, i: chain.multiply()),
    Softmax: ((1, 1, 1, 10), lambda chain, i: chain.softmax()),
    Lookup: ((1, 1, 1, 64), lambda chain, i: chain.lookup()),
    Concat: ((1, 2, 2, 4), lambda chain, i: chain.concat(outer=4 if i % 2 else 1)),
    Copy: ((1, 4, 6, 8), lambda chain, i: chain.copy()),
    Gather: ((1, 1, 1, 64), lambda chain, i: chain.gather()),
    Move: ((1, 1, 1, 64), lambda chain, i: chain.move()),
    Fill: ((1, 1, 1, 16), lambda chain, i: chain.fill()),
    HeadFeatures: ((1, 8, 8, 8), lambda chain, i: chain.head_features(4, (2, 2), relu=True)),
    HeadLogits: ((1, 1, 4, 16), lambda chain, i: chain.head_logits(4, 10 - i, 16)),
    HeadUncertainty: ((1, 1, 10, 4), lambda chain, i: chain.head_uncertainty(1)),
    ExitCheck: ((1, 1, 1, 4), lambda chain, i: chain.exit_check()),
}

KINDS = tuple(_REPEATED)
"""Every kind of call that is emitted."""


def repeated(kind: type[Call], count: int) -> Program:
    """`count` calls of one kind, one after the other, with parameters as networks have them."""
    shape, append = _REPEATED[kind]
    chain = Chain(shape)
    for i in range(count):
        append(chain, i)
    return chain.program()


def variants(kind: type[Call]) -> list[Program]:
    """Programs with calls of one kind that together take every way through its kernel."""
    return [chain.program() for chain in _variants(kind)]


def wide_variants(kind: type[Call]) -> list[Program]:
    """The same with calls of many arguments behind: one frame, that of `invoke`, has room for all of them."""
    chains = _variants(kind)
    # What a network gives is there at every exit, so that nothing may come behind one.
    for chain in () if kind is ExitCheck else chains:
        chain.add()
        chain.multiply()
        chain.copy()
        chain.pool(AvgPool2D, (1, 1), 1)
        chain.pool(MaxPool2D, (1, 1), 1)
        chain.lookup()
    return [chain.program() for chain in chains]


def _variants(kind: type[Call]) -> list[Chain]:
    chains = {
        Conv2D: _conv_variants,
        DepthwiseConv2D: _depthwise_variants,
        FullyConnected: _dense_variants,
        HeadFeatures: _head_feature_variants,
        HeadLogits: _head_logit_variants,
        HeadUncertainty: _head_uncertainty_variants,
    }
    if kind in chains:
        return chains[kind]()
    shape, append = _REPEATED[kind]
    chain = Chain(shape)
    for i in range(2):
        append(chain, i)
    if kind is Add:
        chain.add(outer=4)
    elif kind is Mul:
        chain.multiply(outer=4)
    elif kind is Softmax:
        chain.softmax(rows=2)
    elif kind is AvgPool2D:
        chain.pool(AvgPool2D, (3, 3), 2, (1, 1))
        chain.pool(AvgPool2D, chain.shape[1:3], 1)
    elif kind is MaxPool2D:
        chain.pool(MaxPool2D, (3, 3), 2, (1, 1))
    return [chain]


def mixed() -> Program:
    """One network with most kinds of calls, several of each: its frame holds the arguments of all of them."""
    chain = Chain((1, 32, 32, 3))
    for filters in (16, 24, 32):
        chain.conv(filters, (3, 3), padding=(1, 1))
        chain.depthwise((3, 3), stride=2, padding=(1, 1))
        chain.conv(filters, (1, 1))
        chain.add()
    chain.copy()
    chain.lookup()
    chain.concat(outer=16)
    chain.pool(MaxPool2D, (2, 2), 2)
    chain.pool(AvgPool2D, (2, 2), 1)
    chain.multiply()
    chain.gather()
    chain.fill()
    chain.dense(10)
    chain.softmax()
    return chain.program()


def _conv_variants() -> list[Chain]:
    chain = Chain((1, 16, 16, 3))
    chain.conv(16, (3, 3), padding=(1, 1))
    chain.conv(16, (3, 3), padding=(1, 1))
    chain.conv(18, (1, 1))
    chain.conv(10, (3, 3), stride=2, padding=(1, 1))
    chain.conv(12, (1, 1), stride=2)
    chain.conv(16, (3, 3), padding=(2, 2), dilation=2)
    chain.conv(8, (3, 3), padding=(1, 1), groups=4)
    chain.conv(8, (1, 3), padding=(0, 1))
    chain.conv(10, (4, 4))
    chain.conv(640, (1, 1))
    chain.conv(10, (1, 1))
    narrow = Chain((1, 25, 10, 1))
    narrow.conv(64, (10, 4), stride=2, padding=(4, 1))
    narrow.conv(7, (1, 1))
    # Pixels that are left over of fives: one and two.
    left = Chain((1, 4, 4, 16))
    left.conv(24, (1, 1))
    left.conv(32, (3, 3))
    few = Chain((1, 4, 3, 24))
    few.conv(32, (1, 1))
    return [chain, narrow, left, few]


def _depthwise_variants() -> list[Chain]:
    chain = Chain((1, 16, 16, 8))
    chain.depthwise((3, 3), padding=(1, 1))
    chain.depthwise((3, 3), stride=2, padding=(1, 1))
    chain.depthwise((2, 2), stride=1)
    chain.depthwise((5, 5), padding=(2, 2))
    chain.depthwise((3, 3), padding=(2, 2), dilation=2)
    chain.depthwise((3, 3), padding=(1, 1), multiplier=2)
    chain.depthwise((7, 7))
    odd = Chain((1, 8, 8, 10))
    odd.depthwise((3, 3), padding=(1, 1))
    odd.depthwise((2, 2), stride=2)
    single = Chain((1, 8, 8, 1))
    single.depthwise((3, 3), padding=(1, 1), multiplier=8)
    wide = Chain((1, 8, 8, 40))
    wide.depthwise((3, 3), padding=(1, 1))
    return [chain, odd, single, wide]


def _dense_variants() -> list[Chain]:
    chain = Chain((1, 1, 1, 64))
    chain.dense(40)
    chain.dense(7)
    chain.dense(10, filter_offset=3)
    return [chain]


def _head_feature_variants() -> list[Chain]:
    chains = []
    for relu in (True, False):
        for channels in (16, 6, 3):
            chain = Chain((1, 8, 8, channels))
            chain.head_features(4, (3, 3), relu=relu, padding=1)
            strided = Chain((1, 8, 8, channels))
            strided.head_features(1, (5, 5), relu=relu, stride=2, padding=2)
            chains += [chain, strided]
    return chains


def _head_logit_variants() -> list[Chain]:
    chain = Chain((1, 4, 16, 2))
    chain.head_logits(4, 10, 16)
    chain.head_logits(4, 7, 8)
    odd = Chain((1, 1, 7, 2))
    odd.head_logits(1, 3, 16)
    odd.head_logits(1, 10, 8)
    return [chain, odd]


def _head_uncertainty_variants() -> list[Chain]:
    chain = Chain((1, 4, 10, 4))
    chain.head_uncertainty(4)
    chain.head_uncertainty(1)
    return [chain]
