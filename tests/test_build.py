"""Saving a build: all of it or nothing, and never over what is not a build."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import qutec
from qutec import Build, UsageError


def onnx_model() -> bytes:
    """One dense layer."""
    weights = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weights]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def build() -> Build:
    return qutec.compile(onnx_model(), calibration="random", name="net")


def written(folder: Path) -> dict[str, bytes]:
    """Contents by relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def contents(build: Build) -> dict[str, bytes]:
    """What `save` has to write."""
    files = build.files.items()
    return {name: text if isinstance(text, bytes) else text.encode() for name, text in files}


@pytest.mark.parametrize("name", ["out", "a/b/c", "with space", "naïve 漢字", "x" * 200, ".hidden"])
def test_a_build_is_written_whole_and_nothing_else(build: Build, tmp_path: Path, name: str) -> None:
    assert build.save(tmp_path / name) == tmp_path / name
    assert written(tmp_path / name) == contents(build)
    assert [path.name for path in tmp_path.iterdir()] == [Path(name).parts[0]]


def test_a_relative_path_is_below_the_current_folder(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert build.save("out/../net") == Path("out/../net")
    assert written(tmp_path / "net") == contents(build)


def test_an_earlier_build_is_replaced_with_all_that_is_in_it(build: Build, tmp_path: Path) -> None:
    folder = build.save(tmp_path / "out")
    (folder / "build").mkdir()
    (folder / "build" / "old.o").write_text("stale")
    build.save(folder)
    assert written(folder) == contents(build)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_filled(build: Build, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    build.save(tmp_path / "out")
    assert written(tmp_path / "out") == contents(build)


@pytest.mark.parametrize("report", [None, "{}", "[1]", "no json", '{"version": 1}'])
def test_a_foreign_folder_is_not_touched(build: Build, tmp_path: Path, report: str | None) -> None:
    """Other tools write a report.json too."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    if report is not None:
        (folder / "report.json").write_text(report)
    before = written(folder)
    with pytest.raises(UsageError, match="is not a qutec build"):
        build.save(folder)
    assert written(folder) == before


def test_a_file_is_not_a_folder(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("something")
    with pytest.raises(UsageError, match="is not a qutec build"):
        build.save(path)
    with pytest.raises(UsageError, match="cannot write"):
        build.save(path / "below")
    assert path.read_text() == "something"


def test_the_current_folder_is_not_pulled_away(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = build.save(tmp_path / "out")
    (folder / "build").mkdir()
    monkeypatch.chdir(folder / "build")
    with pytest.raises(UsageError, match="from inside"):
        build.save("..")
    assert Path.cwd() == folder / "build"


def test_a_link_to_a_folder_stays_a_link(build: Build, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real", target_is_directory=True)
    build.save(tmp_path / "link")
    build.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert written(tmp_path / "real") == contents(build)


@pytest.mark.parametrize("path", ["/dev/null/net", "/proc/net-of-nobody/net", "a\0b", "y" * 300])
def test_a_place_that_cannot_be_written_is_a_usage_error(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="cannot write"):
        build.save(path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    yield folder
    folder.chmod(0o700)


def test_a_read_only_parent_is_a_usage_error(build: Build, locked: Path) -> None:
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("nothing is read-only to root")
    with pytest.raises(UsageError, match="cannot write"):
        build.save(locked / "out")


KILLED = """
import os, signal, sys
from pathlib import Path
import qutec
write_text, left = Path.write_text, [4]
def dies(self, *arguments, **options):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return write_text(self, *arguments, **options)
build = qutec.compile(sys.argv[1], calibration="random", name="net")
Path.write_text = dies
build.save(sys.argv[2])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
@pytest.mark.parametrize("earlier", [False, True])
def test_a_killed_process_leaves_nothing_or_the_earlier_build(
    build: Build, tmp_path: Path, earlier: bool
) -> None:
    if earlier:
        build.save(tmp_path / "out")
    before = written(tmp_path / "out")
    model = tmp_path / "model.onnx"
    model.write_bytes(onnx_model())
    command = [sys.executable, "-c", KILLED, str(model), str(tmp_path / "out")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert written(tmp_path / "out") == before


class Stop(BaseException):
    """As KeyboardInterrupt."""


def failing(build: Build, at: int) -> Build:
    """The build with a file that cannot be written after `at` others."""
    names = list(build.files)
    files = {name: build.files[name] for name in names[:at]} | {"bad": None, **build.files}
    return replace(build, files=files)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", [0, 3])
def test_a_failure_while_writing_leaves_nothing(build: Build, tmp_path: Path, at: int) -> None:
    with pytest.raises(TypeError):
        failing(build, at).save(tmp_path / "new" / "parents" / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Stop()])
@pytest.mark.parametrize("after", [0, 1])
def test_a_failure_while_replacing_leaves_the_earlier_build(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, after: int
) -> None:
    """At either of the two renames; the earlier build comes back."""
    folder = build.save(tmp_path / "out")
    marked = folder / "mine.txt"
    marked.write_text("earlier")
    rename, calls = Path.rename, iter(range(100))

    def fails_once(self: Path, target: Path) -> Path:
        if next(calls) == after:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_once)
    with pytest.raises(UsageError if isinstance(error, OSError) else Stop):
        build.save(folder)
    assert marked.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


DIGEST = """
import hashlib, sys
import qutec
build = qutec.compile(sys.argv[1], calibration="random", name="net", command="qutec compile model.onnx")
for name, text in sorted(build.files.items()):
    print(name, hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest())
"""


def test_the_same_model_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    """No set or dictionary order, time or address finds its way into a file."""
    model = tmp_path / "model.onnx"
    model.write_bytes(onnx_model())
    printed = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", DIGEST, str(model)]
        printed.append(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert printed[0] == printed[1]
    assert b"model.onnx" in printed[0]


def test_what_is_saved_can_be_read_back(build: Build, tmp_path: Path) -> None:
    folder = build.save(tmp_path / "out")
    assert json.loads((folder / "report.json").read_text())["symbol_prefix"] == "net"
    onnx.checker.check_model(onnx.load(folder / "model.onnx"))
