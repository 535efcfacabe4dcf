"""Checkpoints of a training run: one file, replaced as a whole or not at all."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from qutec.errors import UsageError
from qutec.train.files import write_atomically

__all__ = ["CheckpointFile"]

_FORMAT = 1
_NAME = "checkpoint.pt"


class CheckpointFile:
    """The checkpoint of one run in a folder of its own.

    `fingerprint` describes the model, data and options of the run: a checkpoint of another run is refused.
    """

    def __init__(self, folder: Path, fingerprint: dict[str, str]) -> None:
        self.path = folder / _NAME
        self._fingerprint = fingerprint

    def write(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint; after a crash or a kill either the old or the new one is there.

        Raises:
            UsageError: the folder cannot be written to.
        """
        content = BytesIO()
        torch.save({"format": _FORMAT, "fingerprint": self._fingerprint, "state": state}, content)
        write_atomically(self.path, content.getvalue())

    def read(self) -> dict[str, Any] | None:
        """The state that was written last; None without a checkpoint.

        Raises:
            UsageError: the file is damaged, of another version of qutec, or of another run.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UsageError(f"cannot read {self.path}: {error.strerror}") from error
        try:
            # weights_only: a checkpoint is data, and loading it must not run code.
            loaded = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
            version, fingerprint, state = loaded["format"], loaded["fingerprint"], loaded["state"]
        except Exception as error:  # zipfile, pickle and torch raise their own kinds on damaged files
            raise UsageError(f"{self.path} is not a checkpoint, or damaged: {error}") from error
        if version != _FORMAT:
            raise UsageError(f"{self.path} was written by another version of qutec")
        changed = [key for key, value in self._fingerprint.items() if fingerprint.get(key) != value]
        if changed:
            raise UsageError(f"{self.path} belongs to another run: {', '.join(changed)} differ")
        return dict(state)
