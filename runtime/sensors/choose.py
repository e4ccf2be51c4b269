"""The best sensor that is here: nearest to the board's own monitors first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from waveedge.runtime.sensors.ina import InaSensor
from waveedge.runtime.sensors.jtop import JtopSensor
from waveedge.runtime.sensors.nvml import NvmlSensor
from waveedge.runtime.sensors.rapl import RaplSensor
from waveedge.runtime.sensors.sensor import NoSensor, Sensor
from waveedge.runtime.sensors.tegrastats import TegrastatsSensor
from waveedge.runtime.system_files import SystemFiles

__all__ = ["describe_sensor", "open_sensor"]


def open_sensor(*, gpu: bool | None = False, root: Path = Path("/")) -> Sensor:
    """Open the best sensor for a piece of work.

    In this order: monitors in sysfs, tegrastats, jetson-stats; these measure a whole board. Then
    NVML for work on a GPU card, or RAPL for work on the processor: each is blind to the other's.

    Args:
        gpu: whether the work runs on a GPU; None where some does, and some does not: neither of
            the last two sees both.
        root: where ``/sys`` is; tests give another.

    Raises:
        NoSensor: there is none; with the reason of each.
    """
    files = SystemFiles(root)
    openers: list[Callable[[], Sensor]] = [lambda: InaSensor(files), _tegrastats, JtopSensor]
    if gpu is not None:
        openers.append(NvmlSensor if gpu else lambda: RaplSensor(files))
    reasons = []
    for opener in openers:
        try:
            return opener()
        except NoSensor as error:
            reasons.append(str(error))
    # What only a Jetson has is nothing that another machine lacks.
    raise NoSensor("; ".join(reasons) if _is_tegra(files) else reasons[-1])


def describe_sensor(root: Path = Path("/")) -> tuple[str | None, str]:
    """Say which sensor there is for work on the processor.

    Returns:
        what it measures and by what, and ``""``; or None and the reason why there is none.
    """
    try:
        with open_sensor(root=root) as sensor:
            return f"{sensor.rail}, by {sensor.source}", ""
    except NoSensor as error:
        return None, str(error)


def _tegrastats() -> Sensor:
    program = shutil.which("tegrastats", path=f"{os.environ.get('PATH', '')}:/usr/bin")
    if program is None:
        raise NoSensor("there is no tegrastats")
    return TegrastatsSensor(program)


def _is_tegra(files: SystemFiles) -> bool:
    return files.holds("etc/nv_tegra_release")
