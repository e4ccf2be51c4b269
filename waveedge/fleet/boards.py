"""Which boards to measure: named on the command line, or in a file that describes a fleet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waveedge.errors import InputError, MissingDependencyError
from waveedge.extras import requirement

__all__ = ["Board", "read_boards"]

_MOST_BYTES = 2**20
_MOST_BOARDS = 100
_FIELDS = ("host", "name", "python")
_EXAMPLE = "boards: [{host: user@jetson, name: orin}]"


@dataclass(frozen=True)
class Board:
    """A board of a fleet.

    Attributes:
        host: as ``ssh`` takes it.
        name: for tables; the host where it is empty.
        python: a Python on the board that has waveedge; by default the one that ``--setup`` made,
            else ``python3``.
    """

    host: str
    name: str = ""
    python: str = ""

    @property
    def title(self) -> str:
        """What people see."""
        return self.name or self.host


def read_boards(path: Path) -> list[Board]:
    """Read a file such as ``fleet.yaml``: ``boards``, a list with host, and name and python.

    Raises:
        InputError: it cannot be read, or describes no boards; the message says where.
        MissingDependencyError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingDependencyError(
            f"reading {path} needs PyYAML",
            hint=f'pip install "{requirement("pyyaml")}", or use --on HOST',
        ) from error
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise _wrong(path, "it is larger than 1 MiB")
        given = yaml.safe_load(content)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        place = f", line {where.line + 1}" if where is not None else ""
        raise _wrong(path, f"it is no YAML{place}") from error
    boards = given.get("boards") if isinstance(given, dict) and len(given) == 1 else None
    if not isinstance(boards, list) or not 1 <= len(boards) <= _MOST_BOARDS:
        raise _wrong(
            path, f"it must hold 'boards', a list of 1 to {_MOST_BOARDS}, and nothing else"
        )
    read = [_board(path, number, entry) for number, entry in enumerate(boards, 1)]
    for one in read:
        if sum(board.title == one.title for board in read) > 1:
            raise _wrong(path, f"two boards are called {one.title!r}")
    return read


def _board(path: Path, number: int, entry: Any) -> Board:
    if isinstance(entry, str):
        entry = {"host": entry}
    if not isinstance(entry, dict) or not set(entry) <= set(_FIELDS) or "host" not in entry:
        raise _wrong(path, f"board {number} must have a host, and may have name and python")
    for field, value in entry.items():
        if not isinstance(value, str) or not 1 <= len(value) <= 200 or not value.isprintable():
            raise _wrong(path, f"board {number}: {field} must be a line of text")
    return Board(**entry)


def _wrong(path: Path, what: str) -> InputError:
    return InputError(f"{path} describes no fleet: {what}", hint=f"For example: {_EXAMPLE}")
