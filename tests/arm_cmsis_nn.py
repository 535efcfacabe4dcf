"""Arm's CMSIS-NN, built for the host from CMSIS_NN_PATH and called through ctypes: an oracle for tests.

The host build takes the plain C path of every kernel, which is what its DSP and Helium paths are made to
match. Signed overflow is compiled as two's complement.
"""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qutec.program import (
    Add,
    AvgPool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Int8Array,
    Int32Array,
    MaxPool2D,
    Mul,
    Pair,
    Shape,
    Softmax,
)

_FOLDERS = (
    "BasicMathFunctions",
    "ConvolutionFunctions",
    "FullyConnectedFunctions",
    "NNSupportFunctions",
    "PoolingFunctions",
    "SoftmaxFunctions",
)
_PATTERNS = ("*_s8.c", "*_s8_*.c", "*_q7_*.c", "*_sizes_s8.c")
_SCRATCH_BYTES = 1 << 16


class _Int32Struct(ctypes.Structure):
    """A C struct of int32 values only, set from a flat sequence."""

    @classmethod
    def of(cls, *values: int) -> ctypes.Structure:
        return cls(*values)


def _struct(name: str, *fields: str) -> type[_Int32Struct]:
    return type(name, (_Int32Struct,), {"_fields_": [(field, ctypes.c_int32) for field in fields]})


_Dims = _struct("Dims", "n", "h", "w", "c")
_ConvParams = _struct(
    "ConvParams", "input_offset", "output_offset", "sw", "sh", "pw", "ph", "dw", "dh", "low", "high"
)
_DepthwiseParams = _struct(
    "DwParams", "input_offset", "output_offset", "ch_mult", "sw", "sh", "pw", "ph", "dw", "dh", "low", "high"
)
_PoolParams = _struct("PoolParams", "sw", "sh", "pw", "ph", "low", "high")
_FcParams = _struct("FcParams", "input_offset", "filter_offset", "output_offset", "low", "high")
_TensorQuant = _struct("TensorQuant", "multiplier", "shift")


class _Context(ctypes.Structure):
    _fields_ = (("buf", ctypes.c_void_p), ("size", ctypes.c_int32))


class _ChannelQuant(ctypes.Structure):
    _fields_ = (("multiplier", ctypes.c_void_p), ("shift", ctypes.c_void_p))


def _pointer(array: npt.NDArray[np.generic]) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def _xy(*pairs: Pair) -> tuple[int, ...]:
    """(h, w) pairs in the order of the C structs, which is w, h."""
    return tuple(value for height, width in pairs for value in (width, height))


def build(root: Path, folder: Path) -> ctypes.CDLL:
    """Compiles the int8 kernels of the CMSIS-NN checkout at `root` into a library under `folder`."""
    folders = [root / "Source" / name for name in _FOLDERS]
    found = {path for source in folders for pattern in _PATTERNS for path in source.glob(pattern)}
    # The recurrent kernels need 16-bit ones, which nothing here calls.
    sources = sorted(path for path in found if "lstm" not in path.name)
    library = folder / "libcmsis_nn.so"
    command = ["gcc", "-std=c99", "-O1", "-fwrapv", "-shared", "-fPIC", "-w", f"-I{root / 'Include'}"]
    subprocess.run([*command, *map(str, sources), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library), mode=ctypes.RTLD_LOCAL)


class ArmCmsisNN:
    """The calls of a Program on one sample: contiguous inputs in, contiguous outputs out."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        scratch = np.zeros(_SCRATCH_BYTES, dtype=np.int8)
        self._scratch = scratch
        self._context = _Context(_pointer(scratch), _SCRATCH_BYTES)

    def conv2d(self, call: Conv2D, values: Int8Array) -> Int8Array:
        outputs, kernel_y, kernel_x, channels = call.weights.shape
        parameters = _ConvParams.of(
            call.input_offset,
            call.output_offset,
            *_xy(call.stride, call.padding, call.dilation),
            call.activation_min,
            call.activation_max,
        )
        return self._channel_wise(
            "arm_convolve_wrapper_s8", call, parameters, (outputs, kernel_y, kernel_x, channels), values
        )

    def depthwise_conv2d(self, call: DepthwiseConv2D, values: Int8Array) -> Int8Array:
        kernel_y, kernel_x, outputs = call.weights.shape
        parameters = _DepthwiseParams.of(
            call.input_offset,
            call.output_offset,
            call.channel_multiplier,
            *_xy(call.stride, call.padding, call.dilation),
            call.activation_min,
            call.activation_max,
        )
        return self._channel_wise(
            "arm_depthwise_conv_wrapper_s8", call, parameters, (1, kernel_y, kernel_x, outputs), values
        )

    def fully_connected(self, call: FullyConnected, values: Int8Array) -> Int8Array:
        outputs, depth = call.weights.shape
        result = np.zeros((call.rows, outputs), dtype=np.int8)
        parameters = _FcParams.of(
            call.input_offset,
            call.filter_offset,
            call.output_offset,
            call.activation_min,
            call.activation_max,
        )
        self._call(
            "arm_fully_connected_s8",
            ctypes.byref(self._context),
            ctypes.byref(parameters),
            ctypes.byref(_TensorQuant.of(call.multiplier, call.shift)),
            ctypes.byref(_Dims.of(call.rows, 1, 1, depth)),
            _pointer(values),
            ctypes.byref(_Dims.of(depth, 1, 1, outputs)),
            _pointer(call.weights),
            ctypes.byref(_Dims.of(1, 1, 1, outputs)),
            _pointer(call.bias),
            ctypes.byref(_Dims.of(call.rows, 1, 1, outputs)),
            _pointer(result),
        )
        return result

    def avg_pool2d(self, call: AvgPool2D, values: Int8Array) -> Int8Array:
        return self._pool("arm_avgpool_s8", call, values)

    def max_pool2d(self, call: MaxPool2D, values: Int8Array) -> Int8Array:
        return self._pool("arm_max_pool_s8", call, values)

    def add(self, call: Add, values_1: Int8Array, values_2: Int8Array) -> Int8Array:
        """Inputs [outer, inner], broadcast already."""
        result = np.zeros(values_1.shape, dtype=np.int8)
        self._call(
            "arm_elementwise_add_s8",
            _pointer(values_1),
            _pointer(values_2),
            *(call.input_1_offset, call.input_1_multiplier, call.input_1_shift),
            *(call.input_2_offset, call.input_2_multiplier, call.input_2_shift),
            call.left_shift,
            _pointer(result),
            *(call.output_offset, call.output_multiplier, call.output_shift),
            *(call.activation_min, call.activation_max, result.size),
        )
        return result

    def mul(self, call: Mul, values_1: Int8Array, values_2: Int8Array) -> Int8Array:
        """Inputs [outer, inner], broadcast already."""
        result = np.zeros(values_1.shape, dtype=np.int8)
        self._call(
            "arm_elementwise_mul_s8",
            _pointer(values_1),
            _pointer(values_2),
            *(call.input_1_offset, call.input_2_offset),
            _pointer(result),
            *(call.output_offset, call.output_multiplier, call.output_shift),
            *(call.activation_min, call.activation_max, result.size),
        )
        return result

    def softmax(self, call: Softmax, values: Int8Array) -> Int8Array:
        result = np.zeros((call.rows, call.row_size), dtype=np.int8)
        self._library.arm_softmax_s8(
            _pointer(values),
            *(call.rows, call.row_size, call.multiplier, call.shift, call.diff_min),
            _pointer(result),
        )
        return result

    def _channel_wise(
        self,
        name: str,
        call: Conv2D | DepthwiseConv2D,
        parameters: ctypes.Structure,
        filter_shape: Shape,
        values: Int8Array,
    ) -> Int8Array:
        result = np.zeros(call.output_shape, dtype=np.int8)
        multiplier: Int32Array = call.multiplier
        quantisation = _ChannelQuant(_pointer(multiplier), _pointer(call.shift))
        self._call(
            name,
            ctypes.byref(self._context),
            ctypes.byref(parameters),
            ctypes.byref(quantisation),
            ctypes.byref(_Dims.of(*call.input_shape)),
            _pointer(values),
            ctypes.byref(_Dims.of(*filter_shape)),
            _pointer(call.weights),
            ctypes.byref(_Dims.of(1, 1, 1, call.output_shape[3])),
            _pointer(call.bias),
            ctypes.byref(_Dims.of(*call.output_shape)),
            _pointer(result),
        )
        return result

    def _pool(self, name: str, call: AvgPool2D | MaxPool2D, values: Int8Array) -> Int8Array:
        result = np.zeros(call.output_shape, dtype=np.int8)
        parameters = _PoolParams.of(*_xy(call.stride, call.padding), call.activation_min, call.activation_max)
        self._call(
            name,
            ctypes.byref(self._context),
            ctypes.byref(parameters),
            ctypes.byref(_Dims.of(*call.input_shape)),
            _pointer(values),
            ctypes.byref(_Dims.of(1, *call.kernel, 1)),
            ctypes.byref(_Dims.of(*call.output_shape)),
            _pointer(result),
        )
        return result

    def _call(self, name: str, *arguments: object) -> None:
        status = self._library[name](*arguments)
        assert status == 0, f"{name} returned {status}"
