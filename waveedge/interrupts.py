"""Ctrl-C and SIGTERM: the work stops where it can be cleaned up, and says so once.

Imports the standard library alone: the entry point installs this before anything heavy.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["SIGNALS", "arrived", "check", "held_back", "install", "remembered"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_arrived: list[int] = []
_held_back = 0


def arrived() -> int | None:
    """Return the number of the first signal that arrived, or None."""
    return _arrived[0] if _arrived else None


def check() -> None:
    """Raise KeyboardInterrupt if a signal arrived that was held back, or that Python dropped."""
    if _arrived:
        raise KeyboardInterrupt


@contextmanager
def held_back() -> Iterator[None]:
    """Let a block finish whatever signals arrive: files get their names in one step."""
    global _held_back
    _held_back += 1
    try:
        yield
    finally:
        _held_back -= 1


def install() -> Callable[[], None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt, and remember that they arrived.

    An exception in a destructor, or in a callback of an import, is printed and dropped. A dropped
    interrupt is not printed, and :func:`check` raises it again.

    Returns:
        A function that puts everything back as it was.
    """
    unraisable = sys.unraisablehook

    def report(dropped: sys.UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            unraisable(dropped)

    before = {}
    for number in SIGNALS:
        handler = signal.getsignal(number)
        if handler is signal.SIG_IGN:  # whoever started this process wants it so
            continue
        try:
            signal.signal(number, _interrupt)
        except ValueError:  # not in the main thread: no signal arrives here
            break
        before[number] = handler
    sys.unraisablehook = report

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = unraisable
        _arrived.clear()

    return restore


@contextmanager
def remembered() -> Iterator[None]:
    """Have :func:`install` in force for a block."""
    restore = install()
    try:
        yield
    finally:
        restore()


def _interrupt(number: int, _frame: object) -> None:
    _arrived.append(number)
    if not _held_back:
        raise KeyboardInterrupt
