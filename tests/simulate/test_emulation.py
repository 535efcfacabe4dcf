"""Both emulators on a network whose every number is known."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from qutec.errors import DoesNotFitError, UsageError
from qutec.simulate import Compiler, EmulationError, Emulator, run_image, run_many
from qutec.simulate.painting import pattern, written
from qutec.simulate.thumb import count_instructions
from tests.simulate.conftest import Build, require
from tests.simulate.fake_project import expected, sample

pytestmark = pytest.mark.emulated

CORES = tuple(f"cortex-{name}" for name in ("m0", "m0plus", "m3", "m4", "m7", "m33", "m55", "m85"))
EMULATORS: tuple[Emulator, ...] = ("unicorn", "qemu")
SPIN = 100_000


@pytest.mark.parametrize("compiler", ["zig", "gcc"])
@pytest.mark.parametrize("core", CORES)
def test_every_core_runs_in_every_emulator_that_has_it(build: Build, core: str, compiler: Compiler) -> None:
    image = build(f"(void)qute_toy_spin({SPIN}u);", core=core, compiler=compiler)
    inputs = sample(1)
    results = {}
    for emulator in EMULATORS:
        if emulator == "unicorn" and core in ("cortex-m55", "cortex-m85"):
            continue
        require(emulator)
        results[emulator] = run_image(image, inputs, sram_bytes=8192, emulator=emulator)
    for result in results.values():
        np.testing.assert_array_equal(result.outputs[0], expected(inputs))
        assert [layer for layer, _ in result.layers] == [0, 1]
        assert result.instructions is not None
        # The assembly loop alone; the additions take some hundred more.
        assert 3 * SPIN < result.instructions < 3 * SPIN + 1000
        assert 3 * SPIN - result.resolution <= result.layers[1][1] < 3 * SPIN + 1000
        assert result.arena_high_water_bytes == 96
    if len(results) == len(EMULATORS):
        exact, ticked = results["unicorn"], results["qemu"]
        assert exact.instructions is not None
        assert ticked.instructions is not None
        # QEMU's figure is a difference of two tick counts, with some instructions around it to read them.
        assert abs(exact.instructions - ticked.instructions) <= ticked.resolution + 16
        assert exact.stack_bytes == ticked.stack_bytes


def test_a_known_loop_is_counted_exactly(build: Build) -> None:
    require("unicorn")
    counts = []
    for turns in (300, 600):
        image = build(f"(void)qute_toy_spin({turns}u);")
        result = run_image(image, sample(0), sram_bytes=None)
        assert result.instructions is not None
        counts.append((result.instructions, result.layers[1][1]))
    assert counts[1][0] - counts[0][0] == 3 * 300
    assert counts[1][1] - counts[0][1] == 3 * 300


def test_layers_sum_up_to_the_total_but_for_the_callback(build: Build) -> None:
    require("unicorn")
    result = run_image(build(), sample(0), sram_bytes=None)
    assert result.instructions is not None
    difference = sum(count for _, count in result.layers) - result.instructions
    # The call of the callback is in the layers, the end of the inference is not.
    assert abs(difference) < 40


@pytest.mark.parametrize("emulator", EMULATORS)
def test_counting_can_be_left_out(build: Build, emulator: Emulator) -> None:
    require(emulator)
    result = run_image(build(), sample(0), sram_bytes=None, emulator=emulator, count=False)
    assert result.instructions is None
    assert result.layers == ()
    assert result.arena_high_water_bytes == 96


@pytest.mark.parametrize("emulator", EMULATORS)
def test_stack_high_water_has_the_depth_of_the_callee(build: Build, emulator: Emulator) -> None:
    require(emulator)
    # The callee writes one byte, 300 below its stack pointer; the caller's frame comes on top.
    result = run_image(build("qute_toy_use_stack();"), sample(0), sram_bytes=None, emulator=emulator)
    assert 300 <= result.stack_bytes <= 300 + 80
    shallow = run_image(build(), sample(0), sram_bytes=None, emulator=emulator)
    assert shallow.stack_bytes <= 80


@pytest.mark.parametrize("emulator", EMULATORS)
@pytest.mark.parametrize("value", [0x00, 0xFF, 0x5A])
def test_the_last_arena_byte_is_seen_whatever_is_written(
    build: Build, emulator: Emulator, value: int
) -> None:
    require(emulator)
    image = build(f"*(volatile uint8_t *)&arena[99] = {value}u;")
    result = run_image(image, sample(0), sram_bytes=None, emulator=emulator)
    assert result.arena_high_water_bytes == 100


def test_painted_values_are_written_unnoticed_in_one_painting_only() -> None:
    address, size = 0x20000003, 61
    paint = pattern(address, size, 0)
    assert not written(address, paint, 0).any()
    assert written(address, paint, 1).all()
    # A piece of a longer painting is the painting of that piece.
    assert pattern(0x20000000, 100, 1)[3:64] == pattern(address, size, 1)


OVERRUN = "volatile uint8_t *end = (volatile uint8_t *)arena + {offset}; qute_toy_poke((uintptr_t)end);"


@pytest.mark.parametrize(("offset", "past"), [(100, 0), (111, 11), (112, 12), (5000, 4900)])
def test_unicorn_names_the_function_that_writes_past_the_arena(build: Build, offset: int, past: int) -> None:
    require("unicorn")
    image = build(OVERRUN.format(offset=offset))
    address = image.arena_address + offset
    message = rf"write of 1 bytes to 0x{address:08x} by qute_toy_poke\+0x[0-9a-f]+: {past} bytes past the end"
    for samples in (1, 2):
        with pytest.raises(EmulationError, match=message):
            run_many(image, [sample(i) for i in range(samples)])
    with pytest.raises(EmulationError, match=message):
        run_image(image, sample(0), sram_bytes=4096)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(("offset", "past"), [(100, 1), (112, 13)])
def test_qemu_sees_a_write_past_the_arena(build: Build, core: str, offset: int, past: int) -> None:
    require("qemu", "gcc")
    image = build(OVERRUN.format(offset=offset), core=core, compiler="gcc")
    message = rf"wrote {past} bytes past the end of the arena|fault .*in qute_toy_poke\+0x"
    with pytest.raises(EmulationError, match=message):
        run_image(image, sample(0), sram_bytes=4096, emulator="qemu")


def test_unicorn_refuses_a_write_to_flash(build: Build) -> None:
    require("unicorn")
    image = build("qute_toy_poke((uintptr_t)toy_weights());")
    with pytest.raises(EmulationError, match=r"by qute_toy_poke\+0x[0-9a-f]+: flash is read only"):
        run_image(image, sample(0), sram_bytes=4096)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "(void)qute_toy_peek(0);",
            r"read of 1 bytes from 0x00000000 by qute_toy_peek\+0x[0-9a-f]+: null pointer",
        ),
        ("(void)qute_toy_peek(0x50000000u);", "outside flash and SRAM"),
        ("((void (*)(void))(uintptr_t)0x50000001u)();", r"jump to 0x50000000 by toy_invoke\+0x"),
        (
            "((void (*)(void))((uintptr_t)arena + 1u))();",
            r"jump to 0x[0-9a-f]+ by toy_invoke.*not executable",
        ),
        ('__asm volatile("udf #0");', r"in toy_invoke\+0x"),
    ],
)
def test_unicorn_names_wild_accesses(build: Build, statement: str, message: str) -> None:
    require("unicorn")
    with pytest.raises(EmulationError, match=message):
        run_image(build(statement), sample(0), sram_bytes=4096)


def test_unicorn_refuses_unaligned_words_where_the_core_does(build: Build) -> None:
    require("unicorn")
    statement = "*(volatile uint32_t *)(void *)(arena + 90) = 1u;"
    run_image(build(statement, core="cortex-m4"), sample(0), sram_bytes=4096)
    with pytest.raises(EmulationError, match=r"unaligned write of 4 bytes to 0x[0-9a-f]+ by toy_invoke\+0x"):
        run_image(build(statement, core="cortex-m0plus"), sample(0), sram_bytes=4096)


@pytest.mark.parametrize("emulator", EMULATORS)
def test_exactly_the_given_sram_is_there_for_the_stack(build: Build, emulator: Emulator) -> None:
    require(emulator)
    image = build("qute_toy_use_stack();")
    fixed = image.machine.sram_top - image.stack_top
    used = run_image(image, sample(0), sram_bytes=None, emulator=emulator).stack_bytes
    assert run_image(image, sample(0), sram_bytes=fixed + used, emulator=emulator).stack_bytes == used
    for missing in (1, 200):
        with pytest.raises(EmulationError, match="stack overflow"):
            run_image(image, sample(0), sram_bytes=fixed + used - missing, emulator=emulator)


def test_no_room_for_a_stack_is_a_misfit(build: Build) -> None:
    image = build()
    with pytest.raises(DoesNotFitError, match="its arena takes 112"):
        run_image(image, sample(0), sram_bytes=112)


@pytest.mark.parametrize("emulator", EMULATORS)
def test_outputs_that_depend_on_old_memory_are_refused(build: Build, emulator: Emulator) -> None:
    require(emulator)
    image = build("arena[72] = arena[98];")
    with pytest.raises(EmulationError, match="read before it is written"):
        run_image(image, sample(0), sram_bytes=None, emulator=emulator)


@pytest.mark.parametrize("emulator", EMULATORS)
def test_an_error_status_is_named(build: Build, emulator: Emulator) -> None:
    require(emulator)
    with pytest.raises(EmulationError, match="TOY_ERROR_KERNEL"):
        run_image(build("status = TOY_ERROR_KERNEL;"), sample(0), sram_bytes=None, emulator=emulator)
    with pytest.raises(EmulationError, match="TOY_ERROR_SCRATCH"):
        run_image(build(scratch_status="TOY_ERROR_SCRATCH"), sample(0), sram_bytes=None, emulator=emulator)


@pytest.mark.parametrize("emulator", EMULATORS)
def test_a_hang_ends(build: Build, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    require(emulator)
    monkeypatch.setattr("qutec.simulate.qemu_runner._TIMEOUT_SECONDS", 1)
    monkeypatch.setattr("qutec.simulate.unicorn_machine._TIMEOUT_SECONDS", 1)
    image = build('for (;;) { __asm volatile("nop"); }')
    with pytest.raises(EmulationError, match="within 1 s"):
        run_image(image, sample(0), sram_bytes=None, emulator=emulator, count=False)


@pytest.mark.slow
def test_a_layer_longer_than_a_turn_of_systick_is_counted_in_full(build: Build) -> None:
    require("qemu")
    turns = 2**24 * 40 // 3 + 1_000_000
    image = build(f"(void)qute_toy_spin({turns}u);")
    result = run_image(image, sample(0), sram_bytes=None, emulator="qemu")
    assert result.instructions is not None
    assert 3 * turns - 40 <= result.layers[1][1] < 3 * turns + 1000
    assert 3 * turns - 40 <= result.instructions < 3 * turns + 1000


@pytest.mark.parametrize("emulator", EMULATORS)
def test_many_samples_on_one_machine(build: Build, emulator: Emulator) -> None:
    require(emulator)
    samples = [sample(seed) for seed in range(300)]
    results = run_many(build(), samples, sram_bytes=4096, emulator=emulator)
    assert len(results) == len(samples)
    for inputs, (output,) in zip(samples, results, strict=True):
        np.testing.assert_array_equal(output, expected(inputs))


@pytest.mark.parametrize("emulator", EMULATORS)
def test_static_data_starts_as_c_says(build: Build, emulator: Emulator) -> None:
    require(emulator)
    image = build("static volatile int8_t seven = 7, zero; arena[72] = (int8_t)(seven + zero);")
    assert image.data_bytes > 0
    assert run_image(image, sample(0), sram_bytes=None, emulator=emulator).outputs[0][0] == 7


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m33"])
def test_the_floating_point_unit_is_on(build: Build, core: str) -> None:
    require("unicorn", "qemu")
    image = build("volatile float x = 1.5f; x = x * 4.0f; arena[72] = (int8_t)x;", core=core)
    for emulator in EMULATORS:
        assert run_image(image, sample(0), sram_bytes=None, emulator=emulator).outputs[0][0] == 6


def test_wrong_inputs_are_refused(build: Build) -> None:
    require("unicorn")
    image = build()
    left, right = sample(0)
    wrong: list[list[Any]] = [[left], [left, right[:-1]], [left, right.astype(np.int16)]]
    for inputs in wrong:
        with pytest.raises(UsageError, match="input"):
            run_image(image, inputs, sram_bytes=None)


@pytest.mark.parametrize("core", ["cortex-m55", "cortex-m85"])
def test_unicorn_points_to_qemu_for_helium(build: Build, core: str) -> None:
    require("unicorn")
    with pytest.raises(UsageError, match="--emulator qemu"):
        run_image(build(core=core), sample(0), sram_bytes=None)


def test_thumb_instructions_are_counted_by_their_length() -> None:
    # nop; ldr.w r0, [r1]; bl .; bx lr
    assert count_instructions(struct.pack("<6H", 0xBF00, 0xF8D1, 0x0000, 0xF7FF, 0xFFFE, 0x4770)) == 4
