"""Whether a machine changed while it was measured: heat, clocks, limits that set in, times.

Read before and after, outside what is timed. Interleaving protects ratios from drift; single times,
and energy, it does not.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from waveedge.runtime.system_files import SystemFiles

__all__ = ["Drift", "Snapshot", "Watch", "drift", "take_snapshot"]

_WARMER = 10.0
_SLOWER = 0.9
_LONGER = 1.1
_FEWEST_RUNS = 9

_ZONES = 64
_PLAUSIBLE = -50.0, 200.0  # a zone that is switched off says -256

# Files that count how often a limit set in, or that say that it has.
_COUNTERS = {
    "sys/class/hwmon/hwmon*/oc*_event_cnt": "an over-current limit of the chip",
    "sys/class/hwmon/hwmon*/curr*_crit_alarm": "an over-current alarm",
    "sys/class/hwmon/hwmon*/curr*_max_alarm": "an over-current warning",
    "sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count": "a core's thermal limit",
    "sys/devices/system/cpu/cpu*/thermal_throttle/package_throttle_count": "the package's "
    "thermal limit",
}
_COOLING = "sys/class/thermal/cooling_device*"


@dataclass(frozen=True)
class Snapshot:
    """What was read at one moment.

    Attributes:
        temperatures: in degrees Celsius, by thermal zone.
        hot: zones at or above the temperature from which the system slows itself.
        clocks: in Hz: ``cpu``, the fastest core, and the parts of an embedded GPU.
        limits: counters and levels of limits, by file; 0 where they do not act.
        names: the same files -> what limit it is.
    """

    temperatures: dict[str, float]
    hot: tuple[str, ...]
    clocks: dict[str, int]
    limits: dict[str, int]
    names: dict[str, str]


@dataclass(frozen=True)
class Drift:
    """How a machine changed while it was measured.

    Attributes:
        temperatures: degrees Celsius before and after, by thermal zone.
        clocks: Hz before and after: ``cpu``, the fastest core, and parts of an embedded GPU.
        throttled: limits that set in, in words; empty where none did, or none is known.
        time_ratio: times of the last third of the runs over those of the first; None of few runs.
    """

    temperatures: dict[str, tuple[float, float]]
    clocks: dict[str, tuple[int, int]]
    throttled: tuple[str, ...]
    time_ratio: float | None

    def notes(self, *, gpu: bool, alone: bool = False) -> list[str]:
        """What a reader must know: nothing where the machine was steady.

        Args:
            gpu: whether the work ran on a GPU; else its clock is of no concern.
            alone: whether there was one network, so that no ratio is left that holds.
        """
        notes = []
        if self.throttled:
            notes.append(
                f"The machine throttled while it was measured: {'; '.join(self.throttled)}."
            )
        for name, (before, after) in self.clocks.items():
            if after < _SLOWER * before and (gpu or name == "cpu"):
                notes.append(
                    f"The clock of {name} fell from {before / 1e6:.0f} to {after / 1e6:.0f} MHz."
                )
        warmest = max(self.temperatures.items(), key=lambda item: item[1][1], default=None)
        if warmest is not None and warmest[1][1] - warmest[1][0] >= _WARMER:
            name, (one, other) = warmest
            notes.append(f"The machine warmed up: {name} from {one:.1f} to {other:.1f} °C.")
        if self.time_ratio is not None and not 1 / _LONGER < self.time_ratio < _LONGER:
            way = "rose" if self.time_ratio > 1 else "fell"
            left = (
                "measure again on a steady machine"
                if alone
                else "the ratios hold, as A and B took turns"
            )
            notes.append(
                f"Times {way} by {abs(self.time_ratio - 1):.0%} from the first third of the runs "
                f"to the last; {left}."
            )
        return notes


class Watch:
    """Takes a snapshot after the warm-up and one after the last pair, as their progress is told.

    Args:
        warmup: pairs that are not counted.
        root: where ``/sys`` is; tests give another.
    """

    def __init__(self, warmup: int, root: Path = Path("/")) -> None:
        self._files = SystemFiles(root)
        self._warmup = warmup
        self._before = self._after = take_snapshot(self._files)

    def pair(self, done: int, total: int) -> None:
        """Take notice that ``done`` of ``total`` pairs are done."""
        if done == self._warmup:
            self._before = take_snapshot(self._files)
        if done == total:
            self._after = take_snapshot(self._files)

    def drift(self, *times: Sequence[float]) -> Drift:
        """Compare both snapshots.

        Args:
            times: of each side's runs, in their order.
        """
        return drift(self._before, self._after, times)


def take_snapshot(files: SystemFiles) -> Snapshot:
    """Read the machine's state now; what it does not tell is left out."""
    temperatures, hot = _temperatures(files)
    limits, names = _limits(files)
    return Snapshot(temperatures, hot, _clocks(files), limits, names)


def drift(before: Snapshot, after: Snapshot, times: Sequence[Sequence[float]] = ()) -> Drift:
    """Compare two snapshots, and the times of runs between them."""
    reached = [
        f"{name} at {after.temperatures[name]:.1f} °C, where the system slows itself"
        for name in after.hot
    ]
    # A level that stood before and stands now slowed every run; a counter counts from the start.
    set_in = [
        name
        for file, name in after.names.items()
        if after.limits[file] > (0 if _is_level(file) else before.limits.get(file, math.inf))
    ]
    return Drift(
        temperatures={
            name: (value, after.temperatures[name])
            for name, value in before.temperatures.items()
            if name in after.temperatures
        },
        clocks={
            name: (value, after.clocks[name])
            for name, value in before.clocks.items()
            if name in after.clocks
        },
        throttled=tuple(dict.fromkeys([*reached, *set_in])),
        time_ratio=_time_ratio(times),
    )


def _is_level(file: str) -> bool:
    return not file.endswith(("_count", "_cnt"))


def _time_ratio(sides: Sequence[Sequence[float]]) -> float | None:
    ratios = []
    for times in sides:
        third = len(times) // 3
        if len(times) < _FEWEST_RUNS:
            return None
        first, last = statistics.median(times[:third]), statistics.median(times[-third:])
        ratios.append(last / first)
    return statistics.geometric_mean(ratios) if ratios else None


def _temperatures(files: SystemFiles) -> tuple[dict[str, float], tuple[str, ...]]:
    found, hot = {}, []
    for folder in files.names("sys/class/thermal/thermal_zone*")[:_ZONES]:
        value = files.number(f"{folder}/temp")
        if value is None or not _PLAUSIBLE[0] < value / 1000 < _PLAUSIBLE[1]:
            continue
        name = files.line(f"{folder}/type") or folder.rpartition("/")[2]
        if name in found:  # boards have several of one type
            name = f"{name} ({folder.rpartition('thermal_zone')[2]})"
        found[name] = value / 1000
        trips = [
            files.number(kind.removesuffix("type") + "temp")
            for kind in files.names(f"{folder}/trip_point_*_type")
            if files.line(kind) == "passive"  # an active one starts a fan
        ]
        if any(trip is not None and 0 < trip <= value for trip in trips):
            hot.append(name)
    return found, tuple(hot)


def _clocks(files: SystemFiles) -> dict[str, int]:
    clocks = {}
    cores = [
        files.number(name)
        for name in files.names("sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq")
    ]
    # The core that works is the fastest; which one that is may change.
    if known := [value for value in cores if value]:
        clocks["cpu"] = max(known) * 1000
    for folder in files.names("sys/class/devfreq/*"):
        name = folder.rpartition("/")[2]
        value = files.number(f"{folder}/cur_freq")
        if value and re.search(r"gpu|ga10b|gv11b|gp10b|gm20b", name):
            clocks[name] = value
    return clocks


def _limits(files: SystemFiles) -> tuple[dict[str, int], dict[str, str]]:
    limits: dict[str, int] = {}
    names: dict[str, str] = {}
    for pattern, what in _COUNTERS.items():
        for file in files.names(pattern):
            value = files.number(file)
            if value is not None:
                folder, _, entry = file.rpartition("/")
                channel = re.match(r"curr(\d+)_", entry)
                label = files.line(f"{folder}/in{channel[1]}_label") if channel else None
                limits[file], names[file] = value, f"{what} of {label}" if label else what
    for folder in files.names(_COOLING):
        kind = files.line(f"{folder}/type") or ""
        value = files.number(f"{folder}/cur_state")
        # Of fans, a higher state is more cooling; of clocks, it is a lower clock.
        if value is not None and re.search(r"cpufreq|devfreq|cpu|gpu", kind, re.IGNORECASE):
            file = f"{folder}/cur_state"
            limits[file], names[file] = value, f"a thermal limit of {kind}"
    return limits, names
