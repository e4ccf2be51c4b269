"""Where a network came from: the hash and the name by which its checkpoint is found again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from waveedge.errors import CheckpointError
from waveedge.files import sha256
from waveedge.models.shards import find_index, read_index

__all__ = ["find_source", "relative_name", "source_sha256"]


def source_sha256(files: Sequence[Path]) -> str:
    """Return the SHA-256 of a checkpoint; of one in several files, that of their hashes."""
    hashes = [sha256(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def relative_name(source: Path, folder: Path) -> str:
    """Return the way from ``folder`` to ``source``: it holds no more of the user's folders than
    that, and still leads there when both are moved together."""
    try:
        return os.path.relpath(source.resolve(), folder.resolve())
    except ValueError:  # on another drive of Windows
        return source.name


def find_source(name: str, digest: str, folders: Iterable[Path]) -> Path | None:
    """Find the checkpoint that an artifact was made from.

    Args:
        name: of the file, or the way to it from one of the folders.
        digest: its :func:`source_sha256`: a file of another content is not it.
        folders: where to look.
    """
    if not name or not digest:
        return None
    for folder in folders:
        for way in dict.fromkeys((name, Path(name).name)):
            # An artifact may come from anyone: it leads to no place but relative ones.
            candidate = folder / way
            if not Path(way).is_absolute() and _has(candidate, digest):
                return candidate
    return None


def _has(path: Path, digest: str) -> bool:
    try:
        index = find_index(path)
        files = [path] if index is None else [index, *read_index(index)]
        return all(file.is_file() for file in files) and source_sha256(files) == digest
    except (CheckpointError, OSError, ValueError):  # not a name, or not to be read
        return False
