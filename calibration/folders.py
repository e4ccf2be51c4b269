"""Finds the files of a folder, whatever it holds, and puts them in a reproducible random order."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from waveedge.errors import ImageError

__all__ = [
    "built_in_photos",
    "find_files",
    "in_random_order",
    "nothing_usable",
    "photograph",
    "shown",
]

_BUILT_IN = Path(__file__).parent / "photos"


def built_in_photos() -> list[Path]:
    """Return the photos that come with waveedge."""
    files = sorted(_BUILT_IN.glob("*.jpg"))
    if not files:
        raise ImageError(
            "the built-in photos are missing from this installation",
            hint="Install waveedge again, or give a folder of images with --calib.",
        )
    return files


def find_files(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Return every regular file that is not hidden, and what else was met, with a reason.

    Goes into all folders, and through links, each once. A path of a file is that one file.

    Raises:
        ImageError: it does not exist, or there is no file in it.
    """
    try:
        folder.stat()
    except OSError as error:
        raise ImageError(
            f"cannot open {shown(folder)}: {error.strerror}", hint="Check the path of --calib."
        ) from error
    if folder.is_file():
        return [folder], []
    files: list[Path] = []
    unusable: list[tuple[Path, str]] = []

    def report(error: OSError) -> None:
        unusable.append((Path(error.filename), error.strerror or "it cannot be read"))

    visited: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=report):
        status = os.stat(place)
        # Links may lead back up: enter no folder twice.
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if name.startswith("."):
                continue
            try:
                # A pipe or a device would never end.
                if stat.S_ISREG(path.stat().st_mode):
                    files.append(path)
                else:
                    unusable.append((path, "it is not a regular file"))
            except OSError as error:
                unusable.append((path, error.strerror or "it cannot be read"))
    if not files and unusable:
        raise nothing_usable(folder, unusable)
    if not files:
        raise ImageError(
            f"{shown(folder)} holds no files",
            hint="Put images in it: 32 to 64 like those the network will see are good.",
        )
    return files, unusable


def in_random_order(
    files: Sequence[Path], seed: int, key: Callable[[Path], bytes]
) -> list[tuple[bytes, Path]]:
    """Return (picture, file) in random order, files of one picture together."""
    groups: dict[bytes, list[Path]] = {}
    for path in files:
        groups.setdefault(key(path), []).append(path)
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    return [(group, path) for group in order for path in groups[group]]


def photograph(path: Path) -> bytes:
    """The photograph that a built-in crop is of: ``coffee-2.jpg`` is of ``coffee``."""
    return path.stem.rpartition("-")[0].encode()


def nothing_usable(folder: Path | None, skipped: Sequence[tuple[Path, str]]) -> ImageError:
    """Return the error for a folder of which no file can be used, with the first reasons."""
    place = "the built-in photos" if folder is None else shown(folder)
    reasons = "".join(f"\n  {shown(path)}: {reason}" for path, reason in skipped[:5])
    more = f"\n  and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    return ImageError(
        f"no usable image in {place}:{reasons}{more}",
        hint="Give a folder of photos (JPEG, PNG, ...), or of .npy or .npz arrays, with --calib.",
    )


def shown(path: Path) -> str:
    """A path as printable text, whatever bytes its name has."""
    return str(path).encode("utf-8", "backslashreplace").decode()
