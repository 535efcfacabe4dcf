"""The executions of a network that are evaluated: ONNX Runtime in float, integer reference, emulated core.

Every one takes float32 inputs [n, *shape] and answers with probabilities. Where the output of an exit is
logits, their softmax is taken in float64; int8 probabilities stay as the device gives them, so that rows
need not add up to 1 to the last digit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from qutec.backends.cmsis_nn import prepare
from qutec.build import stored_inputs
from qutec.calibrate import load_samples
from qutec.errors import UnsupportedModelError, UsageError, VerificationError
from qutec.executions import network_folder, read_report
from qutec.heads import is_head_node
from qutec.ingest.source import read_source
from qutec.lower import lower
from qutec.lower.builder import Refused
from qutec.metrics import FloatArray
from qutec.passes.dynamic_exit import exit_thresholds
from qutec.passes.find_exits import FoundExit, find_exits
from qutec.passes.select_exits import ExitMode
from qutec.ports import PortInfo
from qutec.program import Int8Array, Program, StoredArray
from qutec.reference import run_program
from qutec.simulate import Emulator, build_image, run_many
from qutec.targets import Target
from qutec.targets import target as find_target

__all__ = [
    "DeviceNetwork",
    "FloatNetwork",
    "Inputs",
    "IntegerNetwork",
    "Network",
    "Predictions",
    "SavedBuild",
    "read_build",
]

Inputs: TypeAlias = npt.NDArray[np.float32]

_ROW_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network answers: probabilities [n, classes], and those of each exit that is an output.

    `heads` names the exits whose mean the answer is; a merged answer has none.
    """

    probabilities: FloatArray
    exits: Mapping[str, FloatArray] = field(default_factory=dict)
    heads: tuple[str, ...] = ()

    def log_probabilities(self) -> FloatArray:
        """[n, heads, classes], the logits of each head up to a constant."""
        stacked = np.stack([self.exits[name] for name in self.heads], axis=1)
        logarithms: FloatArray = np.log(np.maximum(stacked, np.finfo(np.float64).tiny))
        return logarithms


class Network(Protocol):
    """One execution of a network."""

    def predict(self, x: Inputs) -> Predictions:
        """The answers to inputs [n, *shape]. Raises DataError."""
        ...


class FloatNetwork:
    """A loaded model with the exits that are kept, in ONNX Runtime, one sample after the other."""

    def __init__(self, model: ir.Model, mode: ExitMode, thresholds: float | Sequence[float] = 1.0) -> None:
        """`thresholds` are those of the mode "dynamic".

        Raises UsageError or UnsupportedModelError where the outputs give no probabilities.
        """
        import onnxruntime as ort

        self._model = model
        self._exits = _classifiers(model)
        names = tuple(item.name for item in self._exits)
        self._heads = names if mode in ("qute", "ensemble", "dynamic") else names[-1:]
        self._thresholds = exit_thresholds(thresholds, names) if mode == "dynamic" else None
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        proto = ir.to_proto(model)
        self._session = ort.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the input without batch. Raises UnsupportedModelError where there are several inputs."""
        return _input_shape(self._model)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self._exits[-1].classes

    @property
    def heads(self) -> tuple[str, ...]:
        """The exits whose mean is the answer; one, the final exit, without a mean."""
        return self._heads

    def predict(self, x: Inputs) -> Predictions:
        """See `Network`."""
        ((name, samples),) = load_samples(x, self._model).items()
        dtype = np.dtype(self._session_dtype())
        names = [item.name for item in self._exits]
        values = [np.empty((len(samples), item.classes)) for item in self._exits]
        for row in range(len(samples)):
            outputs = self._session.run(names, {name: samples[row : row + 1].astype(dtype, copy=False)})
            for array, output in zip(values, outputs, strict=True):
                array[row] = output.reshape(-1)
        exits = {
            item.name: _probabilities(array, item) for item, array in zip(self._exits, values, strict=True)
        }
        for item in self._exits:
            _check_rows(exits[item.name], item.name)
        each = np.stack([exits[name] for name in self._heads])
        if self._thresholds is None:
            return Predictions(each.mean(axis=0), exits, self._heads)
        sure = each.max(axis=-1) >= np.array([*self._thresholds, 0.0])[:, None]
        return Predictions(each[sure.argmax(axis=0), np.arange(len(samples))], exits)

    def _session_dtype(self) -> npt.DTypeLike:
        value = next(v for v in self._model.graph.inputs if not v.is_initializer())
        return value.dtype.numpy() if value.dtype is not None else np.float32


class IntegerNetwork:
    """A program in the integer reference: the bytes of the device."""

    def __init__(self, program: Program, model: ir.Model) -> None:
        """`model` is the QDQ model that was lowered. Raises as `FloatNetwork`."""
        self._program = program
        self._ports = [PortInfo.of(port) for port in program.outputs]
        self.merged = any(is_head_node(node) for node in model.graph)
        self._exits = () if self.merged else _classifiers(model)
        self.shape = _input_shape(model)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self._ports[0].size if self.merged else self._exits[-1].classes

    @property
    def heads(self) -> tuple[str, ...]:
        """The exit that answers; none where several are merged."""
        return () if self.merged else (self._exits[-1].name,)

    def predict(self, x: Inputs) -> Predictions:
        """See `Network`."""
        return self.predictions(run_program(self._program, self.stored(x)))

    def stored(self, x: Inputs) -> list[Int8Array]:
        """The stored inputs. Raises DataError."""
        return stored_inputs([PortInfo.of(port) for port in self._program.inputs], x)

    def predictions(self, outputs: tuple[StoredArray, ...]) -> Predictions:
        """What the stored outputs [n, ...] of all ports say."""
        real = {
            port.name: (values.reshape(len(values), -1).astype(np.float64) - port.zero_point) * port.scale
            for port, values in zip(self._ports, outputs, strict=True)
        }
        if self.merged:
            # The results of a merged head start in the order of `qutec.heads.RESULTS`.
            return Predictions(real[self._ports[0].name])
        exits = {item.name: _probabilities(real[item.name], item) for item in self._exits}
        last = self._exits[-1].name
        return Predictions(exits[last], exits, (last,))


@dataclass(frozen=True, eq=False)
class SavedBuild:
    """A folder that `qutec compile` wrote: what its report says, and the program of its model.onnx.

    Of report.json only what is needed is read, so that builds of other versions can be evaluated.
    """

    folder: Path
    name: str
    target: Target
    heads: tuple[str, ...]
    calibration: str
    warnings: tuple[str, ...]
    sram_bytes: int
    """What was compiled for, else what the program needs."""
    program: Program
    model: ir.Model


class DeviceNetwork:
    """The C of a saved build on the emulated core, with exactly the SRAM that its report states."""

    def __init__(self, build: SavedBuild, integer: IntegerNetwork) -> None:
        """Builds the image. Raises ToolMissingError."""
        core = build.target.core
        self._integer = integer
        self._build = build
        # Unicorn lacks the cores with Helium.
        self.emulator: Emulator = "qemu" if core.mve else "unicorn"
        self._image = build_image(build.folder, core)

    def predict(self, x: Inputs) -> Predictions:
        """See `Network`; every output byte has to be the reference's.

        Raises:
            VerificationError: a byte differs.
            EmulationError, DoesNotFitError: see `qutec.simulate.run_image`.
        """
        program = self._build.program
        inputs, outputs = ([PortInfo.of(p) for p in ports] for ports in (program.inputs, program.outputs))
        stored = self._integer.stored(x)
        samples = [
            [port.to_memory(values[row]) for port, values in zip(inputs, stored, strict=True)]
            for row in range(len(x))
        ]
        results = run_many(self._image, samples, sram_bytes=self._build.sram_bytes, emulator=self.emulator)
        found = tuple(
            np.stack([port.from_memory(result[position]) for result in results])
            for position, port in enumerate(outputs)
        )
        for port, expected, values in zip(outputs, run_program(program, stored), found, strict=True):
            wrong = [row for row in range(len(x)) if not np.array_equal(expected[row], values[row])]
            if wrong:
                raise VerificationError(
                    f"output '{port.name}' of the emulated core differs from the reference in {len(wrong)}"
                    f" of {len(x)} samples, first in sample {wrong[0]}: model.onnx and the C of "
                    f"'{self._build.folder}' are not of one compile, or one of them is wrong"
                )
        return self._integer.predictions(found)


def read_build(folder: Path) -> SavedBuild:
    """The program of a build, lowered again from its model.onnx.

    Raises:
        UsageError: not a folder of `qutec compile`, or a model.onnx that does not belong to its report.
        ModelError: model.onnx is damaged.
    """
    report = read_report(folder)
    if "networks" in report:
        network_folder(folder, None)
    try:
        name, target = str(report["model"]["name"]), find_target(str(report["target"]))
        heads, warnings = (tuple(map(str, report[key])) for key in ("heads", "warnings"))
        sram = int(report["sram_budget_bytes"] or report["sram_bytes"])
        ports = [
            [PortInfo.from_json(entry).to_json() for entry in report[key]] for key in ("inputs", "outputs")
        ]
        calibration = str(report["calibration"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"'{folder}' is not a compiled project: its report.json is garbled") from error
    proto = read_source(folder / "model.onnx").model
    other = f"'{folder}': model.onnx is not the model that its report.json describes"
    try:
        onnx.checker.check_model(proto)
        model = ir.from_proto(proto)
        program = prepare(lower(model, name), target.core)
    except (
        UnsupportedModelError,
        Refused,
        onnx.checker.ValidationError,
        AssertionError,
        ValueError,
    ) as error:
        raise UsageError(other) from error
    if ports != [[PortInfo.of(p).to_json() for p in some] for some in (program.inputs, program.outputs)]:
        raise UsageError(other)
    return SavedBuild(folder, name, target, heads, calibration, warnings, sram, program, model)


def _classifiers(model: ir.Model) -> tuple[FoundExit, ...]:
    """The exits of a model, the one that answers last."""
    exits = find_exits(model).exits
    if not exits:
        outputs = ", ".join(f"{value.name} {value.shape}" for value in model.graph.outputs)
        raise UsageError(f"no output of the model is a classifier ({outputs}): there is nothing to evaluate")
    sigmoid = next((item.name for item in exits if item.sigmoid), None)
    if sigmoid is not None:
        raise UnsupportedModelError(
            f"the output '{sigmoid}' ends in a sigmoid: classes that do not exclude each other have no "
            "distribution to evaluate"
        )
    if len({item.classes for item in exits}) > 1 or exits[-1].classes < 2:
        listed = ", ".join(f"'{item.name}' {item.classes}" for item in exits)
        raise UnsupportedModelError(f"exits need one number, 2 or more, of classes; there are {listed}")
    return exits


def _input_shape(model: ir.Model) -> tuple[int, ...]:
    inputs = [value for value in model.graph.inputs if not value.is_initializer()]
    if len(inputs) != 1 or inputs[0].shape is None:
        raise UnsupportedModelError(f"the model has {len(inputs)} inputs; evaluation needs one")
    return tuple(int(length) for length in inputs[0].shape.numpy()[1:])


def _probabilities(values: FloatArray, item: FoundExit) -> FloatArray:
    if item.head.softmax is not None:
        return values
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    result: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return result


def _check_rows(probabilities: FloatArray, name: str) -> None:
    """What follows a softmax may turn a distribution into something else."""
    sums = probabilities.sum(axis=1)
    off = np.abs(sums - 1.0) > _ROW_TOLERANCE
    if off.any() or not np.isfinite(sums).all():
        row = int(np.argmax(off | ~np.isfinite(sums)))
        raise UnsupportedModelError(
            f"the output '{name}' is no distribution over classes:"
            f" in sample {row} it adds up to {sums[row]:g}"
        )
