"""Peak resident memory of a process that runs a model, measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qutec.backends.onnxruntime import bare_session
from qutec.backends.onnxruntime.session import Arrays, SessionSettings
from qutec.errors import QutecError
from qutec.report.profile_data import Memory

__all__ = ["measure_memory"]

_RUNS = 3
_TIMEOUT_S = 600


def measure_memory(models: Sequence[tuple[bytes, Arrays]], settings: SessionSettings) -> Memory:
    """Memory of a process with a session for each model, run on the inputs that belong to it.

    Raises QutecError where the process fails.
    """
    with tempfile.TemporaryDirectory(prefix="qutec-") as name:
        folder = Path(name)
        sessions = []
        for index, (model, feed) in enumerate(models):
            path, inputs = folder / f"{index}.onnx", folder / f"{index}.npz"
            path.write_bytes(model)
            # Names of inputs may hold what a file name cannot, so numpy gets them by keyword only.
            np.savez(inputs, **feed)  # type: ignore[arg-type]
            sessions.append({"model": str(path), "feed": str(inputs)})
        wanted = folder / "settings.json"
        wanted.write_text(json.dumps({**settings.to_json(), "sessions": sessions, "runs": _RUNS}))
        # -P: modules beside the script must not stand in for those of the standard library.
        command = [sys.executable, "-P", str(Path(bare_session.__file__).resolve()), str(wanted)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
            return Memory(**json.loads(done.stdout))
        except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
            raise QutecError(f"the process that measures memory failed: {error}") from error
