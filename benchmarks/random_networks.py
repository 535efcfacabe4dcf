"""Random networks from ONNX to the emulated core: every byte, within exactly the SRAM of the report.

    python -m benchmarks.random_networks                          50 networks, each compiled in two ways
    python -m benchmarks.random_networks --networks 500
    python -m benchmarks.random_networks --seed 18 --networks 1   one of them again

Each is compiled for one of several cores with two of several goals. Reference, C on the host and C on the
emulated core have to give the same bytes, with CMSIS_NN_PATH linked with Arm's library as well; the emulated
core has the SRAM that the report asks for and not a byte more, so that the estimate of the stack is tested
too. The reference has to be near ONNX Runtime's answer for the float model. The exit code is 1 where one is
not. What qutec refuses, such as a streamed input that a global pool reads, is counted, not an error.

Needs the extra `sim`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

import qutec
from benchmarks._arm_library import library_from_environment
from benchmarks._random_graphs import RandomNetwork, random_network
from qutec.errors import QutecError, ToolMissingError, VerificationError
from qutec.executions import verify_build
from qutec.planner.plan import PlanError
from qutec.simulate import EmulationError

__all__ = ["GOALS", "check", "main"]

GOALS: tuple[dict[str, Any], ...] = (
    {"optimize": "speed"},
    {"optimize": "sram"},
    {"optimize": "flash"},
    {"optimize": "sram", "stream_input": True},
    {"optimize": "speed", "keep_input": True},
)
_CORES = ("cortex-m4", "cortex-m0plus", "cortex-m3", "cortex-m7")
_EXITS = ("all", "final", "ensemble")
_SAMPLES = 48
_MAX_ERROR = 0.3
"""Mean distance from the float model, in standard deviations of its answers, besides a step of the output.

About one if a layer is wrong. Means over noise have no spread and reach 0.16; most networks stay below 0.05.
"""
_WRONG = (EmulationError, PlanError, VerificationError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile and compare; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.random_networks", description="Random networks."
    )
    parser.add_argument("--networks", type=int, default=50, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the first")
    options = parser.parse_args(arguments)
    library = library_from_environment()
    ended: Counter[str] = Counter()
    for seed in range(options.seed, options.seed + options.networks):
        network = random_network(seed)
        random = np.random.default_rng(seed)
        for goal in random.choice(len(GOALS), 2, replace=False):
            core = str(random.choice(_CORES))
            exits = str(random.choice(_EXITS)) if network.exits > 1 else "all"
            name = f"{seed}: {core}, --exits {exits}, {GOALS[goal]}"
            try:
                check(network, seed, GOALS[goal], core=core, exits=exits, cmsis_nn=library)
                ended["equal"] += 1
            except ToolMissingError as error:
                print(f"error: {error}", file=sys.stderr)
                return error.exit_code
            except (AssertionError, *_WRONG) as error:
                ended["wrong"] += 1
                print(f"{name}: {type(error).__name__}: {error}")
            except QutecError as error:
                ended["refused"] += 1
                print(f"{name}: refused: {error}")
    print(", ".join(f"{count} {what}" for what, count in sorted(ended.items())))
    return int(ended["wrong"] > 0)


def check(
    network: RandomNetwork,
    seed: int,
    goal: dict[str, Any],
    *,
    core: str = "cortex-m4",
    exits: str = "all",
    cmsis_nn: Path | None = None,
) -> None:
    """Compile a network and compare its executions.

    Raises QutecError where it is refused or executions differ, AssertionError where the reference is far from
    ONNX Runtime.
    """
    inputs = np.random.default_rng(seed).standard_normal((_SAMPLES, *network.input_shape)).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="qutec-random-") as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(network.model, path)
        build = qutec.compile(
            path, target=core, calibration=inputs, exits=exits, name="net", plan_seconds=3, **goal
        )
        verify_build(build, cmsis_nn=cmsis_nn)
    if exits == "all":
        wanted = _float_answers(network.model, inputs)
        steps = {port.name: port.quantization.scale for port in build.program.outputs}
        for name, given in build.run(inputs).items():
            answer = wanted[name]
            error = float(np.abs(given.reshape(answer.shape) - answer).mean())
            limit = _MAX_ERROR * float(answer.std()) + steps[name]
            assert error <= limit, f"{name} is {error:.3g} from ONNX Runtime, more than {limit:.3g}"


def _float_answers(
    model: onnx.ModelProto, inputs: npt.NDArray[np.float32]
) -> dict[str, npt.NDArray[np.float32]]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answers = [session.run(None, {"x": sample[None]}) for sample in inputs]
    names = [output.name for output in session.get_outputs()]
    return {name: np.concatenate([np.asarray(one[i]) for one in answers]) for i, name in enumerate(names)}


if __name__ == "__main__":
    sys.exit(main())
