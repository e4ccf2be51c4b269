"""What the command line says of an exception: what is wrong and what to do about it, cut to a
length that people read, and the exit status."""

from __future__ import annotations

import errno

import typer

from waveedge.errors import UsageError, WaveedgeError, missing, out_of_memory, reason

__all__ = ["USAGE", "message", "status"]

USAGE = 2
"""The status where the line makes no sense, as shells give it; everything else that fails is 1."""

_LONGEST = 3000

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""Files of a name are explained where they are written; what has none is a stream."""


def status(error: BaseException) -> int:
    """Return the exit status that an exception stands for."""
    return USAGE if isinstance(error, UsageError | typer.TyperException) else 1


def message(error: BaseException) -> tuple[str, str]:
    """Return (what is wrong and where, what to do about it), each of a bounded length."""
    what, hint = _message(error)
    return _cut(what), _cut(hint)


def _message(error: BaseException) -> tuple[str, str]:
    if isinstance(error, WaveedgeError):
        return error.what, error.hint
    if isinstance(error, ModuleNotFoundError) and (absent := missing(error)):
        return absent.what, absent.hint
    if out_of_memory(error):
        return (
            "there is not enough memory for this network at this size",
            "Try a smaller --input-size or --batch; --debug shows what was being done.",
        )
    if isinstance(error, typer.TyperException):
        return _usage(error)
    if isinstance(error, RecursionError):
        return (
            "the network or a file is nested too deeply for Python to follow",
            "Make its structure flatter; --debug shows where it was read.",
        )
    if isinstance(error, OSError):
        if error.filename is None and error.errno in _FULL:
            return (
                f"standard output cannot be written: {error.strerror}",
                "Send it where there is room.",
            )
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"the system refused: {where}{error.strerror or error}",
            "Check the path, its rights and the space left.",
        )
    if not isinstance(error, Exception):
        return (
            f"the code of the network ended the program with {reason(error)}",
            "Find where with --debug; a network should raise an ordinary error.",
        )
    return (
        f"unexpected {reason(error)}",
        "This is a bug in waveedge; run again with --debug and report what it prints.",
    )


def _usage(error: typer.TyperException) -> tuple[str, str]:
    """What is wrong with the line that was typed, and where its help is."""
    context = getattr(error, "ctx", None)
    text: str = getattr(error, "format_message", lambda: str(error))()
    return text, f"See: {context.command_path if context else 'waveedge'} --help"


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]} ... ({len(text) - _LONGEST} more characters)"
