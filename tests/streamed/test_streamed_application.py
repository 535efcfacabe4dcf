"""A streamed input as an application uses it: by callback, row after row, with errors, in C and C++."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from qutec.ports import PortInfo
from tests.backends.test_emitted_api import FLAGS, run, static_library
from tests.backends.test_emitted_warnings import (
    CORES,
    MORE_WARNINGS,
    compile_each,
    need,
)
from tests.streamed.networks import random_inputs, streamed

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

APPLICATION = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "net.h"
#define WANT(condition) do { if (!(condition)) { fprintf(stderr, "%s\\n", #condition); return 1; } } while (0)

static int8_t sample[2][NET_INPUT_0_BYTES];
static int8_t first[NET_OUTPUT_0_BYTES];

typedef struct
{
    const int8_t *rows;
    int32_t asked;
    int32_t fails_at;
} camera;

static int32_t read_row(void *user, int32_t row, int8_t *bytes)
{
    camera *const from = (camera *)user;
    if (row != from->asked || row == from->fails_at)
    {
        return -1;
    }
    from->asked++;
    memcpy(bytes, from->rows + row * NET_INPUT_0_ROW_BYTES, NET_INPUT_0_ROW_BYTES);
    return 0;
}

/* Feeds row `row` of a sample; whether the network said what it has to. */
static int fed(net_context *context, const int8_t *rows, int32_t row)
{
    int8_t *const place = net_next_row(context);
    const int asks_for_the_same = place == net_next_row(context);
    memcpy(place, rows + row * NET_INPUT_0_ROW_BYTES, NET_INPUT_0_ROW_BYTES);
    const net_status wanted = row < NET_INPUT_0_ROWS - 1 ? NET_NEEDS_ROW : NET_OK;
    return asks_for_the_same && net_feed_row(context) == wanted;
}

int main(void)
{
    uint8_t *const arenas[2] = {aligned_alloc(16, NET_ARENA_BYTES), aligned_alloc(16, NET_ARENA_BYTES)};
    net_context a, b;
    WANT(fread(sample, 1, sizeof sample, stdin) == sizeof sample);
    WANT(net_init(&a, arenas[0], NET_ARENA_BYTES) == NET_OK);
    WANT(net_init(&b, arenas[1], NET_ARENA_BYTES) == NET_OK);
    memset(arenas[0], 0x55, NET_ARENA_BYTES);
    memset(arenas[1], 0xAA, NET_ARENA_BYTES);

    /* By callback. */
    camera camera_a = {sample[0], 0, -1};
    WANT(net_invoke(&a) == NET_ERROR_ARGUMENT);
    a.read_row = read_row;
    a.read_row_user = &camera_a;
    WANT(net_invoke(&a) == NET_OK && camera_a.asked == NET_INPUT_0_ROWS);
    memcpy(first, net_output(&a, 0), sizeof first);
    fwrite(first, 1, sizeof first, stdout);

    /* A row that cannot be had ends the inference; the next one is not the worse for it. */
    for (int32_t row = 0; row < NET_INPUT_0_ROWS; row++)
    {
        camera_a = (camera){sample[1], 0, row};
        WANT(net_invoke(&a) == NET_ERROR_INPUT && camera_a.asked == row);
    }
    camera_a = (camera){sample[0], 0, -1};
    WANT(net_invoke(&a) == NET_OK && memcmp(first, net_output(&a, 0), sizeof first) == 0);

    /* Two instances are fed in turn, one of them given up after some rows and begun again. */
    for (int32_t row = 0; row < NET_INPUT_0_ROWS / 2; row++)
    {
        WANT(fed(&b, sample[0], row));
    }
    net_restart(&b);
    for (int32_t row = 0; row < NET_INPUT_0_ROWS; row++)
    {
        WANT(fed(&a, sample[0], row) && fed(&b, sample[1], row));
    }
    WANT(memcmp(first, net_output(&a, 0), sizeof first) == 0);
    fwrite(net_output(&b, 0), 1, NET_OUTPUT_0_BYTES, stdout);

    /* A callback after rows that were fed begins with the first row. */
    WANT(fed(&a, sample[1], 0) && fed(&a, sample[1], 1));
    camera_a = (camera){sample[0], 0, -1};
    WANT(net_invoke(&a) == NET_OK && camera_a.asked == NET_INPUT_0_ROWS);
    WANT(memcmp(first, net_output(&a, 0), sizeof first) == 0);

    /* Nothing goes without arena or context. */
    net_context none = {0};
    WANT(net_next_row(NULL) == NULL && net_next_row(&none) == NULL);
    WANT(net_feed_row(NULL) == NET_ERROR_ARGUMENT && net_feed_row(&none) == NET_ERROR_ARGUMENT);
    WANT(net_invoke(NULL) == NET_ERROR_ARGUMENT);
    net_restart(NULL);
    free(arenas[0]);
    free(arenas[1]);
    return 0;
}
"""


@pytest.mark.parametrize("optimize", ["speed", "sram"])
@pytest.mark.parametrize("seed", range(6))
def test_an_application_reads_feeds_fails_and_starts_again(seed: int, optimize: str, tmp_path: Path) -> None:
    build = streamed(seed, optimize)
    project = build.save(tmp_path / "net")
    library = static_library(project, "net", tmp_path / "objects")
    (tmp_path / "main.c").write_text(APPLICATION)
    run("gcc", *FLAGS, "-std=c11", f"-I{project}", tmp_path / "main.c", library, "-o", tmp_path / "app")
    x = random_inputs(build, 2)
    port, output = PortInfo.of(build.program.inputs[0]), PortInfo.of(build.program.outputs[0])
    result = subprocess.run(
        [tmp_path / "app"],
        input=b"".join(port.to_memory(sample).tobytes() for sample in x),
        capture_output=True,
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
        check=False,
    )
    assert result.returncode == 0, result.stderr.decode()
    found = np.frombuffer(result.stdout, np.int8).reshape(2, -1)
    for flat, expected in zip(found, build.run_int8(x)[output.name], strict=True):
        np.testing.assert_array_equal(output.from_memory(flat).ravel(), expected.ravel())


@pytest.mark.parametrize("core", sorted(CORES))
def test_the_compilers_warn_of_nothing(core: str, tmp_path: Path) -> None:
    project = streamed(2).save(tmp_path / "net")
    gcc, arm = need("gcc"), need("arm-none-eabi-gcc")
    compile_each((arm,), (*CORES[core], "-O3"), project, tmp_path / core)
    objects = compile_each((gcc,), ("-O2",), project, tmp_path / "host")
    flags = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", *MORE_WARNINGS, f"-I{project}")
    run(gcc, *flags, project / "example" / "main.c", *objects, "-o", tmp_path / "example")
    assert "failed" not in run(tmp_path / "example")


def test_the_example_of_the_cmake_project_prints_the_answer(tmp_path: Path) -> None:
    need("cmake")
    build = streamed(1)
    project = build.save(tmp_path / "net")
    run("cmake", "-S", project, "-B", tmp_path / "build")
    run("cmake", "--build", tmp_path / "build")
    lines = run(tmp_path / "build" / "net_example").splitlines()
    text = (project / "example" / "sample_input.h").read_text()
    numbers = text[text.index("{") + 1 : text.index("};")].replace("\n", " ").split(",")
    stored = np.array([int(n) for n in numbers if n.strip()], np.int8)
    port, output = PortInfo.of(build.program.inputs[0]), build.program.outputs[0]
    expected = build.run_int8(port.from_memory(stored)[0])[output.name].ravel()
    assert lines[0] == output.name
    assert [int(line.split()[0]) for line in lines[1:]] == expected.tolist()


CPP_MAIN = """
#include "net.h"
#include <cstdint>
#include <cstring>
static std::int32_t rows = 0;
static std::int32_t read_row(void *user, std::int32_t row, std::int8_t *bytes)
{
    std::memset(bytes, *static_cast<int *>(user), NET_INPUT_0_ROW_BYTES);
    return row == rows++ ? 0 : 1;
}
int main()
{
    alignas(NET_ARENA_ALIGN) static std::uint8_t arena[NET_ARENA_BYTES];
    net_context context;
    int three = 3;
    if (net_init(&context, arena, sizeof arena) != NET_OK) { return 1; }
    context.read_row = read_row;
    context.read_row_user = &three;
    if (net_invoke(&context) != NET_OK || rows != NET_INPUT_0_ROWS) { return 2; }
    static_assert(NET_INPUT_0_ROWS * NET_INPUT_0_ROW_BYTES == NET_INPUT_0_BYTES, "rows");
    for (int row = 0; row < NET_INPUT_0_ROWS; row++)
    {
        std::memset(net_next_row(&context), 3, NET_INPUT_0_ROW_BYTES);
        if (net_feed_row(&context) != (row < NET_INPUT_0_ROWS - 1 ? NET_NEEDS_ROW : NET_OK)) { return 3; }
    }
    return net_output(&context, 0) == nullptr ? 4 : 0;
}
"""


def test_the_api_is_usable_from_cpp(tmp_path: Path) -> None:
    gxx, gcc = need("g++"), need("gcc")
    project = streamed(0).save(tmp_path / "net")
    objects = compile_each((gcc,), ("-O1",), project, tmp_path / "objects")
    (tmp_path / "main.cpp").write_text(CPP_MAIN)
    flags = ("-std=c++11", "-Wall", "-Wextra", "-Wshadow", "-Wold-style-cast", "-pedantic", "-Werror")
    run(gxx, *flags, f"-I{project}", tmp_path / "main.cpp", *objects, "-o", tmp_path / "app")
    run(tmp_path / "app")
