"""Where a model comes from: a file, bytes or a protobuf, with the tensors that lie beside the file."""

from __future__ import annotations

import hashlib
import math
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Protocol, TypeAlias, cast

import onnx
import onnx_ir as ir

from qutec.errors import ModelError, UsageError
from qutec.ingest.walk import all_tensors

__all__ = ["MAX_TENSOR_BYTES", "ModelSource", "Source", "read_source", "tensor_bytes"]

ModelSource: TypeAlias = str | Path | bytes | onnx.ModelProto

MAX_TENSOR_BYTES = 64 * 1024 * 1024
"""Largest tensor that the importer takes; far above what a microcontroller can hold."""

_EXTERNAL = "external data of tensor"

_MAX_FILE_BYTES = 2**31 - 1
"""Protobuf's own limit."""


@dataclass(frozen=True)
class Source:
    """A parsed model whose external tensors, if any, have been read into the protobuf."""

    model: onnx.ModelProto
    name: str
    sha256: str


def read_source(source: ModelSource) -> Source:
    """Read and parse a model; nothing is checked yet but tensor sizes and external data.

    `str` and `Path` name a file. The digest is that of the file's bytes (of the deterministic
    serialisation for a protobuf); external data is not part of it.

    Raises:
        UsageError: the file is missing, is not a regular file, or cannot be read.
        ModelError: not an ONNX protobuf, a tensor above `MAX_TENSOR_BYTES`, or external data that is
            missing, too short or outside of the file's folder.
    """
    folder: Path | None = None
    if isinstance(source, onnx.ModelProto):
        model = onnx.ModelProto()
        model.CopyFrom(source)
        data = model.SerializeToString(deterministic=True)
        name = ""
    elif isinstance(source, bytes):
        data, name = source, ""
        model = _parse(data, "the given bytes")
    else:
        path = Path(source)
        data = _read_file(path)
        model = _parse(data, str(path))
        name, folder = path.stem, path.parent
    _check_tensor_sizes(model)
    _load_external_data(model, folder)
    return Source(model, name or model.graph.name or "model", hashlib.sha256(data).hexdigest())


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor by its dimensions and element type, whatever data it really carries."""
    try:
        bits = ir.DataType(tensor.data_type).bitwidth
    except (ValueError, TypeError):
        raise ModelError(f"tensor {tensor.name!r} has the unknown type {tensor.data_type}") from None
    return (math.prod(int(dim) for dim in tensor.dims) * bits + 7) // 8


def _read_file(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{path} is a folder, not an ONNX file")
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path} is not a regular file")
        if status.st_size > _MAX_FILE_BYTES:
            raise ModelError(f"{path} has {status.st_size} bytes; an ONNX file has less than 2 GiB")
        return path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"no such file: {path}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"cannot read {path}: {reason}") from error


def _parse(data: bytes, label: str) -> onnx.ModelProto:
    if not data:
        raise ModelError(f"{label}: empty, not an ONNX model")
    try:
        model = onnx.ModelProto()
        model.ParseFromString(data)
    except Exception as error:  # DecodeError, which protobuf ships without type information
        raise ModelError(f"{label}: not an ONNX model, or truncated (protobuf does not parse)") from error
    if not model.HasField("graph"):
        raise ModelError(f"{label}: not an ONNX model, or truncated (it has no graph)")
    if not _has_only_text(model):
        raise ModelError(f"{label}: not an ONNX model, or damaged (a name is not valid UTF-8)")
    return model


class _Field(Protocol):
    """What is used of a protobuf field descriptor; protobuf ships no type information."""

    type: int
    TYPE_MESSAGE: int
    TYPE_STRING: int


class _Message(Protocol):
    def ListFields(self) -> Iterable[tuple[_Field, object]]: ...  # noqa: N802 (protobuf's name)


def _has_only_text(message: _Message) -> bool:
    """Whether every string field decodes; protobuf hands out bytes for those that do not."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            items = value if isinstance(value, Sequence) else (value,)
            if not all(_has_only_text(cast(_Message, item)) for item in items):
                return False
        elif field.type == field.TYPE_STRING:
            items = value if isinstance(value, Sequence) and not isinstance(value, bytes) else (value,)
            if any(isinstance(item, bytes) for item in items):
                return False
    return True


def _check_tensor_sizes(model: onnx.ModelProto) -> None:
    for label, tensor in all_tensors(model):
        if any(dim < 0 for dim in tensor.dims):
            raise ModelError(f"tensor {label!r} has the negative dimension in {list(tensor.dims)}")
        if tensor.data_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
            continue
        size = max(tensor_bytes(tensor), len(tensor.raw_data))
        if size > MAX_TENSOR_BYTES:
            raise ModelError(
                f"tensor {label!r} {list(tensor.dims)} has {size} bytes;"
                f" the limit is {MAX_TENSOR_BYTES} (64 MiB)"
            )


def _load_external_data(model: onnx.ModelProto, folder: Path | None) -> None:
    for label, tensor in all_tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        if folder is None:
            raise ModelError(f"tensor {label!r} has external data, but the model was not read from a file")
        if tensor.data_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
            raise ModelError(f"tensor {label!r} has external data of a type that cannot be external")
        tensor.raw_data = _read_external(label, tensor, folder)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _read_external(label: str, tensor: onnx.TensorProto, folder: Path) -> bytes:
    fields = {entry.key: entry.value for entry in tensor.external_data}
    path = _resolve_beside(label, fields.get("location", ""), folder)
    size = tensor_bytes(tensor)
    try:
        offset, length = int(fields.get("offset", "0")), int(fields.get("length", str(size)))
    except ValueError:
        raise ModelError(f"{_EXTERNAL} {label!r}: offset or length is not a number") from None
    if offset < 0 or length != size:
        raise ModelError(
            f"{_EXTERNAL} {label!r}: offset {offset}, length {length}, but the tensor has {size} bytes"
        )
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise ModelError(f"{_EXTERNAL} {label!r}: cannot read {path}: {error.strerror}") from error
    if len(data) != size:
        raise ModelError(f"{_EXTERNAL} {label!r}: {path.name} ends after {len(data)} of {size} bytes")
    return data


def _resolve_beside(label: str, location: str, folder: Path) -> Path:
    """The file that `location` names, which must lie in `folder` also after symbolic links are followed."""
    windows = PureWindowsPath(location)
    if not location or "\0" in location:
        raise ModelError(f"{_EXTERNAL} {label!r}: no file is named")
    if windows.is_absolute() or windows.drive or location.startswith(("/", "\\")) or ".." in windows.parts:
        raise ModelError(f"{_EXTERNAL} {label!r} lies outside of the model's folder: {location!r}")
    root = folder.resolve()
    try:
        path = (root / location).resolve(strict=True)
    except FileNotFoundError:
        raise ModelError(f"{_EXTERNAL} {label!r} is missing: {location!r}") from None
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{_EXTERNAL} {label!r}: cannot follow {location!r}") from error
    if not path.is_relative_to(root):
        raise ModelError(f"{_EXTERNAL} {label!r} lies outside of the model's folder: {location!r}")
    if not path.is_file():
        raise ModelError(f"{_EXTERNAL} {label!r}: {location!r} is not a file")
    return path
