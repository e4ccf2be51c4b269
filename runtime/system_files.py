"""Small facts in files of the system (``/proc``, ``/sys``, ``/etc``), below a root that may be any.

A file that is missing, unreadable, huge or strange is no error here: what it says is not known.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

__all__ = ["SystemFiles"]

_MOST = 4 << 20
_LINE = 200
_NAMES = 1000


class SystemFiles:
    """Reads facts from files below ``root``; every method answers None, or nothing, for no answer.

    Args:
        root: the folder that stands for ``/``; tests give another.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = Path(root)

    @property
    def is_own(self) -> bool:
        """Whether these are the files of the machine that this runs on."""
        return self.root == Path("/")

    def text(self, name: str, most: int = _MOST) -> str | None:
        """The whole text of a regular file of up to ``most`` bytes, or None."""
        parts, size = [], 0
        for part in self._parts(name):
            size += len(part)
            if size > most:
                return None
            parts.append(part)
        # Strings of the device tree end in a zero byte.
        return b"".join(parts).decode(errors="replace").strip().strip("\0") or None

    def line(self, name: str) -> str | None:
        """The text of a file that holds one printable line of up to 200 characters, or None."""
        text = self.text(name, 4 * _LINE)
        return text if text and len(text) <= _LINE and text.isprintable() else None

    def number(self, name: str) -> int | None:
        """The whole number that is all of a file, or None."""
        text = self.line(name)
        # More digits than a 64-bit counter has are no reading.
        return int(text) if text and re.fullmatch(r"-?[0-9]{1,20}", text) else None

    def fields(self, name: str) -> dict[str, str]:
        """Lines ``key : value`` of a file; of a repeated key the first counts, that of core 0."""
        fields: dict[str, str] = {}
        for line in (self.text(name) or "").splitlines():
            key, colon, value = line.partition(":")
            if colon:
                fields.setdefault(key.strip(), value.strip())
        return fields

    def lines(self, name: str, most: int) -> Iterator[str]:
        """The lines of a file, up to ``most`` bytes of it; for files too large to be held."""
        rest, size = b"", 0
        for part in self._parts(name):
            *whole, rest = (rest + part).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
            size += len(part)
            if size > most or len(rest) > _MOST:  # a line without an end is no text
                return
        yield rest.decode(errors="replace")

    def names(self, pattern: str) -> list[str]:
        """Names below the root that fit a pattern of ``Path.glob``, sorted, 1000 at most."""
        try:
            found = [str(path.relative_to(self.root)) for path in self._glob(pattern)]
        except (OSError, ValueError):
            return []
        return sorted(found)

    def holds(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        try:
            return (self.root / name).exists()
        except (OSError, ValueError):
            return False

    def readable(self, name: str) -> bool:
        """Whether this user may read such a file."""
        return os.access(self.root / name, os.R_OK)

    def _glob(self, pattern: str) -> Iterator[Path]:
        return islice(self.root.glob(pattern), _NAMES)

    def _parts(self, name: str) -> Iterator[bytes]:
        try:
            # Not blocking: a FIFO in the place of a file has no writer.
            number = os.open(self.root / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError):
            return
        try:
            # Drivers may refuse the read of a file that they let open: a sensor that sleeps.
            while stat.S_ISREG(os.fstat(number).st_mode) and (part := os.read(number, 1 << 16)):
                yield part
        except OSError:
            return
        finally:
            os.close(number)
