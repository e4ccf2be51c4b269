"""NVIDIA's management library: the power of a GPU card. Embedded GPUs answer "not supported"."""

from __future__ import annotations

from typing import Any

from waveedge.extras import requirement
from waveedge.runtime.sensors.sensor import NoSensor, Sensor

__all__ = ["NvmlSensor"]


class NvmlSensor(Sensor):
    """The first GPU card alone; on cards since Ampere a mean over one second.

    Raises:
        NoSensor: no library, no driver, no card, or a card without a sensor.
    """

    source = "NVML"
    rail = "the GPU card alone"
    interval = 0.1

    def __init__(self) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise NoSensor(
                f'NVML is not installed (pip install "{requirement("nvidia-ml-py")}")'
            ) from error
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._card = pynvml.nvmlDeviceGetHandleByIndex(0)
            pynvml.nvmlDeviceGetPowerUsage(self._card)
        except pynvml.NVMLError as error:
            raise NoSensor(f"NVML gives no power: {error}") from error

    def watts(self) -> float:
        try:
            return float(self._nvml.nvmlDeviceGetPowerUsage(self._card)) / 1000
        except self._nvml.NVMLError as error:
            raise OSError(str(error)) from error

    def close(self) -> None:
        self._nvml.nvmlShutdown()
