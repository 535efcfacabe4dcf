"""Compilers, flash figures, and the host build."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from qutec.errors import QutecError, ToolMissingError, UsageError
from qutec.simulate import (
    Compiler,
    EmulationError,
    build_host,
    build_image,
    measure_flash,
    run_image,
    warning_flags,
)
from qutec.targets import target
from tests.simulate.conftest import Build, require
from tests.simulate.fake_project import FakeNetwork, expected, sample

M4 = target("cortex-m4").core
HARNESS = Path(importlib.import_module("qutec.simulate").__file__ or "").parent / "harness"


def test_flash_is_the_sum_of_the_sections_that_size_reports(build: Build) -> None:
    require("gcc")
    image = build(compiler="gcc")
    table = subprocess.run(
        ["arm-none-eabi-size", "-A", image.elf], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in table.stdout.splitlines()]
    sizes = {row[0]: int(row[1]) for row in rows if len(row) == 3 and row[1].isdigit()}
    assert image.flash_bytes == sizes[".text"] + sizes[".rodata"] + sizes[".data"]
    assert image.bss_bytes == sizes[".bss"]


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
def test_flash_of_the_network_holds_its_table_and_little_else(project: Path, compiler: Compiler) -> None:
    require(compiler)
    flash = measure_flash(project, M4, compiler)
    assert 1000 < flash < 1000 + 1000


def test_flash_grows_by_exactly_the_table_that_is_added(project: Path) -> None:
    require("gcc")
    before = measure_flash(project, M4, "gcc")
    weights = project / "toy_weights.c"
    weights.write_text(weights.read_text().replace("table[1000]", "table[1800]"))
    assert measure_flash(project, M4, "gcc") == before + 800


def test_addresses_are_named_by_function(build: Build) -> None:
    require("zig")
    image = build()
    by_name = {function.name: function for function in image.functions}
    start = by_name["toy_invoke"].address
    assert image.locate(start) == "toy_invoke+0x0"
    assert image.locate(start + by_name["toy_invoke"].size - 2).startswith("toy_invoke+0x")
    assert image.locate(0x50000000) == "0x50000000"


def test_a_missing_cross_compiler_says_how_to_get_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolMissingError, match=r"pip install 'qutec\[sim\]'"):
        build_image(project, M4)
    with pytest.raises(ToolMissingError, match="apt install gcc-arm-none-eabi"):
        build_image(project, M4, compiler="gcc")
    with pytest.raises(ToolMissingError, match="apt install gcc"):
        build_host(project)


def test_a_missing_emulator_says_how_to_get_it(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    image = build()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolMissingError, match="apt install qemu-system-arm"):
        run_image(image, sample(0), sram_bytes=None, emulator="qemu")


def test_zig_missing_falls_back_to_gcc_only_for_auto(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("gcc")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert build_image(project, M4).compiler == "gcc"
    with pytest.raises(ToolMissingError, match="ziglang"):
        build_image(project, M4, compiler="zig")


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
def test_a_compile_error_shows_the_compilers_words(project: Path, compiler: Compiler) -> None:
    require(compiler)
    source = project / "toy.c"
    source.write_text(source.read_text() + "\nint broken(void) { return undeclared_thing; }\n")
    with pytest.raises(QutecError, match=r"toy\.c(?s:.*)error:.*undeclared_thing"):
        build_image(project, M4, compiler=compiler)


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
def test_a_warning_in_emitted_code_is_an_error(project: Path, compiler: Compiler) -> None:
    require(compiler)
    source = project / "toy.c"
    source.write_text(source.read_text() + "\nstatic int unused_function(int x) { return x; }\n")
    with pytest.raises(QutecError, match="unused_function"):
        build_image(project, M4, compiler=compiler)


def test_a_header_that_contradicts_the_report_does_not_compile(project: Path) -> None:
    report = json.loads((project / "report.json").read_text())
    report["arena_bytes"] = 96
    (project / "report.json").write_text(json.dumps(report))
    with pytest.raises(QutecError, match=r"TOY_ARENA_BYTES in toy\.h is not the 96 of report\.json"):
        build_host(project)


def test_a_folder_without_report_is_not_a_project(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no report\.json"):
        build_image(tmp_path, M4)


def test_a_folder_without_cmsis_nn_is_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a copy of CMSIS-NN"):
        build_host(project, cmsis_nn=tmp_path)


def test_files_go_with_the_image(build: Build) -> None:
    image = build()
    folder = image.elf.parent
    assert folder.is_dir()
    image.directory.cleanup()
    assert not folder.exists()


@pytest.mark.parametrize("sanitize", [False, True])
def test_the_host_computes_what_the_network_says(project: Path, sanitize: bool) -> None:
    host = build_host(project, sanitize=sanitize)
    samples = [sample(seed) for seed in range(20)]
    np.testing.assert_array_equal(host.run(samples[0])[0], expected(samples[0]))
    for inputs, (output,) in zip(samples, host.run_many(samples), strict=True):
        np.testing.assert_array_equal(output, expected(inputs))


def test_the_host_names_an_error_status(tmp_path: Path) -> None:
    host = build_host(FakeNetwork("status = TOY_ERROR_KERNEL;").write(tmp_path / "toy"))
    with pytest.raises(EmulationError, match="TOY_ERROR_KERNEL"):
        host.run(sample(0))


def test_sanitizers_see_one_byte_past_the_arena(tmp_path: Path) -> None:
    host = build_host(
        FakeNetwork("((volatile int8_t *)arena)[100] = 1;").write(tmp_path / "toy"), sanitize=True
    )
    with pytest.raises(EmulationError, match="heap-buffer-overflow"):
        host.run(sample(0))


FULLY_CONNECTED = """
    static const int8_t matrix[24 * 24] = {1, 2, 3, [24] = 4, 5, 6, [550] = 7};
    static const int32_t bias[24] = {10, 20, 30};
    const cmsis_nn_context none = {NULL, 0};
    const cmsis_nn_fc_params parameters = {3, 0, -5, {-128, 127}};
    const cmsis_nn_per_tensor_quant_params scale = {1518500250, -3};
    const cmsis_nn_dims vector = {1, 1, 1, 24}, weights_dims = {24, 1, 1, 24};
    if (arm_fully_connected_s8(&none, &parameters, &scale, &vector, arena, &weights_dims, matrix, &vector,
                               bias, &vector, arena + 72) != ARM_CMSIS_NN_SUCCESS) {
        status = TOY_ERROR_KERNEL;
    }
"""


def test_arms_library_takes_the_place_of_the_bundled_kernels(project: Path) -> None:
    path = os.environ.get("CMSIS_NN_PATH")
    if not path:
        pytest.skip("CMSIS_NN_PATH names no copy of CMSIS-NN")
    cmsis_nn = Path(path)
    source = (project / "toy.c").read_text()
    source = source.replace('#include "toy.h"', '#include "toy.h"\n#include "arm_nnfunctions.h"')
    source = source.replace("toy_status status = TOY_OK;", "toy_status status = TOY_OK;" + FULLY_CONNECTED)
    (project / "toy.c").write_text(source)
    # A bundled header that must not be found in place of Arm's.
    (project / "kernels" / "arm_nnfunctions.h").write_text("#error bundled header\n")
    (project / "kernels" / "arm_fully_connected_s8.c").write_text("#error bundled kernel\n")
    inputs = sample(4)
    host = build_host(project, cmsis_nn=cmsis_nn).run(inputs)[0]
    matrix = np.zeros(24 * 24, dtype=np.int64)
    matrix[[0, 1, 2, 24, 25, 26, 550]] = [1, 2, 3, 4, 5, 6, 7]
    bias = np.zeros(24)
    bias[:3] = 10, 20, 30
    # Rounding twice or once differs by at most one.
    exact = (matrix.reshape(24, 24) @ (inputs[0].astype(np.int64) + 3) + bias) * 1518500250 / 2**34 - 5
    np.testing.assert_allclose(host, np.clip(exact, -128, 127), atol=1.01)
    require("zig", "unicorn")
    image = build_image(project, M4, cmsis_nn=cmsis_nn)
    np.testing.assert_array_equal(run_image(image, inputs, sram_bytes=None).outputs[0], host)


MEMORY_CHECK = """
#include <stdint.h>
#include <stdio.h>
static uint8_t area[128], wanted[128];
static void fill(void) { for (int i = 0; i < 128; ++i) { area[i] = wanted[i] = (uint8_t)(i * 7 + 1); } }
static int same(void) { for (int i = 0; i < 128; ++i) { if (area[i] != wanted[i]) { return 0; } } return 1; }
int main(void)
{
    for (size_t to = 0; to < 60; ++to)
    for (size_t from = 0; from < 60; ++from)
    for (size_t n = 0; n < 45; ++n) {
        uint8_t copy[128];
        fill();
        for (size_t i = 0; i < n; ++i) { copy[i] = wanted[from + i]; }
        for (size_t i = 0; i < n; ++i) { wanted[to + i] = copy[i]; }
        if (to >= from + n || from >= to + n) {
            if (memcpy(area + to, area + from, n) != area + to || !same()) { return 1; }
            fill();
            for (size_t i = 0; i < n; ++i) { wanted[to + i] = copy[i]; }
        }
        if (memmove(area + to, area + from, n) != area + to || !same()) { return 2; }
        if (memcmp(area, wanted, 128) != 0) { return 3; }
        fill();
        for (size_t i = 0; i < n; ++i) { wanted[to + i] = (uint8_t)(from * 5); }
        if (memset(area + to, (int)(from * 5) + 256, n) != area + to || !same()) { return 4; }
        wanted[to] = (uint8_t)(area[to] + 1);
        if ((memcmp(area, wanted, 128) < 0) != (area[to] < wanted[to])) { return 5; }
    }
    return 0;
}
"""


def test_the_memory_functions_of_the_harness_are_right(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no cc on PATH")
    names = ("memcpy", "memmove", "memset", "memcmp")
    renamed = "".join(f"#define {name} sim_{name}\n" for name in names)
    source = tmp_path / "check.c"
    source.write_text(renamed + (HARNESS / "sim_libc.c").read_text() + MEMORY_CHECK)
    program = tmp_path / "check"
    subprocess.run([compiler, "-O2", "-fno-builtin", f"-I{HARNESS}", source, "-o", program], check=True)
    assert subprocess.run([program], check=False).returncode == 0


def test_the_warning_flags_treat_warnings_as_errors() -> None:
    assert {"-std=c99", "-Wconversion", "-Werror", "-pedantic"} <= set(warning_flags())
