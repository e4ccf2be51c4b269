"""Files that are whole or absent: atomic writes and content hashes.

Imports the standard library alone: ``waveedge.runtime`` uses it on devices without torch.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from waveedge import interrupts
from waveedge.errors import InputError, OutputError
from waveedge.workplace import PREFIX, exchange, workplace

__all__ = [
    "atomic_directory",
    "atomic_file",
    "probe",
    "require_regular",
    "sha256",
    "shown",
    "written",
]

written: list[Path] = []
"""What got its name in this process, in order: an interrupted run can tell what is there."""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content as a hexadecimal string."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def shown(name: str) -> str:
    """Return a file name as text that any encoding can carry: bytes that are no UTF-8 escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to ``path`` once the block succeeds.

    A reader never sees a half-written file under the final name, whenever the process dies.

    Raises:
        OutputError: the folder is missing, read-only or full.
    """
    with _explained(path), workplace(path.parent) as place:
        temporary = place / "new"
        yield temporary
        _flush(temporary)
        with interrupts.held_back():
            temporary.replace(path)
            written.append(path)
    interrupts.check()


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; move it to ``path`` once the block succeeds.

    An older folder of that name is replaced only after the new one is complete, and by one
    exchange of their names where the system has it: whenever the process dies, the old or the new
    one is there. Where it has not, the old one may be missing until the next run puts it back.

    Raises:
        OutputError: the parent is missing, read-only or full.
    """
    with _explained(path), workplace(path.parent) as place:
        temporary = place / "new"
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush(file)
        with interrupts.held_back():
            if not os.path.lexists(path):
                temporary.rename(path)
            elif not exchange(temporary, path):
                old = place / "old"
                old.mkdir()
                path.rename(old / path.name)  # if the next step fails, the workplace undoes this
                temporary.rename(path)
            written.append(path)
    interrupts.check()


def probe(path: Path) -> None:
    """Check that a file or folder named ``path`` could be written, and clear what killed runs left.

    Raises:
        OutputError: the name is too long, the folder is missing, read-only or full.
    """
    with _explained(path):
        with suppress(FileNotFoundError):
            path.lstat()
        with workplace(path.parent):
            pass


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


_CAUSES = {
    errno.ENOSPC: ("there is no space left on the device", "Free some space"),
    errno.EDQUOT: ("the disk quota is used up", "Free some space"),
    errno.EFBIG: ("the file would be larger than this system allows", "Raise the limit"),
    errno.EACCES: ("permission denied", "Make the folder writable"),
    errno.EPERM: ("permission denied", "Make the folder writable"),
    errno.EROFS: ("the file system is read-only", "Make the folder writable"),
    errno.ENOENT: ("its folder does not exist", "Create the folder"),
    errno.ENOTDIR: ("its parent is not a folder", "Name a folder"),
    errno.ENAMETOOLONG: ("its name is too long", "Shorten it"),
    errno.EXDEV: ("what is there cannot be moved", "Remove it"),
    errno.EBUSY: ("it is in use by the system", "Unmount it"),
}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into an OutputError that says what to do."""
    try:
        yield
    except OSError as error:
        # An error about another file (an unreadable input, say) is not ours to explain.
        name = str(path) if error.filename is None else os.fsdecode(error.filename)
        if error.errno not in _CAUSES or (name != str(path) and PREFIX not in name):
            raise
        cause, mend = _CAUSES[error.errno]
        raise OutputError(
            f"cannot write {path}: {cause}",
            hint=f"{mend}, or choose another place. Nothing was changed.",
        ) from error


def require_regular(path: Path) -> None:
    """Refuse a pipe, a device or a socket as input: reading one can wait, or go on, for ever.

    Folders pass, and what does not exist: the reader says what is wrong with those.

    Raises:
        InputError: ``path``, or what it links to, is neither a regular file nor a folder.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise InputError(
            f"{path} is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a regular file",
            hint="Write what it holds to a file, and name that.",
        )
