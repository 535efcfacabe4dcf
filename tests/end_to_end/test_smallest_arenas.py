"""The least SRAM for networks of MLPerf Tiny and T-RecX: limits, and what the emulated core says."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

import qutec
from benchmarks._arm_library import int8_library, library_from_environment
from benchmarks._networks import Network, find_networks
from qutec.attach import attach
from qutec.executions import verify_build
from qutec.exits import ExitChoice
from qutec.program import HeadFeatures, RowRegion
from tests.end_to_end.compiled import require

LIMITS = {
    "mlperf_resnet8_ic_int8_qdq_b1": (35_800, 15_680),
    "mlperf_dscnn_kws_int8_qdq_b1": (8_900, 5_152),
}
"""Bytes of arena with overlapping buffers, and with layers that run row by row."""


EXIT_LIMITS: dict[tuple[str, ExitChoice], int] = {
    ("trecx_ic_resnet8_ev_b1", "ensemble"): 20_000,
    ("trecx_ic_resnet8_ev_b1", "all"): 20_000,
    ("trecx_ic_resnet8_noev_b1", "ensemble"): 19_000,
    ("trecx_ic_resnet8_sdn_b1", "ensemble"): 18_400,
    ("trecx_ic_resnet8_branchynet_b1", "ensemble"): 18_000,
    ("trecx_kws_dscnn_ev_b1", "ensemble"): 7_000,
}
"""Bytes of arena where the exits run row by row with the trunk."""

STREAMED_LIMITS: dict[tuple[str, ExitChoice], int] = {
    ("mlperf_resnet8_ic_int8_qdq_b1", "auto"): 15_000,
    ("mlperf_dscnn_kws_int8_qdq_b1", "auto"): 5_000,
    ("trecx_ic_resnet8_ev_b1", "ensemble"): 19_000,
}
"""Bytes of arena where the input is handed in row by row."""

HEAD_LIMITS = {"mlperf_resnet8_ic_b1": 17_000, "mlperf_dscnn_kws_b1": 5_800}
"""Bytes of arena with two QUTE heads."""


def network_named(name: str) -> Network:
    for network in find_networks([name]):
        if network.name == name:
            return network
    pytest.skip(f"there is no {name} (QUTEC_SHARED)")


def assert_every_byte_is_right(build: qutec.Build, folder: Path) -> None:
    """On exactly the SRAM of the report, where a byte outside is an error; also with Arm's library."""
    root = library_from_environment()
    library = None if root is None else int8_library(root, folder / "arm")
    said = verify_build(build, "random", cmsis_nn=library)
    assert said.count("cortex-m4") == (1 if library is None else 2)


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.parametrize(("name", "exits"), EXIT_LIMITS)
def test_exits_run_row_by_row_with_the_trunk(name: str, exits: ExitChoice, tmp_path: Path) -> None:
    require("unicorn", "zig", "cc")
    build = qutec.compile(network_named(name).path, exits=exits, optimize="sram", calibration="random")
    assert build.report.arena_bytes <= EXIT_LIMITS[name, exits]
    assert_every_byte_is_right(build, tmp_path)


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.parametrize("name", HEAD_LIMITS)
def test_a_region_ends_in_the_heads(name: str, tmp_path: Path) -> None:
    """The map that the heads read is never there as a whole."""
    require("unicorn", "zig", "cc")
    model = ir.to_proto(attach(network_named(name).path, heads=2).model).SerializeToString()
    build = qutec.compile(model, exits="qute", optimize="sram", calibration="random")
    assert build.report.arena_bytes <= HEAD_LIMITS[name]
    (region,) = (call for call in build.program.calls if isinstance(call, RowRegion))
    assert isinstance(region.calls[-1], HeadFeatures)
    assert_every_byte_is_right(build, tmp_path)


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.parametrize("name", LIMITS)
def test_arena_is_within_its_limits_and_every_byte_is_right(name: str) -> None:
    require("unicorn", "zig", "cc")
    networks = [network for network in find_networks([name]) if network.name == name]
    if not networks:
        pytest.skip(f"there is no {name} (QUTEC_SHARED)")
    build = qutec.compile(networks[0].path, optimize="sram")
    techniques = {item.name: item.arena_bytes for item in build.report.arena_techniques}
    overlap, rows = LIMITS[name]
    assert min(techniques.get("moves", 1 << 30), techniques["overlap"]) <= overlap
    assert build.report.arena_bytes == techniques["row by row"] <= rows
    # On exactly the SRAM of the report, where a byte outside is an error.
    assert "reference = host C" in verify_build(build)


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_that_only_rows_can_meet_is_met(name: str) -> None:
    networks = [network for network in find_networks([name]) if network.name == name]
    if not networks:
        pytest.skip(f"there is no {name} (QUTEC_SHARED)")
    roomy = qutec.compile(networks[0].path)
    assert "RowRegion" not in [layer.kernel for layer in roomy.report.layers]
    tight = qutec.compile(networks[0].path, sram=LIMITS[name][1] + 2_300)
    assert "RowRegion" in [layer.kernel for layer in tight.report.layers]
    assert tight.report.sram_bytes <= LIMITS[name][1] + 2_300


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.parametrize(("name", "exits"), STREAMED_LIMITS)
def test_an_input_that_is_handed_in_by_rows_takes_no_arena(
    name: str, exits: ExitChoice, tmp_path: Path
) -> None:
    require("unicorn", "zig", "cc")
    path = network_named(name).path
    build = qutec.compile(path, exits=exits, optimize="sram", stream_input=True, calibration="random")
    assert build.report.arena_bytes <= STREAMED_LIMITS[name, exits]
    assert build.report.inputs[0]["streamed"] is True
    assert_every_byte_is_right(build, tmp_path)
