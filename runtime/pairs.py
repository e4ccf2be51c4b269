"""Paired timing: interleaved runs, in random order within each pair, and what follows from them.

Machines drift (clocks, temperature, neighbours). Runs of A and B that alternate meet the same
drift, so the ratio of their medians is far steadier than either time, and resampling whole
pairs gives its interval.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

import numpy as np

from waveedge.runtime.backend import Array
from waveedge.runtime.figures import Ratio, Timing

__all__ = ["bootstrap_ratio", "time_pairs", "timing"]

_RESAMPLES = 5000
_DRAWS = 2**20

Run = Callable[[], object]


def time_pairs(
    a: Sequence[Run],
    b: Sequence[Run],
    *,
    runs: int,
    warmup: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Array, Array, tuple[str, ...]]:
    """Time ``a`` and ``b`` in pairs, in random order within each pair.

    Args:
        a, b: what to run; pair ``i`` runs entry ``i`` modulo their length of both.
        runs, warmup, seed, progress: as for ``benchmark``.

    Returns:
        CPU times and wall times in milliseconds, of shape (runs, 2) with A first, and the order
        of each counted pair.
    """
    # Half the pairs start with A, exactly where runs is even: whoever runs second finds the
    # other's data in the caches, and that must weigh on both alike.
    a_first = np.random.default_rng(seed).permutation(np.arange(runs) % 2 == 0)
    cpu, wall = np.zeros((2, runs, 2))
    collecting = gc.isenabled()
    gc.disable()  # a collection in the middle of one run would be that run's p99
    try:
        for pair in range(-warmup, runs):
            sides = (0, 1) if pair < 0 or a_first[pair] else (1, 0)
            for side in sides:
                step = (a, b)[side][pair % len(a)]
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
    return cpu, wall, tuple("AB" if first else "BA" for first in a_first)


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


def timing(samples: Array) -> Timing:
    """Summarise times in milliseconds, of shape (runs,)."""
    median, p90, p99 = np.percentile(samples, (50, 90, 99))
    return Timing(float(median), float(p90), float(p99), tuple(samples.tolist()))
