"""Paired timing: interleaved runs, in random order within each pair, and what follows from them.

Machines drift (clocks, temperature, neighbours). Runs of A and B that alternate meet the same
drift, so the ratio of their medians is far steadier than either time, and resampling whole
pairs gives its interval. One network alone goes through the same loop, a run after the other.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

import numpy as np

from waveedge.runtime.backend import Array
from waveedge.runtime.figures import Ratio, Timing

__all__ = ["bootstrap_ratio", "device_ratio", "time_pairs", "timing", "turns"]

_RESAMPLES = 5000
_DRAWS = 2**20
_TWO_SIDED = 1.96
"""Standard deviations of a normal distribution that hold 95 % of it."""

Run = Callable[[], object]


def turns(count: int, sides: int, *, seed: int) -> list[tuple[int, ...]]:
    """Return who runs first and who second, ``count`` times, of one side or two.

    Half the turns start with A, exactly where their number is even: whoever runs second finds the
    other's data in the caches, and that must weigh on both alike.
    """
    if sides == 1:
        return [(0,)] * count
    a_first = np.random.default_rng(seed).permutation(np.arange(count) % 2 == 0)
    return [(0, 1) if first else (1, 0) for first in a_first]


def time_pairs(
    *sides: Sequence[Run],
    runs: int,
    warmup: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Array, Array, tuple[str, ...]]:
    """Time A and B in pairs, in random order within each pair; or A alone.

    Args:
        sides: what to run, of A, and of B if there is one; pair ``i`` runs entry ``i`` modulo their
            length of both.
        runs, warmup, seed, progress: as for ``benchmark``.

    Returns:
        CPU times and wall times in milliseconds, of shape (runs, sides) with A first, and the order
        of each counted pair: ``"AB"``, ``"BA"``, or ``"A"`` alone.
    """
    order = turns(runs, len(sides), seed=seed)
    cpu, wall = np.zeros((2, runs, len(sides)))
    collecting = gc.isenabled()
    gc.disable()  # a collection in the middle of one run would be that run's p99
    try:
        for pair in range(-warmup, runs):
            for side in range(len(sides)) if pair < 0 else order[pair]:
                step = sides[side][pair % len(sides[0])]
                wall_start, cpu_start = time.perf_counter(), time.process_time()
                step()
                cpu_end, wall_end = time.process_time(), time.perf_counter()
                if pair >= 0:
                    cpu[pair, side] = (cpu_end - cpu_start) * 1000
                    wall[pair, side] = (wall_end - wall_start) * 1000
            if progress:
                progress(pair + warmup + 1, warmup + runs)
    finally:
        if collecting:
            gc.enable()
    return cpu, wall, tuple("".join("AB"[side] for side in turn) for turn in order)


def bootstrap_ratio(numerator: Array, denominator: Array, *, seed: int) -> Ratio:
    """Return median(numerator) / median(denominator) with its 95 % bootstrap interval.

    Percentile bootstrap (Efron and Tibshirani 1993, chapter 13) over whole pairs: entry ``i`` of
    both arrays was measured side by side and is drawn together.

    Args:
        numerator, denominator: positive, of shape (pairs,).
        seed: makes the interval repeatable.
    """
    rng = np.random.default_rng(seed)
    ratios = np.empty(_RESAMPLES)
    # A part at a time: of many pairs, all draws at once would take gigabytes.
    rows = max(1, _DRAWS // len(numerator))
    for start in range(0, _RESAMPLES, rows):
        part = ratios[start : start + rows]
        draws = rng.integers(len(numerator), size=(len(part), len(numerator)), dtype=np.int32)
        part[:] = np.median(numerator[draws], axis=1) / np.median(denominator[draws], axis=1)
    low, high = np.percentile(ratios, (2.5, 97.5))
    return Ratio(float(np.median(numerator) / np.median(denominator)), float(low), float(high))


def device_ratio(a: Timing | None, b: Timing | None, *, seed: int) -> Ratio | None:
    """Return the ratio of times on the GPU, of the same pairs, as :func:`bootstrap_ratio` does.

    None where not both ran there, or a time is 0: events tell half a microsecond apart, no less.
    """
    if a is None or b is None or min(*a.samples, *b.samples) <= 0:
        return None
    return bootstrap_ratio(np.array(b.samples), np.array(a.samples), seed=seed)


def timing(samples: Array) -> Timing:
    """Summarise times in milliseconds, of shape (runs,).

    The median's interval lies between two of the times themselves: it is below the k-th least of n
    with the probability of fewer than k heads in n throws of a coin, which for the k here, and as
    much at the other end, is 5 % at most. Of fewer than six runs it is their range, which holds
    the median less often.
    """
    median, p90, p99 = np.percentile(samples, (50, 90, 99))
    in_order = np.sort(samples)
    place = max(int((len(samples) + 1 - _TWO_SIDED * len(samples) ** 0.5) / 2), 1) - 1
    return Timing(
        median=float(median),
        p90=float(p90),
        p99=float(p99),
        low=float(in_order[place]),
        high=float(in_order[-1 - place]),
        samples=tuple(samples.tolist()),
    )
