"""The least SRAM for the MLPerf Tiny networks: the limits, and what the emulated core says to the result."""

from __future__ import annotations

import pytest

import qutec
from benchmarks._networks import find_networks
from qutec.executions import verify_build
from tests.end_to_end.compiled import require

LIMITS = {
    "mlperf_resnet8_ic_int8_qdq_b1": (35_800, 18_000),
    "mlperf_dscnn_kws_int8_qdq_b1": (8_900, 6_400),
}
"""Bytes of arena with overlapping buffers, and with layers that run row by row."""


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
    tight = qutec.compile(networks[0].path, sram=LIMITS[name][1] + 1_500)
    assert "RowRegion" in [layer.kernel for layer in tight.report.layers]
    assert tight.report.sram_bytes <= LIMITS[name][1] + 1_500
