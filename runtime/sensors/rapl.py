"""RAPL: counters of energy in x86 processors, which the kernel shows under powercap."""

from __future__ import annotations

import re
import time

from waveedge.runtime.sensors.sensor import NoSensor, Sensor
from waveedge.runtime.system_files import SystemFiles

__all__ = ["RaplSensor"]

_ZONES = "sys/class/powercap/intel-rapl:*"  # AMD's processors have them under the same name


class RaplSensor(Sensor):
    """The processor packages; power is what their counters grew by since the reading before.

    Raises:
        NoSensor: there are no counters, or this user may not read them.
    """

    source = "RAPL"
    interval = 0.05

    def __init__(self, files: SystemFiles) -> None:
        self._files = files
        self._zones = [
            zone
            for zone in files.names(_ZONES)
            # Zones within a package (cores, memory) have a second number.
            if re.search(r"rapl:\d+$", zone)
            and (files.line(f"{zone}/name") or "").startswith("package")
        ]
        if not self._zones:
            raise NoSensor("this processor shows no energy counters (RAPL)")
        try:
            self._before = time.perf_counter(), self._joules()
        except OSError as error:
            raise NoSensor(
                "RAPL's counters are for root alone "
                "(sudo chmod a+r /sys/class/powercap/intel-rapl*/energy_uj)"
            ) from error
        self._watts = 0.0
        count = len(self._zones)
        self.rail = "the processor package alone" if count == 1 else f"{count} processor packages"

    def watts(self) -> float:
        now, joules = time.perf_counter(), self._joules()
        then, before = self._before
        # A counter that starts again from 0 tells nothing of this one interval.
        grown = [one - other for one, other in zip(joules, before, strict=True)]
        if now > then and sum(grown) > 0 and min(grown) >= 0:
            self._watts = sum(grown) / (now - then)
        if joules != before:
            self._before = now, joules
        return self._watts

    def _joules(self) -> list[float]:
        counts = [self._files.number(f"{zone}/energy_uj") for zone in self._zones]
        found = [count / 1e6 for count in counts if count is not None]
        if len(found) < len(counts):
            raise OSError("a counter cannot be read")
        return found
