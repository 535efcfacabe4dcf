"""The generated C really stops at the exit that is sure enough."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import qutec
from benchmarks._networks import DIGITS, read_samples
from qutec.executions import verify_build
from qutec.ports import PortInfo
from qutec.simulate import build_image, run_image
from tests.end_to_end.compiled import Executions, require

EARLY = 0.7


@cache
def digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Test images, and what calibrates."""
    samples = read_samples(DIGITS)
    assert samples is not None
    assert samples.calibration is not None
    return samples.x.astype(np.float32), samples.calibration


@cache
def build() -> qutec.Build:
    return qutec.compile(
        DIGITS.path, exits="dynamic", exit_threshold=EARLY, calibration=digits()[1], name="digits"
    )


def one_for_each_exit() -> dict[int, int]:
    """Exit -> a test image that takes it."""
    taken = build().run_int8(digits()[0])["exit"].reshape(-1)
    return {int(number): int((taken == number).argmax()) for number in np.unique(taken)}


@pytest.mark.emulated
def test_an_inference_runs_what_its_exit_needs_and_no_more(tmp_path: Path) -> None:
    require("unicorn", "zig")
    image = build_image(build().save(tmp_path / "net"), build().target.core)
    port = PortInfo.of(build().program.inputs[0])
    samples = one_for_each_exit()
    assert len(samples) >= 2
    ends = [item.layers for item in build().report.dynamic_exits]
    instructions = []
    for number, index in sorted(samples.items()):
        stored = port.to_memory(build().stored(digits()[0][index : index + 1])[0][0])
        emulation = run_image(image, [stored], sram_bytes=build().report.sram_bytes)
        assert [layer for layer, _ in emulation.layers] == list(range(ends[number]))
        assert emulation.instructions is not None
        instructions.append(emulation.instructions)
    assert all(early < late for early, late in pairwise(instructions))


@pytest.mark.emulated
def test_all_executions_agree_whichever_exit_is_taken() -> None:
    require("unicorn", "zig", "cc")
    indices = list(one_for_each_exit().values())
    x = digits()[0][[*indices, *range(6)]]
    executions = Executions(build(), build().stored(x))
    assert len(set(executions.reference()["exit"].reshape(-1))) >= 2
    assert "reference = host C" in verify_build(build(), {"x": x})


def test_the_report_says_what_each_exit_costs() -> None:
    exits = build().report.dynamic_exits
    assert [item.name for item in exits] == list(build().report.heads)
    assert [item.threshold for item in exits[:-1]] == pytest.approx([EARLY] * (len(exits) - 1))
    assert exits[-1].threshold is None
    assert exits[-1].macs == build().report.macs
    assert all(a.macs < b.macs and a.layers < b.layers for a, b in pairwise(exits))
    assert "inference ends at" in str(build().files["report.txt"])
    assert build().report.to_json()["dynamic_exits"][0]["name"] == exits[0].name


def test_the_answer_is_that_of_the_exit_alone() -> None:
    """Every exit compiled as the last one of an ensemble of one gives the same label where it is taken."""
    x = digits()[0][:100]
    dynamic = build().run(x)
    every = qutec.compile(DIGITS.path, exits="all", calibration=digits()[1])
    each = [every.run(x)[name] for name in build().report.heads]
    taken = dynamic["exit"].reshape(-1).astype(int)
    chosen = np.stack(each)[taken, np.arange(len(x))]
    # `all` stores probabilities in 8 bits: two that are nearly equal may change places.
    sure = np.sort(chosen, axis=1)[:, -1] - np.sort(chosen, axis=1)[:, -2] > 0.05
    np.testing.assert_array_equal(dynamic["label"].reshape(-1)[sure], chosen.argmax(axis=1)[sure])


THRESHOLDS = """
#include <stdio.h>
#include <string.h>
#include "digits.h"
#include "sample_input.h"
int main(void)
{
    static uint8_t arena[DIGITS_ARENA_BYTES] __attribute__((aligned(16)));
    const int32_t levels[] = {0, INT32_MAX};
    digits_context context;
    digits_result result;
    for (size_t i = 0; i < 2; i++)
    {
        if (digits_init(&context, arena, sizeof arena) != DIGITS_OK) { return 1; }
        for (size_t k = 0; k < DIGITS_EXIT_COUNT - 1; k++) { context.exit_threshold[k] = levels[i]; }
        memcpy(digits_input(&context, 0), sample_input_0, DIGITS_INPUT_0_BYTES);
        if (digits_invoke(&context) != DIGITS_OK) { return 1; }
        if (digits_get_result(&context, &result) != DIGITS_OK) { return 1; }
        printf("%ld ", (long)result.exit);
    }
    printf("%d\\n", DIGITS_EXIT_COUNT);
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_an_application_can_change_the_thresholds(tmp_path: Path) -> None:
    project = build().save(tmp_path / "net")
    (project / "example" / "main.c").write_text(THRESHOLDS)
    sources = [*project.glob("*.c"), *(project / "kernels").glob("*.c"), project / "example" / "main.c"]
    folders = [f"-I{project / name}" for name in ("", "kernels", "example")]
    program = tmp_path / "run"
    subprocess.run(["gcc", "-std=gnu99", "-Wall", "-Werror", *folders, *sources, "-o", program], check=True)
    first, last, count = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    assert int(first) == 0
    assert int(last) == int(count) - 1 == len(build().report.heads) - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exits": "ensemble", "exit_threshold": 0.5}, "are for --exits dynamic"),
        ({"exits": "dynamic", "exit_threshold": [0.5, 0.6, 0.7, 0.8]}, "exit thresholds are given"),
        ({"exits": "dynamic", "exit_threshold": 1.5}, "above 0 and up to 1"),
    ],
)
def test_impossible_wishes_are_usage_errors(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(qutec.UsageError, match=message):
        qutec.compile(DIGITS.path, calibration="random", **arguments)  # type: ignore[arg-type]
