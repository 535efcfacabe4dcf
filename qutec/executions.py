"""Executions of a build beside the numpy reference: C on this machine, C on the emulated target.

Needs the extra `sim` for the emulated one.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qutec.build import NETWORK_FOLDER, Build, stored_inputs
from qutec.calibrate import read_arrays
from qutec.dispatch import ONNX_RUNTIME
from qutec.errors import UsageError
from qutec.ports import PortInfo
from qutec.program import Int8Array, StoredArray
from qutec.quantize import Calibration
from qutec.report import Report, SharedReport
from qutec.shared import Calibrations, SharedBuild, calibrations
from qutec.simulate import Compiler, Emulation, Emulator, build_host, build_image, run_image, run_many
from qutec.simulate.turns import build_turns, run_in_turn
from qutec.targets import Core, parse_size
from qutec.targets import target as find_target
from qutec.verify import Execution, verify_outputs

__all__ = [
    "RunResult",
    "network_folder",
    "read_report",
    "run_project",
    "verify_build",
    "verify_shared_build",
]

_SAMPLES = 8
"""Inputs that `verify_build` compares, half of them from the calibration data where there is any."""


@dataclass(frozen=True, eq=False)
class RunResult:
    """What one inference on the emulated target gave; sizes in bytes."""

    target: str
    emulation: Emulation
    outputs: dict[str, npt.NDArray[np.float32]]
    layers: tuple[tuple[str, int], ...]
    flash_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The object that `qutec run --json` prints."""
        return {
            "schema_version": 1,
            "target": self.target,
            "instructions": self.emulation.instructions,
            "stack_bytes": self.emulation.stack_bytes,
            "arena_high_water_bytes": self.emulation.arena_high_water_bytes,
            "image_bytes": self.flash_bytes,
            "outputs": {name: values.reshape(-1).tolist() for name, values in self.outputs.items()},
            "layers": [{"name": name, "instructions": count} for name, count in self.layers],
        }

    def to_text(self) -> str:
        """The same for a terminal."""
        total = self.emulation.instructions or 0
        lines = [f"target        {self.target}"]
        for name, values in self.outputs.items():
            lines.append(f"{name:<13} {_words(values.reshape(-1))}")
        lines += [
            f"instructions  {total:,}",
            f"stack         {self.emulation.stack_bytes:,} bytes",
            f"arena         {self.emulation.arena_high_water_bytes:,} bytes written at most",
            "",
            f"{'layer':<50}{'instructions':>14}{'share':>8}",
        ]
        for name, count in self.layers:
            short = name if len(name) <= 48 else "..." + name[-45:]
            lines.append(f"{short:<50}{count:>14,}{count / total if total else 0:>8.1%}")
        return "\n".join(lines)


def _words(values: npt.NDArray[np.float32]) -> str:
    if values.size == 1:
        return f"{values[0]:g}"
    shown = " ".join(f"{value:.3f}" for value in values[:16]) + (" ..." if values.size > 16 else "")
    return f"{shown}   (largest: {int(values.argmax())})"


def run_project(
    project: Path,
    input_file: Path,
    *,
    index: int = 0,
    sram: str | int | None = None,
    emulator: Emulator = "unicorn",
    compiler: Compiler = "auto",
    cmsis_nn: Path | None = None,
) -> RunResult:
    """Build the project in a folder and run sample `index` of a .npy or .npz file on the emulated core.

    `sram` is the emulated size in bytes; by default the one that was compiled for. Raises UsageError,
    DataError, ToolMissingError, EmulationError.
    """
    report = read_report(project)
    if "networks" in report:
        project = network_folder(project, None)
    if report.get("target") == ONNX_RUNTIME:
        raise UsageError(f"'{project}' is a build for ONNX Runtime: `qutec profile` runs its model.onnx")
    inputs, outputs = ([PortInfo.from_json(e) for e in report[key]] for key in ("inputs", "outputs"))
    stored = stored_inputs(inputs, read_arrays(input_file))
    if index >= len(stored[0]):
        raise UsageError(f"sample {index} is asked for; the input has {len(stored[0])} (the first is 0)")
    target = find_target(str(report["target"]))
    image = build_image(project, target.core, compiler=compiler, cmsis_nn=cmsis_nn)
    size = parse_size(sram) if sram is not None else report["sram_budget_bytes"]
    emulation = run_image(
        image,
        [port.to_memory(values[index]) for port, values in zip(inputs, stored, strict=True)],
        sram_bytes=size,
        emulator=emulator,
    )
    real = {
        port.name: port.real(port.from_memory(flat))
        for port, flat in zip(outputs, emulation.outputs, strict=True)
    }
    names = [str(layer["name"]) for layer in report["layers"]]
    layers = tuple((names[number], count) for number, count in emulation.layers)
    return RunResult(target.name, emulation, real, layers, image.flash_bytes)


def network_folder(project: Path, network: str | None) -> Path:
    """The folder of one network: the project itself, or what a project of several keeps for the one named.

    Raises UsageError where the project has no such network, or several and none is named.
    """
    report = read_report(project)
    parts = report.get("networks")
    names = [str(part["symbol_prefix"]) for part in parts] if parts else [str(report.get("symbol_prefix"))]
    if network is None and parts:
        raise UsageError(
            f"'{project}' holds {len(names)} networks: {', '.join(names)}; choose one with --network"
        )
    if network is not None and network not in names:
        raise UsageError(f"'{project}' has no network '{network}'; there is: {', '.join(names)}")
    return project / NETWORK_FOLDER / str(network) if parts else project


def verify_build(
    build: Build, calibration: Calibration | None = None, *, cmsis_nn: Path | None = None
) -> str:
    """Compare reference, host C and emulated C on several inputs, byte for byte; says what was compared.

    The emulated SRAM has the size that was compiled for, else what the report says is needed, with Arm's
    library where that is linked; cores that Unicorn lacks run in QEMU. With `cmsis_nn`
    both C executions are repeated with Arm's library. Raises VerificationError, ToolMissingError,
    EmulationError.
    """
    stored = _inputs(build, calibration)
    ports = [PortInfo.of(port) for port in build.program.inputs]
    reference = build.run_int8({p.name: s for p, s in zip(ports, stored, strict=True)})
    samples = _in_memory_order(build, stored)
    core, report = build.target.core, build.report
    emulator: Emulator = "qemu" if core.mve else "unicorn"
    with tempfile.TemporaryDirectory(prefix="qutec-verify-") as folder:
        project = build.save(Path(folder) / "net")
        executions: dict[str, Execution] = {}
        for library in [None, cmsis_nn] if cmsis_nn is not None else [None]:
            suffix = " with Arm's CMSIS-NN" if library else ""
            sram = _sram_bytes(report, library)
            executions[f"host C{suffix}"] = partial(_host_outputs, build, project, library, samples)
            executions[f"{core.name} in {emulator}{suffix}"] = partial(
                _emulated_outputs, build, project, library, samples, sram, emulator
            )
        verify_outputs(
            [port.name for port in build.program.outputs],
            [values.reshape(len(samples), -1) for values in reference.values()],
            executions,
        )
    return f"{len(samples)} inputs: reference = {' = '.join(executions)}"


def verify_shared_build(
    build: SharedBuild, calibration: Calibrations = None, *, cmsis_nn: Path | None = None
) -> str:
    """As `verify_build`, for networks that share an arena: on the emulated core they run in turn.

    The emulated SRAM is that of the report for all networks together, and the arena is overwritten with noise
    before each inference. On cores that Unicorn lacks each network runs alone, in QEMU.
    """
    target = find_target(build.report.target)
    data = calibrations(calibration, len(build.networks))
    stored = [_inputs(one, own) for one, own in zip(build.networks.values(), data, strict=True)]
    libraries = [None, cmsis_nn] if cmsis_nn is not None else [None]
    said = []
    with tempfile.TemporaryDirectory(prefix="qutec-verify-") as folder:
        project = build.save(Path(folder) / "networks")
        for library in libraries:
            suffix = " with Arm's CMSIS-NN" if library else ""
            sram = _sram_bytes(build.report, library)
            turns = None if target.core.mve else _turns(build, stored, project, target.core, library, sram)
            for number, (prefix, one) in enumerate(build.networks.items()):
                own = project / NETWORK_FOLDER / prefix
                samples = _in_memory_order(one, stored[number])
                executions = {
                    f"{prefix}, host C{suffix}": partial(_host_outputs, one, own, library, samples),
                    f"{prefix}, {target.core.name}{suffix}": partial(_from_turns, one, turns, number)
                    if turns is not None
                    else partial(_emulated_outputs, one, own, library, samples, sram, "qemu"),
                }
                ports = [PortInfo.of(port) for port in one.program.inputs]
                expected = one.run_int8({p.name: s for p, s in zip(ports, stored[number], strict=True)})
                verify_outputs(
                    [port.name for port in one.program.outputs],
                    [values.reshape(len(samples), -1) for values in expected.values()],
                    executions,
                )
            how = "each alone in qemu" if turns is None else f"in turn on {sram:,} bytes of SRAM in unicorn"
            said.append(f"host C{suffix} = {target.core.name} {how}{suffix}")
    return f"{len(build.networks)} networks, {_SAMPLES} inputs each: reference = {' = '.join(said)}"


def _sram_bytes(report: Report | SharedReport, cmsis_nn: Path | None) -> int:
    """What was compiled for, or what is needed where Arm's kernels want more; the report says so."""
    needed = report.sram_bytes if cmsis_nn is None else report.sram_arm_bytes
    return max(report.sram_budget_bytes or needed, needed)


def _turns(
    build: SharedBuild,
    stored: Sequence[list[Int8Array]],
    project: Path,
    core: Core,
    cmsis_nn: Path | None,
    sram_bytes: int,
) -> list[list[tuple[Int8Array, ...]]]:
    """Outputs [round][network][port] of all networks in turn, as many rounds as there are samples."""
    samples = [_in_memory_order(one, own) for one, own in zip(build.networks.values(), stored, strict=True)]
    rounds = [[own[r] for own in samples] for r in range(len(samples[0]))]
    return run_in_turn(build_turns(project, core, cmsis_nn=cmsis_nn), rounds, sram_bytes=sram_bytes)


def _in_memory_order(build: Build, stored: list[Int8Array]) -> list[list[Int8Array]]:
    ports = [PortInfo.of(port) for port in build.program.inputs]
    return [
        [port.to_memory(values[i]) for port, values in zip(ports, stored, strict=True)]
        for i in range(len(stored[0]))
    ]


def _in_onnx_order(build: Build, results: list[tuple[Int8Array, ...]]) -> list[StoredArray]:
    outputs = [PortInfo.of(port) for port in build.program.outputs]
    return [
        np.stack([port.from_memory(result[k]).reshape(-1) for result in results])
        for k, port in enumerate(outputs)
    ]


def _from_turns(build: Build, turns: list[list[tuple[Int8Array, ...]]], number: int) -> list[StoredArray]:
    return _in_onnx_order(build, [outputs[number] for outputs in turns])


def _host_outputs(
    build: Build, project: Path, cmsis_nn: Path | None, samples: list[list[Int8Array]]
) -> list[StoredArray]:
    return _in_onnx_order(build, build_host(project, cmsis_nn=cmsis_nn).run_many(samples))


def _emulated_outputs(
    build: Build,
    project: Path,
    cmsis_nn: Path | None,
    samples: list[list[Int8Array]],
    sram_bytes: int,
    emulator: Emulator,
) -> list[StoredArray]:
    image = build_image(project, build.target.core, cmsis_nn=cmsis_nn)
    return _in_onnx_order(build, run_many(image, samples, sram_bytes=sram_bytes, emulator=emulator))


def _inputs(build: Build, calibration: Calibration | None) -> list[Int8Array]:
    """Stored inputs: calibration samples where there are real ones, and random codes of the full range."""
    generator = np.random.default_rng(0)
    ports = [PortInfo.of(port) for port in build.program.inputs]
    drawn = [generator.integers(-128, 128, (_SAMPLES, *port.shape), np.int8) for port in ports]
    if calibration is None or (isinstance(calibration, str) and calibration == "random"):
        return drawn
    arrays = read_arrays(calibration) if isinstance(calibration, str | Path) else calibration
    real = stored_inputs(ports, arrays)
    half = _SAMPLES // 2
    return [np.concatenate([r[:half], d[half:]]) for r, d in zip(real, drawn, strict=True)]


def read_report(project: Path) -> dict[str, Any]:
    """The report.json of a compiled project. Raises UsageError where there is none that can be read."""
    try:
        report: dict[str, Any] = json.loads((project / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"'{project}' is not a compiled project: it has no readable report.json") from error
    return report
