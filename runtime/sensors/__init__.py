"""Sensors of electrical power, one file each; :func:`open_sensor` finds the best that is here."""

from __future__ import annotations

from waveedge.runtime.sensors.choose import describe_sensor, open_sensor
from waveedge.runtime.sensors.sensor import NoSensor, Sensor

__all__ = ["NoSensor", "Sensor", "describe_sensor", "open_sensor"]
