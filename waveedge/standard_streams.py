"""The standard streams of the process: results alone on standard output, and what to do where a
stream is closed, full, or abandoned by its reader."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from waveedge import console
from waveedge.errors import OutputError

__all__ = ["check", "drop_output", "results_alone"]


def check() -> None:
    """Refuse to start where the result could not be told, or files not be found.

    Raises:
        OutputError: standard output is closed, or the current folder is gone.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed", hint="Send it to a file, or to /dev/null.")
    if sys.stderr is None:  # else files that are opened would take its descriptor, and its output
        while os.open(os.devnull, os.O_RDWR) < 2:
            pass
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise OutputError(
            "the current folder does not exist any more", hint="Change to one that does: cd"
        ) from error


def drop_output() -> None:
    """Keep Python from trying again, at its exit, to write what could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@contextmanager
def results_alone() -> Iterator[None]:
    """Keep standard output for what waveedge prints; all else goes to standard error.

    Networks and libraries print, from Python and from C. The descriptor itself is redirected, so
    that a reader of ``--json`` gets one document whatever they print.

    Raises:
        OutputError: standard output is full.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(kept, "w", encoding=sys.stdout.encoding, errors="backslashreplace") as results:
            os.dup2(2, 1)
            console.out.file = results
            try:
                with redirect_stdout(sys.stderr):
                    yield
                results.flush()
            finally:
                console.out.file = None  # type: ignore[assignment] # rich: back to sys.stdout
                ctypes.CDLL(None).fflush(None)  # C holds text back where no terminal reads it
                os.dup2(kept, 1)
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        raise OutputError(
            f"cannot write the result to standard output: {error.strerror}",
            hint="Send it where there is room. Files that the command wrote are whole.",
        ) from error


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
