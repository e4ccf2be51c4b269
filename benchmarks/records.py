"""Result files: a machine and its records as JSON, written whole after every measurement."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import Machine, describe, describe_versions, name_of, same_machine
from waveedge.console import say
from waveedge.errors import OutputError, WaveedgeError
from waveedge.files import atomic_file

__all__ = ["Record", "Records", "recorded", "write_text"]

Record = dict[str, Any]


class Records:
    """The records of one result file, all of one machine.

    Args:
        path: the JSON file; read where it exists.
        key: names of the fields that identify a record.
        machine: this one, unless a test gives another.

    Attributes:
        rows: the records.
        machine: what they were measured on.
        versions: packages when the file was last begun.
    """

    def __init__(self, path: Path, key: tuple[str, ...], machine: Machine | None = None) -> None:
        self.path = path
        self.key = key
        self._here = machine or describe()
        self.rows: list[Record]
        self._begin()
        if path.is_file():
            held = json.loads(path.read_text())
            self.machine, self.versions = held["machine"], held["versions"]
            self.rows = held["records"]

    def _begin(self) -> None:
        self.machine, self.versions = self._here, describe_versions()
        self.rows = []

    def find(self, **fields: Any) -> Record | None:
        """Return the record with these fields, or None."""
        return next((row for row in self.rows if fields.items() <= row.items()), None)

    def add(self, record: Record) -> Record:
        """Keep ``record``, in place of an older one with the same key, and write the file.

        Raises:
            OutputError: the file holds records of another machine.
        """
        self.refuse_other_machine()
        record = _plain(record)
        key = {name: record[name] for name in self.key}
        old = self.find(**key)
        if old is None:
            self.rows.append(record)
        else:
            self.rows[self.rows.index(old)] = record
        self._write()
        return record

    def drop(self, which: Callable[[Record], bool]) -> None:
        """Forget the records of which this holds; where none are left, the file is begun anew.

        Raises:
            OutputError: what would be left is of another machine; nothing was forgotten.
        """
        left = [row for row in self.rows if not which(row)]
        if left:
            self.refuse_other_machine()
            self.rows = left
        else:
            self._begin()
        self._write()

    def refuse_other_machine(self) -> None:
        """Raise OutputError where the file holds records of another machine: tables never mix."""
        if not same_machine(self.machine, self._here):
            raise OutputError(
                f"{self.path} was measured on another machine: {name_of(self.machine)}",
                hint="Measure every network again, or write elsewhere with --out.",
            )

    def _write(self) -> None:
        held = {"machine": self.machine, "versions": self.versions, "records": self.rows}
        write_text(self.path, json.dumps(held, indent=1, allow_nan=False) + "\n")


@contextmanager
def recorded(record: Record) -> Iterator[None]:
    """Turn an exception into the record's ``error``: one failure must not lose a night's run."""
    try:
        yield
    except WaveedgeError as error:
        record["error"] = error.what
    except Exception as error:
        traceback.print_exc()
        record["error"] = f"{type(error).__name__}: {error}"
    if "error" in record:
        say(f"failed: {record['error']}")


def write_text(path: Path, text: str) -> None:
    """Write ``path`` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_text(text)


def _plain(value: Any) -> Any:
    """Round to what was measured; JSON has no infinity, so that becomes null."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
