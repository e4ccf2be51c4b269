"""What an output may replace: one guard for everything that waveedge writes.

A target that exists is replaced if waveedge wrote it, or where the user says so; inputs, links,
folders with other files in them and what is no file are never replaced. Imports the standard
library alone: ``waveedge.runtime`` uses it on devices without torch.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from waveedge import files
from waveedge.errors import OutputError
from waveedge.filetypes import (
    MANIFEST,
    bundle_files,
    is_artifact_file,
    is_checkpoint_file,
    is_cost_profile,
    is_engine,
    is_picture,
    is_race,
    is_tuning_state,
    is_wheel,
)

__all__ = [
    "ARTIFACT",
    "BUNDLE",
    "CHECKPOINT",
    "COST_PROFILE",
    "ENGINE",
    "PICTURE",
    "RACE_RESULT",
    "TUNING",
    "WHEEL",
    "Kind",
    "check_output",
    "default_name",
    "new_file",
    "new_folder",
    "target_path",
]


@dataclass(frozen=True)
class Kind:
    """A kind of output.

    Attributes:
        name: with its article, for messages.
        option: the option of the command line that names the target.
        is_ours: whether a file is of this kind and written by waveedge; may raise ValueError and
            OSError where it is broken. None: it is a folder.
    """

    name: str
    option: str
    is_ours: Callable[[Path], bool] | None


ARTIFACT = Kind("an artifact", "--out", is_artifact_file)
BUNDLE = Kind("a bundle", "--out", None)
CHECKPOINT = Kind("a checkpoint", "--out", is_checkpoint_file)
COST_PROFILE = Kind("a cost profile", "--out", is_cost_profile)
TUNING = Kind("the state of a tuning", "--out", is_tuning_state)
ENGINE = Kind("an engine", "--form", is_engine)
RACE_RESULT = Kind("the result of a race", "--race", is_race)
WHEEL = Kind("a wheel", "--out", is_wheel)
PICTURE = Kind("a picture", "--plot", is_picture)


def check_output(
    path: Path, kind: Kind, *, inputs: Iterable[Path | None] = (), overwrite: bool = False
) -> None:
    """Refuse a target before any work is done for it; clear what killed runs left beside it.

    Args:
        path: the file or, for a bundle, the folder to write.
        inputs: files and folders that the same command reads; None stands for none.
        overwrite: replace a file that waveedge did not write, too.

    Raises:
        OutputError: ``path`` must not be replaced, or cannot be written.
    """
    if path.name in ("", ".."):
        raise OutputError(f"{kind.option} names no file", hint=f"Give one: {kind.option} NAME.")
    files.probe(path)
    _check_target(path, kind, inputs, overwrite=overwrite)


def _check_target(
    path: Path, kind: Kind, inputs: Iterable[Path | None] = (), *, overwrite: bool
) -> None:
    """Refuse to replace what stands at ``path``; see check_output."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    other = f"Choose another name with {kind.option}."
    if stat.S_ISLNK(mode):
        raise OutputError(f"{path} is a link, and links are not written through", hint=other)
    sources = [source for source in inputs if source is not None and os.path.exists(source)]
    if any(_touches(path, source) for source in sources):
        raise OutputError(
            f"{path} is an input of this command", hint=f"Inputs are never modified. {other}"
        )
    if stat.S_ISDIR(mode):
        if kind.is_ours is not None:
            raise OutputError(f"{path} is a folder, not a file", hint=other)
        foreign = _foreign_file(path)
        if foreign is not None:
            raise OutputError(
                f"{path} holds {foreign}, which is no part of a bundle of waveedge", hint=other
            )
    elif not stat.S_ISREG(mode):
        raise OutputError(f"{path} is no regular file", hint=other)
    elif not _is_ours(path, kind):
        if any(path.resolve().is_relative_to(source.resolve()) for source in sources):
            raise OutputError(
                f"{path} lies in an input of this command",
                hint=f"Inputs are never modified. {other}",
            )
        if not overwrite:
            raise OutputError(
                f"{path} exists, and is not {kind.name} that waveedge wrote",
                hint=f"{other[:-1]}, or replace it with --overwrite.",
            )


@contextmanager
def new_file(path: Path, kind: Kind, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path that becomes the file ``path`` once the block succeeds.

    Raises:
        OutputError: ``path`` must not be replaced, or cannot be written.
    """
    check_output(path, kind, overwrite=overwrite)
    with files.atomic_file(path) as temporary:
        yield temporary
        _check_target(path, kind, overwrite=overwrite)  # what came meanwhile is not lost


@contextmanager
def new_folder(path: Path, kind: Kind, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` once the block succeeds; see new_file."""
    check_output(path, kind, overwrite=overwrite)
    with files.atomic_directory(path) as temporary:
        yield temporary
        _check_target(path, kind, overwrite=overwrite)


def target_path(out: Path | None, name: str) -> Path:
    """Return the file that ``--out`` means: itself, or ``name`` in that folder, or in this one."""
    return Path(name) if out is None else out / name if os.path.isdir(out) else out


_ENDINGS = frozenset({".bin", ".ckpt", ".onnx", ".pkl", ".pt", ".pt2", ".pth", ".safetensors"})


def default_name(source: Path, ending: str) -> str:
    """Return the name of what is made from ``source``: its own, with another ending.

    Dots in a name are part of it: only the endings of checkpoints are left out. A name too long
    for most file systems is cut, and a hash of the whole of it keeps it apart from others.
    """
    stem = source.name
    while (suffix := os.path.splitext(stem)[1].lower()) in {*_ENDINGS, ".tar"}:
        stem = stem[: -len(suffix)]
    name = f"{stem}.{ending}"
    encoded = os.fsencode(stem)
    room = 255 - len(os.fsencode(f".{ending}"))
    if len(encoded) <= room:
        return name
    mark = hashlib.sha256(encoded).hexdigest()[:8]
    return f"{encoded[: room - 9].decode('utf-8', 'ignore')}-{mark}.{ending}"


def _touches(path: Path, source: Path) -> bool:
    """Whether ``source`` is ``path`` or lies in it."""
    return path.samefile(source) or source.resolve().is_relative_to(path.resolve())


def _is_ours(path: Path, kind: Kind) -> bool:
    try:
        return kind.is_ours is not None and kind.is_ours(path)
    except (OSError, ValueError):
        return False


def _foreign_file(folder: Path) -> str | None:
    """Return the name of a file in ``folder`` that no bundle of waveedge brought, or None."""
    try:
        listed = bundle_files(folder / MANIFEST)
    except (OSError, ValueError):
        listed = set()  # no bundle: everything is foreign
    for entry in sorted(folder.rglob("*")):
        name = entry.relative_to(folder).as_posix()
        plain = stat.S_ISREG(entry.lstat().st_mode)
        if not (plain and name in listed) and (entry.is_symlink() or not entry.is_dir()):
            return name
    return None
