"""What the other side needs for the same quality."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from benchmarks.pruning.forms import is_ours, is_theirs
from benchmarks.records import Record

__all__ = ["Match", "matches"]


class Match(NamedTuple):
    """A form, and the fastest of the other side that is no worse.

    Attributes:
        form: one side's.
        other: the other side's; None where all of them are worse.
    """

    form: Record
    other: Record | None

    @property
    def ratio(self) -> float | None:
        """How many times as fast the form is as the other one."""
        return None if self.other is None else _speed(self.form) / _speed(self.other)


def matches(rows: Iterable[Record], *, ours: bool) -> list[Match]:
    """Match each form of one side that was timed.

    Args:
        rows: of one network and seed, from one contest.
        ours: match waveedge's forms with torch-pruning's; else the other way round.
    """
    timed = [row for row in rows if "cpu_ratio" in row]
    side, others = (is_ours, is_theirs) if ours else (is_theirs, is_ours)
    return [
        Match(form, _fastest(_of(timed, others), float(form["value"]))) for form in _of(timed, side)
    ]


def _of(rows: Iterable[Record], side: Callable[[str], bool]) -> list[Record]:
    return [row for row in rows if side(row["variant"])]


def _fastest(rows: Iterable[Record], quality: float) -> Record | None:
    """Of the forms that are no worse."""
    return max((row for row in rows if row["value"] >= quality), key=_speed, default=None)


def _speed(row: Mapping[str, Mapping[str, float]]) -> float:
    return row["cpu_ratio"]["value"]
