"""What an ONNX model says of its tensors, read without the ``onnx`` package.

Most of all where it keeps weights outside its file.

onnxruntime reads such files by itself, so they have to be known before a model is trusted. The
model is a protobuf message: fields of a number, a type and, here, a length, nested. Only the path
to tensors is followed, so that the numbers of a large model are stepped over and not read.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from waveedge.errors import ArtifactError
from waveedge.runtime.schema import shown

__all__ = ["MESSAGES", "external_files", "file_bytes", "stores_bfloat16"]

MESSAGES = {
    "Model": {7: "Graph", 20: "TrainingInfo", 25: "Function"},
    "TrainingInfo": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": dict.fromkeys((5, 10), "Tensor")
    | dict.fromkeys((6, 11), "Graph")
    | dict.fromkeys((22, 23), "SparseTensor"),
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
}
"""Message of ``onnx.proto`` -> number of each field that tensors can lie under -> its message."""

_DATA_TYPE, _BFLOAT16 = 2, 16  # of a Tensor
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1  # of a Tensor
_KEY, _VALUE = 1, 2  # of an entry of external_data
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_Span = tuple[int, int]


def external_files(model: Path) -> set[str]:
    """Return the files that an ONNX model reads weights from, relative to its folder.

    Raises:
        ArtifactError: the file is no ONNX model, or one of them lies outside the folder.
    """
    with _opened(model) as data:
        locations = {
            location for span in _tensors(data) if (location := _location(data, span)) is not None
        }
    return {_inside(model, location) for location in locations}


def file_bytes(path: Path) -> int:
    """Size of a model and of the weights beside it.

    Raises as :func:`external_files`.
    """
    beside = external_files(path) if path.suffix == ".onnx" else ()
    return sum(file.stat().st_size for file in (path, *(path.parent / name for name in beside)))


def stores_bfloat16(model: Path) -> bool:
    """Whether an ONNX model has a tensor in bfloat16.

    Raises:
        ArtifactError: the file is no ONNX model.
    """
    with _opened(model) as data:
        return any(
            (number, found) == (_DATA_TYPE, _BFLOAT16)
            for span in _tensors(data)
            for number, found in _fields(data, span)
        )


@contextmanager
def _opened(model: Path) -> Iterator[mmap.mmap]:
    try:
        with model.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise ValueError("the file is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"cannot load {model}: {error}", hint="The file is damaged, or is no ONNX model."
        ) from error


def _inside(model: Path, location: str) -> str:
    path = PurePosixPath(location)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ArtifactError(
            f"{model} keeps weights in {shown(location)!r}, outside its folder",
            hint="Save the model with its weights in one file, or beside it.",
        )
    return str(path)


def _tensors(data: mmap.mmap) -> Iterator[_Span]:
    """Yield where each tensor stands."""
    # A list of what is left, not recursion: a file may nest graphs as deep as it likes.
    waiting = [("Model", (0, len(data)))]
    while waiting:
        message, span = waiting.pop()
        if message == "Tensor":
            yield span
            continue
        kinds = MESSAGES[message]
        for number, found in _fields(data, span):
            if number in kinds and isinstance(found, tuple):
                waiting.append((kinds[number], found))


def _location(data: mmap.mmap, tensor: _Span) -> str | None:
    """Return where a tensor's numbers are, if not in the model."""
    external, location = False, ""
    for number, found in _fields(data, tensor):
        if number == _DATA_LOCATION:
            external = found == _EXTERNAL
        elif number == _EXTERNAL_DATA and isinstance(found, tuple):
            entry = {
                key: data[slice(*at)] for key, at in _fields(data, found) if isinstance(at, tuple)
            }
            if entry.get(_KEY) == b"location":
                location = os.fsdecode(entry.get(_VALUE, b""))
    return location if external else None


def _fields(data: mmap.mmap, span: _Span) -> Iterator[tuple[int, _Span | int]]:
    """Yield number and content of each field: a number, or where its bytes stand.

    Raises:
        ValueError: this is no protobuf message.
    """
    at, end = span
    while at < end:
        tag, at = _varint(data, at, end)
        kind, content = tag & 7, at
        if kind == _VARINT:
            value, at = _varint(data, at, end)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            size, content = _varint(data, at, end)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of an unknown kind stands at byte {at}")
        at = content + size
        if at > end:
            raise ValueError(f"a field at byte {content} ends beyond its message")
        yield tag >> 3, (content, at)


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Return the number that starts at a byte, seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"a number at byte {at} does not end")
