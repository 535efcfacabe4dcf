"""What is left of accuracy and calibration in int8: the networks of `benchmarks.mnist_qute`, compiled.

    python -m benchmarks.mnist_qute_int8 [--emulated 1000] [--variants base linear+transfer]

Each trained network is compiled for a Cortex-M4 with 500 training images as calibration: QUTE as the mean
over its early views, BASE as its final exit. All 10,000 test images go through the integer reference, so many
of them (spread over the set) through the C on the emulated core, byte by byte the same. Float is the trained
graph in ONNX Runtime. Limits: NLL within 2 %, accuracy within 0.3 points; exit code 1 where a network with
early views breaks one, or where an output byte differs. Needs the extra `sim`, not torch.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import numpy.typing as npt

import qutec
from benchmarks._measure import Tools, find_tools
from benchmarks._mnist import VARIANTS, Images, Mnist, Variant, float_probabilities, read_mnist
from benchmarks._tables import plain_table
from benchmarks.mnist_qute import OUTPUT, model_path, read_rows
from qutec import metrics
from qutec.errors import VerificationError
from qutec.ports import PortInfo
from qutec.simulate import build_image, run_many

__all__ = ["Comparison", "main"]

_TARGET = "cortex-m4"
_CALIBRATION = 500
_PIXEL_MAX = np.float32(255)
_NLL_LIMIT = 0.02
_ACCURACY_LIMIT = 0.003
_OUTPUT = "probabilities"
_HEAD = (
    *("variant", "seed", "acc float", "int8", "NLL float", "int8", "change"),
    *("emulated images", "acc float", "emulated", "NLL float", "emulated", "change"),
)


@dataclass(frozen=True)
class _Pair:
    """Float and compiled on the same images; the NLL's change is relative to float."""

    images: int
    accuracy: tuple[float, float]
    nll: tuple[float, float]

    @property
    def nll_change(self) -> float:
        return self.nll[1] / self.nll[0] - 1.0

    @property
    def within_limits(self) -> bool:
        change = abs(self.accuracy[1] - self.accuracy[0])
        return abs(self.nll_change) <= _NLL_LIMIT and change <= _ACCURACY_LIMIT


@dataclass(frozen=True)
class Comparison:
    """One trained network: the reference on all test images, and the emulated core on some of them."""

    variant: str
    seed: int
    reference: _Pair
    emulated: _Pair


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, run, compare, print the table and write int8.json beside the networks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mnist_qute_int8", description="int8 QUTE")
    parser.add_argument(
        "--emulated", type=int, default=1000, metavar="N", help="images for the emulated core"
    )
    names = [variant.name for variant in VARIANTS]
    parser.add_argument("--variants", nargs="+", choices=names, default=names)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of `benchmarks.mnist_qute`")
    options = parser.parse_args(arguments)
    data = read_mnist()
    if isinstance(data, str):
        print(f"skipped: {data}", file=sys.stderr)
        return 0
    trained = sorted(read_rows(options.output))
    chosen = [v for v in VARIANTS if v.name in options.variants]
    runs = [(v, seed) for v in chosen for name, seed in trained if name == v.name]
    if not runs:
        print(
            f"skipped: no trained network in {options.output} (python -m benchmarks.mnist_qute)",
            file=sys.stderr,
        )
        return 0
    tools = find_tools()
    rows = []
    for variant, seed in runs:
        rows.append(_compare(variant, seed, options.output, data, options.emulated, tools))
        print(f"{variant.name}, seed {seed}: done", file=sys.stderr, flush=True)
    (options.output / "int8.json").write_text(
        json.dumps(
            {"schema_version": 1, "tools": tools.words, "runs": [asdict(row) for row in rows]}, indent=1
        ),
        encoding="utf-8",
    )
    print(f"{_TARGET}, {tools.words}\n")
    print(plain_table(_HEAD, [_cells(row) for row in rows]))
    heads = {variant.name for variant in VARIANTS if variant.heads}
    kept = all(r.reference.within_limits and r.emulated.within_limits for r in rows if r.variant in heads)
    return 0 if kept else 1


def _compare(
    variant: Variant, seed: int, folder: Path, data: Mnist, emulated: int, tools: Tools
) -> Comparison:
    model = model_path(folder, variant.name, seed)
    build = qutec.compile(
        model,
        target=_TARGET,
        exits="qute" if variant.heads else "final",
        calibration=_scaled(data.x_train[:_CALIBRATION]),
        name="mnist",
    )
    expected = float_probabilities(model, data.x_test)
    compiled = build.run(_scaled(data.x_test))[_OUTPUT]
    rows = np.linspace(0, len(data.x_test) - 1, emulated).astype(np.int64)
    on_core = _emulated(build, _scaled(data.x_test[rows]), tools)
    return Comparison(
        variant.name,
        seed,
        _pair(expected, compiled, data.y_test),
        _pair(expected[rows], on_core, data.y_test[rows]),
    )


def _emulated(build: qutec.Build, images: npt.NDArray[np.float32], tools: Tools) -> npt.NDArray[np.float32]:
    """Probabilities from the core, which has the SRAM of the report; all outputs equal the reference's.

    Raises:
        VerificationError: an output differs.
    """
    inputs = [PortInfo.of(port) for port in build.program.inputs]
    stored = build.stored(images)
    samples = [
        [port.to_memory(values[i]) for port, values in zip(inputs, stored, strict=True)]
        for i in range(len(images))
    ]
    with tempfile.TemporaryDirectory() as folder:
        project = build.save(Path(folder) / "net")
        image = build_image(project, build.target.core, compiler=tools.compiler)
        results = run_many(image, samples, sram_bytes=build.report.sram_bytes, emulator=tools.emulator)
    found = None
    reference = build.run_int8(images)
    for index, port in enumerate(PortInfo.of(port) for port in build.program.outputs):
        codes = np.stack([port.from_memory(result[index]).reshape(-1) for result in results])
        if not np.array_equal(codes, reference[port.name].reshape(len(images), -1)):
            raise VerificationError(f"output {port.name!r} of the emulated core differs from the reference")
        if port.name == _OUTPUT:
            found = port.real(codes)
    assert found is not None
    return found


def _pair(expected: npt.ArrayLike, compiled: npt.ArrayLike, labels: npt.NDArray[np.int64]) -> _Pair:
    both = expected, compiled
    accuracy = [metrics.accuracy(p, labels) for p in both]
    nll = [metrics.nll(p, labels) for p in both]
    return _Pair(len(labels), (accuracy[0], accuracy[1]), (nll[0], nll[1]))


def _scaled(images: Images) -> npt.NDArray[np.float32]:
    return np.divide(images, _PIXEL_MAX, dtype=np.float32)


def _cells(row: Comparison) -> list[str]:
    def figures(pair: _Pair) -> list[str]:
        before, after = pair.accuracy
        return [
            *(f"{before:.4f}", f"{after:.4f}"),
            *(f"{pair.nll[0]:.4f}", f"{pair.nll[1]:.4f}", f"{pair.nll_change:+.2%}"),
        ]

    return [
        *(row.variant, str(row.seed), *figures(row.reference)),
        *(str(row.emulated.images), *figures(row.emulated)),
    ]


if __name__ == "__main__":
    sys.exit(main())
