"""Session options, and the peak memory of a process that has nothing but ONNX Runtime loaded.

As a script it opens a session for each model, runs each of them and prints bytes as JSON:

    python bare_session.py settings.json      {"sessions": [{"model": FILE, "feed": FILE.npz}, ...],
                                               "runs": N, "threads": ..., "provider": ...}

It imports nothing of qutec, which would be most of the memory that it measures.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

__all__ = ["session_options"]

_SILENT = 4
"""Log severity: what goes wrong is raised, and the log would be a second copy of it."""


def session_options(threads: int, graph_optimization: str, execution_mode: str) -> ort.SessionOptions:
    """Options of a session; see `qutec.backends.onnxruntime.session.SessionSettings`."""
    levels = {
        "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
        "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    }
    modes = {
        "sequential": ort.ExecutionMode.ORT_SEQUENTIAL,
        "parallel": ort.ExecutionMode.ORT_PARALLEL,
    }
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = threads if execution_mode == "parallel" else 1
    options.graph_optimization_level = levels[graph_optimization]
    options.execution_mode = modes[execution_mode]
    options.log_severity_level = _SILENT
    return options


def _peak_bytes() -> int:
    """Largest resident set of this process so far, without that of its parent before exec; 0 if not told."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _main(path: str) -> None:
    wanted = json.loads(Path(path).read_text(encoding="utf-8"))
    before = _peak_bytes()
    options = session_options(wanted["threads"], wanted["graph_optimization"], wanted["execution_mode"])
    opened = []
    for item in wanted["sessions"]:
        with np.load(item["feed"]) as archive:
            feed = {name: archive[name] for name in archive.files}
        opened.append((ort.InferenceSession(item["model"], options, providers=[wanted["provider"]]), feed))
    for _ in range(wanted["runs"]):
        for session, feed in opened:
            session.run(None, feed)
    print(json.dumps({"runtime_bytes": before, "peak_bytes": _peak_bytes()}))


if __name__ == "__main__":
    _main(sys.argv[1])
