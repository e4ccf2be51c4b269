"""Read safetensors files whose author need not be trusted, whatever their name.

The library itself takes names in UTF-8 alone, and headers of up to 100 MB before it checks them.
The format: the header's length (8 bytes, little-endian), the header (JSON: type, shape and place of
every tensor), the tensors' bytes without gaps.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

__all__ = ["DTYPES", "Shape", "read_metadata", "read_tensors"]

_LONGEST_HEADER = 32 << 20

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
"""Types of numbers under the names of the format."""

Shape = Annotated[tuple[Annotated[int, Field(ge=0, le=2**31)], ...], Field(max_length=8)]


class _Place(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Literal["BOOL", "U8", "I8", "I16", "I32", "I64", "F16", "BF16", "F32", "F64"]
    shape: Shape
    data_offsets: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0, lt=2**63)]]


_PLACES = TypeAdapter(dict[str, _Place])


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; of its tensors nothing is read.

    Raises:
        ValueError: it is no such file, cannot be read, or has a header that is too long.
    """
    with _opened(path) as file:
        metadata = _header(file).get("__metadata__", {})
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is no JSON object")
    return {key: value for key, value in metadata.items() if isinstance(value, str)}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file onto the CPU.

    Raises:
        ValueError: it is no such file, cannot be read, or its header does not fit its content.
    """
    with _opened(path) as file:
        header = _header(file)
        header.pop("__metadata__", None)
        start, size = file.tell(), path.stat().st_size
        try:
            places = _PLACES.validate_python(header)
        except ValidationError as error:
            raise ValueError(f"its header makes no sense: {error.errors()[0]['msg']}") from None
        end = 0
        for place in sorted(places.values(), key=lambda place: place.data_offsets):
            length = math.prod(place.shape) * DTYPES[place.dtype].itemsize
            if place.data_offsets != (end, end + length):
                raise ValueError("its header does not fit its tensors")
            end += length
        if start + end != size:
            raise ValueError(f"it should have {start + end} bytes, and has {size}")
        return {name: _read(file, start, place) for name, place in places.items()}


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
            raise ValueError("it is not a regular file")
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error


def _header(file: BufferedReader) -> dict[str, Any]:
    """The header of a file, which is left at its end."""
    length = int.from_bytes(file.read(8), "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header should have {length} bytes")
    content = file.read(length)
    if len(content) < length:
        raise ValueError("its header is cut off")
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header


def _read(file: BufferedReader, start: int, place: _Place) -> Tensor:
    # Into memory of torch's own: kernels may add up in another order where it is aligned otherwise.
    tensor = torch.empty(place.shape, dtype=DTYPES[place.dtype])
    file.seek(start + place.data_offsets[0])
    file.readinto(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))  # type: ignore[arg-type]
    return tensor
