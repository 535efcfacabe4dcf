"""C around all networks of a shared project: their contexts for the emulator, and an application to weigh."""

from __future__ import annotations

from qutec.simulate.project import EmittedProject

__all__ = ["turns_flash_source", "turns_source"]

# Kept by the linker script although no C code may call them.
_KEPT = '__attribute__((used, noinline, section(".sim_text")))'
_CALLS = ("init", "input", "invoke", "output", "check_scratch")


def turns_source(project: EmittedProject) -> str:
    """One context for each network, and a table that keeps what the host calls by name."""
    lines = ["// SPDX-License-Identifier: Apache-2.0", *_includes(project)]
    kept = []
    for number, network in enumerate(project.networks):
        lines.append(f"{network.prefix}_context sim_context_{number};")
        # Function pointers of any type may be converted to this one and back.
        kept += [f"(void (*)(void)){network.prefix}_{call}" for call in _CALLS]
    lines += [
        "void sim_idle(void);",
        f"{_KEPT} void sim_idle(void)",
        "{",
        "    for (;;)",
        "    {",
        '        __asm volatile("nop");',
        "    }",
        "}",
        "void (*sim_function(uint32_t index))(void);",
        f"{_KEPT} void (*sim_function(uint32_t index))(void)",
        "{",
        f"    static void (*const functions[])(void) = {{{', '.join(kept)}}};",
        "    return functions[index];",
        "}",
        "void *sim_context(uint32_t index);",
        f"{_KEPT} void *sim_context(uint32_t index)",
        "{",
        f"    static void *const contexts[] = {{{', '.join(_contexts(project))}}};",
        "    return contexts[index];",
        "}",
    ]
    return "\n".join([*lines, ""])


def turns_flash_source(project: EmittedProject) -> str:
    """An application that runs all networks in turn; every port is touched, so that nothing is dropped."""
    lines = [
        "// SPDX-License-Identifier: Apache-2.0",
        *_includes(project),
        f"static uint8_t arena[{project.arena_bytes}] __attribute__((aligned(16)));",
        "int main(void);",
        "int main(void)",
        "{",
        "    volatile int8_t *port = (volatile int8_t *)SIM_IO_BASE;",
    ]
    for number, network in enumerate(project.networks):
        prefix, context = network.prefix, f"context_{number}"
        lines += [
            f"    {prefix}_context {context};",
            f"    if ({prefix}_init(&{context}, arena, sizeof arena) != {prefix.upper()}_OK) {{ return 1; }}",
        ]
        for index, size in enumerate(network.input_bytes):
            lines += [
                f"    for (uint32_t i = 0; i < {size}u; ++i)",
                f"    {{ {prefix}_input(&{context}, {index})[i] = *port; }}",
            ]
        lines.append(f"    if ({prefix}_invoke(&{context}) != {prefix.upper()}_OK) {{ return 1; }}")
        for index, size in enumerate(network.output_bytes):
            lines += [
                f"    for (uint32_t i = 0; i < {size}u; ++i)",
                f"    {{ *port = {prefix}_output(&{context}, {index})[i]; }}",
            ]
    return "\n".join([*lines, "    return 0;", "}", ""])


def _includes(project: EmittedProject) -> list[str]:
    return ["#include <stdint.h>", *(f'#include "{network.prefix}.h"' for network in project.networks)]


def _contexts(project: EmittedProject) -> list[str]:
    return [f"&sim_context_{number}" for number in range(len(project.networks))]
