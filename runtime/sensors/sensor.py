"""What a sensor of power is."""

from __future__ import annotations

from types import TracebackType

__all__ = ["NoSensor", "Sensor"]


class NoSensor(Exception):  # noqa: N818, no error: most machines have none
    """There is no such sensor here; the message is the reason, in one line."""


class Sensor:
    """A sensor of power, open until it is closed.

    Attributes:
        rail: what it measures, such as ``"VDD_IN, the input of the module"``.
        source: what reads it, such as ``"INA3221 in sysfs"``.
        interval: seconds between two readings that can differ.
    """

    rail: str
    source: str
    interval: float

    def watts(self) -> float:
        """Read the power now.

        Raises:
            OSError: it gives no reading at the moment.
        """
        raise NotImplementedError

    def cpu_seconds(self) -> float:
        """CPU time so far of processes that this sensor keeps beside this one."""
        return 0.0

    def close(self) -> None:
        """Give back what it holds."""

    def __enter__(self) -> Sensor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
