"""Images a second of networks that are kept busy by several streams at once.

A device may do more when the next run does not wait for the last: copies beside kernels on a GPU,
one thread a core on a CPU. A stream is a thread that calls ``run`` again and again; what it has of
its own is for the runtime to say (``Backend.streams``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from waveedge.errors import InputError
from waveedge.runtime.backend import Array, Backend
from waveedge.runtime.figures import Rate, Throughput
from waveedge.runtime.pairs import bootstrap_ratio, turns
from waveedge.runtime.session import Session

__all__ = ["WINDOWS", "default_streams", "measure_throughput"]

WINDOWS = 10
"""Of each side."""

_SECONDS = 0.5
_FEWEST_RUNS = 3
_MOST_STREAMS = 64


def default_streams(*sessions: Session, threads: int, cores: int) -> int:
    """So many streams as fill a CPU; two for engines: one's copies beside the other's kernels."""
    if any(session.engine is not None for session in sessions):
        return 2
    return min(max(1, cores // threads), _MOST_STREAMS)


def measure_throughput(
    sessions: Sequence[Session],
    arrays: Sequence[Array],
    *,
    streams: int,
    seed: int,
    seconds: float = _SECONDS,
    progress: Callable[[int, int], None] | None = None,
) -> Throughput:
    """Keep networks busy, in windows that take turns in random order.

    Args:
        sessions: of A, and of B if there is one.
        arrays: what every run gets.
        streams: runs under way at once.
        seed: of the order and the bootstrap.
        seconds: length of a window. Each stream ends its last run, and counts at least three.
        progress: called with (windows of all done, windows in all).

    Raises:
        InputError: so many streams make no sense.
        WaveedgeError: there is not enough memory for them.
    """
    if not 1 <= streams <= _MOST_STREAMS:
        raise InputError(f"streams is {streams}", hint=f"Use 1 to {_MOST_STREAMS}.")
    sides = [session.streams(streams) for session in sessions]
    rates = np.zeros((WINDOWS, len(sides)))
    with ThreadPoolExecutor(streams) as pool:
        for backends in sides:
            _window(pool, backends, arrays, 0.0)  # to warm up
        for window, turn in enumerate(turns(WINDOWS, len(sides), seed=seed)):
            for side in turn:
                rates[window, side] = _window(pool, sides[side], arrays, seconds)
            if progress is not None:
                progress(window + 1, WINDOWS)
    batch = len(arrays[0]) if arrays[0].ndim else 1
    rates *= batch
    found = [
        _rate(times, backends[0].parallel, seed)
        for times, backends in zip(rates.T, sides, strict=True)
    ]
    if len(sides) == 1:
        return Throughput(streams, batch, seconds, found[0], None, None)
    ratio = bootstrap_ratio(rates[:, 0], rates[:, 1], seed=seed)
    return Throughput(streams, batch, seconds, found[0], found[1], ratio)


def _window(
    pool: ThreadPoolExecutor, backends: Sequence[Backend], arrays: Sequence[Array], seconds: float
) -> float:
    """Runs a second, summed over streams that work at the same time."""
    together = threading.Barrier(len(backends))

    def work(backend: Backend) -> float:
        together.wait()
        runs, start = 0, time.perf_counter()
        end = start
        while end - start < seconds or runs < _FEWEST_RUNS:
            backend.run(*arrays)
            runs, end = runs + 1, time.perf_counter()
        # Of its own time: when the others end does not matter, and no run is cut in two.
        return runs / (end - start)

    return sum(pool.map(work, backends))


def _rate(samples: Array, how: str, seed: int) -> Rate:
    interval = bootstrap_ratio(samples, np.ones_like(samples), seed=seed)
    return Rate(interval.value, interval.low, interval.high, tuple(samples.tolist()), how)
