"""The estimates of the report against what compilers and emulators measure."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import qutec
from benchmarks._chain_project import struct_bytes
from benchmarks._networks import Network, find_networks, read_samples, shared_folder
from qutec.backends.cmsis_nn.const_data import STRUCT_BYTES
from qutec.backends.cmsis_nn.cost import CodeCost, code_cost, stack_bytes
from qutec.backends.cmsis_nn.kernel_index import KERNEL_DIRECTORY, kernel_files
from qutec.backends.cmsis_nn.kernel_set import KernelSet
from qutec.program import Call, FullyConnected, InputRows, Program, RowRegion
from qutec.report import Report, report_text
from qutec.simulate import Compiler, build_image, measure_flash, run_image
from qutec.targets import Core, target, target_names
from tests.end_to_end.compiled import require

NAMES = ("digits", "mlperf_resnet8_ic_b1", "trecx_kws_dscnn_ev_b1")
CODE_ERROR = 0.05
STACK_EXCESS = 1.6
"""How far the estimate may be above what is measured: most shapes need less than a kernel's deepest way."""
CORES = {target(name).core.name: target(name).core for name in target_names()}


def _network(name: str) -> Network:
    for network in find_networks([name]):
        if network.name == name:
            return network
    pytest.skip(f"'{shared_folder()}' has no {name} (QUTEC_SHARED)")


def _compiled(name: str, core: str, optimize: str = "speed") -> qutec.Build:
    network = _network(name)
    samples = read_samples(network)
    calibration = "random" if samples is None else samples.calibration
    return qutec.compile(network.path, target=core, calibration=calibration, optimize=optimize)


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("optimize", ["speed", "flash"])
def test_estimate_of_code_is_near_what_is_linked(optimize: str, name: str, core: str, tmp_path: Path) -> None:
    require("gcc")
    build = _compiled(name, core, optimize)
    measured = measure_flash(build.save(tmp_path / "net"), build.target.core, "gcc")
    code = measured - build.report.flash_bytes["weights"]
    assert build.report.flash_bytes["code"] == pytest.approx(code, rel=CODE_ERROR)


@pytest.mark.emulated
@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("optimize", ["speed", "sram", "flash"])
def test_estimate_of_stack_is_not_exceeded(
    optimize: str, name: str, core: str, compiler: Compiler, tmp_path: Path
) -> None:
    require(compiler, "unicorn")
    build = _compiled(name, core, optimize)
    image = build_image(build.save(tmp_path / "net"), build.target.core, compiler=compiler)
    inputs = [np.zeros(port.size, np.int8) for port in build.program.inputs]
    measured = run_image(image, inputs, sram_bytes=None, count=False).stack_bytes
    assert measured <= build.report.stack_estimate_bytes <= STACK_EXCESS * measured


def _cost(program: Program, core: Core, kernels: KernelSet) -> CodeCost:
    return code_cost(program.calls, struct_bytes(program, core, kernels), core, kernels)


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed")
def test_structs_have_the_sizes_that_are_counted(tmp_path: Path) -> None:
    source = tmp_path / "sizes.c"
    headers = '#include "arm_nnfunctions.h"\n#include "qute_kernels.h"\n'
    checks = [
        f"extern char size_of_{kind}[sizeof({kind}) == {n} ? 1 : -1];" for kind, n in STRUCT_BYTES.items()
    ]
    source.write_text(headers + "\n".join(checks) + "\n")
    command = ["arm-none-eabi-gcc", "-mcpu=cortex-m0", "-mthumb", f"-I{KERNEL_DIRECTORY}", "-fsyntax-only"]
    subprocess.run([*command, source], check=True)


@pytest.mark.parametrize("kernels", KernelSet)
@pytest.mark.parametrize("core", CORES)
def test_table_knows_every_call_and_kernel(core: str, kernels: KernelSet) -> None:
    from benchmarks._call_programs import KINDS, repeated

    # A region costs what its layers cost, and a loop.
    assert set(KINDS) == set(get_args(Call)) - {InputRows, RowRegion}
    emitted = [kind for kind in KINDS if not (CORES[core].mve and kind is FullyConnected)]
    for kind in emitted:
        one, three = (_cost(repeated(kind, count), CORES[core], kernels).total for count in (1, 3))
        assert 0 < one < three
        assert stack_bytes(repeated(kind, 1).calls, [0], CORES[core], kernels) > 0


def test_code_is_attributed_to_the_calls_that_need_it() -> None:
    """Every byte once: to one call, or to what several share; and each kernel to all of its users."""
    from benchmarks._call_programs import mixed

    calls = mixed().calls
    for kernels in KernelSet:
        cost = _cost(mixed(), CORES["cortex-m4"], kernels)
        assert len(cost.calls) == len(calls)
        assert all(size > 0 for size in cost.calls)
        assert cost.total == sum(cost.calls) + sum(part.bytes for part in cost.shared)
        assert len({part.file for part in cost.shared}) == len(cost.shared)
        for part in cost.shared:
            if part.file.endswith(".c"):
                users = [
                    i
                    for i, call in enumerate(calls)
                    if part.file in kernel_files([call], kernels, CORES["cortex-m4"])
                ]
                assert list(part.calls) == users


def test_the_report_says_what_every_layer_and_kernel_costs() -> None:
    report = _compiled("digits", "cortex-m4").report
    shared = sum(kernel.bytes for kernel in report.kernels)
    assert sum(layer.code_bytes for layer in report.layers) + shared == report.flash_bytes["code"]
    assert Report.from_json(report.to_json()) == report
    text = report_text(report)
    assert max(map(len, text.splitlines())) <= 100
    for kernel in report.kernels:
        assert f"{kernel.file:<46}{kernel.bytes:>6,}" in text
