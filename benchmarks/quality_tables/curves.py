"""WCC beside plain quantization: at as many bit operations, and in as much time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

__all__ = ["SAME_TIME", "Point", "at_equal_bops", "at_equal_time", "front"]

SAME_TIME = 1.02
"""Times whose ratio is below are the same: fewer than 8 bits are executed in 8."""


class Point(NamedTuple):
    """One form: what it costs, and how good it is."""

    bops: float
    time: float
    quality: float


def front(points: Iterable[Point]) -> list[Point]:
    """Those that no other beats at as many bit operations or fewer, from few to many."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.bops, -point.quality)):
        if not best or point.quality > best[-1].quality:
            best.append(point)
    return best


def at_equal_bops(point: Point, plain: Iterable[Point]) -> float | None:
    """By how much a form is better than plain quantization with as many bit operations.

    The quality of that is interpolated in the logarithm of the bit operations, between the best
    plain forms; None where the form has fewer than all of them.
    """
    best = front(plain)
    if not best or point.bops < best[0].bops:
        return None
    known = [math.log(one.bops) for one in best]
    there = np.interp(math.log(point.bops), known, [one.quality for one in best])
    return point.quality - float(there)


def at_equal_time(point: Point, plain: Iterable[Point]) -> float | None:
    """By how much a form is better than the best plain form that is no slower; None without one.

    Nothing is interpolated: plain forms take much the same time, and between such times lies noise.
    """
    no_slower = [one.quality for one in plain if one.time <= point.time * SAME_TIME]
    return point.quality - max(no_slower) if no_slower else None
