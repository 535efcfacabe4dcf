"""What the emitted text says and how: determinism, heads of files, names from untrusted models, numbers."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import qutec
from qutec.backends.cmsis_nn import Provenance
from qutec.backends.cmsis_nn.text import array_rows, c_float, c_identifier, c_int, c_string, comment
from qutec.simulate import build_host, warning_flags
from tests.backends.emitted import PROVENANCE, emit, every_kind, program_of

NASTY = (
    "a*/b",
    "/* open",
    "line\nbreak",
    "trailing backslash\\",
    'quote " quote',
    "trigraph ??/",
    "bracket ??( ??) ?????)",
    "pércent %s %n é漢字",
    "x" * 500,
    "",
    "${ENV} $<TARGET> ;semi",
    "<script>alert('&')</script>",
    "tab\tnull\x01",
    "]]==] #[[ cmake",
    "//*//",
    "/*/ */",
    "?" * 57 + "*/\\",
)
KEPT_NAMES = (
    "int",
    "main",
    "string",
    "features",
    "test",
    "all",
    "arm_nnfunctions",
    "qute_kernels",
    "9 lives",
    "new",
)
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


def run(*command: str | Path) -> str:
    """Standard output; a failure shows what the command said."""
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    return result.stdout


def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    texts = []
    for folder in ("a", "b"):
        project = emit(program_of(every_kind()), tmp_path / folder)
        files = sorted(path for path in project.rglob("*") if path.is_file())
        texts.append({str(path.relative_to(project)): path.read_bytes() for path in files})
    assert texts[0] == texts[1]


def test_every_generated_file_says_where_it_comes_from(tmp_path: Path) -> None:
    provenance = Provenance("9.8.7", "qutec compile cat.onnx", "cat", "ab" * 32, "nucleo-l432kc")
    project = emit(program_of(every_kind()), tmp_path, provenance=provenance)
    files = sorted([*project.glob("*.[ch]"), *(project / "example").iterdir(), project / "CMakeLists.txt"])
    assert len(files) == 9
    for path in files:
        head = "\n".join(path.read_text().splitlines()[:6])
        assert "SPDX-License-Identifier: 0BSD" in head, path.name
        for fact in ("cat compiled by qutec 9.8.7 for nucleo-l432kc", "qutec compile cat.onnx", "ab" * 32):
            assert fact in head, path.name
    for path in (project / "kernels").iterdir():
        assert path.read_text().startswith("// SPDX-License-Identifier: Apache-2.0"), path.name


@needs_gcc
def test_no_name_breaks_the_c(tmp_path: Path) -> None:
    """Names of layers, ports and the model, and the command line, are text from outside."""
    kinds = every_kind()
    calls = [replace(kinds[i % len(kinds)], name=name) for i, name in enumerate(NASTY)]
    program = program_of(calls)
    outputs = tuple(replace(port, name=name) for port, name in zip(program.outputs, NASTY, strict=True))
    inputs = tuple(replace(port, name=NASTY[i % len(NASTY)]) for i, port in enumerate(program.inputs))
    program = replace(program, inputs=inputs, outputs=outputs)
    everything = " ".join(NASTY)
    for number, text in enumerate((everything, *NASTY)):
        provenance = replace(PROVENANCE, command=text, model_name=text, target="cortex-m4")
        project = emit(program, tmp_path / str(number), provenance=provenance)
        sources = (
            [*project.glob("*.c"), project / "example" / "main.c"] if number == 0 else [project / "net.c"]
        )
        for source in sources:
            flags = (*warning_flags(), "-fsyntax-only", f"-I{project}", f"-I{project / 'kernels'}")
            run("gcc", *flags, source)
    if shutil.which("cmake") is not None:
        run("cmake", "-S", tmp_path / "0", "-B", tmp_path / "build")


def hostile_model(names: tuple[str, ...]) -> bytes:
    """A chain of Relu and Gemm whose nodes and values have these names, as far as ONNX allows them."""
    values = [f"{i} {name}" for i, name in enumerate(names)]
    nodes, initializers = [], []
    for i, name in enumerate(names[:-1]):
        weights = numpy_helper.from_array(np.eye(6, dtype=np.float32) * (i + 1), f"w{name}{i}")
        initializers.append(weights)
        nodes.append(helper.make_node("MatMul", [values[i], weights.name], [values[i + 1]], name=name))
    ends = [helper.make_tensor_value_info(v, onnx.TensorProto.FLOAT, [1, 6]) for v in (values[0], values[-1])]
    graph = helper.make_graph(nodes, names[0] or "g", ends[:1], ends[1:], initializers)
    opset = [helper.make_opsetid("", 21)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opset, ir_version=10)
    return bytes(model.SerializeToString())


class Tags(HTMLParser):
    """The names of the tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


@needs_gcc
def test_no_name_in_a_model_breaks_a_compile(tmp_path: Path) -> None:
    build = qutec.compile(hostile_model(NASTY), calibration="random", name='a "*/ ??/ name\\', simplify=False)
    folder = build.save(tmp_path / "out")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert len(report["layers"]) == len(NASTY) - 1
    page = Tags()
    page.feed((folder / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert (folder / "report.txt").read_text(encoding="utf-8").isprintable() is False
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (1, 6), dtype=np.int8)
    mine = build_host(folder).run([x.reshape(-1)])[0]
    np.testing.assert_array_equal(mine, next(iter(build.run_int8(x).values())).reshape(-1))


@needs_gcc
@pytest.mark.parametrize("name", KEPT_NAMES)
def test_a_model_may_be_called_what_c_or_cmake_keep_for_themselves(tmp_path: Path, name: str) -> None:
    """<prefix>.h must not hide a header of the system, the target must not be one of CMake's."""
    path = tmp_path / f"{name}.onnx"
    path.write_bytes(hostile_model(("x", "y")))
    folder = qutec.compile(path, calibration="random").save(tmp_path / "out")
    prefix = json.loads((folder / "report.json").read_text())["symbol_prefix"]
    assert prefix.isidentifier()
    for source in [*folder.glob("*.c"), folder / "example" / "main.c"]:
        run("gcc", *warning_flags(), "-fsyntax-only", f"-I{folder}", f"-I{folder / 'kernels'}", source)
    if shutil.which("cmake") is not None and name in ("test", "all", "int"):
        run("cmake", "-S", folder, "-B", tmp_path / "build")


@given(st.text())
def test_an_identifier_is_made_of_any_text(text: str) -> None:
    identifier = c_identifier(text)
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,47}", identifier)
    assert c_identifier(identifier) == identifier


@given(st.text())
def test_a_comment_is_one_harmless_line(text: str) -> None:
    made = comment(text, 40)
    assert len(made) <= 40 + 8
    assert made.isascii()
    assert made == "" or made.isprintable()
    assert "*/" not in made
    assert "/*" not in made
    assert "??/" not in made
    assert not made.endswith("\\")


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=50))
def test_a_string_reads_back(text: str) -> None:
    literal = c_string(text)
    assert not re.search(r"\?\?", literal)
    assert re.sub(r"\\(.)", r"\1", literal[1:-1]) == text


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float_reads_back_exactly(value: float) -> None:
    literal = c_float(value)
    assert re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?F", literal)
    assert "." in literal or "e" in literal
    assert np.float32(literal[:-1]) == np.float32(value)


@needs_gcc
def test_float_macros_are_the_scales_of_the_report(tmp_path: Path) -> None:
    values = [1e-38, 1.17549435e-38, 0.1, 1 / 3, 1.0, 3e38, 16777217.0, 0.00390625, 1e-45]
    singles = [float(np.float32(value)) for value in values]
    literals = ", ".join(c_float(value) for value in singles)
    (tmp_path / "f.c").write_text(
        f"#include <stdio.h>\nint main(void) {{ const float v[] = {{{literals}}};\n"
        'for (unsigned i = 0; i < sizeof v / sizeof *v; i++) { printf("%a\\n", (double)v[i]); } return 0; }\n'
    )
    run("gcc", *warning_flags(), tmp_path / "f.c", "-o", tmp_path / "f")
    assert [float.fromhex(line) for line in run(tmp_path / "f").split()] == singles


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1))
def test_array_rows_hold_the_numbers_in_short_lines(values: list[int]) -> None:
    text = array_rows(np.array(values, dtype=np.int32))
    assert max(map(len, text.splitlines())) <= 110
    assert list(ast.literal_eval(f"[{text.replace('(-2147483647 - 1)', '-2147483648')}]")) == values
    assert "-2147483648" not in text
    assert c_int(-128) == "-128"
