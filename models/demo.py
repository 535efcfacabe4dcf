"""The demo: compile `models/digits.onnx` for a Cortex-M4 and ask the emulated chip how sure it is.

`python -m models.demo`, from the root of the repository, in an environment with the extra `demo`.
Everything it writes goes to `build/`. Each command is shown before it runs, so that it can be repeated by
hand; the tables after them come from the C of the compiled projects, on the emulated core.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

import qutec
from models._corruptions import CORRUPTIONS, NOT_A_DIGIT, Images
from models._device import Cost, Device
from models.digits import MODEL, load_digits

__all__ = ["ABSTAINED", "abstain_level", "commands", "main"]

ABSTAINED = 0.05
"""Share of clean digits, never trained on, for which the network may decline to answer."""

_ROOT = Path(__file__).parents[1]
_SHOWN = 3
_COUNTED = 100
_SHADES = " .:-=+*#%@"
_PROGRAMS = {"python": [], "qutec": ["-c", "from qutec.cli import main; main()"]}
"""What the interpreter that runs this script is given, whether or not its environment is activated."""


def commands(level: float) -> tuple[str, ...]:
    """The commands that the demo runs, with the confidence below which the network abstains."""
    options = "--target cortex-m4 --sram 64k --calibration build/digits.npz"
    return (
        "python -m models.digits --samples build/digits.npz --image build/digit.npy",
        f"qutec compile models/digits.onnx --exits final {options} -o build/digits_final",
        f"qutec compile models/digits.onnx --exits qute --abstain {level:.3f} {options} -o build/digits",
        "qutec run build/digits --input build/digit.npy",
    )


def abstain_level(calibration: Images, validation: Images) -> float:
    """The confidence that a share of ABSTAINED of the validation images stays below, on the device.

    Computed with the integer reference, whose bytes are the device's.
    """
    build = qutec.compile(MODEL, exits="qute", calibration=calibration)
    return float(np.quantile(build.run(validation)["confidence"], ABSTAINED))


def main() -> int:
    """Run the commands and show what they made; return the first exit code that is not 0, or 0."""
    digits = load_digits()
    level = abstain_level(digits.x_train[:200], digits.x_val)
    for command in commands(level):
        print(f"\n$ {command}", flush=True)
        program, *arguments = shlex.split(command)
        full = [sys.executable, *_PROGRAMS[program], *arguments]
        status = subprocess.run(full, cwd=_ROOT, check=False).returncode
        if status != 0:
            return status
    device, base = Device(_ROOT / "build" / "digits"), Device(_ROOT / "build" / "digits_final")
    shown = digits.x_test[:_SHOWN]
    print(f"\nThe first {_SHOWN} test digits on the emulated Cortex-M4, as they are and spoiled:\n")
    print(_pictures(shown))
    print(_answers(device, shown, digits.y_test[:_SHOWN]))
    print(
        f"\nThe first {_COUNTED} test digits; {level:.3f} is the confidence that {ABSTAINED:.0%} of"
        f" {len(digits.y_val)} validation digits stay below:\n"
    )
    print(_summary(device, digits.x_test[:_COUNTED], digits.y_test[:_COUNTED]))
    print("\nWhat the uncertainty costs: the mean over two early views against the final exit alone:\n")
    print(_costs(base.cost(shown), device.cost(shown)))
    return 0


def _kinds(images: Images) -> dict[str, Images]:
    changed = {**CORRUPTIONS, **NOT_A_DIGIT}
    return {"clean": images, **{name: change(images) for name, change in changed.items()}}


def _pictures(images: Images) -> str:
    """One row of pictures for each image: clean, corrupted, not a digit."""
    kinds = _kinds(images)
    lines = ["  ".join(f"{name:<16}" for name in kinds)]
    for k in range(len(images)):
        for row in range(images.shape[2]):
            strips = [_strip(kind[k, 0, row]) for kind in kinds.values()]
            lines.append("  ".join(strips).rstrip())
        lines.append("")
    return "\n".join(lines)


def _strip(pixels: Images) -> str:
    shades = np.minimum((pixels * len(_SHADES)).astype(int), len(_SHADES) - 1)
    return "".join(2 * _SHADES[shade] for shade in shades)


def _answers(device: Device, images: Images, labels: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str:
    lines = [f"{'image':<20}{'truth':>6}{'label':>6}{'confidence':>12}{'entropy':>9}{'disagreement':>14}"]
    kinds = {name: device.answers(kind) for name, kind in _kinds(images).items()}
    for k, label in enumerate(labels):
        for name, answers in kinds.items():
            label_said, confidence, entropy, disagreement, abstains = (
                float(answers[output][k, 0])
                for output in ("label", "confidence", "entropy", "disagreement", "abstain")
            )
            truth = "-" if name in NOT_A_DIGIT else str(label)
            flag = "  abstains" if abstains else ""
            lines.append(
                f"{name:<20}{truth:>6}{int(label_said):>6}{confidence:>12.3f}{entropy:>9.3f}"
                f"{disagreement:>14.4f}{flag}"
            )
    return "\n".join(lines)


def _summary(device: Device, images: Images, labels: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str:
    """Means over all images of a kind; the accuracy of what is answered, and the share that is not."""
    lines = [
        f"{'images':<20}{'accuracy':>9}{'confidence':>12}{'entropy':>9}{'disagreement':>14}{'abstains':>10}"
        f"{'accuracy of answers':>21}"
    ]
    for name, kind in _kinds(images).items():
        answers = {output: values[:, 0] for output, values in device.answers(kind).items()}
        right, abstains = answers["label"] == labels, answers["abstain"] == 1
        answered = right[~abstains]
        is_digit = name not in NOT_A_DIGIT
        accuracy = f"{right.mean():.0%}" if is_digit else "-"
        kept = f"{answered.mean():.0%}" if is_digit and len(answered) else "-"
        means = [float(answers[output].mean()) for output in ("confidence", "entropy", "disagreement")]
        lines.append(
            f"{name:<20}{accuracy:>9}{means[0]:>12.3f}{means[1]:>9.3f}{means[2]:>14.4f}{abstains.mean():>10.0%}"
            f"{kept:>21}"
        )
    return "\n".join(lines)


def _costs(base: Cost, heads: Cost) -> str:
    lines = [f"{'':<14}{'instructions':>14}{'flash':>10}{'arena':>9}{'stack':>9}"]
    for name, cost in (("--exits final", base), ("--exits qute", heads)):
        lines.append(
            f"{name:<14}{cost.instructions:>14,}{cost.flash_bytes:>10,}{cost.arena_bytes:>9,}"
            f"{cost.stack_bytes:>9,}"
        )
    more = heads.instructions / base.instructions - 1.0
    lines.append(
        f"{'more':<14}{more:>14.1%}{heads.flash_bytes - base.flash_bytes:>10,}"
        f"{heads.arena_bytes - base.arena_bytes:>9,}{heads.stack_bytes - base.stack_bytes:>9,}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
