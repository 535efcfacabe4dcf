"""Several networks as one: the answers of the members, and their mean with its uncertainty."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import qutec
from qutec.errors import UsageError
from qutec.load import load
from qutec.passes.join_members import join_members
from tests.passes.exit_networks import Network

FloatArray = npt.NDArray[np.float32]


def member(width: int, *, classes: int = 5, size: int = 8, exits: bool = False) -> bytes:
    """A small classifier with weights of its own; the names are the same in all."""
    net = Network(3, size, size)
    x = net.block(net.x, width)
    if exits:
        net.head(x, "early", classes)
    net.head(net.block(x, width + 1, stride=2), "final", classes)
    return net.proto().SerializeToString()


def answers(model: bytes | ir.Model, x: FloatArray) -> dict[str, npt.NDArray[np.float32]]:
    """Outputs by name, [samples, ...], from onnxruntime one sample after the other."""
    data = model if isinstance(model, bytes) else ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    rows = [session.run(None, {session.get_inputs()[0].name: sample[None]}) for sample in x]
    names = [output.name for output in session.get_outputs()]
    return {name: np.concatenate(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}


def samples(count: int = 20) -> FloatArray:
    return np.random.default_rng(3).standard_normal((count, 3, 8, 8)).astype(np.float32)


def test_members_answer_as_they_did_alone() -> None:
    members = [member(4), member(6), member(9)]
    joined = join_members([load(data).model for data in members])
    onnx.checker.check_model(ir.to_proto(joined), full_check=True)
    results = answers(joined, samples())
    assert list(results) == ["final", "member_2/final", "member_3/final"]
    for data, found in zip(members, results.values(), strict=True):
        np.testing.assert_allclose(found, answers(data, samples())["final"], atol=1e-6)


def test_the_ensemble_answers_with_the_mean_of_its_members() -> None:
    members = [member(4), member(6), member(9)]
    x = samples(64)
    build = qutec.compile(members, calibration=x, name="net")
    each = np.stack([answers(data, x)["final"] for data in members])
    mean = each.mean(axis=0)

    def entropy(p: FloatArray) -> FloatArray:
        return -(p * np.log(p)).sum(axis=-1)

    results = build.run(x)
    np.testing.assert_allclose(results["probabilities"], mean, atol=0.03)
    np.testing.assert_allclose(results["entropy"].ravel(), entropy(mean), atol=0.05)
    disagreement = entropy(mean) - entropy(each).mean(axis=0)
    np.testing.assert_allclose(results["disagreement"].ravel(), disagreement, atol=0.01)
    assert [entry["name"] for entry in build.report.members] == [load(data).name for data in members]
    assert build.report.heads == ("final", "member_2/final", "member_3/final")


def test_members_run_in_turn_in_one_arena() -> None:
    """What a member needs is free again for the next: a third one takes hardly more."""
    members = [member(16), member(16), member(16)]
    one, three = (qutec.compile(m, calibration="random", exits="final") for m in (members[:1], members))
    assert one.report.members == ()
    input_and_features = 3 * 8 * 8 + 3 * 17 + 3 * 4 * 5 + 4 * (5 + 5) + 64
    assert three.report.arena_bytes <= one.report.arena_bytes + input_and_features
    places = [
        [number for number, layer in enumerate(three.report.layers) if layer.name.startswith(prefix)]
        for prefix in ("member_2/", "member_3/")
    ]
    assert max(i for i in places[0] if "gemm" not in three.report.layers[i].name) < min(places[1])


def test_members_bring_the_exits_that_are_asked_for() -> None:
    members = [member(4, exits=True), member(6, exits=True)]
    final = qutec.compile(members, calibration="random")
    assert final.report.heads == ("final", "member_2/final")
    every = qutec.compile(members, calibration="random", exits="ensemble")
    assert set(every.report.heads) == {"early", "final", "member_2/early", "member_2/final"}


@pytest.mark.parametrize("factor", [1.0, 1.3])
def test_quantised_members_keep_their_own_parameters(factor: float) -> None:
    """Also where they store the input, which is one buffer, at different scales."""
    x = samples(64)
    builds = [
        qutec.compile(member(4), calibration=x, exits="final"),
        qutec.compile(member(6), calibration=factor * x, exits="final"),
    ]
    ensemble = qutec.compile([bytes(build.files["model.onnx"]) for build in builds])  # type: ignore[arg-type]
    mean = np.mean([build.run(x)["final"] for build in builds], axis=0)
    np.testing.assert_allclose(ensemble.run(x)["probabilities"], mean, atol=0.01)


def test_exits_that_an_ensemble_cannot_have_are_usage_errors() -> None:
    for exits in ("dynamic", "all"):
        with pytest.raises(UsageError, match="is for one network"):
            qutec.compile([member(4), member(6)], calibration="random", exits=exits)


def test_members_with_other_inputs_are_refused() -> None:
    with pytest.raises(UsageError, match=r"read the same inputs: member 1 has x .*8,8.*, member 2 x .*6,6"):
        qutec.compile([member(4), member(4, size=6)], calibration="random")


def test_members_with_other_classes_are_refused() -> None:
    with pytest.raises(qutec.UnsupportedModelError, match="cannot be averaged"):
        qutec.compile([member(4), member(4, classes=6)], calibration="random")


def test_float_and_quantised_members_are_refused() -> None:
    quantised = bytes(qutec.compile(member(4), calibration="random").files["model.onnx"])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="one is quantised"):
        qutec.compile([member(4), quantised], calibration="random")


def test_no_model_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no model"):
        qutec.compile([])
