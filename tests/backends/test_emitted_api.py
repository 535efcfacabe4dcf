"""The C API as an application uses it: error codes, callbacks, networks and instances side by side."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from qutec.program import Call, Lookup, Program, StoredArray, Tensor
from qutec.reference import run_program
from tests.backends.emitted import emit, every_kind, flat, program_of, random_inputs

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

FLAGS = (
    "-std=c99",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-O1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover",
)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Standard output; a failure shows what the command said."""
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    words = [str(part) for part in command]
    result = subprocess.run(words, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    assert result.returncode == 0, f"status {result.returncode}: {result.stdout[:2000]}{result.stderr[:4000]}"
    return result.stdout


def static_library(project: Path, name: str, folder: Path) -> Path:
    """lib<name>.a of a project: the network and the kernels that came with it."""
    folder.mkdir(parents=True, exist_ok=True)
    objects = []
    for source in sorted([*project.glob("*.c"), *(project / "kernels").glob("*.c")]):
        objects.append(folder / f"{source.stem}.o")
        run("gcc", *FLAGS, f"-I{project}", f"-I{project / 'kernels'}", "-c", source, "-o", objects[-1])
    library = folder / f"lib{name}.a"
    run("ar", "rcs", library, *objects)
    return library


def c_array(name: str, values: StoredArray) -> str:
    """A const array of these values."""
    flat_values = values.reshape(-1)
    return (
        f"static const int8_t {name}[{flat_values.size}] = {{{', '.join(map(str, flat_values.tolist()))}}};\n"
    )


ERRORS = """
#include <stdio.h>
#include "net.h"
#define WANT(condition) do { if (!(condition)) { printf("%s\\n", #condition); return 1; } } while (0)
static int32_t order[NET_LAYER_COUNT + 1];
static int32_t seen;
static void note(void *user, int32_t layer)
{
    if (user == order && seen <= NET_LAYER_COUNT) { order[seen++] = layer; }
}
int main(void)
{
    static union { uint8_t bytes[NET_ARENA_BYTES + 16]; long double aligner; } memory;
    uint8_t *arena = memory.bytes + (16 - (uintptr_t)memory.bytes % 16) % 16;
    net_context context = {0};
    WANT(net_invoke(&context) == NET_ERROR_ARGUMENT);
    WANT(net_input(&context, 0) == NULL && net_output(&context, 0) == NULL);
    WANT(net_init(NULL, arena, NET_ARENA_BYTES) == NET_ERROR_ARGUMENT);
    WANT(net_init(&context, NULL, NET_ARENA_BYTES) == NET_ERROR_ARGUMENT);
    WANT(net_init(&context, arena, NET_ARENA_BYTES) == NET_OK);
    WANT(context.on_layer == NULL);
    WANT(net_init(&context, arena, NET_ARENA_BYTES - 1) == NET_ERROR_ARENA_SIZE);
    WANT(context.arena == NULL && net_invoke(&context) == NET_ERROR_ARGUMENT);
    WANT(net_init(&context, arena, 0) == NET_ERROR_ARENA_SIZE);
    for (int shift = 1; shift < 16; shift++) {
        WANT(net_init(&context, arena + shift, NET_ARENA_BYTES) == NET_ERROR_ARENA_ALIGNMENT);
    }
    WANT(net_init(&context, arena, NET_ARENA_BYTES + 1) == NET_OK);
    WANT(net_invoke(NULL) == NET_ERROR_ARGUMENT);
    WANT(net_input(NULL, 0) == NULL && net_output(NULL, 0) == NULL);
    WANT(net_input(&context, -1) == NULL && net_input(&context, NET_INPUT_COUNT) == NULL);
    WANT(net_output(&context, -1) == NULL && net_output(&context, NET_OUTPUT_COUNT) == NULL);
    WANT(net_input(&context, INT32_MAX) == NULL && net_output(&context, INT32_MIN) == NULL);
    for (int32_t i = 0; i < NET_INPUT_COUNT; i++) {
        const uint8_t *place = (const uint8_t *)net_input(&context, i);
        WANT(place >= arena && place < arena + NET_ARENA_BYTES);
    }
    context.on_layer = note;
    context.user = order;
    WANT(net_invoke(&context) == NET_OK);
    WANT(seen == NET_LAYER_COUNT);
    for (int32_t i = 0; i < NET_LAYER_COUNT; i++) { WANT(order[i] == i); }
    WANT(net_check_scratch() == NET_OK);
    WANT((uintptr_t)net_default_arena % NET_ARENA_ALIGN == 0 && sizeof net_default_arena == NET_ARENA_BYTES);
    return 0;
}
"""


def test_error_codes_and_callback(tmp_path: Path) -> None:
    project = emit(program_of(every_kind()), tmp_path / "net")
    library = static_library(project, "net", tmp_path / "objects")
    (tmp_path / "main.c").write_text(ERRORS)
    run("gcc", *FLAGS, f"-I{project}", tmp_path / "main.c", library, "-o", tmp_path / "app")
    run(tmp_path / "app")


def test_a_library_that_wants_more_scratch_is_found_out(tmp_path: Path) -> None:
    project = emit(program_of(every_kind()), tmp_path / "net")
    getter = project / "kernels" / "arm_convolve_wrapper_s8_get_buffer_size.c"
    getter.write_text(getter.read_text().replace("return ", "return 100000 + "))
    library = static_library(project, "net", tmp_path / "objects")
    main = '#include "net.h"\nint main(void) { return net_check_scratch() != NET_ERROR_SCRATCH; }\n'
    (tmp_path / "main.c").write_text(main)
    run("gcc", *FLAGS, f"-I{project}", tmp_path / "main.c", library, "-o", tmp_path / "app")
    run(tmp_path / "app")


BOTH = """
#include <stdio.h>
#include <string.h>
#include "one.h"
#include "two.h"
#include "data.h"
#define WANT(condition) do { if (!(condition)) { printf("%s\\n", #condition); return 1; } } while (0)
#define ALIGNED __attribute__((aligned(16)))
#define LARGER (ONE_ARENA_BYTES > TWO_ARENA_BYTES ? ONE_ARENA_BYTES : TWO_ARENA_BYTES)
static uint8_t arena_a[ONE_ARENA_BYTES] ALIGNED, arena_b[ONE_ARENA_BYTES] ALIGNED, shared[LARGER] ALIGNED;

static const int8_t *const inputs[2][ONE_INPUT_COUNT] = {{ONE_A_INPUTS}, {ONE_B_INPUTS}};
static const int8_t *const outputs[2][ONE_OUTPUT_COUNT] = {{ONE_A_OUTPUTS}, {ONE_B_OUTPUTS}};
static const size_t input_bytes[ONE_INPUT_COUNT] = {ONE_INPUT_SIZES};
static const size_t output_bytes[ONE_OUTPUT_COUNT] = {ONE_OUTPUT_SIZES};

static void load(const one_context *context, int which)
{
    for (int32_t i = 0; i < ONE_INPUT_COUNT; i++) {
        memcpy(one_input(context, i), inputs[which][i], input_bytes[i]);
    }
}

static int right(const one_context *context, int which)
{
    for (int32_t i = 0; i < ONE_OUTPUT_COUNT; i++) {
        if (memcmp(one_output(context, i), outputs[which][i], output_bytes[i]) != 0) { return 0; }
    }
    return 1;
}

static one_context *other;
static void interleave(void *user, int32_t layer)
{
    /* The second instance runs as a whole between two layers of the first. */
    if (layer == 3) { *(int *)user = one_invoke(other) == ONE_OK; }
}

int main(void)
{
    one_context a, b;
    two_context c;
    WANT(one_init(&a, arena_a, sizeof arena_a) == ONE_OK && one_init(&b, arena_b, sizeof arena_b) == ONE_OK);
    load(&a, 0);
    load(&b, 1);
    int inner = 0;
    other = &b;
    a.on_layer = interleave;
    a.user = &inner;
    WANT(one_invoke(&a) == ONE_OK && inner);
    WANT(right(&a, 0) && right(&b, 1));

    for (int turn = 0; turn < 2; turn++) {
        memset(shared, 0x55 + turn, sizeof shared);
        WANT(one_init(&a, shared, sizeof shared) == ONE_OK);
        load(&a, turn);
        WANT(one_invoke(&a) == ONE_OK && right(&a, turn));
        WANT(two_init(&c, shared, sizeof shared) == TWO_OK);
        memcpy(two_input(&c, 0), two_in, sizeof two_in);
        WANT(two_invoke(&c) == TWO_OK && memcmp(two_output(&c, 0), two_out, sizeof two_out) == 0);
    }
    return 0;
}
"""


def network_data(one: Program, two: Program) -> str:
    """Inputs and the outputs that the reference computes from them, as C."""
    text = ["#include <stdint.h>\n"]
    for name, seed in (("a", 1), ("b", 2)):
        inputs = random_inputs(one, seed=seed)
        outputs = flat(run_program(one, inputs))
        for what, arrays in (("in", inputs), ("out", outputs)):
            text += [c_array(f"one_{name}_{what}_{i}", values) for i, values in enumerate(arrays)]
            listed = ", ".join(f"one_{name}_{what}_{i}" for i in range(len(arrays)))
            text.append(f"#define ONE_{name.upper()}_{what.upper()}PUTS {listed}\n")
    text.append(f"#define ONE_INPUT_SIZES {', '.join(str(port.size) for port in one.inputs)}\n")
    text.append(f"#define ONE_OUTPUT_SIZES {', '.join(str(port.size) for port in one.outputs)}\n")
    inputs = random_inputs(two, seed=3)
    text += [c_array("two_in", inputs[0]), c_array("two_out", run_program(two, inputs)[0])]
    return "".join(text)


def small() -> Program:
    table = np.arange(127, -129, -1).astype(np.int8)
    calls: list[Call] = [Lookup("flip", Tensor("x"), Tensor("y"), 40, table), every_kind(9)[0]]
    return program_of(calls)


def test_two_networks_and_two_instances_live_side_by_side(tmp_path: Path) -> None:
    """Both libraries bring the kernels that they need; the linker takes each from the first that has it."""
    one, two = program_of(every_kind(3)), small()
    folders = [emit(program, tmp_path / name, prefix=name) for name, program in (("one", one), ("two", two))]
    libraries = [
        static_library(folder, folder.name, tmp_path / "objects" / folder.name) for folder in folders
    ]
    symbols = [set(run("nm", "--defined-only", library).split()) for library in libraries]
    assert "arm_convolve_wrapper_s8" in symbols[0] & symbols[1]
    (tmp_path / "data.h").write_text(network_data(one, two))
    (tmp_path / "main.c").write_text(BOTH)
    includes = [f"-I{folder}" for folder in (*folders, tmp_path)]
    for order in (libraries, libraries[::-1]):
        run("gcc", *FLAGS, *includes, tmp_path / "main.c", *order, "-o", tmp_path / "app")
        run(tmp_path / "app")
