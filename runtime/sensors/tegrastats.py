"""tegrastats, the program that every Jetson has, and the lines that it prints."""

from __future__ import annotations

import re

from waveedge.runtime.sensors.line_process import LineSensor
from waveedge.runtime.sensors.rails import UNUSED, total

__all__ = ["TegrastatsSensor", "parse_line"]

_MILLISECONDS = 100
_FIRST_SECONDS = 5.0

# "VDD_IN 5251mW/8535mW" or, up to JetPack 4, "VDD_IN 5297/5297": now, and the mean since it
# started. Memory ("RAM 1343/7620MB") has a unit of its own, temperatures ("GPU@30.5C") and clocks
# ("GR3D_FREQ 84%@[713]") another form. A rail may be below 0: some are not calibrated.
_RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (-?\d{1,7})(mW)?/-?\d{1,7}(?(3)mW)(?!\S)")


class TegrastatsSensor(LineSensor):
    """The newest line of a tegrastats of its own.

    Args:
        program: its path.

    Raises:
        NoSensor: it prints no power.
    """

    source = "tegrastats"
    interval = _MILLISECONDS / 1000

    def __init__(self, program: str) -> None:
        self.rail = ""
        super().__init__(
            [program, "--interval", str(_MILLISECONDS)], self._watts, seconds=_FIRST_SECONDS
        )

    def _watts(self, line: str) -> float | None:
        rails = parse_line(line)
        if not rails:
            return None
        names, self.rail = total(rails)
        return sum(rails[name] for name in names)


def parse_line(line: str) -> dict[str, float]:
    """Names of the rails in a line of tegrastats -> watts now, without channels that are unused."""
    return {
        name: int(milliwatts) / 1000
        for name, milliwatts, _ in _RAIL.findall(line)
        if name != UNUSED
    }
