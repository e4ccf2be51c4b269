"""Times many forms of one network in one run: round by round, in random order within each.

Machines drift, so only what ran side by side is compared. A round runs every form once on one
image; runtimes that exclude each other take turns as processes, image by image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.runners import Runner

__all__ = ["contest"]

Array = NDArray[Any]


def contest(
    runners: Mapping[str, Runner], images: Sequence[Array], *, rounds: int, warmup: int, seed: int
) -> dict[str, Array]:
    """Run every form ``rounds`` times.

    Args:
        runners: by name.
        images: taken in turn, the same one for all within a round.
        rounds: counted.
        warmup: run before and not counted.
        seed: of the order within rounds.

    Returns:
        CPU times in milliseconds of shape (rounds,), by name; entry ``i`` of all is one round.
    """
    times = {name: np.zeros(rounds) for name in runners}
    rng, names = np.random.default_rng(seed), list(runners)
    for number in range(-warmup, rounds):
        for name in rng.permutation(names):
            cpu_ms = runners[name].run(images[number % len(images)]).cpu_ms
            if number >= 0:
                times[name][number] = cpu_ms
    return times
