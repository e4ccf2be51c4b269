"""Energy of a run: power under load, less that of the same machine at rest before and after."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from waveedge.runtime.sensors import NoSensor, Sensor, open_sensor

__all__ = ["Phases", "Power", "measure_power"]

_SAMPLES_A_SECOND = 20.0
_FEWEST = 2


@dataclass(frozen=True)
class Power:
    """Electrical power under load and at rest, and what it makes of a run.

    Attributes:
        watts: mean under load, without its first second.
        idle_watts: means at rest, before and after.
        joules_per_run: energy of one run above rest; around 0, or below, where it is lost in
            what a machine at rest does.
        total_joules_per_run: the same with what the machine takes at rest.
        rail: what was measured: a module, a carrier board, a sum of rails, a processor, a card.
        source: what read it.
        readings: how often the sensor had a new value under load; a repeated one is none.
        seconds: length of the load that counts.
        runs: runs in it.
        probe_share: CPU time of sampling under load, over ``seconds``: 0.01 is 1 % of a core.
    """

    watts: float
    idle_watts: tuple[float, float]
    joules_per_run: float
    total_joules_per_run: float
    rail: str
    source: str
    readings: int
    seconds: float
    runs: int
    probe_share: float

    def notes(self, side: str) -> list[str]:
        """What a reader must know to trust the figures of side A or B."""
        before, after = self.idle_watts
        rest = (before + after) / 2
        notes = [
            f"Energy of {side}: {self.rail}, by {self.source}; {self.watts:.2f} W under load less "
            f"{rest:.2f} W at rest, {self.readings} readings over {self.runs} runs; sampling took "
            f"{self.probe_share:.1%} of a core."
        ]
        above = self.watts - rest
        if above <= 0:
            notes.append(f"{side} took no more power than the machine at rest: no energy to tell.")
        elif abs(before - after) > 0.1 * above:
            notes.append(
                f"Power at rest went from {before:.2f} to {after:.2f} W around {side}: its energy "
                f"is uncertain by {abs(before - after) / 2 / above:.0%}."
            )
        return notes


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
        return Phases(
            max(self.idle, 4 * sensor.interval), max(self.load, 8 * sensor.interval), self.settle
        )


def measure_power(
    step: Callable[[], object],
    *,
    gpu: bool = False,
    phases: Phases | None = None,
    root: Path = Path("/"),
) -> tuple[Power | None, str]:
    """Measure the energy of ``step``: rest, ``step`` over and over, rest again.

    Takes about nine seconds where there is a sensor, and no time where there is none.

    Args:
        gpu: whether it runs on a GPU: what measures that alone is read then.
        phases: how long each part takes.
        root: where ``/sys`` is; tests give another.

    Returns:
        the power and ``""``, or None and the reason in one line.
    """
    try:
        sensor = open_sensor(gpu=gpu, root=root)
    except NoSensor as error:
        return None, str(error)
    with sensor, _Sampler(sensor) as sampler:
        return _measure(step, sensor, sampler, (phases or Phases()).of(sensor))


def _measure(
    step: Callable[[], object], sensor: Sensor, sampler: _Sampler, phases: Phases
) -> tuple[Power | None, str]:
    before = sampler.rest(phases)
    start = time.perf_counter()
    while time.perf_counter() - start < phases.settle:
        step()
    begin, spent = time.perf_counter(), sampler.cpu_seconds()
    runs = 0
    while (end := time.perf_counter()) - begin < phases.load or runs == 0:
        step()
        runs += 1
    spent = sampler.cpu_seconds() - spent
    load = sampler.mean(begin, end)
    after = sampler.rest(phases)
    readings = sampler.readings(begin, end)
    if load is None or before is None or after is None:
        return None, f"{sensor.source} stopped giving readings"
    if readings < _FEWEST:
        return None, f"{sensor.source} had {readings} new readings in {end - begin:.1f} s"
    seconds_a_run = (end - begin) / runs
    return Power(
        watts=load,
        idle_watts=(before, after),
        joules_per_run=(load - (before + after) / 2) * seconds_a_run,
        total_joules_per_run=load * seconds_a_run,
        rail=sensor.rail,
        source=sensor.source,
        readings=readings,
        seconds=end - begin,
        runs=runs,
        probe_share=spent / (end - begin),
    ), ""


@dataclass
class _Sampler:
    """Reads a sensor at regular times, in a thread of its own.

    So a run of any length meets the same number of readings, and pays none of them itself.
    """

    sensor: Sensor
    samples: list[tuple[float, float]] = field(default_factory=list)
    _spent: float = 0.0

    def __enter__(self) -> _Sampler:
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
