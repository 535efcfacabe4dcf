"""A hand-written project with the API that the C backend emits, small enough to know every number of it.

Two layers on two inputs of 24 bytes: arena[48..72) = a + b, then output = 2 * that at arena[72..96), both
modulo 256; the arena has 100 bytes. `FakeNetwork` takes C statements to run inside the second layer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

SIZE = 24
ARENA_BYTES = 100

_HEADER = """// SPDX-License-Identifier: Apache-2.0
#ifndef TOY_H
#define TOY_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#define TOY_ARENA_BYTES 100
#define TOY_ARENA_ALIGN 16
#define TOY_INPUT_COUNT 2
#define TOY_OUTPUT_COUNT 1
#define TOY_LAYER_COUNT 2
#define TOY_INPUT_0_BYTES 24
#define TOY_INPUT_1_BYTES 24
#define TOY_OUTPUT_0_BYTES 24
typedef enum {
    TOY_OK = 0,
    TOY_ERROR_ARGUMENT,
    TOY_ERROR_ARENA_SIZE,
    TOY_ERROR_ARENA_ALIGNMENT,
    TOY_ERROR_SCRATCH,
    TOY_ERROR_KERNEL
} toy_status;
typedef void (*toy_layer_callback)(void *user, int32_t layer);
typedef struct {
    uint8_t *arena;
    toy_layer_callback on_layer;
    void *user;
} toy_context;
toy_status toy_init(toy_context *context, void *arena, size_t arena_bytes);
int8_t *toy_input(const toy_context *context, int32_t index);
const int8_t *toy_output(const toy_context *context, int32_t index);
toy_status toy_invoke(toy_context *context);
toy_status toy_check_scratch(void);
#ifdef __cplusplus
}
#endif
#endif
"""

_SOURCE = """// SPDX-License-Identifier: Apache-2.0
#include "toy.h"
#include "qute_kernels.h"

const int8_t *toy_weights(void);

toy_status toy_init(toy_context *context, void *arena, size_t arena_bytes)
{
    if (context == NULL || arena == NULL) {
        return TOY_ERROR_ARGUMENT;
    }
    if (arena_bytes < TOY_ARENA_BYTES) {
        return TOY_ERROR_ARENA_SIZE;
    }
    if ((uintptr_t)arena % TOY_ARENA_ALIGN != 0) {
        return TOY_ERROR_ARENA_ALIGNMENT;
    }
    context->arena = arena;
    context->on_layer = NULL;
    context->user = NULL;
    return TOY_OK;
}

int8_t *toy_input(const toy_context *context, int32_t index)
{
    return (int8_t *)context->arena + 24 * index;
}

const int8_t *toy_output(const toy_context *context, int32_t index)
{
    (void)index;
    return (const int8_t *)context->arena + 72;
}

static void finished(toy_context *context, int32_t layer)
{
    if (context->on_layer != NULL) {
        context->on_layer(context->user, layer);
    }
}

toy_status toy_invoke(toy_context *context)
{
    int8_t *arena = (int8_t *)context->arena;
    qute_toy_add_s8(arena, arena + 24, arena + 48, 24);
    finished(context, 0);
    qute_toy_add_s8(arena + 48, arena + 48, arena + 72, 24);
    toy_status status = TOY_OK;
    const volatile int8_t *weights = toy_weights();
    (void)weights;
    @STATEMENTS@
    finished(context, 1);
    return status;
}

toy_status toy_check_scratch(void)
{
    return @SCRATCH@;
}
"""

_WEIGHTS = """// SPDX-License-Identifier: Apache-2.0
#include "toy.h"
const int8_t *toy_weights(void);
static const int8_t table[1000] = {1, 2, 3};
const int8_t *toy_weights(void)
{
    return table;
}
"""

_KERNEL_HEADER = """// SPDX-License-Identifier: Apache-2.0
#ifndef QUTE_KERNELS_H
#define QUTE_KERNELS_H
#include <stdint.h>
void qute_toy_add_s8(const int8_t *left, const int8_t *right, int8_t *output, int32_t count);
uint32_t qute_toy_spin(uint32_t turns);
void qute_toy_poke(uintptr_t address);
int8_t qute_toy_peek(uintptr_t address);
void qute_toy_use_stack(void);
#endif
"""

# The assembly loop takes 3 instructions a turn; with the return, 3 * turns + 1.
_KERNEL = """// SPDX-License-Identifier: Apache-2.0
#include "qute_kernels.h"

#include <string.h>

void qute_toy_add_s8(const int8_t *left, const int8_t *right, int8_t *output, int32_t count)
{
    for (int32_t i = 0; i < count; ++i) {
        output[i] = (int8_t)(uint8_t)((uint8_t)left[i] + (uint8_t)right[i]);
    }
}

#ifdef __arm__
// qute_toy_use_stack touches the byte 300 below the stack pointer, and leaves the rest alone.
__asm(".syntax unified\\n"
      ".section .text.qute_toy_assembly, \\"ax\\", %progbits\\n"
      ".balign 4\\n"
      ".global qute_toy_spin\\n"
      ".type qute_toy_spin, %function\\n"
      ".thumb_func\\n"
      "qute_toy_spin:\\n"
      "1: nop\\n"
      "subs r0, r0, #1\\n"
      "bne 1b\\n"
      "bx lr\\n"
      ".size qute_toy_spin, . - qute_toy_spin\\n"
      ".global qute_toy_use_stack\\n"
      ".type qute_toy_use_stack, %function\\n"
      ".thumb_func\\n"
      "qute_toy_use_stack:\\n"
      "sub sp, #300\\n"
      "mov r3, sp\\n"
      "strb r3, [r3]\\n"
      "add sp, #300\\n"
      "bx lr\\n"
      ".size qute_toy_use_stack, . - qute_toy_use_stack\\n"
      ".text\\n");
#endif

__attribute__((noinline)) void qute_toy_poke(uintptr_t address)
{
    *(volatile int8_t *)address = 1;
}

__attribute__((noinline)) int8_t qute_toy_peek(uintptr_t address)
{
    return *(const volatile int8_t *)address;
}
"""


@dataclass(frozen=True)
class FakeNetwork:
    """What to put into the project; `statements` run in layer 1 with `arena` and `status` in scope."""

    statements: str = ""
    scratch_status: str = "TOY_OK"

    def write(self, folder: Path) -> Path:
        """Write the project and return its folder."""
        (folder / "kernels").mkdir(parents=True)
        source = _SOURCE.replace("@STATEMENTS@", self.statements).replace("@SCRATCH@", self.scratch_status)
        files = {
            "toy.h": _HEADER,
            "toy.c": source,
            "toy_weights.c": _WEIGHTS,
            "kernels/qute_kernels.h": _KERNEL_HEADER,
            "kernels/qute_toy_add_s8.c": _KERNEL,
        }
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
        port = {"scale": 1.0, "zero_point": 0, "shape": [1, SIZE], "bytes": SIZE}
        report = {
            "schema_version": 1,
            "symbol_prefix": "toy",
            "target": "cortex-m4",
            "arena_bytes": ARENA_BYTES,
            "sram_budget_bytes": None,
            "inputs": [{"name": "a", **port}, {"name": "b", **port}],
            "outputs": [{"name": "y", **port}],
            "layers": [{"name": name, "kernel": "qute_toy_add_s8"} for name in ("add", "twice")],
        }
        (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
        return folder


def sample(seed: int) -> list[npt.NDArray[np.int8]]:
    """Random inputs of the fake network."""
    generator = np.random.default_rng(seed)
    return [generator.integers(-128, 128, SIZE, dtype=np.int8) for _ in range(2)]


def expected(inputs: list[npt.NDArray[np.int8]]) -> npt.NDArray[np.int8]:
    """What the fake network computes."""
    left, right = inputs
    return 2 * (left + right)
