"""Every trainable operator against ONNX Runtime, one node at a time, with batch 1 and 5."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

torch = pytest.importorskip("torch")

from qutec.train.module import OnnxModule  # noqa: E402
from qutec.train.operators import OPERATORS  # noqa: E402
from tests.train.graphs import by_ort, single  # noqa: E402

_INT = np.int64


def _f(*shape: int, seed: int = 1, positive: bool = False) -> npt.NDArray[np.float32]:
    array = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return np.abs(array) + 0.5 if positive else array


def _i(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, _INT)


@dataclass(frozen=True)
class Case:
    op: str
    shape: tuple[int, ...] = (4, 6, 5)
    constants: tuple[npt.NDArray[np.generic] | None, ...] = ()
    attributes: dict[str, object] = field(default_factory=dict)
    opset: int = 21
    outputs: int = 1


_IMAGE = (4, 9, 7)
CASES = [
    *(
        Case(op)
        for op in (
            "Relu",
            "Sigmoid",
            "Tanh",
            "HardSigmoid",
            "HardSwish",
            "Erf",
            "Gelu",
            "Elu",
            "Celu",
            "Selu",
        )
    ),
    *(
        Case(op)
        for op in (
            "Abs",
            "Exp",
            "Floor",
            "Ceil",
            "Neg",
            "Softplus",
            "Softsign",
            "Mish",
            "Identity",
            "LeakyRelu",
        )
    ),
    Case("Clip"),
    Case("Clip", constants=(np.float32(-0.5), np.float32(0.7))),
    Case("Clip", constants=(None, np.float32(0.7))),
    Case("Clip", attributes={"min": -0.2, "max": 0.4}, opset=9),
    Case("Dropout"),
    Case("Dropout", attributes={"ratio": 0.3}, opset=9),
    Case("Elu", attributes={"alpha": 0.3}),
    Case("Gelu", attributes={"approximate": "tanh"}),
    Case("HardSigmoid", attributes={"alpha": 0.3, "beta": 0.4}),
    Case("LeakyRelu", attributes={"alpha": 0.3}),
    Case("PRelu", constants=(_f(4, 1, 1),)),
    Case("Pow", constants=(np.float32(2.0),)),
    *(Case(op, constants=(_f(4, 1, 1, positive=True),)) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max")),
    Case("Softmax", attributes={"axis": 1}),
    Case("Softmax"),
    Case("Softmax", opset=11),
    Case("Softmax", attributes={"axis": 2}, opset=11),
    Case("LogSoftmax", attributes={"axis": -2}),
    Case("BatchNormalization", constants=(_f(4), _f(4, seed=2), _f(4, seed=3), _f(4, positive=True))),
    Case(
        "BatchNormalization",
        constants=(_f(4), _f(4), _f(4), _f(4, positive=True)),
        attributes={"epsilon": 0.1},
        opset=9,
    ),
    Case("Conv", _IMAGE, (_f(6, 4, 3, 3), _f(6)), {"pads": [1, 1, 1, 1]}),
    Case("Conv", _IMAGE, (_f(6, 4, 3, 2),), {"pads": [0, 1, 2, 0], "strides": [2, 3]}),
    Case("Conv", _IMAGE, (_f(8, 1, 3, 3),), {"group": 4, "dilations": [2, 1]}),
    Case("Conv", _IMAGE, (_f(6, 2, 3, 4),), {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    Case("Conv", _IMAGE, (_f(6, 4, 4, 3),), {"auto_pad": "SAME_LOWER", "strides": [2, 1]}),
    Case("Conv", _IMAGE, (_f(6, 4, 4, 3),), {"auto_pad": "VALID"}),
    Case("Conv", (4, 11), (_f(6, 4, 3), _f(6)), {"pads": [2, 0], "strides": [2]}),
    Case("Conv", (2, 5, 4, 6), (_f(3, 2, 3, 1, 3),), {"pads": [1, 0, 1, 1, 0, 1]}),
    Case("Gemm", (8,), (_f(8, 5), _f(5))),
    Case("Gemm", (8,), (_f(5, 8), _f(1, 5)), {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", (8,), (_f(8, 5),)),
    Case("MatMul", (3, 8), (_f(8, 5),)),
    Case("MaxPool", _IMAGE, (), {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    Case("MaxPool", _IMAGE, (), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    Case("MaxPool", _IMAGE, (), {"kernel_shape": [2, 2], "dilations": [3, 2]}),
    Case("MaxPool", _IMAGE, (), {"kernel_shape": [4, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    Case("MaxPool", (4, 11), (), {"kernel_shape": [3], "strides": [2]}),
    Case("AveragePool", _IMAGE, (), {"kernel_shape": [3, 2], "strides": [2, 2]}),
    Case("AveragePool", _IMAGE, (), {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]}),
    Case("AveragePool", _IMAGE, (), {"kernel_shape": [3, 2], "pads": [1, 0, 2, 1], "count_include_pad": 1}),
    Case("AveragePool", _IMAGE, (), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    Case("AveragePool", _IMAGE, (), {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    Case("AveragePool", _IMAGE, (), {"kernel_shape": [3, 3], "dilations": [2, 2]}),
    Case("AveragePool", (4, 11), (), {"kernel_shape": [4], "strides": [3], "pads": [1, 1]}),
    Case("GlobalAveragePool"),
    Case("GlobalMaxPool"),
    Case("ReduceMean", attributes={"axes": [2, 3], "keepdims": 0}, opset=13),
    Case("ReduceMean", constants=(_i(-1),)),
    Case("ReduceMax", constants=(_i(1, 2),), attributes={"keepdims": 0}),
    Case("ReduceSum", constants=(_i(2),)),
    Case("ReduceProd", constants=(_i(1, 3),), attributes={"keepdims": 0}),
    Case("Concat", constants=(), attributes={"axis": 1}),
    Case("Slice", attributes={"starts": [1, -4], "ends": [3, 100], "axes": [1, 2]}, opset=9),
    Case("Slice", constants=(_i(5, 0), _i(-100, 4), _i(2, 3), _i(-2, 2))),
    Case("Slice", constants=(_i(1), _i(-1), _i(-1))),
    Case("Split", attributes={"axis": 1, "split": [1, 3]}, opset=11, outputs=2),
    Case("Split", constants=(_i(2, 4),), attributes={"axis": 2}, opset=13, outputs=2),
    Case("Split", attributes={"axis": 2, "num_outputs": 4}, outputs=3 + 1, shape=(4, 7, 5)),
    Case("Pad", attributes={"pads": [0, 1, 2, 0, 0, 0, 1, 3]}, opset=9),
    Case("Pad", constants=(_i(0, 0, 2, 1, 0, 0, 1, 3), np.float32(0.5))),
    Case("Pad", constants=(_i(2, 1, 1, 3), None, _i(2, 3)), attributes={"mode": "reflect"}),
    Case("Pad", constants=(_i(0, 0, 2, 1, 0, 0, 1, 3),), attributes={"mode": "edge"}),
    Case("Pad", constants=(_i(0, 0, 2, 1, 0, 0, 1, 3),), attributes={"mode": "wrap"}),
    Case("Pad", constants=(_i(0, 0, -2, 1, 0, 0, 1, -1),)),
    Case("Reshape", constants=(_i(0, 2, -1),)),
    Case("Reshape", constants=(_i(-1, 120),)),
    Case("Flatten"),
    Case("Flatten", attributes={"axis": 2}),
    Case("Squeeze", (4, 1, 5), (_i(2),)),
    Case("Squeeze", (4, 1, 5), (), {"axes": [-2]}, opset=11),
    Case("Unsqueeze", constants=(_i(1, -1),)),
    Case("Unsqueeze", attributes={"axes": [0, 3]}, opset=11),
    Case("Transpose", attributes={"perm": [0, 2, 3, 1]}),
    Case("Transpose"),
    Case("Gather", constants=(_i(2, 0, -1),), attributes={"axis": 1}),
    Case("Gather", constants=(np.array(1, _INT),), attributes={"axis": 2}),
    Case("Expand", (4, 1, 5), (_i(1, 4, 3, 5),)),
    Case("Cast", attributes={"to": 1}),
]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.op}-{case.opset}-{len(case.attributes)}-{len(case.constants)}"
)
@pytest.mark.parametrize("batch", [1, 5])
def test_operator_answers_as_onnx_runtime(case: Case, batch: int) -> None:
    model = single(case.op, case.shape, case.constants, case.opset, case.outputs, **case.attributes)
    x = np.random.default_rng(batch).standard_normal((batch, *case.shape)).astype(np.float32)
    expected = by_ort(model, x)
    module = OnnxModule(ir.from_proto(model)).eval()
    with torch.no_grad():
        actual = module({"x": torch.from_numpy(x)})
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].shape == array.shape
        assert np.abs(actual[name].numpy() - array).max() <= 1e-5 * max(np.abs(array).max(), 1e-3)


def test_positive_operators_answer_as_onnx_runtime() -> None:
    x = _f(2, 3, positive=True)
    for op in ("Log", "Sqrt"):
        model = single(op, (3,))
        with torch.no_grad():
            actual = OnnxModule(ir.from_proto(model))({"x": torch.from_numpy(x)})["y0"].numpy()
        np.testing.assert_allclose(actual, by_ort(model, x)["y0"], rtol=1e-5)


def test_every_operator_has_a_case() -> None:
    elsewhere = {"Log", "Sqrt", "Shape", "Size", "ConstantOfShape"}
    assert OPERATORS.keys() - {case.op for case in CASES} == elsewhere
