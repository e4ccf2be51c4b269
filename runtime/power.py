"""Electrical power, where the device itself measures it: a Jetson (jtop) or an NVIDIA GPU (NVML).

Everywhere else there is no reading, and the answer is None.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Power", "average_power"]


@dataclass(frozen=True)
class Power:
    """Mean electrical power over a stretch of work.

    Attributes:
        watts: mean of the readings.
        joules_per_run: energy of one run, idle power included.
        source: what was measured, and by what.
        readings: how many readings the mean is over.
    """

    watts: float
    joules_per_run: float
    source: str
    readings: int


@dataclass(frozen=True)
class _Probe:
    source: str
    watts: Callable[[], float]


def average_power(
    step: Callable[[], object], *, seconds: float = 3.0, gpu: bool = False
) -> Power | None:
    """Run ``step`` over and over for ``seconds`` and return the mean power meanwhile.

    A Jetson's figure is that of the whole board. NVML's is that of the first GPU card alone, so
    it is read only for work that runs there (``gpu``).

    Returns:
        None where the device offers no reading.
    """
    with _open_probe(gpu=gpu) as probe:
        if probe is None:
            return None
        readings: list[float] = []
        runs = 0
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds or runs == 0:
            step()
            runs += 1
            readings.append(probe.watts())
        watts = sum(readings) / len(readings)
        return Power(watts, watts * elapsed / runs, probe.source, len(readings))


@contextmanager
def _open_probe(*, gpu: bool) -> Iterator[_Probe | None]:
    with _jtop() as board:
        if board is not None or not gpu:
            yield board
            return
    with _nvml() as card:
        yield card


@contextmanager
def _jtop() -> Iterator[_Probe | None]:
    try:
        from jtop import JtopException, jtop
    except ImportError:
        yield None
        return
    jetson = jtop()
    try:
        jetson.start()  # returns once the first values are there
    except JtopException:  # its service does not run, or runs another version
        yield None
        return
    try:
        # The service refreshes its milliwatts about once a second.
        yield _Probe("whole board, by jtop", lambda: float(jetson.power["tot"]["power"]) / 1000)
    finally:
        jetson.close()


@contextmanager
def _nvml() -> Iterator[_Probe | None]:
    try:
        import pynvml
    except ImportError:
        yield None
        return
    try:
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceGetPowerUsage(card)
    except pynvml.NVMLError:  # no driver, no GPU, or a GPU without a sensor
        yield None
        return
    try:
        yield _Probe(
            "GPU card, by NVML", lambda: float(pynvml.nvmlDeviceGetPowerUsage(card)) / 1000
        )
    finally:
        pynvml.nvmlShutdown()
