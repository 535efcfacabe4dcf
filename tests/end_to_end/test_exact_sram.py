"""MLPerf Tiny networks on exactly the SRAM that is stated, with the bundled kernels and with Arm's."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import qutec
from benchmarks._networks import Network, find_networks
from qutec import Build
from qutec.backends.cmsis_nn import (
    Provenance,
    arm_stack_bytes,
    context_bytes,
    emit_project,
    scratch_bytes,
    stack_bytes,
)
from qutec.executions import verify_build
from qutec.planner import Plan, Sharing, plan_program
from qutec.ports import PortInfo
from qutec.program import Int8Array, Program
from qutec.reference import run_program
from qutec.simulate import Compiler, build_image, run_many
from qutec.targets import Core, target
from tests.end_to_end.compiled import require

CORE = target("cortex-m4").core
LIMITS = {
    "mlperf_resnet8_ic_int8_qdq_b1": (49_728, 33_936, 15_680),
    "mlperf_dscnn_kws_int8_qdq_b1": (16_000, 11_584, 5_152),
}
"""Bytes of arena with whole buffers, with overlapping ones, and with layers that run row by row."""
PLANS = ("whole", "overlap", "smallest")


def network(name: str) -> Network:
    found = [network for network in find_networks([name]) if network.name == name]
    if not found:
        pytest.skip(f"there is no {name} (QUTEC_SHARED)")
    return found[0]


@cache
def built(name: str, optimize: str) -> Build:
    return qutec.compile(network(name).path, optimize=optimize)


def planned(name: str, kind: str) -> tuple[Program, tuple[int, ...], Plan]:
    """A program with its scratch and its plan."""
    build = built(name, "sram" if kind == "smallest" else "speed")
    if kind == "whole":
        scratch = tuple(scratch_bytes(call, CORE) for call in build.program.calls)
        return build.program, scratch, plan_program(build.program, scratch, sharing=Sharing.NONE)
    sizes = {a.scratch_of: a.bytes for a in build.plan.allocations if a.scratch_of is not None}
    scratch = tuple(sizes.get(i, 0) for i in range(len(build.program.calls)))
    return build.program, scratch, build.plan


def written(
    folder: Path,
    program: Program,
    scratch: tuple[int, ...],
    plan: Plan,
    sample: list[Int8Array],
    core: Core = CORE,
) -> tuple[Path, int]:
    """The project in a folder, with what the simulator wants of its report; its arena with Arm's library."""
    provenance = Provenance("0", "test", "net", "0" * 64, CORE.name)
    project = emit_project(program, plan, scratch, "net", provenance, sample, core=core)
    report = {
        "symbol_prefix": "net",
        "arena_bytes": plan.arena_bytes,
        "arena_arm_bytes": project.arena_arm_bytes,
        "inputs": [PortInfo.of(port).to_json() for port in program.inputs],
        "outputs": [PortInfo.of(port).to_json() for port in program.outputs],
        "layers": [call.name for call in program.calls],
    }
    for name, text in {**project.files, "report.json": json.dumps(report)}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder, project.arena_arm_bytes


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.parametrize("compiler", ["zig", "gcc"])
@pytest.mark.parametrize("library", ["bundled", "arm"])
@pytest.mark.parametrize("kind", PLANS)
@pytest.mark.parametrize("name", LIMITS)
def test_every_byte_is_right_on_exactly_the_sram_that_is_stated(
    name: str, kind: str, library: str, compiler: Compiler, tmp_path: Path
) -> None:
    """A byte outside is an error; the SRAM with Arm's library has the stack of its kernels."""
    require("unicorn", compiler)
    arm = os.environ.get("CMSIS_NN_PATH") if library == "arm" else None
    if library == "arm" and not arm:
        pytest.skip("there is no CMSIS-NN (CMSIS_NN_PATH)")
    program, scratch, plan = planned(name, kind)
    assert plan.arena_bytes == LIMITS[name][PLANS.index(kind)]
    stack = arm_stack_bytes(program.calls, CORE) if arm else stack_bytes(program.calls, scratch, CORE)
    inputs = [np.random.default_rng(3).integers(-128, 128, (3, *port.logical_shape[1:]), np.int8)
              for port in program.inputs]  # fmt: skip
    ports = [PortInfo.of(port) for port in program.inputs]
    samples = [[p.to_memory(x[i]) for p, x in zip(ports, inputs, strict=True)] for i in range(3)]
    project, arm_arena = written(tmp_path / "net", program, scratch, plan, samples[0])
    image = build_image(project, CORE, compiler=compiler, cmsis_nn=Path(arm) if arm else None)
    sram = (arm_arena if arm else plan.arena_bytes) + context_bytes(program) + stack
    results = run_many(image, samples, sram_bytes=sram)
    outputs = [PortInfo.of(port) for port in program.outputs]
    for k, expected in enumerate(run_program(program, inputs)):
        for i, result in enumerate(results):
            np.testing.assert_array_equal(outputs[k].from_memory(result[k]).ravel(), expected[i].ravel())


@pytest.mark.parametrize("name", LIMITS)
def test_the_smallest_arena_is_proven_over_every_choice_of_rows(name: str) -> None:
    report = built(name, "sram").report
    techniques = {item.name: item for item in report.arena_techniques}
    whole, overlap, rows = LIMITS[name]
    assert techniques["whole buffers"].arena_bytes == whole
    assert techniques["overlap"].arena_bytes == overlap
    assert report.arena_bytes == techniques["row by row"].arena_bytes == rows
    assert report.arena_optimal
    assert all(item.optimal for item in report.arena_techniques)
    assert report.arena_proof_scope.startswith("choice of layers that run row by row")


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.parametrize("name", LIMITS)
def test_smallest_plan_passes_verification(name: str) -> None:
    require("unicorn", "zig", "cc")
    assert "reference = host C" in verify_build(built(name, "sram"))


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_that_only_rows_can_meet_is_met(name: str) -> None:
    roomy = built(name, "speed")
    assert "RowRegion" not in [layer.kernel for layer in roomy.report.layers]
    tight = qutec.compile(network(name).path, sram=LIMITS[name][2] + 2_300)
    assert "RowRegion" in [layer.kernel for layer in tight.report.layers]
    assert tight.report.sram_bytes <= LIMITS[name][2] + 2_300
