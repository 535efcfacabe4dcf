"""The first exit that is sure enough answers: the graph, the reference and the order of the calls."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from qutec.errors import UnsupportedModelError, UsageError
from qutec.heads import EXIT_RESULTS
from qutec.load import load
from qutec.lower import lower
from qutec.passes.dynamic_exit import DynamicExitPass
from qutec.passes.select_exits import SelectExitsPass
from qutec.planner import plan_program, validate_plan
from qutec.program import Call, ExitCheck, Program
from qutec.quantize import quantize
from qutec.reference import run_program
from tests.passes.exit_networks import Network

CLASSES = 5


def network(exits: int) -> bytes:
    """A trunk with `exits` classifiers, the deepest first among the outputs."""
    net = Network(3, 8, 8)
    x, outputs = net.x, []
    for number in range(exits):
        x = net.block(x, 6 + number, stride=2 if number == 1 else 1)
        outputs.append(net.head(x, f"out_{number}", CLASSES))
    return net.proto(outputs[::-1]).SerializeToString()


def samples(count: int, seed: int = 1) -> np.ndarray:
    return (3 * np.random.default_rng(seed).standard_normal((count, 3, 8, 8))).astype(np.float32)


def outputs_of(model: ir.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every output of a graph, [samples, ...], by onnxruntime one sample after the other."""
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    rows = [session.run(None, {session.get_inputs()[0].name: sample[None]}) for sample in x]
    return {name: np.concatenate(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}


def median_confidences(each: np.ndarray) -> list[float]:
    """[exits, samples, classes] -> a threshold for each exit but the last that splits the samples in two."""
    return [float(np.median(probabilities.max(axis=1))) for probabilities in each[:-1]]


@pytest.mark.parametrize("exits", [2, 3, 4])
def test_the_graph_answers_with_the_first_exit_that_is_sure_enough(exits: int) -> None:
    loaded, x = load(network(exits)), samples(40)
    before = outputs_of(loaded.model, x)
    each = np.stack([before[f"out_{number}"] for number in range(exits)])
    thresholds = median_confidences(each)
    results = outputs_of(DynamicExitPass(thresholds)(loaded.model).model, x)
    assert list(results) == list(EXIT_RESULTS)
    expected = [
        next((k for k, level in enumerate(thresholds) if each[k, i].max() >= level), exits - 1)
        for i in range(len(x))
    ]
    assert set(expected) == set(range(exits))
    np.testing.assert_array_equal(results["exit"], expected)
    answer = each[expected, np.arange(len(x))]
    np.testing.assert_allclose(results["probabilities"], answer, atol=1e-6)
    np.testing.assert_array_equal(results["label"], answer.argmax(axis=1))
    np.testing.assert_allclose(results["entropy"], -(answer * np.log(answer)).sum(axis=1), atol=1e-5)
    np.testing.assert_array_equal(results["disagreement"], 0.0)


def compiled(exits: int, thresholds: float | list[float]) -> Program:
    model = DynamicExitPass(thresholds)(SelectExitsPass("dynamic")(load(network(exits)).model).model).model
    return lower(quantize(model, samples(64)), "net")


def test_the_reference_stops_each_sample_at_its_own_exit() -> None:
    x = samples(30)
    stay = [run(compiled(3, [1.0, 1.0]), x), run(compiled(3, [1e-6, 1.0]), x)]
    assert set(stay[0]["exit"].ravel()) == {2}
    assert set(stay[1]["exit"].ravel()) == {0}
    level = float(np.median(stay[1]["confidence"])) / 2**30
    mixed = run(compiled(3, [level, 1.0]), x)
    early = stay[1]["confidence"].ravel() >= round(level * 2**30)
    assert 0 < early.sum() < len(x)
    np.testing.assert_array_equal(mixed["exit"].ravel(), np.where(early, 0, 2))
    for name, values in mixed.items():
        np.testing.assert_array_equal(values[early], stay[1][name][early], err_msg=name)
        np.testing.assert_array_equal(values[~early], stay[0][name][~early], err_msg=name)


def run(program: Program, x: np.ndarray) -> dict[str, np.ndarray]:
    port = program.inputs[0].quantization
    stored = np.clip(np.rint(x / port.scale) + port.zero_point, -128, 127).astype(np.int8)
    outputs = run_program(program, [stored])
    return {p.name: values for p, values in zip(program.outputs, outputs, strict=True)}


def test_nothing_runs_before_an_exit_that_the_exit_does_not_need() -> None:
    program = compiled(4, 0.5)
    done: list[Call] = []
    checks = 0
    for call in program.calls:
        done.append(call)
        if not isinstance(call, ExitCheck):
            continue
        # Walking back from the check has to meet every call since the check before.
        needed = {call.name}
        buffers = {tensor.buffer for tensor in call.reads}
        for earlier in reversed(done[:-1]):
            if any(tensor.buffer in buffers for tensor in earlier.writes):
                needed.add(earlier.name)
                buffers |= {tensor.buffer for tensor in earlier.reads}
        start = max((i for i, c in enumerate(done[:-1]) if isinstance(c, ExitCheck)), default=-1) + 1
        assert [c.name for c in done[start:] if c.name not in needed] == []
        checks += 1
    assert checks == 4
    assert isinstance(program.calls[-1], ExitCheck)


def test_the_plan_holds_the_answer_at_every_exit() -> None:
    program = compiled(3, 0.5)
    scratch = [0] * len(program.calls)
    validate_plan(program, scratch, plan_program(program, scratch))


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ([0.5, 0.5, 0.5], "3 exit thresholds are given; the network needs one, or 2: for out_0, out_1"),
        (0.0, "above 0 and up to 1"),
        ([0.5, 1.5], "above 0 and up to 1"),
        (float("nan"), "above 0 and up to 1"),
    ],
)
def test_impossible_thresholds_are_usage_errors(thresholds: float | list[float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DynamicExitPass(thresholds).call(load(network(3)).model)


def test_one_exit_is_nothing_to_choose_from() -> None:
    with pytest.raises(UsageError, match="1 exit"):
        DynamicExitPass(0.5).call(load(network(1)).model)


def test_exits_of_different_classes_are_refused() -> None:
    net = Network(3, 8, 8)
    x = net.block(net.x, 6)
    net.head(x, "a", 4)
    net.head(net.block(x, 6), "b", 5)
    with pytest.raises(UnsupportedModelError, match="cannot be"):
        DynamicExitPass(0.5).call(load(net.proto().SerializeToString()).model)
