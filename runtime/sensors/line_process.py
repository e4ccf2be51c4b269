"""A program that prints a line for each reading, and the sensor that its newest line is."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence

from waveedge.runtime.sensors.sensor import NoSensor, Sensor
from waveedge.runtime.system_files import SystemFiles

__all__ = ["LineSensor"]

_END_SECONDS = 2.0
_LINE_MOST = 1 << 16


class LineSensor(Sensor):
    """Keeps a program running and reads its standard output in a thread.

    Args:
        command: the program.
        parse: a line -> watts, or None where it has none.
        seconds: how long the first reading may take.
        environment: for the program; by default this process's own.

    Raises:
        NoSensor: it cannot be started, ends, or prints no reading in time.
    """

    def __init__(
        self,
        command: Sequence[str],
        parse: Callable[[str], float | None],
        *,
        seconds: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._parse = parse
        self._newest: float | None = None
        self._arrived = threading.Event()
        try:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise NoSensor(f"{command[0]} cannot be started: {error.strerror}") from error
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()
        self._arrived.wait(seconds)
        if self._newest is None:
            self.close()
            raise NoSensor(f"{os.path.basename(command[0])} gave no reading in {seconds:g} s")

    def watts(self) -> float:
        if self._newest is None or self._process.poll() is not None:
            raise OSError("the program that reads the sensor has ended")
        return self._newest

    def cpu_seconds(self) -> float:
        # "PID (name) S ...": the name may hold spaces; user and system time are fields 14 and 15.
        text = SystemFiles().text(f"proc/{self._process.pid}/stat") or ""
        fields = text.rpartition(")")[2].split()
        if len(fields) < 13:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # What it started itself may hold the pipe open: that is not waited for.
        self._reader.join(_END_SECONDS)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(_LINE_MOST):
            watts = self._parse(line.decode(errors="replace"))
            if watts is not None:
                self._newest = watts
                self._arrived.set()
        self._arrived.set()  # it ended: nothing is to be waited for
