"""Processes of this Python that see what this one sees."""

from __future__ import annotations

import os
import sys

__all__ = ["environment"]


def environment() -> dict[str, str]:
    """Environment in which a child finds the same packages, however they were put on the path.

    Its working folder is not searched for modules, as anyone's files may lie there.
    """
    try:
        entries = [os.path.abspath(entry) for entry in sys.path]
    except OSError:  # the working folder was removed: relative entries lead nowhere
        entries = [entry for entry in sys.path if os.path.isabs(entry)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entries), "PYTHONSAFEPATH": "1"}
