"""Small networks through load, quantise and lower, and onnxruntime as the judge of every layer.

`layer_errors` compares layer by layer, so that an error shows where it is made: onnxruntime computes every
quantised value of the QDQ graph from what the Program itself holds for the values before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import numpy_helper, parser, shape_inference

from qutec.calibrate import Samples, load_samples, measure_ranges
from qutec.load import load
from qutec.lower import lower
from qutec.passes.quantize import QuantizePass, values_to_calibrate
from qutec.planner import plan_program, validate_plan
from qutec.program import Port, Program
from qutec.reference import run_program

Array = npt.NDArray[np.generic]
FloatArray = npt.NDArray[np.float32]
Int8Array = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Compiled:
    """One network at every stage; `samples` are [count, *shape without batch]."""

    loaded: onnx.ModelProto
    quantized: onnx.ModelProto
    program: Program
    samples: Samples

    @property
    def calls(self) -> list[str]:
        """The kinds of the Program's calls, in order."""
        return [type(call).__name__ for call in self.program.calls]


def net(body: str, opset: int = 21, **constants: npt.ArrayLike) -> onnx.ModelProto:
    """A model from the text of its graph; output shapes are inferred, `constants` become initialisers."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\nagraph {body}')
    for name, value in constants.items():
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    given = {value.name: value for value in model.graph.input}
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
        if output.name in given:
            output.CopyFrom(given[output.name])
    return shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def weights(*shape: int, seed: int = 0, gain: float = 0.5) -> FloatArray:
    """Normal noise."""
    return (np.random.default_rng(seed).standard_normal(shape) * gain).astype(np.float32)


def compiled(
    model: onnx.ModelProto,
    data: npt.ArrayLike | Mapping[str, npt.ArrayLike] | None = None,
    *,
    simplify: bool = False,
    count: int = 6,
) -> Compiled:
    """Load, calibrate on `data` (normal noise where none is given), quantise, lower."""
    loaded = load(model.SerializeToString(), simplify=simplify).model
    samples = load_samples(data, loaded) if data is not None else noise(loaded, count)
    ranges = measure_ranges(loaded, samples, values_to_calibrate(loaded))
    original = ir.to_proto(loaded)
    QuantizePass(ranges)(loaded)
    return Compiled(original, ir.to_proto(loaded), lower(loaded, "net"), samples)


def noise(model: ir.Model, count: int, seed: int = 0) -> Samples:
    """Normal noise for every input."""
    generator = np.random.default_rng(seed)
    shapes = {value.name or "": value.shape.numpy()[1:] for value in model.graph.inputs if value.shape}
    return {name: generator.standard_normal((count, *s)).astype(np.float32) for name, s in shapes.items()}


def run_onnx(model: onnx.ModelProto, feeds: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Outputs by name, [feeds, ...], of onnxruntime with graph optimisation off; one run a feed."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    results = [session.run(names, dict(feed)) for feed in feeds]
    return {name: np.stack([result[i] for result in results]) for i, name in enumerate(names)}


def rows(samples: Samples) -> list[dict[str, Array]]:
    """One feed of batch 1 for each sample."""
    count = len(next(iter(samples.values())))
    return [{name: array[i : i + 1] for name, array in samples.items()} for i in range(count)]


def signed(values: Array) -> Int8Array:
    """int8 and uint8 codes in the signed form of a Program."""
    if values.dtype == np.uint8:
        return (values.astype(np.int16) - 128).astype(np.int8)
    assert values.dtype == np.int8, values.dtype
    return values.astype(np.int8)


def port_values(port: Port, values: Array) -> Int8Array:
    """What a caller writes into an input port for float (or 8-bit) values, as ONNX QuantizeLinear rounds."""
    if values.dtype != np.float32:
        return signed(values)
    scaled = np.rint(values / np.float32(port.quantization.scale)) + port.quantization.zero_point
    return np.clip(scaled, -128, 127).astype(np.int8)


def run_samples(program: Program, samples: Mapping[str, Array]) -> dict[str, Int8Array]:
    """Outputs of a Program by name, int8 [samples, *logical shape]."""
    inputs = [port_values(port, samples[port.name]) for port in program.inputs]
    outputs = run_program(program, inputs)
    return {port.name: values for port, values in zip(program.outputs, outputs, strict=True)}


def layer_errors(quantized: onnx.ModelProto, samples: Mapping[str, Array]) -> dict[str, int]:
    """The largest difference in LSB of every QuantizeLinear's result, each layer on the Program's inputs.

    The Program is lowered from the same graph with every quantised value as an output.
    """
    exposed, names = _with_quantized_outputs(quantized)
    program = lower(ir.from_proto(exposed), "exposed")
    ours = run_samples(program, samples)
    count = len(next(iter(samples.values())))
    feeds = [
        {
            **{name: array[i : i + 1] for name, array in samples.items()},
            **{f"{name}__given": _as_stored(quantized, name, ours[name][i]) for name in names},
        }
        for i in range(count)
    ]
    judge = run_onnx(_cut(exposed, names), feeds)
    return {
        name: int(
            np.abs(signed(judge[name]).astype(int) - ours[name].reshape(judge[name].shape)).max(initial=0)
        )
        for name in names
    }


def assert_layers_agree(case: Compiled, tolerance: int = 1) -> None:
    """Every layer within `tolerance` LSB of onnxruntime, and the whole Program as its exposed form."""
    errors = layer_errors(case.quantized, case.samples)
    assert errors
    assert max(errors.values()) <= tolerance, errors
    assert_plan_is_valid(case.program)


def assert_accurate(case: Compiled, decibels: float = 25.0) -> None:
    """The dequantised outputs of the Program against the float network: signal over error power."""
    expected = run_onnx(case.loaded, rows(case.samples))
    for port, values in zip(
        case.program.outputs, run_samples(case.program, case.samples).values(), strict=True
    ):
        ours = (values.astype(np.float64) - port.quantization.zero_point) * port.quantization.scale
        truth = expected[port.name].reshape(ours.shape).astype(np.float64)
        noise_power = np.mean((ours - truth) ** 2)
        # A third of the squared step is what rounding alone may cost (worst over a few samples).
        floor = port.quantization.scale**2 / 3
        signal = np.mean(truth**2)
        assert noise_power <= max(floor, signal * 10 ** (-decibels / 10)), (port.name, noise_power, signal)


def assert_plan_is_valid(program: Program) -> None:
    """The planner accepts the Program, and its independent check accepts the plan."""
    scratch = [0] * len(program.calls)
    validate_plan(program, scratch, plan_program(program, scratch))


def check(model: onnx.ModelProto, data: npt.ArrayLike | None = None, tolerance: int = 1) -> Compiled:
    """Compile, compare every layer and the accuracy; the usual body of a test."""
    case = compiled(model, data)
    assert_layers_agree(case, tolerance)
    assert_accurate(case)
    return case


def _as_stored(model: onnx.ModelProto, name: str, values: Int8Array) -> Array:
    node = next(node for node in model.graph.node if name in node.output)
    zero_point = next(
        (t for t in model.graph.initializer if len(node.input) > 2 and t.name == node.input[2]), None
    )
    if zero_point is None or zero_point.data_type == onnx.TensorProto.UINT8:
        return (values.astype(np.int16) + 128).astype(np.uint8)
    return values


def _with_quantized_outputs(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    inferred = shape_inference.infer_shapes(model)
    known = {info.name: info for info in (*inferred.graph.value_info, *inferred.graph.output)}
    initializers = {tensor.name for tensor in model.graph.initializer}
    names = [
        node.output[0]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in initializers
    ]
    present = {output.name for output in exposed.graph.output}
    exposed.graph.output.extend(known[name] for name in names if name not in present)
    return exposed, names


def _cut(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The model in which every reader of a quantised value reads a new graph input instead."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    outputs = {output.name: output for output in cut.graph.output}
    for name in names:
        given = onnx.ValueInfoProto()
        given.CopyFrom(outputs[name])
        given.name = f"{name}__given"
        cut.graph.input.append(given)
        for node in cut.graph.node:
            for position, read in enumerate(node.input):
                if read == name:
                    node.input[position] = given.name
    return cut
