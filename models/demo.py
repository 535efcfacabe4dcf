"""The demo: compile `models/digits.onnx` for a Cortex-M4 and run one digit on the emulated chip.

`python -m models.demo`, from the root of the repository, in an environment with the extra `demo`.
Everything it writes goes to `build/`. Each command is shown before it runs, so that it can be repeated by
hand.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

__all__ = ["COMMANDS", "main"]

COMMANDS = (
    "python -m models.digits --samples build/digits.npz --image build/digit.npy",
    "qutec compile models/digits.onnx --target cortex-m4 --sram 64k"
    " --calibration build/digits.npz -o build/digits",
    "qutec run build/digits --input build/digit.npy",
)
_ROOT = Path(__file__).parents[1]


def main() -> int:
    """Show and run COMMANDS in order; return the first exit code that is not 0, or 0."""
    for command in COMMANDS:
        print(f"\n$ {command}", flush=True)
        program, *arguments = shlex.split(command)
        status = subprocess.run([_installed(program), *arguments], cwd=_ROOT, check=False).returncode
        if status != 0:
            return status
    return 0


def _installed(program: str) -> Path:
    """The program of the environment that runs this script, whether or not it is activated."""
    return Path(sys.executable).with_name(program)


if __name__ == "__main__":
    sys.exit(main())
