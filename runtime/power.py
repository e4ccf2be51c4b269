"""Energy of a run: power under load, less that of the same machine at rest before and after.

Two networks take turns on one sensor: A, B, B, A and again, each load between two rests. A machine
that warms up takes more at rest and more under load; what grows evenly weighs on both alike then,
and what happens once (a fan that starts) spoils one round, and not their median.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from waveedge.runtime.sampler import Phases, Sampler
from waveedge.runtime.sensors import NoSensor, Sensor, open_sensor

__all__ = ["IN_TURN", "ROUNDS", "Power", "measure_in_turn", "measure_power"]

ROUNDS = 4
"""Of two networks in turn: an even number, so that each is first as often as the other."""

IN_TURN = Phases(idle=1.0, load=2.0)
"""Of each round: shorter than of one load alone, for all rounds count."""

_FEWEST = 2


@dataclass(frozen=True)
class Power:
    """Electrical power under load and at rest, and what it makes of a run; medians over rounds.

    Attributes:
        watts: mean under load, without its first second.
        idle_watts: means at rest, before and after a load.
        joules_per_run: energy of one run above rest; around 0, or below, where it is lost in
            what a machine at rest does.
        total_joules_per_run: the same with what the machine takes at rest.
        rail: what was measured: a module, a carrier board, a sum of rails, a processor, a card.
        source: what read it.
        readings: how often the sensor had a new value under load; a repeated one is none.
        seconds: length of the loads that count.
        runs: runs in them.
        probe_share: CPU time of sampling under load, over ``seconds``: 0.01 is 1 % of a core. A
            service that runs anyway, as that of jetson-stats, is not in it.
        rounds: ``joules_per_run`` of each round; of a network alone there is one.
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
    rounds: tuple[float, ...]

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
        elif len(self.rounds) == 1 and abs(before - after) > 0.1 * above:
            notes.append(
                f"Power at rest went from {before:.2f} to {after:.2f} W around {side}: its energy "
                f"is uncertain by {abs(before - after) / 2 / above:.0%}."
            )
        return notes


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
    powers, reason = _measure([step], 1, gpu, phases or Phases(), root)
    return (powers[0] if powers else None), reason


def measure_in_turn(
    a: Callable[[], object],
    b: Callable[[], object],
    *,
    gpu: bool | None = False,
    rounds: int = ROUNDS,
    phases: Phases | None = None,
    root: Path = Path("/"),
) -> tuple[list[Power], str]:
    """Measure the energy of two steps in turn, on one sensor, with rest before, between and after.

    Takes about 42 seconds, with jetson-stats 84, and more where one run takes seconds; no time
    where there is no sensor.

    Args:
        gpu: as for :func:`measure_power`; None where one runs on a GPU and the other does not.
        rounds: in each, both have one load; A is first in the first one, B in the second.
        phases, root: as for :func:`measure_power`.

    Returns:
        the power of A and of B and ``""``, or nothing and the reason in one line.
    """
    return _measure([a, b], rounds, gpu, phases or IN_TURN, root)


def _measure(
    steps: Sequence[Callable[[], object]],
    rounds: int,
    gpu: bool | None,
    phases: Phases,
    root: Path,
) -> tuple[list[Power], str]:
    loads: list[list[_Load]] = [[] for _ in steps]
    try:
        with open_sensor(gpu=gpu, root=root) as sensor, Sampler(sensor) as sampler:
            phases = phases.of(sensor)
            before = sampler.rest(phases)
            for number in range(rounds):
                order = range(len(steps))
                for side in order if number % 2 == 0 else reversed(order):
                    load = _load(steps[side], before, sensor, sampler, phases)
                    loads[side].append(load)
                    before = load.after
    except NoSensor as error:
        return [], str(error)
    return [_power(of_side, sensor) for of_side in loads], ""


@dataclass(frozen=True)
class _Load:
    """One stretch of load between two of rest; see ``Power``."""

    watts: float
    before: float
    after: float
    readings: int
    seconds: float
    runs: int
    probe_seconds: float

    @property
    def joules(self) -> float:
        """Of a run, above rest."""
        return (self.watts - (self.before + self.after) / 2) * self.seconds / self.runs


def _load(
    step: Callable[[], object],
    before: float | None,
    sensor: Sensor,
    sampler: Sampler,
    phases: Phases,
) -> _Load:
    """Run ``step`` over and over, and rest.

    Raises:
        NoSensor: it stopped, or had too few new readings.
    """
    start = time.perf_counter()
    while time.perf_counter() - start < phases.settle:
        step()
    begin, spent = time.perf_counter(), sampler.cpu_seconds()
    runs = 0
    while (end := time.perf_counter()) - begin < phases.load or runs == 0:
        step()
        runs += 1
    spent = sampler.cpu_seconds() - spent
    watts = sampler.mean(begin, end)
    after = sampler.rest(phases)
    readings = sampler.readings(begin, end)
    if before is None or watts is None or after is None:
        raise NoSensor(f"{sensor.source} stopped giving readings")
    if readings < _FEWEST:
        raise NoSensor(f"{sensor.source} had {readings} new readings in {end - begin:.1f} s")
    return _Load(watts, before, after, readings, end - begin, runs, spent)


def _power(loads: Sequence[_Load], sensor: Sensor) -> Power:
    seconds = sum(load.seconds for load in loads)
    return Power(
        watts=median(load.watts for load in loads),
        idle_watts=(median(load.before for load in loads), median(load.after for load in loads)),
        joules_per_run=median(load.joules for load in loads),
        total_joules_per_run=median(load.watts * load.seconds / load.runs for load in loads),
        rail=sensor.rail,
        source=sensor.source,
        readings=sum(load.readings for load in loads),
        seconds=seconds,
        runs=sum(load.runs for load in loads),
        probe_share=sum(load.probe_seconds for load in loads) / seconds,
        rounds=tuple(load.joules for load in loads),
    )
