"""An input that is handed in row by row: the same answers, and no place for the input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

import qutec
from qutec.backends.cmsis_nn import prepare, scratch_bytes
from qutec.errors import UnsupportedModelError, UsageError
from qutec.executions import run_project, verify_build
from qutec.load import load
from qutec.lower import lower
from qutec.planner import Goal, PlanError, PlannedNetwork, plan_network, validate_plan, with_input_rows
from qutec.ports import PortInfo
from qutec.program import BufferKind, InputRows, Program, RowRegion
from qutec.program.row_schedule import row_schedule
from qutec.quantize import quantize
from qutec.reference import run_program
from qutec.simulate import EmulationError, build_host, build_image, run_many
from qutec.targets import target
from tests.end_to_end.compiled import require
from tests.passes.exit_networks import Network
from tests.streamed.networks import random_inputs, random_map_network, streamed

CORE = target("cortex-m4").core


def lowered(source: bytes) -> Program:
    return prepare(lower(quantize(load(source, simplify=False).model, "random"), "net"), CORE)


def planned(program: Program, goal: Goal = Goal.SRAM, limit: int | None = None) -> PlannedNetwork:
    scratch = [scratch_bytes(call, CORE) for call in program.calls]
    return plan_network(program, scratch, core=CORE, goal=goal, arena_limit=limit)


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_answer_as_with_the_input_in_the_arena(seed: int) -> None:
    """The reference with whole maps is the oracle of the program, the plan and the generated C."""
    require("cc")
    whole = lowered(random_map_network(seed))
    build = streamed(seed)
    x = random_inputs(build, 4)
    expected = run_program(whole, [x])
    for left, right in zip(expected, build.run_int8(x).values(), strict=True):
        np.testing.assert_array_equal(left.reshape(len(x), -1), right.reshape(len(x), -1))


@pytest.mark.parametrize("optimize", ["speed", "sram"])
@pytest.mark.parametrize("seed", range(6))
def test_generated_c_asks_for_every_row_once_in_order(seed: int, optimize: str, tmp_path: Path) -> None:
    """The harness refuses any other row; what comes out are the bytes of the reference."""
    require("cc")
    build = streamed(seed, optimize)
    x = random_inputs(build, 3)
    port, outputs = PortInfo.of(build.program.inputs[0]), map(PortInfo.of, build.program.outputs)
    host = build_host(build.save(tmp_path / "net"), sanitize=True, optimize="-O1")
    found = host.run_many([[port.to_memory(sample)] for sample in x])
    for k, output in enumerate(outputs):
        expected = build.run_int8(x)[output.name]
        for i, flat in enumerate(found):
            np.testing.assert_array_equal(output.from_memory(flat[k]).ravel(), expected[i].ravel())


@pytest.mark.parametrize("seed", range(12, 24))
def test_the_input_takes_no_arena_and_only_the_rows_needed_are_held(seed: int) -> None:
    whole = lowered(random_map_network(seed))
    program = with_input_rows(whole)
    with_input, without = planned(whole), planned(program)
    validate_plan(without.program, without.scratch, without.plan, CORE)
    assert program.inputs[0].tensor.buffer not in without.plan.offsets
    region = without.program.calls[0]
    assert isinstance(region, RowRegion)
    taken = region.calls[0]
    assert isinstance(taken, InputRows)
    held = row_schedule(region).held[taken.output.buffer].rows
    window = max(
        stage.windows[0].extent
        for stage in row_schedule(region).stages[1:]
        if stage.windows[0].buffer == taken.output.buffer
    )
    assert window <= held < taken.rows or held == 1
    # Rows that are handed in need a place of their own; an input in the arena dies under what is made of it.
    assert without.plan.arena_bytes <= with_input.plan.arena_bytes + 16 + held * taken.row_bytes


def test_speed_streams_no_more_than_it_must() -> None:
    """Only what reads the input runs row by row, until a limit asks for more."""
    program = with_input_rows(lowered(random_map_network(0)))
    fast, small = planned(program, Goal.SPEED), planned(program)
    regions = [call for call in fast.program.calls if isinstance(call, RowRegion)]
    assert [len(region.calls) for region in regions] == [2]
    assert small.plan.arena_bytes < fast.plan.arena_bytes
    limited = planned(program, Goal.SPEED, small.plan.arena_bytes + 64)
    assert limited.plan.arena_bytes <= small.plan.arena_bytes + 64
    assert limited.program.input_rows is not None


def test_rows_that_no_layer_needs_are_taken_all_the_same(tmp_path: Path) -> None:
    """The last rows of a map whose size the stride does not divide: the application need not know of them."""
    net = Network(2, 11, 6)
    x = net.op("MaxPool", [net.x], kernel_shape=[2, 2], strides=[4, 2], pads=[0, 0, 0, 0])
    net.head(net.block(x, 4), "out")
    build = qutec.compile(
        net.proto().SerializeToString(), calibration="random", stream_input=True, simplify=False, name="net"
    )
    assert build.report.inputs[0]["rows"] == 11
    assert "3" in verified(build, tmp_path)


def verified(build: qutec.Build, folder: Path) -> str:
    """Outputs of three samples on this machine compared with the reference; how many there were."""
    require("cc")
    x = random_inputs(build, 3)
    port, output = PortInfo.of(build.program.inputs[0]), PortInfo.of(build.program.outputs[0])
    found = build_host(build.save(folder / "net"), sanitize=True).run_many([[port.to_memory(s)] for s in x])
    for sample, expected in zip(found, build.run_int8(x)[output.name], strict=True):
        np.testing.assert_array_equal(output.from_memory(sample[0]).ravel(), expected.ravel())
    return f"{len(found)} samples"


@pytest.mark.parametrize("seed", range(3))
def test_the_emulated_core_agrees_on_exactly_the_reported_sram(seed: int) -> None:
    require("unicorn", "zig", "cc")
    assert "reference = host C = cortex-m4 in unicorn" in verify_build(streamed(seed))


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m33", "cortex-m55"])
def test_other_cores_agree(name: str) -> None:
    require("unicorn", "zig", "cc", "qemu")
    assert f"= {name} in" in verify_build(streamed(1, target=name))


@pytest.mark.emulated
@pytest.mark.parametrize("emulator", ["unicorn", "qemu"])
def test_run_hands_in_the_rows_and_counts_the_network_alone(emulator: str, tmp_path: Path) -> None:
    require(emulator, "zig")
    build = streamed(2)
    project = build.save(tmp_path / "net")
    x = random_inputs(build, 2)
    np.save(tmp_path / "x.npy", x)
    result = run_project(project, tmp_path / "x.npy", index=1, emulator=emulator)  # type: ignore[arg-type]
    for name, real in build.run(x).items():
        np.testing.assert_array_equal(result.outputs[name].ravel(), real[1].ravel())
    assert result.emulation.instructions is not None
    assert sum(count for _, count in result.layers) <= result.emulation.instructions * 1.01
    assert result.emulation.arena_high_water_bytes <= build.report.arena_bytes


def test_the_report_says_how_the_input_comes() -> None:
    build = streamed(0)
    (entry,) = build.report.to_json()["inputs"]
    rows, row_bytes = entry["rows"], entry["row_bytes"]
    assert entry["streamed"] is True
    assert rows == entry["shape"][2]
    assert rows * row_bytes == entry["bytes"]
    assert f"streamed: {rows} rows of {row_bytes} bytes, not in the arena" in str(build.files["report.txt"])
    assert "streamed: not in the arena" in str(build.files["report.html"])
    assert "streamed input" in [technique.name for technique in build.report.arena_techniques]
    plain = qutec.compile(random_map_network(0), calibration="random", simplify=False, name="net")
    assert plain.report.to_json()["inputs"][0]["streamed"] is False
    assert "streamed" not in str(plain.files["report.txt"])


@pytest.mark.parametrize("seed", range(3))
def test_the_report_states_the_context_that_the_compiler_lays_out(seed: int, tmp_path: Path) -> None:
    """arena + sizeof(context) + stack is the SRAM of the report: sizeof is asked of the cross compiler."""
    require("gcc")
    from qutec.backends.cmsis_nn import context_bytes
    from tests.backends.test_emitted_api import run

    build = streamed(seed)
    project = build.save(tmp_path / "net")
    size = context_bytes(build.program)
    check = f'#include "net.h"\ntypedef char right_size[sizeof(net_context) == {size} ? 1 : -1];\n'
    (tmp_path / "check.c").write_text(check)
    flags = ("-mcpu=cortex-m4", "-mthumb", "-std=c99", "-Wall", "-Werror", f"-I{project}", "-fsyntax-only")
    run("arm-none-eabi-gcc", *flags, tmp_path / "check.c")


def refused(source: bytes, **options: object) -> str:
    with pytest.raises(UnsupportedModelError) as error:
        qutec.compile(source, calibration="random", stream_input=True, simplify=False, **options)
    return str(error.value)


def test_a_network_with_two_inputs_is_refused() -> None:
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        two (float[1,2,6,6] image, float[1,2,6,6] mask) => (float[1,2,6,6] y) { y = Add (image, mask) }"""
    )
    message = refused(model.SerializeToString())
    assert "has 2 ('image', 'mask')" in message


def test_an_input_that_is_no_map_is_refused() -> None:
    net = Network(12)
    net.output(net.softmax(net.dense(net.dense(net.x, 8), 3)))
    message = refused(net.proto().SerializeToString())
    assert "a map of several rows" in message
    assert "'x' (1 x 12) is read by gemm_0_node" in message


def test_a_sequence_is_a_map_of_one_row() -> None:
    net = Network(3, 32)
    net.head(net.block(net.x, 4), "out")
    assert "'x' (1 x 3 x 32) is read by conv_0_node (Conv2D)" in refused(net.proto().SerializeToString())


def test_a_first_layer_that_cannot_run_by_rows_is_named() -> None:
    net = Network(3, 8, 8)
    halves = net.op("Transpose", [net.x], perm=[0, 1, 3, 2])
    net.head(net.block(net.op("Concat", [net.x, halves], axis=1, channels=6), 4), "out")
    message = refused(net.proto().SerializeToString())
    assert message.startswith("--stream-input: ")
    assert "'x'" in message or "reads the input" in message


def test_the_members_of_an_ensemble_share_the_rows(tmp_path: Path) -> None:
    """Each asks for the same rows, which come once: their first layers run in one region."""
    build = qutec.compile(
        [random_map_network(0), random_map_network(0)],
        calibration="random",
        stream_input=True,
        simplify=False,
        name="net",
    )
    region = build.program.calls[0]
    assert isinstance(region, RowRegion)
    assert sum(region.calls[0].output in call.reads for call in region.calls) == 2
    assert "3 samples" in verified(build, tmp_path)


def test_a_streamed_input_cannot_be_kept() -> None:
    with pytest.raises(UsageError, match="--keep-input or --stream-input"):
        qutec.compile(random_map_network(0), calibration="random", stream_input=True, keep_input=True)


def test_the_validator_wants_the_rows_taken_in_once_and_first() -> None:
    net = planned(with_input_rows(lowered(random_map_network(0))))
    region = net.program.calls[0]
    assert isinstance(region, RowRegion)
    taken = region.calls[0]
    assert isinstance(taken, InputRows)

    def fault(changed: RowRegion) -> str:
        program = replace(net.program, calls=(changed, *net.program.calls[1:]))
        with pytest.raises(PlanError) as error:
            validate_plan(program, net.scratch, net.plan, CORE)
        return str(error.value)

    fewer = replace(taken, rows=taken.rows - 1)
    assert "not the whole input" in fault(replace(region, calls=(fewer, *region.calls[1:])))
    order = (*range(1, len(region.calls)), 0)
    assert "handed in row by row" in fault(replace(region, turns=order))
    late = replace(net.program, calls=(*net.program.calls[1:], region))
    with pytest.raises(PlanError, match="by the first call alone"):
        validate_plan(late, net.scratch, net.plan, CORE)
    assert net.program.buffers[taken.input.buffer].kind is BufferKind.STREAMED


ASKS_FOR_ROW = "context->read_row(context->read_row_user, row,"


@pytest.mark.parametrize(
    ("asks", "said_by_core"),
    [
        (
            "context->read_row(context->read_row_user, row + 1,",
            "asks for row 1 of its input, and row 0 is due",
        ),
        (
            "context->read_row(context->read_row_user, row - (row == 2),",
            "row 1 of its input, and row 2 is due",
        ),
        ("row == NET_INPUT_0_ROWS - 1 ? 0 : " + ASKS_FOR_ROW, "did not ask for the last 1 rows"),
    ],
)
def test_the_harness_finds_rows_out_of_order(asks: str, said_by_core: str, tmp_path: Path) -> None:
    """So that what it says of the generated code means something."""
    require("unicorn", "zig", "cc")
    build = streamed(0)
    project = build.save(tmp_path / "net")
    source = (project / "net.c").read_text()
    assert source.count(ASKS_FOR_ROW) == 1
    (project / "net.c").write_text(source.replace(ASKS_FOR_ROW, asks))
    sample = [PortInfo.of(build.program.inputs[0]).to_memory(random_inputs(build, 1)[0])]
    with pytest.raises(EmulationError, match="every row of its input once and in order"):
        build_host(project).run(sample)
    with pytest.raises(EmulationError, match=said_by_core):
        run_many(build_image(project, CORE), [sample])
