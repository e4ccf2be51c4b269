"""Energy of what is compared: of both in turn, where one sensor sees both; of one alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from waveedge.runtime.figures import Ratio
from waveedge.runtime.notes import without_energy
from waveedge.runtime.power import Power, measure_in_turn, measure_power

__all__ = ["Energy", "energy_ratio", "measure_energy"]


@dataclass(frozen=True)
class Energy:
    """What was measured of one side or two.

    Attributes:
        powers: of A, and of B if there is one; None where nothing measures it.
        ratio: B divided by A, median of the rounds with the least and the most of them.
        notes: what a reader must know to trust them.
    """

    powers: tuple[Power | None, ...]
    ratio: Ratio | None
    notes: tuple[str, ...]


def measure_energy(
    steps: Sequence[Callable[[], object]],
    gpu: Sequence[bool],
    *,
    root: Path = Path("/"),
) -> Energy:
    """Measure A and B in turn, or A alone.

    Where one runs on a GPU and the other does not, and no sensor here sees both, each is measured
    by its own, one after the other, and there is no ratio.

    Args:
        steps: one run of A, and of B if there is one.
        gpu: whether each runs on a GPU.
        root: where ``/sys`` is; tests give another.
    """
    if len(steps) == 2:
        alike = gpu[0] == gpu[1]
        start = time.perf_counter()
        powers, reason = measure_in_turn(*steps, gpu=gpu[0] if alike else None, root=root)
        if powers:
            return _in_turn(powers, time.perf_counter() - start)
        if alike:
            return Energy((None, None), None, tuple(without_energy(reason, reason)))
    found = [measure_power(step, gpu=on, root=root) for step, on in zip(steps, gpu, strict=True)]
    notes = [
        note
        for side, (power, _) in zip("AB", found, strict=False)
        if power
        for note in power.notes(side)
    ]
    if len(found) == 2 and all(power for power, _ in found):
        notes.append(
            "Energies of A and B were measured one after the other, each by a sensor that sees it: "
            "they must not be compared."
        )
    notes += without_energy(*(reason for _, reason in found))
    return Energy(tuple(power for power, _ in found), None, tuple(notes))


def energy_ratio(a: Power, b: Power) -> Ratio | None:
    """B divided by A, round by round: the median, the least and the most.

    None where a run is lost in what the machine takes at rest.
    """
    if min(*a.rounds, *b.rounds) <= 0:
        return None
    ratios = [of_b / of_a for of_a, of_b in zip(a.rounds, b.rounds, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def _in_turn(powers: Sequence[Power], seconds: float) -> Energy:
    a, b = powers
    notes = [*a.notes("A"), *b.notes("B")]
    notes.append(
        f"Energy of both: {len(a.rounds)} rounds in turn with rest between, in {seconds:.0f} s; "
        "each figure is the median of the rounds, from the least to the most of them."
    )
    return Energy((a, b), energy_ratio(a, b), tuple(notes))
