"""The estimates of the report against what compilers and emulators measure."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import qutec
from benchmarks._networks import Network, find_networks, read_samples, shared_folder
from qutec.backends.cmsis_nn.cost import code_bytes, stack_bytes
from qutec.program import Call, FullyConnected, InputRows, RowRegion
from qutec.simulate import Compiler, build_image, measure_flash, run_image
from qutec.targets import target, target_names
from tests.end_to_end.compiled import require

NAMES = ("digits", "mlperf_resnet8_ic_b1", "trecx_kws_dscnn_ev_b1")
CODE_ERROR = 0.15
CORES = {target(name).core.name: target(name).core for name in target_names()}


def _network(name: str) -> Network:
    for network in find_networks([name]):
        if network.name == name:
            return network
    pytest.skip(f"'{shared_folder()}' has no {name} (QUTEC_SHARED)")


def _compiled(name: str, core: str) -> qutec.Build:
    network = _network(name)
    samples = read_samples(network)
    calibration = "random" if samples is None else samples.calibration
    return qutec.compile(network.path, target=core, calibration=calibration)


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
@pytest.mark.parametrize("name", NAMES)
def test_estimate_of_code_is_near_what_is_linked(name: str, core: str, tmp_path: Path) -> None:
    require("gcc")
    build = _compiled(name, core)
    flash = measure_flash(build.save(tmp_path / "net"), build.target.core, "gcc")
    measured = flash - build.report.flash_bytes["weights"]
    assert build.report.flash_bytes["code"] == pytest.approx(measured, rel=CODE_ERROR)


@pytest.mark.emulated
@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
@pytest.mark.parametrize("name", NAMES)
def test_estimate_of_stack_is_not_exceeded(name: str, core: str, compiler: Compiler, tmp_path: Path) -> None:
    require(compiler, "unicorn")
    build = _compiled(name, core)
    image = build_image(build.save(tmp_path / "net"), build.target.core, compiler=compiler)
    inputs = [np.zeros(port.size, np.int8) for port in build.program.inputs]
    measured = run_image(image, inputs, sram_bytes=None, count=False).stack_bytes
    assert measured <= build.report.stack_estimate_bytes


@pytest.mark.parametrize("core", CORES)
def test_table_knows_every_call_and_kernel(core: str) -> None:
    from benchmarks._call_programs import KINDS, repeated

    # A region costs what its layers cost, and a loop.
    assert set(KINDS) == set(get_args(Call)) - {InputRows, RowRegion}
    emitted = [kind for kind in KINDS if not (CORES[core].mve and kind is FullyConnected)]
    for kind in emitted:
        one, three = (repeated(kind, count).calls for count in (1, 3))
        assert 0 < code_bytes(one, CORES[core]) < code_bytes(three, CORES[core])
        assert stack_bytes(one, CORES[core]) > 0
