"""Several networks, one arena: what is emitted, what it takes, and what the emulated core says to it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import qutec
from benchmarks._networks import DIGITS
from qutec import SharedBuild
from qutec.errors import DoesNotFitError, UsageError, VerificationError
from qutec.executions import verify_shared_build
from qutec.simulate import measure_flash, warning_flags
from qutec.simulate.turns import build_turns, run_in_turn
from qutec.targets import target
from tests.end_to_end.compiled import require
from tests.end_to_end.test_cli import DOES_NOT_FIT, DONE, USAGE, one_error
from tests.end_to_end.test_cli import qutec as command
from tests.passes.exit_networks import Network

CORE = target("cortex-m4").core
NAMES = ("wide", "small", "digits")


def network(channels: int, size: int) -> bytes:
    """A small residual network; the more channels, the larger its arena."""
    net = Network(3, size, size)
    net.head(net.residual(net.block(net.x, channels)), "out")
    contents: bytes = net.proto().SerializeToString()
    return contents


def sources() -> list[bytes | Path]:
    return [network(12, 16), network(4, 8), DIGITS.path]


@cache
def built(optimize: str = "speed") -> SharedBuild:
    return qutec.compile_many(sources(), names=NAMES, name="trio", calibration="random", optimize=optimize)


def test_arena_is_that_of_the_largest_and_what_is_common_is_there_once() -> None:
    build = built()
    arenas = {name: one.report.arena_bytes for name, one in build.networks.items()}
    assert list(arenas) == list(NAMES)
    assert build.report.arena_bytes == max(arenas.values()) > min(arenas.values())
    definitions = [
        path for path, text in build.files.items() if path.endswith(".c") and "_arena[" in str(text)
    ]
    assert definitions == ["trio_arena.c"]
    alone = {path for one in build.networks.values() for path in one.files if path.startswith("kernels/")}
    assert {path for path in build.files if path.startswith("kernels/")} == alone
    cmake = str(build.files["CMakeLists.txt"])
    assert cmake.count("add_library(") == 1
    bundled = cmake.rpartition("else()")[2].partition(")")[0].split()
    assert len(set(bundled)) == len(bundled)


def test_totals_count_contexts_each_stack_and_kernels_once() -> None:
    report = built().report
    own = report.networks
    assert report.stack_estimate_bytes == max(one.stack_estimate_bytes for one in own)
    contexts = sum(one.sram_bytes - one.arena_bytes - one.stack_estimate_bytes for one in own)
    assert report.context_bytes == contexts
    assert report.sram_bytes == report.arena_bytes + contexts + report.stack_estimate_bytes
    assert report.flash_bytes["weights"] == sum(one.flash_bytes["weights"] for one in own)
    assert report.flash_bytes["code"] < sum(one.flash_bytes["code"] for one in own)


@pytest.mark.emulated
@pytest.mark.parametrize("optimize", ["speed", "sram"])
def test_networks_answer_in_turn_on_exactly_the_reported_sram(optimize: str) -> None:
    """Noise fills the arena between two networks."""
    require("unicorn", "zig", "cc")
    said = verify_shared_build(built(optimize), "random")
    assert f"in turn on {built(optimize).report.sram_bytes:,} bytes" in said


@pytest.mark.emulated
def test_a_wrong_byte_in_one_of_the_networks_is_found() -> None:
    require("unicorn", "zig", "cc")
    files = dict(built().files)
    weights = str(files["small_weights.c"])
    start = weights.index("{", weights.index("bias")) + 1
    end = weights.index(",", start)
    files["small_weights.c"] = f"{weights[:start]} 40000{weights[end:]}"
    with pytest.raises(VerificationError, match="small, "):
        verify_shared_build(replace(built(), files=files), "random")


@pytest.mark.emulated
def test_less_sram_than_reported_is_too_little(tmp_path: Path) -> None:
    require("unicorn", "zig")
    image = build_turns(built().save(tmp_path / "trio"), CORE)
    samples = [[np.zeros(size, np.int8) for size in one.input_bytes] for one in image.project.networks]
    fixed = built().report.sram_bytes - built().report.stack_estimate_bytes
    assert len(run_in_turn(image, [samples], sram_bytes=built().report.sram_bytes)[0]) == 3
    with pytest.raises(qutec.QutecError, match=r"stack overflow|does not fit"):
        run_in_turn(image, [samples], sram_bytes=fixed + 100)


@pytest.mark.emulated
def test_flash_is_near_what_the_linker_makes_of_all_networks(tmp_path: Path) -> None:
    require("gcc")
    flash = measure_flash(built().save(tmp_path / "trio"), CORE, "gcc")
    assert built().report.flash_total_bytes == pytest.approx(flash, rel=0.04)


def test_example_runs_all_networks_without_warnings(tmp_path: Path) -> None:
    require("cc")
    folder = built().save(tmp_path / "trio")
    program = tmp_path / "example"
    files = [*folder.glob("*.c"), *(folder / "kernels").glob("*.c"), folder / "example" / "main.c"]
    includes = [f"-I{folder}", f"-I{folder / 'kernels'}"]
    subprocess.run(["cc", *warning_flags(), "-O1", *includes, *map(str, files), "-o", program], check=True)
    printed = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line for line in printed if line in NAMES] == list(NAMES)


def test_only_the_largest_network_is_made_small_at_a_price() -> None:
    """With rows the large network still has the larger arena, so that the others need none."""
    kernels = {
        name: {layer.kernel for layer in one.report.layers} for name, one in built("sram").networks.items()
    }
    assert "RowRegion" in kernels["wide"]
    assert built("sram").report.arena_bytes < built().report.arena_bytes
    assert "RowRegion" not in kernels["small"]
    assert "RowRegion" not in kernels["digits"]


def test_limits_hold_for_all_networks_together() -> None:
    smallest = built("sram").report.sram_bytes
    fitting = qutec.compile_many(sources(), names=NAMES, name="trio", calibration="random", sram=smallest)
    assert fitting.report.sram_bytes <= smallest
    with pytest.raises(DoesNotFitError, match=r"wide: .* bytes of arena"):
        qutec.compile_many(sources(), names=NAMES, calibration="random", sram=smallest // 2)
    flash = built().report.flash_total_bytes
    assert qutec.compile_many(sources(), names=NAMES, calibration="random", flash=flash).report.name
    with pytest.raises(DoesNotFitError, match="kernels counted once"):
        qutec.compile_many(sources(), names=NAMES, calibration="random", flash=flash - 1)


@pytest.mark.parametrize(
    ("names", "project", "reason"),
    [
        (("a", "a"), None, "2 networks are called 'a'"),
        (("a", "A"), None, "2 networks are called 'a'"),
        (("a", "b"), "b", "both called 'b'"),
        (("a", "a_weights"), None, "both write a_weights.h"),
        (("x_arena", "y"), "x", "both write x_arena.h"),
        (("a",), None, "2 models and 1 names"),
    ],
)
def test_names_that_cannot_be_told_apart_are_refused(
    names: tuple[str, ...], project: str | None, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        qutec.compile_many([DIGITS.path, DIGITS.path], names=names, name=project, calibration="random")


def test_each_network_has_its_own_calibration_data() -> None:
    noise = np.random.default_rng(1).normal(size=(8, 1, 8, 8)).astype(np.float32)
    build = qutec.compile_many([DIGITS.path, DIGITS.path], names=("a", "b"), calibration=[noise, 9 * noise])
    scales = [float(str(one.report.inputs[0]["scale"])) for one in build.networks.values()]
    assert scales[1] == pytest.approx(9 * scales[0])
    with pytest.raises(UsageError, match="2 models and calibration data for 3"):
        qutec.compile_many([DIGITS.path, DIGITS.path], names=("a", "b"), calibration=[noise] * 3)


def test_an_error_says_which_network_it_is_about() -> None:
    with pytest.raises(qutec.ModelError, match=r"^broken: "):
        qutec.compile_many([DIGITS.path, b"no model"], names=("fine", "broken"), calibration="random")


MODEL = str(DIGITS.path)
TWO = ("compile", MODEL, MODEL, "--calibration", "random")


def test_command_line_says_how_several_models_may_belong_together() -> None:
    message = one_error(command(*TWO), USAGE)
    assert "--ensemble" in message
    assert "--share-arena" in message
    assert "choose one" in one_error(command(*TWO, "--ensemble", "--share-arena"), USAGE)
    assert "two models or more" in one_error(command("compile", MODEL, "--share-arena"), USAGE)
    assert "--names" in one_error(command(*TWO, "--share-arena"), USAGE)
    assert "--share-arena" in one_error(command(*TWO, "--ensemble", "--names", "a,b"), USAGE)
    for option in (("--pin", "image=0"), ("--stream-input",)):
        ended = command(*TWO, "--share-arena", "--names", "a,b", *option)
        assert option[0] in one_error(ended, USAGE)
    runtime = (*TWO, "--share-arena", "--names", "a,b", "--target", "onnxruntime")
    assert "microcontrollers" in one_error(command(*runtime), USAGE)
    twice = ("compile", MODEL, "--calibration", "random", "--calibration", "random")
    assert "--share-arena" in one_error(command(*twice), USAGE)


@pytest.mark.emulated
def test_command_line_writes_runs_and_reports_each_network(tmp_path: Path) -> None:
    require("unicorn", "zig")
    folder = tmp_path / "pair"
    ended = command(*TWO, "--share-arena", "--names", "a,b", "--name", "pair", "--json", "-o", folder)
    assert ended.code == DONE, ended.errors
    report = ended.json()
    assert report == json.loads((folder / "report.json").read_text())
    assert [one["symbol_prefix"] for one in report["networks"]] == ["a", "b"]
    assert report["arena_bytes"] == max(one["arena_bytes"] for one in report["networks"])
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), np.float32))
    run = ("run", folder, "--input", tmp_path / "x.npy", "--json")
    assert "a, b" in one_error(command(*run), USAGE)
    assert "no network 'c'" in one_error(command(*run, "--network", "c"), USAGE)
    outputs = command(*run, "--network", "b").json()["outputs"]
    assert len(outputs["probabilities"]) == 10
    assert outputs == command("run", folder / "networks" / "a", *run[2:]).json()["outputs"]
    assert command("report", folder).output == (folder / "report.txt").read_text()
    alone = command("report", folder, "--network", "b").output
    assert "in turn with a" in alone
    assert command("report", folder, "--network", "b", "--json").json()["symbol_prefix"] == "b"
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 1, 8, 8), np.float32), y=np.zeros(4, np.int64))
    evaluate = command("evaluate", folder, "--data", tmp_path / "d.npz")
    assert "--network" in one_error(evaluate, USAGE)
    # A second compile replaces the first; one that fails leaves it alone.
    before = (folder / "report.json").read_bytes()
    tight = command(*TWO, "--share-arena", "--names", "a,b", "--sram", "2k", "-o", folder)
    assert "are missing" in one_error(tight, DOES_NOT_FIT)
    assert (folder / "report.json").read_bytes() == before
