"""Power monitors on the board (INA3221, INA238 and their kin) that the kernel shows in sysfs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from waveedge.runtime.sensors.rails import UNUSED, total
from waveedge.runtime.sensors.sensor import NoSensor, Sensor
from waveedge.runtime.system_files import SystemFiles

__all__ = ["InaSensor"]

_CHANNELS = (1, 2, 3)  # the INA3221 driver's further ones are voltages of shunts, and sums

_HWMON = ("sys/class/hwmon/hwmon*", "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*")
_IIO = "sys/bus/i2c/drivers/ina3221x/*/iio:device*"

Read = Callable[[], float | None]


class InaSensor(Sensor):
    """The rails of all monitors, read one after the other: about 1 ms of I2C each.

    Args:
        files: where ``/sys`` is.

    Raises:
        NoSensor: the kernel shows none, or none that gives a reading.
    """

    interval = 0.02

    def __init__(self, files: SystemFiles) -> None:
        chips: set[str] = set()
        rails: dict[str, Read] = {}
        for chip, name, read in _rails(files):
            if name != UNUSED and read() is not None:  # a channel that is switched off has none
                rails.setdefault(name, read)
                chips.add(chip)
        if not rails:
            raise NoSensor("sysfs shows no power monitor (INA3221, INA238) with a reading")
        names, self.rail = total(rails)
        self.source = f"{' and '.join(sorted(chips))} in sysfs"
        self._reads = [rails[name] for name in names]

    def watts(self) -> float:
        values = [read() for read in self._reads]
        found = [value for value in values if value is not None]
        if len(found) < len(values):  # the sum of what is left would be another rail
            raise OSError("a rail gives no reading")
        return sum(found)


def _rails(files: SystemFiles) -> Iterator[tuple[str, str, Read]]:
    """All rails as (chip, name, read); read gives watts, or None."""
    for pattern in _HWMON:
        folders = [
            (folder, name)
            for folder in files.names(pattern)
            if re.match(r"ina\d+", name := files.line(f"{folder}/name") or "")
        ]
        for folder, name in folders:
            yield from _hwmon(files, folder, name.upper())
        if folders:  # the other pattern leads to the same ones
            return
    for folder in files.names(_IIO):
        yield from _iio(files, folder)


def _hwmon(files: SystemFiles, folder: str, chip: str) -> Iterator[tuple[str, str, Read]]:
    if files.holds(f"{folder}/power1_input"):  # of one channel, in microwatts
        labels = (files.line(f"{folder}/{name}_label") for name in ("power1", "in1", "curr1"))
        label = files.line(f"{folder}/label") or next((text for text in labels if text), None)
        if label is None and chip == "INA238" and files.holds("etc/nv_tegra_release"):
            label = "VIN"  # Thor's carrier board has one such chip, at its input
        yield chip, label or chip, lambda: _scaled(files, f"{folder}/power1_input", 1e-6)
        return
    for channel in _CHANNELS:
        label = files.line(f"{folder}/in{channel}_label") or f"{chip} channel {channel}"
        volts, amperes = (f"{folder}/{kind}{channel}_input" for kind in ("in", "curr"))
        yield chip, label, lambda volts=volts, amperes=amperes: _product(files, volts, amperes)  # type: ignore[misc]


def _iio(files: SystemFiles, folder: str) -> Iterator[tuple[str, str, Read]]:
    """As JetPack 4 shows them."""
    for name in files.names(f"{folder}/rail_name_*"):
        label = files.line(name)
        reading = f"{folder}/in_power{name.rpartition('_')[2]}_input"
        if label:
            yield "INA3221", label, lambda reading=reading: _scaled(files, reading, 1e-3)  # type: ignore[misc]


def _scaled(files: SystemFiles, name: str, unit: float) -> float | None:
    number = files.number(name)
    return None if number is None else number * unit


def _product(files: SystemFiles, millivolts: str, milliamperes: str) -> float | None:
    volts, amperes = _scaled(files, millivolts, 1e-3), _scaled(files, milliamperes, 1e-3)
    return None if volts is None or amperes is None else volts * amperes
