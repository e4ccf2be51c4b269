"""Files that are whole or absent: atomic writes and content hashes.

Imports the standard library alone: ``waveedge.runtime`` uses it on devices without torch.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from waveedge.errors import InputError, OutputError

__all__ = ["atomic_directory", "atomic_file", "require_regular", "sha256"]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content as a hexadecimal string."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` once the block succeeds.

    A reader never sees a half-written file under the final name, whenever the process dies.

    Raises:
        OutputError: the folder is missing, read-only or full.
    """
    with _explained(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _flush(temporary)
            # mkstemp makes the file private; give it the mode any new file would have.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; move it to ``path`` once the block succeeds.

    An older folder of that name is replaced only after the new one is complete.

    Raises:
        OutputError: the parent is missing, read-only or full.
    """
    with _explained(path):
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            temporary.chmod(0o755)
            old = path.with_name(f".{path.name}.old")
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
                path.rename(old)
            temporary.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


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
}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into an OutputError that says what to do."""
    try:
        yield
    except OSError as error:
        # An error about another file (an unreadable input, say) is not ours to explain.
        if error.errno not in _CAUSES:
            raise
        cause, mend = _CAUSES[error.errno]
        raise OutputError(
            f"cannot write {path}: {cause}",
            hint=f"{mend}, or choose another place with --out. Nothing was changed.",
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
