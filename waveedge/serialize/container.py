"""The metadata of a safetensors file, read only where its header has a sane length."""

from __future__ import annotations

import stat
from pathlib import Path

from safetensors import SafetensorError, safe_open

__all__ = ["read_metadata"]

_LONGEST_HEADER = 32 << 20


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file.

    Raises:
        ValueError: it is no such file, cannot be read, or has a header that is too long.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
            raise ValueError("it is not a regular file")
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > _LONGEST_HEADER:
            raise ValueError(f"its header should have {length} bytes")
        with safe_open(path, framework="pt") as opened:
            return opened.metadata() or {}
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except SafetensorError as error:
        raise ValueError(str(error).splitlines()[0]) from error
