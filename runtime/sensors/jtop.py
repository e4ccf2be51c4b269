"""jetson-stats, asked by a process of its own: its licence (AGPL) is not that of this program."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from waveedge.runtime.child import environment
from waveedge.runtime.sensors.line_process import LineSensor
from waveedge.runtime.sensors.sensor import NoSensor

__all__ = ["JtopSensor"]

_FIRST_SECONDS = 10.0

# Prints the board's milliwatts each time that the service of jetson-stats has new ones.
_PROGRAM = """
from jtop import jtop
with jtop() as board:
    while board.ok():
        print(board.power["tot"]["power"], flush=True)
"""


class JtopSensor(LineSensor):
    """The board's total as jetson-stats tells it, once a second.

    Raises:
        NoSensor: jetson-stats is not installed, or its service does not answer.
    """

    source = "jetson-stats"
    rail = "the total of the board, as jetson-stats chooses its rails"
    interval = 1.0

    def __init__(self) -> None:
        python = _python()
        if python is None:
            raise NoSensor("jetson-stats is not installed")
        super().__init__(
            [python, "-c", _PROGRAM],
            _watts,
            seconds=_FIRST_SECONDS,
            environment=environment() if python == sys.executable else None,
        )


def _python() -> str | None:
    """The Python that has jetson-stats: this one, or that of its own program."""
    try:
        if importlib.util.find_spec("jtop") is not None:
            return sys.executable
    except (ImportError, ValueError):  # ValueError: something in its place is no module
        pass
    program = shutil.which("jtop")
    if program is None:
        return None
    try:
        with Path(program).open("rb") as file:
            first = file.readline(1000).decode(errors="replace").strip()
    except OSError:
        return None
    python = first.removeprefix("#!").strip()
    return python if first.startswith("#!/") and os.access(python, os.X_OK) else None


def _watts(line: str) -> float | None:
    try:
        return float(line) / 1000
    except ValueError:
        return None
