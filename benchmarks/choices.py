"""Which of the peers' results count: the best alternative to a form, and what a peer does best."""

from __future__ import annotations

import math
from collections.abc import Iterable

from benchmarks.peers import is_peer
from benchmarks.records import Record

__all__ = ["EQUALLY_GOOD_DB", "EXACT_DB", "best_alternative", "best_of", "is_alternative"]

EXACT_DB = 80.0
"""A signal-to-noise ratio from which on a float32 form counts as exact: rounding, nothing else."""

EQUALLY_GOOD_DB = 3.0
"""Of a peer's settings whose ratio is so near to its best one's, the fastest is its own best."""


def is_alternative(row: Record) -> bool:
    """Whether a record of a contest could be used instead of waveedge's forms."""
    return "error" not in row and (row["variant"] == "published" or is_peer(row["variant"]))


def best_alternative(rows: Iterable[Record], own: Record) -> Record:
    """The fastest alternative whose quality is no worse than ``own``'s, on whatever runtime.

    Args:
        rows: of one network's contest; the published export is among them, so there is one.
        own: one of waveedge's forms in the same contest.
    """
    good = [row for row in rows if is_alternative(row) and _quality(row) >= _quality(own)]
    return max(good, key=_speed)


def best_of(rows: Iterable[Record], peer: str) -> Record | None:
    """What a peer does best: of its equally good settings the fastest; None if all failed."""
    own = [row for row in rows if "error" not in row and row["variant"].partition(": ")[0] == peer]
    least = max(map(_quality, own), default=0.0) - EQUALLY_GOOD_DB
    return max((row for row in own if _quality(row) >= least), key=_speed, default=None)


def _quality(row: Record) -> float:
    # JSON has no infinity: outputs that agree in every bit are recorded without a ratio.
    ratio = math.inf if row["snr_db"] is None else float(row["snr_db"])
    return min(ratio, EXACT_DB)


def _speed(row: Record) -> float:
    return float(row["cpu_ratio"]["value"])
