"""What people see in a terminal: messages, progress bars, tables. Results go to standard output,
everything else to standard error, so that ``--json`` output can be piped.

Names and messages may come from files and foreign code: :func:`plain` is the one place that makes
them harmless, and everything printed here passes through it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from waveedge import interrupts

__all__ = [
    "count",
    "err",
    "hush",
    "out",
    "plain",
    "print_json",
    "progress_bar",
    "say",
    "size",
    "states",
    "table",
    "warn",
]


def plain(text: str) -> str:
    r"""Return ``text`` with everything that would steer a terminal written out, as ``\x1b``.

    That is control and formatting characters (but line ends and tabs), and the bytes of file
    names that are no UTF-8.
    """
    return "".join(
        _written_out(character)
        if not character.isprintable() and unicodedata.category(character) in _STEERING
        else character
        for character in text
    )


_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")


def _written_out(character: str) -> str:
    code = ord(character)
    if character in "\n\t":
        return character
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class _Console(Console):
    """Prints text as it is: no markup, no emoji codes, no colours by content, no control codes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:  # of print, and of cells of tables
        return super().render_str(plain(text), **options)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # for the command line to handle, as any other


out = _Console(soft_wrap=True)
err = _Console(stderr=True, soft_wrap=True)


_hushed = False


def hush() -> None:
    """Leave it to another process to tell the same; errors are still printed."""
    global _hushed
    _hushed = True


def say(message: str) -> None:
    """Tell the user what is happening."""
    if not _hushed:
        err.print(message)


def warn(message: str) -> None:
    """Tell the user loudly."""
    if not _hushed:
        err.print(f"WARNING: {message}", style="bold yellow")


def print_json(value: Any) -> None:
    """Print one JSON document on standard output; infinities become strings."""
    out.file.write(json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), "NaN")
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function (what, done, total) that keeps one bar per kind of work up to date.

    What follows a comma in ``what`` is how it stands: "tuning, 31.2 dB" is of the kind "tuning".
    """
    columns = (
        TextColumn("{task.description:<24}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        _TimeLeft(compact=True),
    )
    with Progress(*columns, console=err, transient=True, disable=_hushed) as progress:
        tasks: dict[str, Any] = {}

        def update(what: str, done: int, total: int) -> None:
            if done < total:  # at the end, files may have their names already
                interrupts.check()
            kind = what.partition(",")[0]
            if kind not in tasks:
                tasks[kind] = progress.add_task(what, total=total)
            progress.update(tasks[kind], description=what, completed=done, total=total)

        yield update


class _TimeLeft(TimeRemainingColumn):
    """An estimate from the last half minute, named, as the time elapsed stands beside it."""

    def render(self, task: Task) -> Text:
        if task.finished or task.time_remaining is None:
            return Text("")
        return super().render(task).append(" left")


@contextmanager
def states(names: Sequence[str]) -> Iterator[Callable[[str, str], None]]:
    """Yield a function (name, state) that keeps one line a name up to date; any thread may call."""
    columns = (
        TextColumn("{task.description:<24}", markup=False),
        TextColumn("{task.fields[state]:<24}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        tasks = {
            name: progress.add_task(plain(name), total=None, state="waiting") for name in names
        }

        def update(name: str, state: str) -> None:
            progress.update(tasks[name], state=plain(state))
            if state in ("done", "failed"):
                progress.stop_task(tasks[name])

        yield update


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; columns of numbers are right-aligned."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        numbers = index > 0 and all(_NUMBER.match(row[index]) for row in rows)
        grid.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*row)
    out.print(title, style="bold")
    # Piped output has no width of its own; let no column be cut there.
    _Console(file=out.file, width=None if out.is_terminal else 160).print(grid)


_NUMBER = re.compile(r"[-+]?[\d.]*( ?\w+| ?%|x)?( \[.*\])?$")


def count(number: float) -> str:
    """Format a number with a decimal prefix: 1234567 is 1.23 M."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= factor:
            return f"{number / factor:.2f} {prefix}"
    return f"{number:g}"


def size(octets: float) -> str:
    """Format a number of bytes with a binary prefix: 1048576 is 1.00 MiB."""
    for factor, prefix in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if octets >= factor:
            return f"{octets / factor:.2f} {prefix}"
    return f"{octets:.0f} B"
