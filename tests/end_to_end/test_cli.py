"""The command line as scripts use it: exit codes, JSON, what is written, and what is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from benchmarks._networks import DIGITS
from models.digits import VIEWS
from qutec.heads import RESULTS
from tests.end_to_end.compiled import require

DONE, USAGE, INVALID_MODEL, DOES_NOT_FIT, VERIFICATION, TOOL_MISSING = 0, 2, 3, 4, 5, 6
COMMANDS = ("inspect", "compile", "evaluate", "run", "report", "supported-ops", "targets")
MODEL = str(DIGITS.path)
REPORT_FIELDS = {
    "schema_version": int,
    "qutec_version": str,
    "target": str,
    "exits": list,
    "heads": list,
    "parameters": int,
    "macs": int,
    "arena_bytes": int,
    "arena_lower_bound_bytes": int,
    "arena_optimal": bool,
    "arena_layerwise_bytes": int,
    "sram_bytes": int,
}
LAYER_FIELDS = {
    "name",
    "kernel",
    "macs",
    "weights_bytes",
    "code_bytes",
    "input_shape",
    "output_shape",
    "arena_live_bytes",
}
KERNEL_FIELDS = {"file", "bytes", "layers"}
BUFFER_FIELDS = {"name", "bytes", "offset", "first_use", "last_use"}


@dataclass(frozen=True)
class Ended:
    """A command that ran to its end."""

    code: int
    output: str
    errors: str

    def json(self) -> dict[str, Any]:
        """All of standard output as one JSON object."""
        data = json.loads(self.output)
        assert isinstance(data, dict)
        return data


def qutec(*arguments: str | Path, folder: Path | None = None, path: str | None = None) -> Ended:
    """Run the command in a process of its own; `path` replaces PATH."""
    environment = {
        key: value for key, value in os.environ.items() if key not in ("CMSIS_NN_PATH", "QUTEC_DEBUG")
    }
    if path is not None:
        environment["PATH"] = path
    command = [sys.executable, "-c", "from qutec.cli import main; main()", *map(str, arguments)]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def one_error(ended: Ended, code: int) -> str:
    """The message of a command that failed as it should: nothing on stdout, no traceback."""
    assert ended.code == code, ended
    assert ended.output == ""
    assert ended.errors.startswith("error: ")
    assert "Traceback" not in ended.errors
    return ended.errors


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "x.npz"
    np.savez(path, x=np.random.default_rng(1).random((12, 1, 8, 8), np.float32))
    return path


@pytest.fixture(scope="module")
def project(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "net"
    ended = qutec("compile", MODEL, "--calibration", data, "-o", folder)
    assert ended.code == DONE, ended.errors
    return folder


@pytest.mark.parametrize(
    "command", [[], *([name] for name in COMMANDS)], ids=lambda words: " ".join(words) or "qutec"
)
def test_help_names_the_command_and_ends_well(command: Sequence[str]) -> None:
    ended = qutec(*command, "--help")
    assert ended.code == DONE
    assert "Usage:" in ended.output
    for name in COMMANDS if not command else ():
        assert name in ended.output


def test_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert qutec("--version").output == f"qutec {version('qutec')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["compile"],
        ["compile", MODEL, "--calibration", "random", "--target", "cortex-m99"],
        ["compile", MODEL, "--calibration", "random", "--sram", "64q"],
        ["compile", MODEL, "--calibration", "random", "--no-such-option"],
        ["compile", MODEL, "--calibration", "random", "--pin", "image"],
        ["compile", MODEL, "--calibration", "random", "--pin", "nothing=0"],
        ["compile", MODEL, "--calibration", "random", "--pin", "image=6"],
        ["compile", MODEL, "--calibration", "random", "--pin", "image=0", "--pin", "image=64"],
        ["compile", MODEL, "--calibration", "random", "--stream-input", "--keep-input"],
        ["compile", MODEL],
        ["compile", MODEL, "--calibration", "missing.npz"],
        ["compile", "missing.onnx", "--calibration", "random"],
        ["report", "missing"],
        ["run", "missing", "--input", "missing.npy"],
    ],
    ids=lambda arguments: " ".join(Path(word).name for word in arguments),
)
def test_wrong_use_ends_with_2_and_writes_nothing(arguments: Sequence[str], tmp_path: Path) -> None:
    one_error(qutec(*arguments, folder=tmp_path), USAGE)
    assert contents(tmp_path) == {}
    assert not (tmp_path / "build").exists()


def test_calibration_of_another_shape_ends_with_2(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 3, 3), np.float32))
    message = one_error(
        qutec("compile", MODEL, "--calibration", tmp_path / "x.npy", "-o", tmp_path / "net"), USAGE
    )
    assert "[4, 3, 3]" in message
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("command", ["inspect", "compile"])
def test_file_that_is_no_model_ends_with_3(command: str, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"not a model")
    options = ["--calibration", "random"] if command == "compile" else []
    one_error(qutec(command, "net.onnx", *options, folder=tmp_path), INVALID_MODEL)
    assert list(contents(tmp_path)) == ["net.onnx"]


def test_unsupported_operator_is_named_and_ends_with_3(tmp_path: Path) -> None:
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 4])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3, 4])
    node = onnx.helper.make_node("CumSum", ["x", "axis"], ["y"])
    axis = onnx.helper.make_tensor("axis", onnx.TensorProto.INT64, [], [2])
    graph = onnx.helper.make_graph([node], "sums", [x], [y], [axis])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    onnx.save(model, tmp_path / "net.onnx")
    ended = qutec("compile", "net.onnx", "--calibration", "random", folder=tmp_path)
    assert "CumSum" in one_error(ended, INVALID_MODEL)
    assert list(contents(tmp_path)) == ["net.onnx"]
    assert "CumSum" in qutec("inspect", "net.onnx", "--json", folder=tmp_path).json()["unsupported"]


def test_a_vector_cannot_be_handed_in_by_rows_and_ends_with_3(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    ports = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 8]) for n in "xy"]
    graph = onnx.helper.make_graph([node], "vector", ports[:1], ports[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    onnx.save(model, tmp_path / "net.onnx")
    command = ("compile", "net.onnx", "--calibration", "random", "--stream-input")
    assert "'x' (1 x 8)" in one_error(qutec(*command, folder=tmp_path), INVALID_MODEL)
    assert list(contents(tmp_path)) == ["net.onnx"]


def test_a_build_with_a_streamed_input_runs_and_is_evaluated(data: Path, tmp_path: Path) -> None:
    require("unicorn", "zig")
    folder = tmp_path / "net"
    ended = qutec("compile", MODEL, "--calibration", data, "--stream-input", "-o", folder)
    assert ended.code == DONE, ended.errors
    assert "(streamed: 8 rows of 8 bytes, not in the arena)" in ended.output
    assert "streamed" in qutec("report", folder).output
    x = np.load(data)["x"]
    np.save(tmp_path / "x.npy", x)
    assert qutec("run", folder, "--input", tmp_path / "x.npy", "--json").json()["instructions"] > 0
    np.savez(tmp_path / "labelled.npz", x_test=x, y_test=np.arange(len(x)) % 10)
    evaluated = qutec("evaluate", folder, "--data", tmp_path / "labelled.npz", "--emulated", "4")
    assert evaluated.code == DONE, evaluated.errors
    assert "device" in evaluated.output


def test_sram_gate_says_what_is_missing_and_what_takes_it(data: Path, tmp_path: Path) -> None:
    ended = qutec("compile", MODEL, "--calibration", data, "--sram", "2k", "-o", tmp_path / "net")
    message = one_error(ended, DOES_NOT_FIT)
    assert "2,048 are there" in message
    assert "are missing" in message
    assert "node_conv2d" in message
    assert contents(tmp_path) == {}


def test_flash_gate_says_what_is_missing_and_what_takes_it(data: Path, tmp_path: Path) -> None:
    ended = qutec("compile", MODEL, "--calibration", data, "--flash", "4k", "-o", tmp_path / "net")
    message = one_error(ended, DOES_NOT_FIT)
    assert "4,096 are there" in message
    assert "the weights" in message
    assert contents(tmp_path) == {}


def test_board_brings_its_limits(data: Path, tmp_path: Path) -> None:
    ended = qutec(
        "compile", MODEL, "--calibration", data, "--target", "nucleo-l432kc", "-o", tmp_path / "n", "--json"
    )
    report = ended.json()
    assert report["target"] == "nucleo-l432kc"
    assert report["sram_budget_bytes"] == 64 * 1024
    assert report["flash_budget_bytes"] == 256 * 1024


def test_report_has_the_promised_fields(project: Path) -> None:
    report = qutec("report", project, "--json").json()
    for name, kind in REPORT_FIELDS.items():
        assert isinstance(report[name], kind), name
    assert {"name", "sha256"} <= report["model"].keys()
    assert {"weights", "code"} <= report["flash_bytes"].keys()
    assert report["layers"]
    assert all(layer.keys() >= LAYER_FIELDS for layer in report["layers"])
    assert all(buffer.keys() >= BUFFER_FIELDS for buffer in report["buffers"])
    assert all(kernel.keys() >= KERNEL_FIELDS for kernel in report["kernels"])
    assert report["arena_lower_bound_bytes"] <= report["arena_bytes"] <= report["sram_bytes"]
    assert max(b["offset"] + b["bytes"] for b in report["buffers"]) <= report["arena_bytes"]
    assert report["exits"] == report["heads"] == list(VIEWS)


def test_compile_prints_as_json_what_it_wrote(data: Path, tmp_path: Path) -> None:
    ended = qutec("compile", MODEL, "--calibration", data, "-o", tmp_path / "net", "--json")
    assert ended.code == DONE
    assert ended.json() == json.loads((tmp_path / "net" / "report.json").read_text())


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_json_is_all_there_is_on_stdout_with_every_calibrator(
    method: str, data: Path, tmp_path: Path
) -> None:
    ended = qutec(
        "compile", MODEL, "--calibration", data, "--method", method, "-o", tmp_path / "net", "--json"
    )
    assert ended.json()["calibration"].endswith(f"({method})")


def test_report_is_printed_as_it_was_written(project: Path) -> None:
    assert qutec("report", project).output == (project / "report.txt").read_text()
    assert qutec("report", project, "--html").output == (project / "report.html").read_text()


def test_inspect_has_the_promised_fields() -> None:
    inspection = qutec("inspect", MODEL, "--json").json()
    assert {
        "inputs",
        "outputs",
        "parameters",
        "macs",
        "unsupported",
        "arena_lower_bound_bytes",
    } <= inspection.keys()
    assert inspection["unsupported"] == []
    assert [entry["classes"] for entry in inspection["exits"]] == [10] * 5
    order = ["early_exit_1", "early_exit_2", *VIEWS, "probabilities"]
    assert [entry["name"] for entry in inspection["exits"]] == order
    depths = [entry["depth_macs"] for entry in inspection["exits"]]
    assert inspection["macs"] >= max(depths) > min(depths) > 0


def test_inspect_and_compile_count_the_same(data: Path, tmp_path: Path) -> None:
    inspection = qutec("inspect", MODEL, "--json").json()
    ended = qutec("compile", MODEL, "--calibration", data, "--exits", "all", "-o", tmp_path / "net", "--json")
    assert inspection["macs"] == ended.json()["macs"]


@pytest.mark.emulated
def test_run_has_the_promised_fields(project: Path, data: Path) -> None:
    require("zig", "unicorn")
    result = qutec("run", project, "--input", data, "--index", "3", "--json").json()
    report = json.loads((project / "report.json").read_text())
    assert result["target"] == "cortex-m4"
    assert result["stack_bytes"] <= report["stack_estimate_bytes"]
    assert result["arena_high_water_bytes"] <= report["arena_bytes"]
    assert list(result["outputs"]) == list(RESULTS)
    assert [layer["name"] for layer in result["layers"]] == [layer["name"] for layer in report["layers"]]
    layers = sum(layer["instructions"] for layer in result["layers"])
    assert 0 < layers <= 1.05 * result["instructions"]
    session = ort.InferenceSession(project / "model.onnx", providers=["CPUExecutionProvider"])
    with np.load(data) as archive:
        expected = session.run(None, {session.get_inputs()[0].name: archive["x"][3:4]})
    for values, wanted in zip(result["outputs"].values(), expected, strict=True):
        np.testing.assert_allclose(values, wanted[0], atol=10 / 256)


@pytest.mark.emulated
@pytest.mark.parametrize(("spare", "code"), [(-64, DOES_NOT_FIT), (128, VERIFICATION)])
def test_run_in_too_little_memory_fails(project: Path, data: Path, spare: int, code: int) -> None:
    require("zig", "unicorn")
    arena = json.loads((project / "report.json").read_text())["arena_bytes"]
    one_error(qutec("run", project, "--input", data, "--sram", str(arena + spare)), code)


def test_missing_compiler_is_named_and_ends_with_6(project: Path, data: Path, tmp_path: Path) -> None:
    ended = qutec("run", project, "--input", data, "--compiler", "gcc", path=str(tmp_path))
    assert "arm-none-eabi-gcc" in one_error(ended, TOOL_MISSING)


def test_sample_that_is_not_there_ends_with_2(project: Path, data: Path) -> None:
    assert "12" in one_error(qutec("run", project, "--input", data, "--index", "12"), USAGE)


@pytest.mark.emulated
def test_pinned_input_lies_where_it_was_asked_for(data: Path, tmp_path: Path) -> None:
    options = ["--calibration", str(data), "--pin", "image=1k", "--verify", "--json", "-o", "build/pinned"]
    report = qutec("compile", MODEL, *options, folder=tmp_path).json()
    places = {buffer["name"]: buffer["offset"] for buffer in report["buffers"]}
    assert places["image"] == 1024
    run = qutec("run", "build/pinned", "--input", str(data), "--json", folder=tmp_path)
    assert run.code == DONE, run


def test_verify_says_what_agreed(data: Path, tmp_path: Path) -> None:
    require("zig", "unicorn", "cc")
    ended = qutec("compile", MODEL, "--calibration", data, "--verify", "-o", tmp_path / "net")
    assert ended.code == DONE, ended.errors
    assert "reference = host C = cortex-m4 in unicorn" in ended.output


def test_folder_of_someone_else_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    one_error(qutec("compile", MODEL, "--calibration", data, "-o", tmp_path), USAGE)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_earlier_build_is_replaced_as_a_whole(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    for target in ("cortex-m0", "cortex-m4"):
        ended = qutec(
            "compile", MODEL, "--calibration", data, "--target", target, "-o", folder, "--name", "a"
        )
        assert ended.code == DONE, ended.errors
    again = tmp_path / "again"
    qutec("compile", MODEL, "--calibration", data, "--target", "cortex-m4", "-o", again, "--name", "a")
    assert contents(folder).keys() == contents(again).keys()
    assert json.loads((folder / "report.json").read_text())["target"] == "cortex-m4"


def test_same_command_gives_the_same_bytes(data: Path, tmp_path: Path) -> None:
    builds = []
    for place in ("first", "second"):
        (tmp_path / place).mkdir()
        ended = qutec("compile", MODEL, "--calibration", data, "-o", "net", folder=tmp_path / place)
        assert ended.code == DONE, ended.errors
        builds.append(contents(tmp_path / place / "net"))
    assert builds[0] == builds[1]


def test_default_folder_is_build_and_the_models_name(data: Path, tmp_path: Path) -> None:
    ended = qutec("compile", MODEL, "--calibration", data, folder=tmp_path)
    assert ended.code == DONE, ended.errors
    assert (tmp_path / "build" / "digits" / "digits.h").is_file()


def test_dumped_steps_are_models_that_run(data: Path, tmp_path: Path) -> None:
    dump = tmp_path / "steps"
    ended = qutec("compile", MODEL, "--calibration", data, "-o", tmp_path / "net", "--dump", dump)
    assert ended.code == DONE, ended.errors
    steps = sorted(dump.glob("*.onnx"))
    assert [step.name[:3] for step in steps] == [f"{i:02d}_" for i in range(len(steps))]
    assert "quantize" in steps[-1].name
    image = np.zeros((1, 1, 8, 8), np.float32)
    for step in steps:
        onnx.checker.check_model(onnx.load(step), full_check=True)
        session = ort.InferenceSession(step, providers=["CPUExecutionProvider"])
        outputs = session.run(None, {session.get_inputs()[0].name: image})
        classifiers = [(1, 10)] * 2 if "select" in step.name or "fold" in step.name else [(1, 10)] * 5
        merged = [(1, 10), *[(1,)] * (len(RESULTS) - 1)]
        is_merged = steps.index(step) >= len(steps) - 2
        assert [value.shape for value in outputs] == (merged if is_merged else classifiers)


def test_compile_imports_neither_torch_nor_the_simulator(data: Path, tmp_path: Path) -> None:
    program = (
        "import sys, qutec.cli\n"
        f"sys.argv = ['qutec', 'compile', {MODEL!r}, '--calibration', {str(data)!r}, '-o', 'net']\n"
        "assert qutec.cli._run() == 0\n"
        "unwanted = ('torch', 'unicorn', 'elftools', 'ziglang', 'sklearn')\n"
        "print([name for name in unwanted if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_operators_and_targets_are_listed() -> None:
    operators = qutec("supported-ops").output.split()
    assert {"Conv", "Gemm", "Relu", "Softmax"} <= set(operators)
    assert operators == sorted(operators)
    targets = {entry["name"]: entry for entry in qutec("targets", "--json").json()["targets"]}
    assert targets["cortex-m4"]["sram_bytes"] is None
    assert targets["nucleo-l432kc"]["sram_bytes"] == 64 * 1024
