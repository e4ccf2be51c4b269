"""What records say together: losses, spreads over seeds, and targets that were met or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median
from typing import NamedTuple

from benchmarks.markdown import METRICS
from benchmarks.quality_tables.forms import INT8, LINE
from benchmarks.records import Record

__all__ = ["TARGETS", "Spread", "Target", "against_float", "figure_of", "median_row", "spread"]


def against_float(scored: Record, in_float: Record) -> Record:
    """What a form loses.

    Returns:
        ``loss`` in dB, or in points of what is a share; and where a network makes images of
        images, ``share``: of the gain over the baseline, what is kept.
    """
    scale = METRICS[scored["metric"]][1]
    lost = {"loss": scale * (in_float["value"] - scored["value"])}
    if scored["metric"] != "psnr_db":
        return lost
    gain = in_float["value"] - scored["baseline"]
    return {**lost, "share": (scored["value"] - scored["baseline"]) / gain}


class Spread(NamedTuple):
    """A figure over seeds."""

    median: float
    low: float
    high: float

    def text(self, form: str = "{:.2f}") -> str:
        """The median, and where there are several the extremes."""
        middle, low, high = (form.format(value) for value in self)
        return middle if low == high else f"{middle} ({low} .. {high})"


def spread(values: Iterable[float]) -> Spread:
    """The spread of the figures of all seeds, of which there is at least one."""
    found = list(values)
    return Spread(median(found), min(found), max(found))


def median_row(rows: Iterable[Record]) -> Record | None:
    """Of one form's timed records, that of the seed with the median speed; the slower of two."""
    timed = sorted(
        (row for row in rows if "cpu_ratio" in row),
        key=lambda row: float(row["cpu_ratio"]["value"]),
    )
    return timed[(len(timed) - 1) // 2] if timed else None


class Target(NamedTuple):
    """A bound that a figure of a form shall keep to.

    Attributes:
        network: its name.
        form: of it.
        figure: which of :func:`figure_of`.
        bound: inclusive.
        text: for readers.
    """

    network: str
    form: str
    figure: str
    bound: float
    text: str

    def met(self, found: float) -> bool:
        """Whether a figure keeps to the bound."""
        at_most = self.figure in ("loss", "cpu_minutes")
        return found <= self.bound if at_most else found >= self.bound


_FIGURES: dict[str, Callable[[Record], float | None]] = {
    "loss": lambda row: row.get("loss"),
    "share": lambda row: row.get("share"),
    "speed": lambda row: row["cpu_ratio"]["value"] if "cpu_ratio" in row else None,
    "cpu_minutes": lambda row: row.get("cpu_minutes"),
}


def figure_of(rows: Iterable[Record], figure: str) -> Spread | None:
    """A figure of one form over its seeds; None where it was not measured."""
    found = [value for value in map(_FIGURES[figure], rows) if value is not None]
    return spread(found) if found else None


def _targets(
    network: str,
    unit: str,
    int8: tuple[float, float],
    kept: tuple[str, float],
    line: tuple[float, float],
) -> list[Target]:
    figure, bound = kept
    keeps = f"keeps at least {bound:.0%} of the gain"
    loses = f"loses at most {bound:g} {unit}"
    return [
        Target(network, INT8, "loss", int8[0], f"loses at most {int8[0]:g} {unit}"),
        Target(network, INT8, "speed", int8[1], f"at least {int8[1]:g} times as fast"),
        Target(network, LINE, figure, bound, keeps if figure == "share" else loses),
        Target(network, LINE, "speed", line[0], f"at least {line[0]:g} times as fast"),
        Target(network, LINE, "cpu_minutes", line[1], f"takes at most {line[1]:g} CPU minutes"),
    ]


TARGETS = (
    *_targets("trained_super_resolution", "dB", (0.05, 1.4), ("share", 0.93), (1.4, 6)),
    *_targets("trained_fashion_mnist", "points", (0.2, 1.15), ("loss", 1.0), (1.1, 6)),
    *_targets("trained_denoiser", "dB", (0.05, 1.1), ("share", 0.99), (1.0, 8)),
    *_targets("trained_brain_mri", "points", (0.3, 1.3), ("loss", 2.0), (1.3, 8)),
)
"""What shrinking and the typed line are to reach; speeds against 8 bits not shrunk."""
