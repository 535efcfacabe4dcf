"""Operators that move or select elements, and that they cost nothing where nothing must move."""

from __future__ import annotations

import numpy as np
import pytest

from qutec.errors import UnsupportedModelError
from qutec.program import Concat
from tests.lower.harness import check, compiled, net, weights

MOVES = {"Concat", "Copy", "Fill", "Gather"}


def ints(*values: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(values, np.int64)


@pytest.mark.parametrize("axis", [1, 2, 3, -1])
@pytest.mark.parametrize("gains", [(1.0, 1.0), (1.0, 3.0)])
def test_concat_of_two_maps(axis: int, gains: tuple[float, float]) -> None:
    model = net(
        f"""(float[1,3,5,4] x) => (float y) {{
            a = Conv(x, w)  b = Conv(x, v)  y = Concat<axis={axis}>(a, b) }}""",
        w=weights(4, 3, 1, 1, gain=gains[0]),
        v=weights(4, 3, 1, 1, gain=gains[1], seed=1),
    )
    assert check(model).calls == ["Conv2D", "Conv2D", "Concat"]


@pytest.mark.parametrize("shapes", [((1, 4), (1, 7)), ((1, 2, 5), (1, 3, 5)), ((1, 5, 2), (1, 5, 3))])
def test_concat_of_vectors_and_rows(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    axis = next(i for i, (m, n) in enumerate(zip(*shapes, strict=True)) if m != n)
    model = net(
        f"""(float{list(shapes[0])} a, float{list(shapes[1])} b) => (float y) {{
            y = Concat<axis={axis}>(a, b) }}"""
    )
    check(model)


def test_concat_with_an_input_that_others_read_requantises_only_that_one() -> None:
    model = net(
        """(float[1,3,5,4] x) => (float y, float z) {
            a = Conv(x, w)  b = Conv(x, v)  y = Concat<axis=1>(a, b)  z = Relu(a) }""",
        w=weights(4, 3, 1, 1),
        v=weights(4, 3, 1, 1, gain=3.0, seed=1),
    )
    calls = check(model).calls
    assert sorted(calls) == ["Concat", "Conv2D", "Conv2D", "Lookup", "Lookup"]


def test_concat_of_one_tensor_twice() -> None:
    model = net(
        "(float[1,3,5,4] x) => (float y) { a = Conv(x, w)  y = Concat<axis=1>(a, a) }", w=weights(4, 3, 1, 1)
    )
    case = check(model)
    assert case.calls[0] == "Conv2D"
    (concat,) = [call for call in case.program.calls if isinstance(call, Concat)]
    assert concat.inputs[0] == concat.inputs[1]


def test_concat_of_the_network_input() -> None:
    model = net(
        """(float[1,3,5,4] x) => (float y) { a = Conv(x, w)  c = Concat<axis=1>(x, a)  y = Relu(c) }""",
        w=weights(4, 3, 1, 1),
    )
    check(model)


def test_concat_with_softmax_keeps_both_useful() -> None:
    """Probabilities have a fixed scale; the features beside them are far larger."""
    model = net(
        """(float[1,6] x) => (float y) {
            g = Gemm(x, w)  s = Softmax<axis=-1>(g)  h = Gemm(x, v)  y = Concat<axis=1>(s, h) }""",
        w=weights(6, 4),
        v=weights(6, 4, gain=4.0),
    )
    case = check(model)
    assert case.calls.count("Lookup") == 1


def test_concat_of_a_constant() -> None:
    model = net(
        "(float[1,3,5,4] x) => (float y) { a = Conv(x, w)  y = Concat<axis=1>(a, k) }",
        w=weights(4, 3, 1, 1),
        k=weights(1, 2, 5, 4),
    )
    check(model)


def test_chain_of_concats_requantises_nothing() -> None:
    model = net(
        """(float[1,3,5,4] x) => (float y) {
            a = Conv(x, w)  b = Conv(x, v)  c = Concat<axis=1>(a, b)  d = Conv(x, u)
            e = Concat<axis=1>(c, d)  r = Relu(e)  y = Conv(r, t) }""",
        w=weights(2, 3, 1, 1),
        v=weights(2, 3, 1, 1, seed=1, gain=0.7),
        u=weights(2, 3, 1, 1, seed=2, gain=0.6),
        t=weights(2, 6, 1, 1, seed=3),
    )
    calls = check(model).calls
    assert calls == ["Conv2D", "Conv2D", "Concat", "Conv2D", "Concat", "Lookup", "Conv2D"]


SLICES = {
    "front": ((0,), (2,), (1,), (1,)),
    "back": ((-2,), (9999,), (1,), (1,)),
    "rows": ((1,), (4,), (2,), (1,)),
    "columns": ((1,), (3,), (3,), (1,)),
    "crop": ((1, 1), (-1, -1), (2, 3), (1, 1)),
    "every_second": ((0, 0), (6, 5), (2, 3), (2, 2)),
    "every_second_from_1": ((1, 1), (6, 5), (2, 3), (2, 2)),
    "reversed": ((-1,), (-9999,), (3,), (-1,)),
    "reversed_part": ((3,), (0,), (2,), (-1,)),
    "reversed_channels": ((3,), (-9999,), (1,), (-2,)),
    "one_channel": ((2,), (3,), (1,), (1,)),
    "odd_channels": ((1,), (4,), (1,), (2,)),
    "everything": ((0,), (4,), (1,), (1,)),
    "three_axes": ((0, 1, 2), (3, 5, 5), (1, 2, 3), (2, 1, 2)),
    "negative_axes": ((1,), (5,), (-2,), (1,)),
}


@pytest.mark.parametrize("bounds", SLICES.values(), ids=SLICES.keys())
@pytest.mark.parametrize("after_conv", [False, True])
def test_slice(bounds: tuple[tuple[int, ...], ...], after_conv: bool) -> None:
    starts, ends, axes, steps = (ints(*values) for values in bounds)
    first = "c = Conv(x, w)" if after_conv else "c = Identity(x)"
    model = net(
        f"(float[1,4,6,5] x) => (float y) {{ {first} y = Slice(c, starts, ends, axes, steps) }}",
        w=weights(4, 4, 1, 1),
        starts=starts,
        ends=ends,
        axes=axes,
        steps=steps,
    )
    case = check(model)
    assert set(case.calls) <= {"Conv2D", "Copy", "Gather"}


def test_slice_without_axes_and_steps() -> None:
    model = net(
        "(float[1,6,5] x) => (float y) { y = Slice(x, starts, ends) }",
        starts=ints(0, 1, 2),
        ends=ints(1, 5, 4),
    )
    check(model)


def test_slice_of_rows_of_a_map_is_a_view() -> None:
    """The rows of an NHWC map lie together, so a convolution reads them where they are."""
    model = net(
        """(float[1,3,6,5] x) => (float y) {
            c = Conv(x, w) s = Slice(c, starts, ends, axes) y = Conv(s, v) }""",
        w=weights(4, 3, 1, 1),
        v=weights(2, 4, 3, 3),
        starts=ints(2),
        ends=ints(6),
        axes=ints(2),
    )
    assert check(model).calls == ["Conv2D", "Conv2D"]


def test_slice_of_a_pointwise_chain() -> None:
    model = net(
        "(float[1,4,6,5] x) => (float y) { r = LeakyRelu(x) s = Slice(r, starts, ends, axes) y = Neg(s) }",
        starts=ints(1),
        ends=ints(3),
        axes=ints(1),
    )
    check(model)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_split_into_parts_that_are_used_apart(axis: int) -> None:
    length = (4, 6, 5)[axis - 1]
    model = net(
        f"""(float[1,3,6,5] x) => (float y, float z) {{
            c = Conv(x, w)  a, b = Split<axis={axis}>(c, parts)  y = Relu(a)  z = Sigmoid(b) }}""",
        w=weights(4, 3, 1, 1),
        parts=ints(1, length - 1),
    )
    check(model)


def test_split_and_concat_shuffle() -> None:
    """ShuffleNet: halves change places."""
    model = net(
        """(float[1,3,6,5] x) => (float y) {
            c = Conv(x, w)  a, b = Split<axis=1,num_outputs=2>(c)
            d = Conv(b, v)  y = Concat<axis=1>(d, a) }""",
        w=weights(4, 3, 1, 1),
        v=weights(2, 2, 1, 1),
    )
    check(model)


def test_channel_shuffle_by_reshape_and_transpose() -> None:
    model = net(
        """(float[1,3,6,5] x) => (float y) {
            c = Conv(x, w)  r = Reshape(c, s5)  t = Transpose<perm=[0,2,1,3,4]>(r)  u = Reshape(t, s4)
            y = Conv<group=6>(u, v) }""",
        w=weights(6, 3, 1, 1),
        v=weights(6, 1, 3, 3),
        s5=ints(1, 2, 3, 6, 5),
        s4=ints(1, 6, 6, 5),
    )
    calls = check(model).calls
    assert calls[0] == "Conv2D"
    assert calls[-1] == "DepthwiseConv2D"
    assert len(calls) == 3


@pytest.mark.parametrize("after_conv", [False, True])
@pytest.mark.parametrize(
    ("attributes", "pads", "value"),
    [
        ('mode="constant"', (0, 0, 1, 1, 0, 0, 1, 1), None),
        ('mode="constant"', (0, 0, 2, 0, 0, 0, 0, 3), 0.0),
        ('mode="constant"', (0, 1, 0, 0, 0, 2, 0, 0), 0.75),
        ('mode="constant"', (0, 0, 0, 0, 0, 0, 0, 0), None),
        ('mode="reflect"', (0, 0, 1, 2, 0, 0, 2, 1), None),
        ('mode="edge"', (0, 0, 1, 2, 0, 1, 2, 1), None),
        ('mode="wrap"', (0, 0, 1, 2, 0, 0, 2, 1), None),
    ],
)
def test_pad(attributes: str, pads: tuple[int, ...], value: float | None, after_conv: bool) -> None:
    first = "c = Conv(x, w)" if after_conv else "c = Identity(x)"
    operands = "c, pads" if value is None else "c, pads, v"
    model = net(
        f"(float[1,4,6,5] x) => (float y) {{ {first} y = Pad<{attributes}>({operands}) }}",
        w=weights(4, 4, 1, 1),
        pads=ints(*pads),
        v=np.float32(value or 0.0),
    )
    check(model)


def test_pad_value_outside_of_the_range_widens_the_range() -> None:
    model = net(
        "(float[1,4,6,5] x) => (float y) { y = Pad(x, pads, v) }",
        pads=ints(0, 0, 1, 1, 0, 0, 1, 1),
        v=np.float32(-20.0),
    )
    check(model)


def test_pad_with_axes() -> None:
    model = net(
        "(float[1,4,6,5] x) => (float y) { y = Pad(x, pads, , axes) }", pads=ints(1, 0, 2, 1), axes=ints(3, 1)
    )
    check(model)


@pytest.mark.parametrize("rank", [2, 3, 5])
def test_pad_of_other_ranks(rank: int) -> None:
    shape = [1, 3, 4, 2, 3][:rank]
    pads = [0, *[1] * (rank - 1), 0, *[2] * (rank - 1)]
    check(net(f"(float{shape} x) => (float y) {{ y = Pad(x, pads) }}", pads=ints(*pads)))


def test_pad_that_crops() -> None:
    model = net("(float[1,4,6,5] x) => (float y) { y = Pad(x, pads) }", pads=ints(0, 0, -1, 1, 0, 0, 0, -2))
    check(model)


def test_pad_before_conv() -> None:
    model = net(
        "(float[1,3,6,5] x) => (float y) { p = Pad(x, pads) y = Conv(p, w) }",
        w=weights(4, 3, 3, 3),
        pads=ints(0, 0, 1, 1, 0, 0, 1, 1),
    )
    check(model)


def test_reshape_that_splits_and_merges_axes() -> None:
    model = net(
        "(float[1,4,6,5] x) => (float y) { c = Conv(x, w) r = Reshape(c, s) y = Relu(r) }",
        w=weights(4, 4, 1, 1),
        s=ints(1, 2, 12, 5),
    )
    check(model)


def test_reshape_between_convolutions_copies_once() -> None:
    model = net(
        """(float[1,4,6,4] x) => (float y) {
            c = Conv(x, w) r = Reshape(c, s) y = Conv(r, v) }""",
        w=weights(4, 4, 1, 1),
        v=weights(3, 6, 1, 1),
        s=ints(1, 6, 4, 4),
    )
    calls = check(model).calls
    assert len(calls) == 3


def test_squeeze_and_unsqueeze_of_a_1d_network() -> None:
    model = net(
        """(float[1,3,16] x) => (float y) {
            u = Unsqueeze(x, a2) c = Conv<pads=[0,1,0,1]>(u, w) s = Squeeze(c, a2) y = Conv(s, v) }""",
        w=weights(4, 3, 1, 3),
        v=weights(2, 4, 3),
        a2=ints(2),
    )
    assert check(model).calls == ["Conv2D", "Conv2D"]


def test_nhwc_input_and_nchw_input_cost_nothing() -> None:
    nhwc = net(
        "(float[1,6,5,3] x) => (float y) { t = Transpose<perm=[0,3,1,2]>(x) y = Conv(t, w) }",
        w=weights(4, 3, 3, 3),
    )
    nchw = net("(float[1,3,6,5] x) => (float y) { y = Conv(x, w) }", w=weights(4, 3, 3, 3))
    for model in (nhwc, nchw):
        case = check(model)
        assert case.calls == ["Conv2D"]
    assert compiled(nhwc).program.inputs[0].order is None


def test_nhwc_graph_moves_nothing() -> None:
    model = net(
        """(float[1,8,8,3] x) => (float y) {
            a = Transpose<perm=[0,3,1,2]>(x)  c = Conv(a, w)  b = Transpose<perm=[0,2,3,1]>(c)
            k = Add(b, bias)  r = Relu(k)  d = Transpose<perm=[0,3,1,2]>(r)
            p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(d)  e = Transpose<perm=[0,2,3,1]>(p)
            f = Reshape(e, flat)  y = MatMul(f, v) }""",
        w=weights(4, 3, 3, 3),
        bias=weights(4),
        v=weights(36, 5),
        flat=ints(1, 36),
    )
    assert not MOVES & set(check(model).calls)


def test_transpose_of_height_and_width_is_a_copy() -> None:
    model = net(
        "(float[1,3,6,5] x) => (float y) { c = Conv(x, w) t = Transpose<perm=[0,1,3,2]>(c) y = Conv(t, v) }",
        w=weights(4, 3, 1, 1),
        v=weights(4, 4, 2, 2),
    )
    assert check(model).calls == ["Conv2D", "Copy", "Conv2D"]


def test_transposes_that_cancel_cost_nothing() -> None:
    model = net(
        """(float[1,3,6,5] x) => (float y) {
            c = Conv(x, w)  t = Transpose<perm=[0,3,1,2]>(c)
            u = Transpose<perm=[0,2,3,1]>(t)  y = Conv(u, v) }""",
        w=weights(4, 3, 1, 1),
        v=weights(4, 4, 2, 2),
    )
    assert check(model).calls == ["Conv2D", "Conv2D"]


def test_row_major_input_read_by_two_layouts() -> None:
    """One reader wants NHWC, the other the rows of the tensor as they are."""
    model = net(
        """(float[1,3,6,5] x) => (float y, float z) {
            y = Conv(x, w)  z = MatMul(x, v) }""",
        w=weights(4, 3, 1, 1),
        v=weights(5, 4),
    )
    calls = check(model).calls
    assert len(calls) == 3


def test_dropout_identity_and_cast_cost_nothing() -> None:
    model = net(
        """(float[1,3,6,5] x) => (float y) {
            c = Conv(x, w)  d = Dropout(c)  i = Identity(d)  k = Cast<to=1>(i)  y = Relu(k) }""",
        w=weights(4, 3, 1, 1),
    )
    case = check(model)
    assert not MOVES & set(case.calls)
    assert case.calls[0] == "Conv2D"


def test_flatten_axes() -> None:
    for axis in (1, 2, 3, -1):
        check(
            net(
                f"(float[1,3,4,5] x) => (float y) {{ c = Conv(x, w) y = Flatten<axis={axis}>(c) }}",
                w=weights(4, 3, 1, 1),
            )
        )


def test_slices_of_a_tensor_over_64_kib_are_views_or_copies() -> None:
    model = net(
        """(float[1,1,6,11000] x) => (float y) {
            r = Relu(x) s = Slice(r, starts, ends, axes, steps) t = Reshape(s, f) y = Slice(t, c, d, e) }""",
        starts=ints(0),
        ends=ints(11000),
        axes=ints(3),
        steps=ints(1),
        f=ints(1, 66000),
        c=ints(100),
        d=ints(40000),
        e=ints(1),
    )
    case = check(model)
    assert "Gather" not in case.calls


def test_pad_of_the_batch_is_refused() -> None:
    model = net("(float[1,4] x) => (float y) { y = Pad(x, pads) }", pads=ints(1, 0, 0, 0))
    with pytest.raises(UnsupportedModelError, match="pads the batch"):
        compiled(model)
