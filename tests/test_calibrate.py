"""Samples are checked before use, and ranges agree with a direct computation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

from qutec.calibrate import CalibrationMethod, load_samples, measure_ranges, random_samples
from qutec.errors import DataError, UnsupportedModelError
from tests.lower.harness import net, rows, run_onnx, weights


def _proto() -> onnx.ModelProto:
    return net(
        "(float[1,3,6,5] x) => (float y) { c = Conv(x, w) r = Relu(c) y = Flatten(r) }", w=weights(4, 3, 3, 3)
    )


def _model() -> ir.Model:
    return ir.from_proto(_proto())


def _data(count: int = 20, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 3, 6, 5)).astype(np.float32)


def _two_inputs() -> ir.Model:
    return ir.from_proto(net("(float[1,3] a, float[1,3] b) => (float y) { y = Add(a, b) }"))


def _activations(name: str, data: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    proto = _proto()
    proto.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return run_onnx(proto, rows({"x": data}))[name].astype(np.float32)


def test_minmax_is_the_extreme_of_every_sample() -> None:
    data = _data(37)
    ranges = measure_ranges(_model(), {"x": data}, ["x", "c", "r"])
    assert ranges["x"] == pytest.approx((float(data.min()), float(data.max())))
    seen = _activations("c", data)
    assert ranges["c"] == pytest.approx((float(seen.min()), float(seen.max())), rel=1e-6)
    assert ranges["r"] == pytest.approx((0.0, float(seen.max())), rel=1e-6)


def test_percentile_leaves_out_rare_values() -> None:
    data = _data(500)
    data[3, 0, 0, 0] = 20.0
    low, high = measure_ranges(_model(), {"x": data}, ["x"], CalibrationMethod.PERCENTILE)["x"]
    # 99.99% of 45,000 values stay: 2.25 are cut at each end, to the width of a bin of the histogram.
    in_order, bin_width = np.sort(data.reshape(-1)), 40 / 2048
    assert in_order[1] - bin_width <= low <= in_order[3] + bin_width
    assert in_order[-4] - bin_width <= high <= in_order[-2] + bin_width
    assert high < 10.0


def test_entropy_stays_within_the_extremes() -> None:
    data = _data(40)
    low, high = measure_ranges(_model(), {"x": data}, ["x"], CalibrationMethod.ENTROPY)["x"]
    assert data.min() * 1.02 <= low < -0.5
    assert 0.5 < high <= np.abs(data).max() * 1.02


def test_at_most_a_thousand_samples_spread_over_all_are_run() -> None:
    data = np.zeros((1501, 3, 6, 5), np.float32)
    data[0], data[-1] = -3.0, 7.0
    assert measure_ranges(_model(), {"x": data}, ["x"])["x"] == (-3.0, 7.0)


def test_value_that_is_not_finite_is_named() -> None:
    model = ir.from_proto(net("(float[1,4] x) => (float y) { e = Exp(x) y = Relu(e) }"))
    with pytest.raises(DataError, match="'e' is not finite"):
        measure_ranges(model, {"x": np.full((2, 4), 200.0, np.float32)}, ["e"])


def test_array_list_and_files_give_the_same(tmp_path: Path) -> None:
    data = _data(4)
    np.save(tmp_path / "d.npy", data)
    np.savez(tmp_path / "d.npz", x=data)
    np.savez_compressed(tmp_path / "named.npz", x=data, label=np.arange(4))
    sources = [
        data,
        data.tolist(),
        {"x": data},
        tmp_path / "d.npy",
        str(tmp_path / "d.npz"),
        tmp_path / "named.npz",
    ]
    for source in sources:
        samples = load_samples(source, _model())
        assert samples["x"].dtype == np.float32
        np.testing.assert_array_equal(samples["x"], data)


def test_one_sample_without_its_axis_and_samples_with_a_batch_of_one() -> None:
    data = _data(4)
    assert load_samples(data[0], _model())["x"].shape == (1, 3, 6, 5)
    assert load_samples(data[:, None], _model())["x"].shape == (4, 3, 6, 5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float64, np.float16, np.int64, np.bool_])
def test_numbers_of_any_type_become_float32(dtype: npt.DTypeLike) -> None:
    samples = load_samples((_data(4) > 0).astype(dtype), _model())
    assert samples["x"].dtype == np.float32
    assert set(np.unique(samples["x"])) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((4, 6, 5, 3)), r"shape \[4, 6, 5, 3\]; \[samples, 3, 6, 5\] is wanted"),
        (np.zeros((4, 90)), r"shape \[4, 90\]"),
        (np.zeros(()), r"shape \[\]"),
        (np.zeros((0, 3, 6, 5)), "has no samples"),
        (np.full((2, 3, 6, 5), np.nan), "NaN or infinite"),
        (np.full((2, 3, 6, 5), np.inf), "NaN or infinite"),
        (np.full((2, 3, 6, 5), 1e300), "NaN or infinite"),
        (np.full((2, 3, 6, 5), "a"), "not numbers"),
        (np.full((2, 3, 6, 5), 1j), "not numbers"),
        (np.array([{"a": 1}, None], dtype=object), "not numbers"),
        ([[1.0], [1.0, 2.0]], "not an array of numbers"),
        ({"y": np.zeros((2, 3, 6, 5))}, r"no array 'x'; it has 'y'"),
        ({}, r"no array 'x'; it has nothing"),
    ],
)
def test_unusable_data_is_refused(data: npt.ArrayLike, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_samples(data, _model())


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    good = tmp_path / "good.npz"
    np.savez_compressed(good, x=_data(4))
    whole = good.read_bytes()
    files = {
        "text.npz": b"hello",
        "empty.npy": b"",
        "cut.npz": whole[: len(whole) // 2],
        "cut.npy": b"\x93NUMPY\x01\x00v\x00",
        "flipped.npz": whole[:60] + bytes(b ^ 0xFF for b in whole[60:200]) + whole[200:],
    }
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            load_samples(path, _model())
    with pytest.raises(DataError, match="there is no file"):
        load_samples(tmp_path / "missing.npz", _model())
    with pytest.raises(DataError, match="there is no file"):
        load_samples(tmp_path, _model())


def test_file_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", x=np.array([{"a": 1}], dtype=object))
    for name in ("o.npy", "o.npz"):
        with pytest.raises(DataError, match=name):
            load_samples(tmp_path / name, _model())


def _pixels() -> ir.Model:
    return ir.from_proto(net("(uint8[1,4] x) => (float y) { f = Cast<to=1>(x) y = Neg(f) }"))


def test_input_of_bytes_takes_whole_numbers_of_its_range() -> None:
    samples = load_samples(np.array([[0, 1, 2, 255], [7, 7, 7, 7]], np.uint8), _pixels())
    assert measure_ranges(_pixels(), samples, ["y"])["y"] == (-255.0, 0.0)
    for wrong in ([[0.5, 1, 2, 3]], [[-1, 1, 2, 3]], [[256, 1, 2, 3]]):
        with pytest.raises(DataError, match="is not uint8: whole numbers 0 to 255"):
            load_samples(np.array(wrong), _pixels())
    noise = random_samples(_pixels())["x"]
    assert noise.min() < 20
    assert noise.max() > 235
    np.testing.assert_array_equal(noise, np.rint(noise))


def test_two_inputs_come_by_name(tmp_path: Path) -> None:
    a, b = np.ones((5, 3)), np.zeros((5, 3))
    np.savez(tmp_path / "d.npz", a=a, b=b)
    samples = load_samples(tmp_path / "d.npz", _two_inputs())
    assert list(samples) == ["a", "b"]
    assert measure_ranges(_two_inputs(), samples, ["y"])["y"] == (1.0, 1.0)
    with pytest.raises(DataError, match="no array 'b'"):
        load_samples({"a": a}, _two_inputs())
    with pytest.raises(DataError, match="different numbers of samples"):
        load_samples({"a": a, "b": b[:2]}, _two_inputs())
    with pytest.raises(DataError, match="'a', 'b'"):
        load_samples(a, _two_inputs())


def test_input_without_a_batch_axis_is_refused() -> None:
    model = ir.from_proto(net("(float[4,3] x) => (float y) { y = Relu(x) }"))
    with pytest.raises(UnsupportedModelError, match="batch of 1"):
        load_samples(np.zeros((2, 3)), model)


def test_random_samples_are_the_same_for_a_seed() -> None:
    first, second, other = (
        random_samples(_model(), 3),
        random_samples(_model(), 3),
        random_samples(_model(), 4),
    )
    assert first["x"].shape[1:] == (3, 6, 5)
    np.testing.assert_array_equal(first["x"], second["x"])
    assert not np.array_equal(first["x"], other["x"])


def test_progress_bar_goes_to_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    measure_ranges(_model(), {"x": _data(3)}, ["y"], progress=True)
    assert capsys.readouterr().out == ""
