"""What the importer refuses: each in one line, with the right error, whatever the bytes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from qutec.errors import ModelError, UsageError
from qutec.ingest.operators import UnsupportedOperatorsError
from qutec.load import load
from tests.onnx_models import cnn, image, ops, run, text, weights


def test_unsupported_operators_are_all_listed_with_their_nodes() -> None:
    source = cnn()
    source.opset_import.append(helper.make_opsetid("com.acme", 1))
    source.graph.node.append(helper.make_node("Frobnicate", ["early"], ["f"], "acme1", domain="com.acme"))
    source.graph.node.append(helper.make_node("Nonsense", ["f"], ["g2"], "nonsense1"))
    source.graph.node.append(helper.make_node("Det", ["g2"], ["h2"], "det1"))
    source.graph.output.append(helper.make_tensor_value_info("h2", TensorProto.FLOAT, None))
    with pytest.raises(UnsupportedOperatorsError) as caught:
        load(source)
    assert [node.op_type for node in caught.value.nodes] == ["com.acme.Frobnicate", "Nonsense", "Det"]
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in ("'acme1'", "'nonsense1'", "'det1'"))


def test_unsupported_operator_that_no_output_needs_is_no_obstacle() -> None:
    source = text("g (float[1, 4] x) => (float[1, 4] y) { d = Cos (x)  y = Relu (x) }")
    assert ops(load(source)) == {"Relu": 1}


def test_control_flow_is_listed() -> None:
    then = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["t"])], "then", [], [helper.make_tensor_value_info("t", 1, [1, 4])]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["e"])], "else", [], [helper.make_tensor_value_info("e", 1, [1, 4])]
    )
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], "branch", then_branch=then, else_branch=other)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.array(True), "c")],
    )
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(UnsupportedOperatorsError, match=r"If \(node 'branch'\)"):
        load(source)


def test_missing_file_and_folder_are_usage_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.onnx", tmp_path, tmp_path / "a" / "b.onnx", "a\0b"):
        with pytest.raises(UsageError) as caught:
            load(path)
        assert not isinstance(caught.value, ModelError)
        assert caught.value.exit_code == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_regular_file_is_a_usage_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(UsageError, match="not a regular file"):
        load(tmp_path / "pipe.onnx")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user that permissions bind")
def test_unreadable_file_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(cnn().SerializeToString())
    path.chmod(0)
    with pytest.raises(UsageError):
        load(path)


@pytest.mark.parametrize("data", [b"", b"not a protobuf at all", b"\x00" * 64, b"\x08\x0a", os.urandom(256)])
def test_what_is_no_model_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        load(data)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_checker_errors_are_one_line() -> None:
    source = cnn()
    source.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ModelError, match="not valid ONNX") as caught:
        load(source)
    assert "\n" not in str(caught.value)


def test_cycle_is_named() -> None:
    source = text("g (float[1, 4] x) => (float[1, 4] y) { a = Add (x, b)  b = Relu (a)  y = Neg (b) }")
    with pytest.raises(ModelError, match="cycle"):
        load(source)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    source = cnn()
    kernel = weights(8, 3, 3, 3)
    kernel[2, 1, 0, 0] = value
    source.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "w1"))
    with pytest.raises(ModelError, match="'w1'"):
        load(source)


def test_infinite_bound_of_clip_is_taken() -> None:
    source = text("g (float[1, 4] x) => (float[1, 4] y) <float lo = {0}> { y = Clip (x, lo, hi) }")
    source.graph.initializer.append(numpy_helper.from_array(np.float32(np.inf), "hi"))
    load(source)


def test_weights_too_large_for_float32_are_refused() -> None:
    source = text("g (double[1, 2] x) => (double[1, 2] y) <double[2] w = {1e300, 1.0}> { y = Mul (x, w) }")
    with pytest.raises(ModelError, match="infinite"):
        load(source)


def test_tensor_above_the_limit_is_refused() -> None:
    source = text("g (float[1, 4096, 4097] x) => (float[1, 4096, 4097] y) { y = Relu (x) }")
    with pytest.raises(ModelError, match="64 MiB"):
        load(source)
    declared = cnn()
    declared.graph.initializer[0].dims[0] = 1 << 40
    with pytest.raises(ModelError, match="64 MiB"):
        load(declared)


def test_zero_size_dimensions_are_refused() -> None:
    with pytest.raises(ModelError, match="zero-size"):
        load(text("g (float[1, 0, 4] x) => (float[1, 0, 4] y) { y = Relu (x) }"))
    empty = text("g (float[1, 4] x) => (float[1, 4] y) { y = Concat <axis = 1> (x, e) }")
    empty.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 0), np.float32), "e"))
    with pytest.raises(ModelError, match="zero-size"):
        load(empty)


@pytest.mark.parametrize("attribute", ["strides", "dilations", "group"])
def test_attributes_that_divide_by_zero_are_refused(attribute: str) -> None:
    source = cnn()
    value: int | list[int] = 0 if attribute == "group" else [0, 1]
    kept = [a for a in source.graph.node[0].attribute if a.name != attribute]
    del source.graph.node[0].attribute[:]
    source.graph.node[0].attribute.extend([*kept, helper.make_attribute(attribute, value)])
    with pytest.raises(ModelError, match=attribute):
        load(source)


def _external(folder: Path, location: str, **fields: int) -> Path:
    """A model in `folder` whose weights w1 are at `location`."""
    source = cnn()
    tensor = source.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **fields}.items():
        tensor.external_data.add(key=key, value=str(value))
    folder.mkdir(exist_ok=True)
    (folder.parent / "outside.bin").write_bytes(data)
    (folder / "weights.bin").write_bytes(b"\0" * 16 + data)
    path = folder / "net.onnx"
    path.write_bytes(source.SerializeToString())
    return path


def test_external_data_beside_the_file_is_read(tmp_path: Path) -> None:
    loaded = load(_external(tmp_path / "m", "weights.bin", offset=16))
    for expected, actual in zip(run(cnn(), x=image()), run(loaded.model, x=image()), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize(
    "location", ["../outside.bin", "sub/../../outside.bin", "..\\outside.bin", "C:\\w.bin", ""]
)
def test_external_data_outside_of_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(ModelError, match="'w1'"):
        load(_external(tmp_path / "m", location))


def test_external_data_at_an_absolute_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="outside"):
        load(_external(tmp_path / "m", str(tmp_path / "outside.bin")))


def test_external_data_through_a_link_that_leaves_is_refused(tmp_path: Path) -> None:
    path = _external(tmp_path / "m", "link.bin")
    (tmp_path / "m" / "link.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(ModelError, match="outside"):
        load(path)


def test_external_data_that_is_missing_short_or_misplaced_is_refused(tmp_path: Path) -> None:
    for location, fields, reason in (
        ("nothing.bin", {}, "missing"),
        ("weights.bin", {"offset": 17}, "ends after"),
        ("weights.bin", {"offset": -1}, "offset"),
        ("weights.bin", {"length": 4}, "length"),
    ):
        with pytest.raises(ModelError, match=reason):
            load(_external(tmp_path / "m", location, **fields))


def test_bytes_cannot_have_external_data(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not read from a file"):
        load(_external(tmp_path / "m", "weights.bin", offset=16).read_bytes())


_VALID = cnn().SerializeToString()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(_VALID) - 1))
def test_truncated_model_loads_or_is_a_model_error(length: int) -> None:
    try:
        load(_VALID[:length])
    except ModelError as error:
        assert "\n" not in str(error)  # noqa: PT017


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(_VALID) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_model_with_flipped_bytes_loads_or_is_a_model_error(flips: list[tuple[int, int]]) -> None:
    data = bytearray(_VALID)
    for position, mask in flips:
        data[position] ^= mask
    try:
        load(bytes(data))
    except ModelError as error:
        assert "\n" not in str(error)  # noqa: PT017
