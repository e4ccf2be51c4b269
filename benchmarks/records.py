"""Result files: JSON lists of records, written whole after every measurement."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from waveedge.files import atomic_file

__all__ = ["Record", "Records", "write_text"]

Record = dict[str, Any]


class Records:
    """The records of one result file.

    Args:
        path: the JSON file; read where it exists.
        key: names of the fields that identify a record.
    """

    def __init__(self, path: Path, key: tuple[str, ...]) -> None:
        self.path = path
        self.key = key
        self.rows: list[Record] = json.loads(path.read_text()) if path.is_file() else []

    def find(self, **fields: Any) -> Record | None:
        """Return the record with these fields, or None."""
        return next((row for row in self.rows if fields.items() <= row.items()), None)

    def add(self, record: Record) -> Record:
        """Keep ``record``, in place of an older one with the same key, and write the file."""
        record = _plain(record)
        key = {name: record[name] for name in self.key}
        old = self.find(**key)
        if old is None:
            self.rows.append(record)
        else:
            self.rows[self.rows.index(old)] = record
        self._write()
        return record

    def drop(self, **fields: Any) -> None:
        """Forget the records with these fields."""
        self.rows = [row for row in self.rows if not fields.items() <= row.items()]
        self._write()

    def _write(self) -> None:
        write_text(self.path, json.dumps(self.rows, indent=1, allow_nan=False) + "\n")


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
