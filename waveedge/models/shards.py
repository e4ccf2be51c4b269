"""Checkpoints in several files, as the Hugging Face Hub keeps them: an index names the file that
each weight lies in."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from waveedge.errors import CheckpointError

__all__ = ["find_index", "part_of", "read_index"]

_INDEX = "*.safetensors.index.json"
_LIMIT = 32 << 20


def find_index(path: Path) -> Path | None:
    """Return the index that ``path`` is, or that lies in the folder ``path``."""
    if path.name.endswith(".index.json"):
        return path
    if not os.path.isdir(path):  # which is False, and no error, for a name that is none
        return None
    found = sorted(path.glob(_INDEX))
    if len(found) > 1:
        raise CheckpointError(
            f"{path} holds several checkpoints: {', '.join(file.name for file in found[:3])}",
            hint="Name one of them.",
        )
    return found[0] if found else None


def part_of(path: Path) -> tuple[int, int, Path | None] | None:
    """Return (number, parts, index if it lies there) of a file that is named as a part of many."""
    match = re.fullmatch(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)", path.name)
    if match is None or int(match[3]) < 2:
        return None
    index = path.with_name(f"{match[1]}{match[4]}.index.json")
    return int(match[2]), int(match[3]), index if index.is_file() else None


def read_index(index: Path) -> dict[Path, list[str]]:
    """Return the names of the weights in each file, the files in the order of their names.

    Raises:
        CheckpointError: it is no such index, or it names files outside its own folder.
    """
    try:
        if index.stat().st_size > _LIMIT:
            raise ValueError("it is too large")
        weight_map = json.loads(index.read_bytes())["weight_map"]
        places = {str(name): str(file) for name, file in weight_map.items()}
        if not places:
            raise ValueError("it names no weights")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{index} is not the index of a checkpoint in several files: "
            f"{str(error)[:200] or type(error).__name__}",
            hint="It should be JSON with a weight_map: the file of each weight.",
        ) from error
    shards: dict[Path, list[str]] = {}
    for name, file in sorted(places.items(), key=lambda place: place[1]):
        # A path could lead anywhere on this machine.
        if Path(file).name != file or "\\" in file or file in (".", ".."):
            raise CheckpointError(
                f"{index} names a file outside its folder: {file[:100]}",
                hint="The files of a checkpoint lie beside their index.",
            )
        shards.setdefault(index.with_name(file), []).append(name)
    return shards
