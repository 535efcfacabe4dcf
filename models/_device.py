"""A compiled project on the emulated core: what it answers to images, and what one inference costs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qutec.build import stored_inputs
from qutec.ports import PortInfo
from qutec.simulate import build_image, measure_flash, run_image, run_many
from qutec.targets import target

__all__ = ["Cost", "Device"]


@dataclass(frozen=True)
class Cost:
    """Instructions of one inference; flash is that of the linked image less that of an empty main."""

    instructions: int
    flash_bytes: int
    arena_bytes: int
    stack_bytes: int


class Device:
    """The C of a project folder, built for its core with the bundled kernels; it gets its budget of SRAM.

    Raises as `qutec.simulate`; ToolMissingError without the extra `sim`.
    """

    def __init__(self, project: Path) -> None:
        report = json.loads((project / "report.json").read_text(encoding="utf-8"))
        self._project = project
        self._core = target(report["target"]).core
        self._sram: int = report["sram_budget_bytes"] or report["sram_bytes"]
        self._arena: int = report["arena_bytes"]
        self._inputs, self._outputs = (
            [PortInfo.from_json(entry) for entry in report[key]] for key in ("inputs", "outputs")
        )
        self._image = build_image(project, self._core)

    def answers(self, x: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """Real outputs by name, [samples, values], of inputs [samples, *shape]."""
        results = run_many(self._image, self._samples(x), sram_bytes=self._sram)
        return {
            port.name: np.stack([port.real(port.from_memory(row[k])).reshape(-1) for row in results])
            for k, port in enumerate(self._outputs)
        }

    def cost(self, x: npt.NDArray[np.float32]) -> Cost:
        """Of an inference on the first of the inputs."""
        emulation = run_image(self._image, self._samples(x[:1])[0], sram_bytes=self._sram)
        assert emulation.instructions is not None
        flash = measure_flash(self._project, self._core)
        return Cost(emulation.instructions, flash, self._arena, emulation.stack_bytes)

    def _samples(self, x: npt.NDArray[np.float32]) -> list[list[npt.NDArray[np.int8]]]:
        stored = stored_inputs(self._inputs, x)
        return [
            [port.to_memory(values[k]) for port, values in zip(self._inputs, stored, strict=True)]
            for k in range(len(x))
        ]
