"""The two containers that ``torch.save`` writes: a zip archive, and before torch 1.6 a sequence
of pickles with the numbers behind them. Tensors are read when they are asked for, not before."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from waveedge.errors import CheckpointError
from waveedge.models.foreign import SAVE, refuse_other_archives
from waveedge.models.pickles import LIMIT, Name, Storage, read_pickle

__all__ = ["open_sequence", "open_zip"]

_MAGIC = 0x1950A86A20F9469CFC6C
"""The first object of the older format."""

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}


@contextmanager
def open_zip(path: Path, names: dict[str, None]) -> Iterator[Any]:
    """Open a zip archive, and give the object that was saved in it.

    Args:
        path: the archive.
        names: collects the names of functions and classes that its pickle names.

    Returns:
        The object, as :func:`~waveedge.models.pickles.read_pickle` gives it; its tensors can be
        loaded inside the block.

    Raises:
        CheckpointError: it is an archive of another kind.
        Exception: of any kind, where the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        refuse_other_archives(path, entries)
        length = path.stat().st_size
        # Stored as they are, so that nothing in the archive is larger than the archive.
        for entry in entries.values():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > length:
                raise ValueError(f"{entry.filename} in it is compressed, or larger than the file")
        pickle = next(name for name in entries if name.rpartition("/")[2] == "data.pkl")
        folder = pickle.removesuffix("data.pkl")
        if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("it was written by a big-endian machine")
        if entries[pickle].file_size > LIMIT:
            raise ValueError(f"its description of the tensors is longer than {LIMIT >> 20} MiB")

        @cache
        def storage(name: str, dtype: torch.dtype) -> Storage:
            entry = entries[f"{folder}data/{name}"]
            # Reading an entry to its end checks its checksum.
            read = cache(lambda: _numbers(archive.read(entry), dtype))
            return Storage(dtype, entry.file_size // dtype.itemsize, read)

        def stored(identity: Any) -> Storage:
            kind, dtype, name, _, count = identity
            found = storage(str(name), _dtype(dtype))
            if kind != "storage" or type(count) is not int or not 0 <= count <= found.count:
                raise ValueError("one of its tensors has fewer numbers than it should have")
            return found

        yield read_pickle(BytesIO(archive.read(pickle)), stored, names)


@contextmanager
def open_sequence(path: Path, names: dict[str, None]) -> Iterator[Any]:
    """Open a file of the older format; otherwise as :func:`open_zip`."""
    storages: dict[str, _Numbers] = {}

    def stored(identity: Any) -> Any:
        if identity[0] == "module":  # the class of a network, beside its source code
            return identity[1]
        _, kind, name, _, count, view = identity
        numbers = storages.setdefault(str(name), _Numbers(file, _dtype(kind)))
        start = 0
        if view is not None:
            _, start, count = view
        return numbers.part(start, count)

    with path.open("rb") as file:
        if read_pickle(file, _no_storage, names) != _MAGIC:
            raise CheckpointError(
                f"{path} is a pickle, but torch.save did not write it", hint=f"Save it with: {SAVE}"
            )
        _, system = [read_pickle(file, _no_storage, names) for _ in range(2)]
        if not system["little_endian"]:
            raise ValueError("it was written by a big-endian machine")
        content = read_pickle(file, stored, names)
        length = path.stat().st_size
        for name in read_pickle(file, _no_storage):
            storages[str(name)].place(length)
        yield content


class _Numbers:
    """A storage of the older format; where it lies is known only after the object was read."""

    def __init__(self, file: IO[bytes], dtype: torch.dtype) -> None:
        self._file = file
        self._dtype = dtype
        self._position = 0
        self._end = 0
        self._whole = cache(self._read)

    def part(self, start: Any, count: Any) -> Storage:
        """Describe ``count`` elements from ``start`` on."""
        if not (type(start) is int and type(count) is int and start >= 0 and count >= 0):
            raise ValueError("one of its tensors lies nowhere")
        self._end = max(self._end, start + count)
        return Storage(self._dtype, count, lambda: self._whole()[start : start + count])

    def place(self, length: int) -> None:
        """Skip the numbers that come next in the file: their count, then themselves."""
        count = int.from_bytes(self._file.read(8), "little")
        self._position = self._file.tell()
        end = self._position + count * self._dtype.itemsize
        if end > length or self._end > count:
            raise ValueError("one of its tensors has fewer numbers than it should have")
        self._end = count
        self._file.seek(end)

    def _read(self) -> Tensor:
        if not self._position:
            raise ValueError("one of its tensors has no numbers")
        self._file.seek(self._position)
        return _numbers(self._file.read(self._end * self._dtype.itemsize), self._dtype)


def _numbers(data: bytes, dtype: torch.dtype) -> Tensor:
    """Return the numbers in ``data``; a few bytes too many at the end are left out."""
    whole = len(data) // dtype.itemsize * dtype.itemsize
    return torch.frombuffer(bytearray(data[:whole]) or bytearray(8), dtype=torch.uint8)[
        :whole
    ].view(dtype)


def _dtype(kind: Any) -> torch.dtype:
    name = kind.text.rpartition(".")[2] if isinstance(kind, Name) else ""
    if name not in _DTYPES:
        raise ValueError(f"its numbers are of an unknown kind ({name[:40]})")
    return _DTYPES[name]


def _no_storage(_: Any) -> Any:
    raise ValueError("it has a tensor where none should be")
