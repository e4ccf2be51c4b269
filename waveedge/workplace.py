"""Where an output grows until it gets its name: a hidden folder beside it, gone when done.

    .waveedge-1a2b3c4d.part/
        waveedge.lock   held by the process at work; free once that is dead
        new             the output, or, once names were exchanged, what it replaced
        old/NAME        what it replaces, for an instant, where names cannot be exchanged

The next process that writes to the same folder clears what dead ones left. Imports the standard
library alone.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from waveedge import interrupts

try:
    import fcntl
except ImportError:  # not a POSIX system: nothing is locked, so nothing counts as left behind
    fcntl = None  # type: ignore[assignment]

__all__ = ["PREFIX", "exchange", "workplace"]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux's fcntl.h and fs.h

PREFIX = ".waveedge-"
_NAME = re.compile(re.escape(PREFIX) + r"[0-9a-f]{8}\.part")
_LOCK = "waveedge.lock"
_NOTE = b"An unfinished run of waveedge. The next one that writes to this folder clears it.\n"


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """Yield an empty hidden folder in ``folder`` that vanishes with everything left in it.

    Raises:
        OSError: ``folder`` is missing, read-only or full.
    """
    _clear_left_behind(folder)
    place = lock = None
    try:
        with interrupts.held_back():
            place, lock = _occupied(folder)
        yield place
    finally:
        # What cannot be cleared now is left to the next run.
        with interrupts.held_back(), suppress(OSError):
            if place is not None and lock is not None:
                lock.close()
                _clear(place)


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two files or folders in one step; False if the system cannot.

    Raises:
        OSError: it could, but does not: no rights, or no space.
    """
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if fcntl is not None else None
    if renameat2 is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    library = ctypes.CDLL(None, use_errno=True)
    if library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _occupied(folder: Path) -> tuple[Path, IO[bytes]]:
    """Make a workplace and lock it."""
    while True:
        place = folder / f"{PREFIX}{secrets.token_hex(4)}.part"
        place.mkdir(mode=0o700)
        try:
            lock = (place / _LOCK).open("xb", buffering=0)
            _take(lock, wait=True)
            if os.fstat(lock.fileno()).st_nlink:
                lock.write(_NOTE)
                return place, lock
        except FileNotFoundError:
            pass
        except OSError:
            _clear(place)
            raise
        # Another process took it for one left behind, before it was locked.


def _clear_left_behind(folder: Path) -> None:
    """Clear the workplaces in ``folder`` whose processes are dead, and nothing else."""
    names = []
    with suppress(OSError):  # whoever writes there next is told why not
        names = [name for name in os.listdir(folder) if _NAME.fullmatch(name)]
    for place in map(folder.joinpath, names):
        with suppress(OSError):
            if not os.listdir(place):  # killed before it had its lock
                place.rmdir()
            elif stat.S_ISREG((place / _LOCK).lstat().st_mode):
                with (place / _LOCK).open("rb") as lock:
                    if _take(lock, wait=False):
                        _clear(place)


def _take(lock: IO[bytes], *, wait: bool) -> bool:
    """Lock a file; False if another process has it, or where there are no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _clear(place: Path) -> None:
    """Remove a workplace; first, put back what was moved aside and not replaced.

    Raises:
        OSError: something stays: it cannot be put back, removed, or is not ours.
    """
    new, old = place / "new", place / "old"
    if os.path.lexists(new) and old.is_dir():
        for kept in old.iterdir():
            home = place.parent / kept.name
            if os.path.lexists(home):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(home))
            kept.rename(home)
    # The lock goes last: without it, the rest would look like somebody else's.
    for entry in (old, new, place / _LOCK):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    place.rmdir()
