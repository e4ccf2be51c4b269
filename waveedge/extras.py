"""What waveedge's extras ask for, under the libraries' own names.

waveedge itself is in no index of packages, so ``pip install "waveedge[plot]"`` finds nothing.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import metadata

__all__ = ["install_line", "requirement"]


def install_line(extra: str) -> str:
    """The command that installs the libraries of an extra.

    >>> install_line("plot")
    'pip install "matplotlib>=3.8"'
    """
    libraries = [asked for asked, of in _requirements() if of == extra]
    if not libraries:  # run from its source, without having been installed
        return f'pip install ".[{extra}]", in the folder of waveedge\'s source'
    return " ".join(["pip install", *(f'"{library}"' for library in libraries)])


def requirement(library: str) -> str:
    """A library with the versions that waveedge asks for.

    >>> requirement("openvino")
    'openvino>=2025.4'
    """
    for asked, _ in _requirements():
        if re.match(r"[\w.-]+", asked)[0] == library:  # type: ignore[index]
            return asked
    return library


@cache
def _requirements() -> list[tuple[str, str]]:
    """Every library, and the extra that asks for it; "" where waveedge always does."""
    try:
        lines = metadata.requires("waveedge") or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for line in lines:
        asked, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)", marker)
        if not asked.startswith("waveedge"):
            found.append((asked.replace(" ", ""), extra[1] if extra else ""))
    return found
