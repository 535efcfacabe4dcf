"""What does not fit is told what would make it fit, and that does."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import pytest

import qutec
from benchmarks._networks import DIGITS
from qutec.errors import DoesNotFitError
from qutec.misfit import check_budgets
from qutec.report import Report
from tests.passes.exit_networks import Network

compiled = partial(qutec.compile, calibration="random", plan_seconds=0.5)


def refusal(**options: object) -> str:
    with pytest.raises(DoesNotFitError) as caught:
        compiled(**options)  # type: ignore[arg-type]
    return str(caught.value)


def sizes_of(text: str, remedy: str) -> tuple[int, int]:
    """SRAM and flash that the text promises."""
    found = re.search(rf"^  {remedy}: ([\d,]+) bytes of SRAM, ([\d,]+) of flash$", text, re.MULTILINE)
    assert found, text
    return int(found[1].replace(",", "")), int(found[2].replace(",", ""))


def small_network() -> bytes:
    net = Network(3, 16, 16)
    net.head(net.block(net.block(net.x, 8), 8), "out")
    contents: bytes = net.proto().SerializeToString()
    return contents


def test_fewer_exits_are_named_where_they_make_the_flash_suffice() -> None:
    flash = compiled(DIGITS.path).report.flash_total_bytes - 1
    promised = sizes_of(refusal(source=DIGITS.path, flash=flash), "--exits final")
    report = compiled(DIGITS.path, exits="final", flash=flash).report
    assert (report.sram_bytes, report.flash_total_bytes) == promised


def test_giving_up_the_input_is_named_where_that_makes_room() -> None:
    net = small_network()
    sram = compiled(net, optimize="sram").report.sram_bytes
    text = refusal(source=net, sram=sram, keep_input=True)
    promised = sizes_of(text, "without --keep-input")
    report = compiled(net, sram=sram).report
    assert (report.sram_bytes, report.flash_total_bytes) == promised


def test_the_board_with_the_least_sram_is_named() -> None:
    text = refusal(source=DIGITS.path, sram=1000)
    board = re.search(r"--target (\S+):", text)
    assert board
    sram, flash = sizes_of(text, f"--target {board[1]}")
    report = compiled(DIGITS.path, target=board[1]).report
    assert (report.sram_bytes, report.flash_total_bytes) == (sram, flash)
    assert report.sram_budget_bytes is not None
    for name in ("nucleo-l031k6", "nucleo-l432kc"):
        smaller = qutec.targets.target(name)
        if smaller.sram_bytes is not None and smaller.sram_bytes < report.sram_budget_bytes:
            refusal(source=DIGITS.path, target=name)


def test_nothing_is_suggested_where_nothing_helps() -> None:
    build = compiled(small_network(), flash="256k")
    tight = replace(build.report, sram_budget_bytes=100)

    def smaller() -> Report:
        return replace(tight, sram_bytes=101)

    with pytest.raises(DoesNotFitError) as caught:
        check_budgets(tight, build.program, build.plan, [("--smaller", smaller)], [("--board", smaller)])
    assert "No other option makes it fit" in str(caught.value)
    assert "What would" not in str(caught.value)
