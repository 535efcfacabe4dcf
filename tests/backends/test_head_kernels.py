"""The kernels of QUTE heads, emitted as C, against the reference: host, Cortex-M with and without DSP."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from qutec.backends.cmsis_nn import KernelSet
from qutec.backends.cmsis_nn.head_features import feature_kernel
from qutec.backends.cmsis_nn.kernel_index import KERNEL_DIRECTORY, kernel_files, own_sources
from qutec.program import Call, HeadFeatures, HeadLogits, HeadUncertainty, Int8Array, Program
from qutec.simulate import Compiler, build_host, build_image, run_many
from qutec.simulate.toolchain import warning_flags
from qutec.targets import target
from tests import random_head_calls as calls
from tests.backends.emitted import Operand, emit, expect_reference, program_of

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

CORES = [
    ("cortex-m4", "gcc", "-O3"),
    ("cortex-m4", "gcc", "-O0"),
    ("cortex-m4", "zig", "-O3"),
    ("cortex-m33", "gcc", "-Os"),
    ("cortex-m3", "gcc", "-O2"),
    ("cortex-m0plus", "gcc", "-O3"),
]


def some_calls(seed: int) -> list[Call]:
    """Every kernel in every road it takes: few channels, large kernels, wide maps, many heads."""
    rng = np.random.default_rng(seed)
    made: list[Call] = []
    for relu in (False, True):
        made += [calls.head_features(rng, relu=relu) for _ in range(12)]
        made += [
            calls.head_features(rng, relu=relu, kernel=(3, 3), stride=(1, 1), size=(8, 8), channels=8),
            calls.head_features(rng, relu=relu, kernel=(3, 3), stride=(1, 1), size=(7, 35), channels=5),
            calls.head_features(rng, relu=relu, kernel=(3, 3), stride=(1, 1), size=(13, 14), channels=4),
            calls.head_features(rng, relu=relu, kernel=(3, 3), stride=(1, 1), size=(25, 5), channels=3),
            calls.head_features(rng, relu=relu, kernel=(3, 3), stride=(2, 2), size=(33, 17), channels=6),
            calls.head_features(rng, relu=relu, kernel=(3, 3), stride=(1, 1), size=(1, 1), channels=4),
            calls.head_features(rng, relu=relu, kernel=(1, 5), size=(1, 300), channels=4),
            calls.head_features(rng, relu=relu, kernel=(7, 1), size=(140, 2), channels=5),
            calls.head_features(rng, relu=relu, kernel=(3, 1), stride=(1, 1), size=(128, 2), channels=5),
            calls.head_features(rng, relu=relu, kernel=(5, 5), stride=(1, 1), channels=6),
            calls.head_features(rng, relu=relu, kernel=(2, 12), size=(3, 20), channels=3),
        ]
    made += [calls.head_logits(rng, bits) for bits in (8, 16) for _ in range(5)]
    made += [calls.head_uncertainty(rng) for _ in range(8)]
    made += [calls.head_uncertainty(rng, heads, classes) for heads, classes in ((2, 10), (1, 1000), (16, 2))]
    return made


def program_and_inputs(seed: int, samples: int) -> tuple[Program, list[list[Int8Array]]]:
    made = some_calls(seed)
    # Byte operands may start anywhere; wide ones are aligned.
    moved = {i: Operand(4 * (i % 3), i % 5) for i in range(len(made))}
    rng = np.random.default_rng(seed + 1)
    program = program_of(made, offsets=moved)
    inputs = []
    for _ in range(samples):
        sample = []
        for call, port in zip(program.calls, program.inputs, strict=True):
            assert isinstance(call, HeadFeatures | HeadLogits | HeadUncertainty)
            contents = calls.input_bytes(rng, call)
            buffer = np.zeros(port.size, np.int8)
            buffer[call.input.offset : call.input.offset + contents.size] = contents
            sample.append(buffer)
        inputs.append(sample)
    return program, inputs


@needs_gcc
@pytest.mark.parametrize("kernels", KernelSet)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_host_under_sanitizers(tmp_path: Path, seed: int, kernels: KernelSet) -> None:
    program, inputs = program_and_inputs(seed, 3)
    host = build_host(emit(program, tmp_path, kernels=kernels), sanitize=True, optimize="-O1")
    expect_reference(program, inputs, host.run_many(inputs))


@pytest.mark.emulated
@pytest.mark.parametrize(("core", "compiler", "optimize"), CORES)
def test_emulated_cores(tmp_path: Path, core: str, compiler: Compiler, optimize: str) -> None:
    if importlib.util.find_spec("unicorn") is None:
        pytest.skip("unicorn is not installed")
    if compiler == "gcc" and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    if compiler == "zig" and importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang is not installed")
    program, inputs = program_and_inputs(4, 2)
    folder = emit(program, tmp_path, core=core)
    image = build_image(folder, target(core).core, compiler=compiler, optimize=optimize)
    expect_reference(program, inputs, run_many(image, inputs))


@pytest.mark.emulated
@pytest.mark.parametrize("optimize", ["-O3", "-Os"])
def test_a_core_with_helium(tmp_path: Path, optimize: str) -> None:
    """Unicorn has none."""
    if not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")):
        pytest.skip("arm-none-eabi-gcc or qemu-system-arm is not installed")
    for seed in (6, 7):
        program, inputs = program_and_inputs(seed, 2)
        folder = emit(program, tmp_path / str(seed), core="cortex-m55")
        image = build_image(folder, target("cortex-m55").core, compiler="gcc", optimize=optimize)
        expect_reference(program, inputs, run_many(image, inputs, sram_bytes=None, emulator="qemu"))


@needs_gcc
def test_heads_link_next_to_arms_library(tmp_path: Path) -> None:
    root = os.environ.get("CMSIS_NN_PATH")
    if not root:
        pytest.skip("CMSIS_NN_PATH is not set")
    program, inputs = program_and_inputs(5, 1)
    host = build_host(emit(program, tmp_path), cmsis_nn=Path(root), optimize="-O1")
    expect_reference(program, inputs, host.run_many(inputs))


def test_own_kernels_are_those_that_cmsis_nn_lacks() -> None:
    own = own_sources(KERNEL_DIRECTORY)
    assert {"qute_copy_s8.c", "qute_head_sums_s8x4.c", "qute_monitor.c"} <= set(own)
    assert not {"qute_convolve_s8.c", "qute_depthwise_s8x4.c"} & set(own)
    assert all(name.startswith("qute_") for name in own)


def test_monitor_comes_with_uncertainty_and_only_the_road_taken_with_features() -> None:
    rng = np.random.default_rng(0)
    assert {"qute_monitor.c", "qute_monitor.h"} <= set(kernel_files([calls.head_uncertainty(rng)]))
    core = target("cortex-m4").core
    files = kernel_files([calls.head_features(rng, relu=False, size=(5, 5), channels=4)], core=core)
    assert [name for name in files if name.startswith("qute_head") and name.endswith(".c")] == [
        "qute_head_sums_s8x4.c"
    ]


def test_the_calls_of_these_tests_take_every_kernel() -> None:
    made = [call for seed in range(1, 6) for call in some_calls(seed) if isinstance(call, HeadFeatures)]
    kernels = {path.stem for path in KERNEL_DIRECTORY.glob("qute_head_*.c")}
    assert {feature_kernel(call) for call in made} == {
        name
        for name in kernels
        if name.startswith(("qute_head_sums", "qute_head_relu")) and "_row_" not in name
    }


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_headers_are_cpp(tmp_path: Path) -> None:
    source = tmp_path / "use.cpp"
    source.write_text('#include "qute_kernels.h"\n#include "qute_monitor.h"\nint main() { return 0; }\n')
    flags = ["-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{KERNEL_DIRECTORY}"]
    subprocess.run(["g++", *flags, "-fsyntax-only", str(source)], check=True)


@needs_gcc
def test_kernels_compile_without_any_library(tmp_path: Path) -> None:
    """Nothing but memcpy and memset is left undefined, and there is no floating point."""
    for name in own_sources(KERNEL_DIRECTORY):
        command = ["gcc", *warning_flags(), "-O2", "-ffreestanding", "-mgeneral-regs-only"]
        target_file = tmp_path / f"{name}.o"
        subprocess.run([*command, "-c", str(KERNEL_DIRECTORY / name), "-o", str(target_file)], check=True)
        undefined = subprocess.run(["nm", "-u", str(target_file)], capture_output=True, text=True, check=True)
        assert {line.split()[-1] for line in undefined.stdout.splitlines()} <= {"memcpy", "memset"}
