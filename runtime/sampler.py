"""Power over time: a sensor that is read at regular times, and its means over rest and load."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from waveedge.runtime.sensors import Sensor

__all__ = ["Phases", "Sampler"]

_SAMPLES_A_SECOND = 20.0

_QUICK = 0.375
"""Seconds between readings of which a load of 3 s has eight: slower sensors need longer phases."""


@dataclass(frozen=True)
class Phases:
    """Seconds of rest and of load; longer with slow sensors.

    Attributes:
        idle: at rest, before and after.
        load: under load.
        settle: dropped at the beginning of each, in which clocks, caches and sensors follow.
    """

    idle: float = 1.5
    load: float = 3.0
    settle: float = 1.0

    def of(self, sensor: Sensor) -> Phases:
        """Phases that are long enough for several readings of a sensor."""
        longer = max(1.0, sensor.interval / _QUICK)
        return Phases(self.idle * longer, self.load * longer, self.settle)


@dataclass
class Sampler:
    """Reads a sensor at regular times, in a thread of its own.

    So a run of any length meets the same number of readings, and pays none of them itself.
    """

    sensor: Sensor
    samples: list[tuple[float, float]] = field(default_factory=list)
    _spent: float = 0.0

    def __enter__(self) -> Sampler:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(1 / _SAMPLES_A_SECOND):
            try:
                watts = self.sensor.watts()
            except OSError:  # a moment without a reading
                continue
            self.samples.append((time.perf_counter(), watts))
            self._spent = time.thread_time()

    def cpu_seconds(self) -> float:
        """CPU time of sampling so far, in this process and those of the sensor."""
        return self._spent + self.sensor.cpu_seconds()

    def rest(self, phases: Phases) -> float | None:
        """Do nothing for a while, and return the mean power meanwhile."""
        time.sleep(phases.settle)
        begin = time.perf_counter()
        time.sleep(phases.idle)
        return self.mean(begin, time.perf_counter())

    def mean(self, begin: float, end: float) -> float | None:
        """Mean power from ``begin`` to ``end``, each sample holding until the next."""
        within = [sample for sample in self.samples if begin <= sample[0] < end]
        if not within:
            return None
        ends = [moment for moment, _ in within[1:]] + [end]
        areas = [
            watts * (until - moment) for (moment, watts), until in zip(within, ends, strict=True)
        ]
        return sum(areas) / (end - within[0][0])

    def readings(self, begin: float, end: float) -> int:
        """How often the value changed from ``begin`` to ``end``: a sensor may repeat itself."""
        pairs = zip(self.samples, self.samples[1:], strict=False)
        return sum(one != other for (_, one), (at, other) in pairs if begin <= at < end)
