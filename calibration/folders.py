"""Finds the files of a folder, whatever it holds."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from waveedge.errors import ImageError

__all__ = [
    "built_in_photos",
    "find_files",
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

    Goes into all folders, but through no link to one: it may lead anywhere. A path of a file is
    that one file.

    Raises:
        ImageError: it does not exist, is neither a folder nor a file, or there is no file in it.
    """
    try:
        mode = folder.stat().st_mode
    except OSError as error:
        raise ImageError(
            f"cannot open {shown(folder)}: {error.strerror}", hint="Check the path of the images."
        ) from error
    if stat.S_ISREG(mode):
        return [folder], []
    if not stat.S_ISDIR(mode):
        raise ImageError(
            f"{shown(folder)} is neither a folder nor a regular file",
            hint="Give a folder of images, or one image file.",
        )
    files: list[Path] = []
    unusable: list[tuple[Path, str]] = []
    places: list[Path] = [folder]
    while places:
        place = places.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        places.append(place / entry.name)
                    elif reason := _unusable(entry):
                        unusable.append((place / entry.name, reason))
                    else:
                        files.append(place / entry.name)
        except OSError as error:
            unusable.append((place, error.strerror or "it cannot be read"))
    if not files and unusable:
        raise nothing_usable(shown(folder), unusable)
    if not files:
        raise ImageError(
            f"{shown(folder)} holds no files",
            hint="Put images in it: 32 to 64 like those the network will see are good.",
        )
    # The order in which a file system lists its files means nothing.
    return files, sorted(unusable)


def _unusable(entry: os.DirEntry[str]) -> str | None:
    """Why a file is not opened; a pipe or a device would never end."""
    try:
        if entry.is_file():
            return None
        if entry.is_dir():
            return "it is a link to a folder, which is not followed"
        os.stat(entry.path)  # says what is wrong with a link
        return "it is not a regular file"
    except OSError as error:
        return error.strerror or "it cannot be read"


def photograph(path: Path) -> bytes:
    """The photograph that a built-in crop is of: ``coffee-2.jpg`` is of ``coffee``."""
    return path.stem.rpartition("-")[0].encode()


def nothing_usable(place: str, skipped: Sequence[tuple[Path | str, str]]) -> ImageError:
    """Return the error for a source of which nothing can be used, with the first reasons."""
    reasons = "".join(f"\n  {shown(name)}: {reason}" for name, reason in skipped[:5])
    more = f"\n  and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    return ImageError(
        f"no usable image in {place}:{reasons}{more}",
        hint="Give a folder of photos (JPEG, PNG, ...), or of .npy or .npz arrays, with --calib "
        "(in Python: images, also as arrays or tensors).",
    )


def shown(path: Path | str) -> str:
    """A path as printable text, whatever bytes its name has."""
    return str(path).encode("utf-8", "backslashreplace").decode()
