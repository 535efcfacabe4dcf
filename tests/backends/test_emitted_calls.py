"""Every kind of call, emitted as C and run on the host, against the numpy reference, bit for bit."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qutec.program import (
    Add,
    Buffer,
    BufferKind,
    Call,
    Concat,
    Copy,
    Fill,
    Gather,
    Int8Array,
    Lookup,
    Mul,
    Port,
    Program,
    Tensor,
)
from qutec.reference import run_program
from qutec.simulate import EmulationError, build_host
from tests import random_calls
from tests.backends.emitted import SCALE, Operand, emit, flat, program_of, random_inputs

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")

X, Y = Tensor("x"), Tensor("y")
RNG = np.random.default_rng(5)
SOME = RNG.integers(-128, 128, 64, dtype=np.int8)
TABLE = RNG.permutation(np.arange(-128, 128)).astype(np.int8)


def agrees(program: Program, folder: Path, *, core: str = "cortex-m4", cmsis_nn: Path | None = None) -> None:
    """Host C and reference compute the same outputs from the same random inputs, twice over."""
    # Arm's kernels shift negative values to the left, which the sanitizer would stop at.
    project = emit(program, folder, core=core)
    host = build_host(project, cmsis_nn=cmsis_nn, sanitize=cmsis_nn is None, optimize="-O1")
    inputs = random_inputs(program, samples=3, seed=3)
    wanted = run_program(program, inputs)
    got = host.run_many([[values[i] for values in inputs] for i in range(3)])
    for i, outputs in enumerate(got):
        for port, mine, theirs in zip(program.outputs, outputs, wanted, strict=True):
            memory = theirs[i].reshape(-1)
            memory = memory if port.order is None else memory[port.order]
            stored = np.ascontiguousarray(memory).view(np.int8)
            np.testing.assert_array_equal(mine, stored, err_msg=f"output {port.name} of sample {i}")


def elementwise(
    kind: type[Add] | type[Mul], outer: int, inner: int, stride_1: int, stride_2: int, seed: int = 0
) -> Add | Mul:
    """Blocks with these strides; shifts keep sums inside int32, as lowering does."""
    rng = np.random.default_rng(seed)
    call = random_calls.add(rng) if kind is Add else random_calls.mul(rng)
    if isinstance(call, Add):
        call = replace(call, input_1_shift=-1, input_2_shift=-2, output_shift=-18)
    return replace(call, outer=outer, inner=inner, stride_1=stride_1, stride_2=stride_2)


def random_kernel_calls(seed: int) -> list[Call]:
    rng = np.random.default_rng(seed)
    kinds = (
        random_calls.conv2d,
        random_calls.depthwise_conv2d,
        random_calls.fully_connected,
        random_calls.avg_pool2d,
        random_calls.max_pool2d,
        random_calls.mul,
        random_calls.softmax,
    )
    return [kind(rng) for kind in kinds for _ in range(4)]


@pytest.mark.parametrize("seed", [1, 2])
def test_random_kernel_calls(tmp_path: Path, seed: int) -> None:
    calls = random_kernel_calls(seed)
    moved = {i: Operand(4 * (i % 3), i % 5) for i in range(len(calls))}
    agrees(program_of(calls, offsets=moved), tmp_path)


def test_random_kernel_calls_with_arms_library(tmp_path: Path) -> None:
    root = os.environ.get("CMSIS_NN_PATH")
    if not root:
        pytest.skip("CMSIS_NN_PATH is not set")
    agrees(program_of(random_kernel_calls(3)), tmp_path, cmsis_nn=Path(root))


def test_every_core_gets_code_that_computes_the_same(tmp_path: Path) -> None:
    """Scratch differs from core to core; on Helium fully connected layers become convolutions."""
    calls = [call for call in random_kernel_calls(4) if getattr(call, "filter_offset", 0) == 0]
    assert any(type(call).__name__ == "FullyConnected" for call in calls)
    for core in ("cortex-m0plus", "cortex-m55"):
        agrees(program_of(calls), tmp_path / core, core=core)


BLOCKS = ((1, 13, 13, 13), (5, 3, 3, 3), (5, 3, 3, 0), (5, 3, 0, 3), (4, 2, 5, 2))
"""outer, inner, stride_1, stride_2."""


@pytest.mark.parametrize("kind", [Add, Mul])
def test_elementwise_blocks_and_constant_operands(tmp_path: Path, kind: type[Add] | type[Mul]) -> None:
    calls = [elementwise(kind, *blocks, seed=seed) for seed, blocks in enumerate(BLOCKS)]
    # Each once more with either operand in flash, at an offset.
    variants = [*calls, *calls, *calls]
    n = len(calls)
    constants = {(n + i, 1): SOME for i in range(n)} | {(2 * n + i, 0): SOME[::-1].copy() for i in range(n)}
    moved = {i: Operand(before=i % 4) for i in range(3 * n)}
    agrees(program_of(variants, constants, moved), tmp_path)


def movements() -> list[Call]:
    return [
        Copy("transpose", X, Y, (1, 2, 3, 4), (0, 12, 1, 3), (0, 12, 4, 1)),
        Copy("reversed", X, Y, (1, 1, 3, 5), (0, 0, -5, -1), (0, 0, 5, 1)),
        Copy("reversed rows", X, Y, (1, 1, 3, 5), (0, 0, -5, 1), (0, 0, 5, 1)),
        Copy("repeated", X, Y, (2, 3, 2, 2), (0, 2, 0, 1), (12, 4, 2, 1)),
        Copy("backwards target", X, Y, (1, 1, 4, 2), (0, 0, 2, 1), (0, 0, -2, 1)),
        Gather("gather", X, Y, np.array([5, 0, 5, 2, 9, 1], dtype=np.int32)),
        Lookup("lookup", X, Y, 300, TABLE),
        Fill("fill low", Y, 9, -128),
        Fill("fill high", Y, 3, 127),
        Concat("rows", (X, X, X), Y, 4, (3, 1, 5)),
        Concat("flat", (X, X), Y, 1, (7, 6)),
        Concat("one", (X,), Y, 3, (2,)),
    ]


def test_movements(tmp_path: Path) -> None:
    """Strides of either sign and 0, interleaved and flat concatenations, at offsets and from flash."""
    calls = movements()
    moved = {i: Operand(1 + i % 3, 2) for i in range(len(calls))}
    from_flash = {(i, 0): SOME for i, call in enumerate(calls) if not isinstance(call, Fill)}
    agrees(program_of(calls, offsets=moved), tmp_path / "arena")
    agrees(program_of(calls, constants=from_flash, offsets=moved), tmp_path / "flash")


def test_sizes_above_sixteen_bits(tmp_path: Path) -> None:
    """The kernels take uint16 indices and row lengths; beyond them the network has loops of its own."""
    far = np.array([0, 70_000, 65_535, 65_536, 3], dtype=np.int32)
    calls: list[Call] = [
        Gather("far", X, Y, far),
        Concat("long rows", (X, X), Y, 2, (65_000, 900)),
        Concat("many rows", (X, X), Y, 65_537, (1, 2)),
        Copy("long", X, Y, (1, 1, 1, 70_000), (0, 0, 0, 1), (0, 0, 0, 1)),
    ]
    agrees(program_of(calls), tmp_path)


def chain() -> Program:
    """Two inputs; a table and a sum in place, one input read again late, an output that is a map."""
    add = elementwise(Add, 1, 24, 24, 24, seed=1)
    assert isinstance(add, Add)
    sizes = {"a": 24, "b": 24, "t": 24, "s": 24, "y": 24, "z": 48}
    kinds = {"a": BufferKind.INPUT, "b": BufferKind.INPUT, "y": BufferKind.OUTPUT, "z": BufferKind.OUTPUT}
    buffers = {n: Buffer(n, size, kinds.get(n, BufferKind.INTERNAL)) for n, size in sizes.items()}
    calls = (
        Lookup("first", Tensor("a"), Tensor("t"), 24, TABLE),
        replace(add, input_1=Tensor("t"), input_2=Tensor("b"), output=Tensor("s")),
        Lookup("second", Tensor("s"), Tensor("y"), 24, TABLE[::-1].copy()),
        Concat("both", (Tensor("y"), Tensor("b", 0)), Tensor("z"), 4, (6, 6)),
    )
    order = np.arange(24, dtype=np.int32).reshape(2, 3, 4).transpose(1, 2, 0).reshape(-1).copy()
    inputs = (Port("a", Tensor("a"), (24,), SCALE), Port("b", Tensor("b"), (24,), SCALE))
    outputs = (
        Port("y", Tensor("y"), (1, 2, 3, 4), SCALE, order),
        Port("z", Tensor("z"), (48,), SCALE),
        Port("tail", Tensor("z", 36), (12,), SCALE),
        Port("words", Tensor("z", 24), (3, 2), SCALE, dtype="int32"),
    )
    return Program("net", buffers, calls, inputs, outputs)


def test_in_place_calls_several_ports_and_ports_inside_buffers(tmp_path: Path) -> None:
    program = chain()
    agrees(program, tmp_path)
    text = (tmp_path / "net.h").read_text()
    assert "'y': ONNX shape 1 x 2 x 3 x 4, int8, memory order channels last (NHWC)" in text
    assert "'words': ONNX shape 3 x 2, int32, memory order row-major" in text
    assert "#define NET_OUTPUT_3_BYTES 24" in text


def test_numbers_at_the_ends_of_their_ranges(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    conv = random_calls.conv2d(rng)
    outputs = conv.weights.shape[0]
    lowest, highest = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    ends = np.resize(np.array([lowest, highest, -1, 0], dtype=np.int32), outputs)
    weights = np.full(conv.weights.shape, -128, dtype=np.int8)
    calls: list[Call] = [
        replace(
            conv,
            bias=np.full(outputs, value, dtype=np.int32),
            weights=weights,
            multiplier=np.full(outputs, highest, dtype=np.int32),
            shift=np.full(outputs, shift, dtype=np.int32),
            input_offset=128,
            output_offset=-128,
        )
        for value, shift in ((-1, 0), (0, -31), (1 << 20, -20))
    ]
    product = elementwise(Mul, 1, 24, 24, 24)
    calls.append(replace(product, output_multiplier=-highest, input_1_offset=128, input_2_offset=128))
    program = program_of(calls)
    folder = emit(program, tmp_path)
    inputs = random_inputs(program, seed=2)
    host = build_host(folder, sanitize=True, optimize="-O1")
    got = host.run([values[0] for values in inputs])
    for mine, theirs in zip(got, flat(run_program(program, inputs)), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    # What no kernel can use is at least written so that it is the number that was meant.
    emit(program_of([replace(conv, bias=ends)]), tmp_path / "ends")
    assert "(-2147483647 - 1), 2147483647" in (tmp_path / "ends" / "net_weights.c").read_text()
    assert "-2147483648" not in (tmp_path / "ends" / "net_weights.c").read_text()


def test_equal_constants_are_kept_once(tmp_path: Path) -> None:
    calls = [Lookup(f"t{i}", X, Y, 8, TABLE.copy()) for i in range(3)]
    text = (emit(program_of(calls), tmp_path) / "net_weights.c").read_text()
    assert text.count("int8_t net_") == 1


def test_a_refusing_kernel_ends_the_inference(tmp_path: Path) -> None:
    """A pooling window without a valid pixel is an argument error of both libraries' kernels."""
    pool = random_calls.avg_pool2d(np.random.default_rng(0))
    bad = replace(pool, input_shape=(1, 1, 1, 2), output_shape=(1, 3, 3, 2), kernel=(1, 1), padding=(0, 0))
    host = build_host(emit(program_of([bad]), tmp_path))
    values: list[Int8Array] = [np.zeros(2, dtype=np.int8)]
    with pytest.raises(EmulationError, match="NET_ERROR_KERNEL"):
        host.run(values)
