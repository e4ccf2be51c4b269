"""How many steps of tuning a time is enough for.

A tuning that counts steps gives the same result for the same input, and can be gone on with; one
that looks at a clock does neither. So the clock is looked at once, before.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable
from statistics import median

from waveedge.compression.tuning import CHECKS, Tuning

__all__ = ["MOST_STEPS", "steps_within"]

MOST_STEPS = 1_000_000

_TRIED = 5
"""Steps that are timed; the median, as a machine has other things to do."""


def steps_within(trial: Tuning, seconds: float) -> int:
    """Return how many steps take about ``seconds``, with all that goes with them, at least 1.

    That is what the teacher says to each image and its mirror image, once, or to each window, and
    the looks at held-out images.

    Args:
        trial: the tuning, for trial; it is of no use after that.
    """
    lessons = trial.lessons
    trial.step()  # the first one prepares much
    drawing, stepping = [], []
    for _ in range(_TRIED):
        before = lessons.rng.bit_generator.state
        drawing.append(_seconds(lessons.draw))
        lessons.rng.bit_generator.state = before  # the same batch, known to the teacher now
        stepping.append(_seconds(trial.step))
    step, lesson, look = median(stepping), max(drawing), _seconds(trial.look)
    batches = math.inf if lessons.window else 2 * len(lessons.images) / lessons.batch

    def taken(steps: int) -> float:
        looks = 1 + -(-steps // max(1, steps // CHECKS))
        return steps * step + looks * look + min(steps, batches) * lesson

    return max(1, bisect_right(range(1, MOST_STEPS + 1), seconds, key=taken))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return max(time.perf_counter() - start, 1e-9)
