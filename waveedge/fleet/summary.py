"""One table and one picture of what several boards measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waveedge.filetypes import PICTURE_TEXT
from waveedge.fleet.measure import Outcome
from waveedge.outputs import PICTURE, new_file
from waveedge.runtime.pictures import figure
from waveedge.runtime.schema import shown

__all__ = ["COLUMNS", "Figures", "at", "cell", "number", "rows", "save_plot"]

COLUMNS = (
    *("board", "compressed", "as published", "faster by", "memory", "of published"),
    *("energy of a run", "of published", "ran on"),
)


@dataclass(frozen=True)
class Figures:
    """What a table takes of a report: two of everything, compressed and as published.

    Attributes:
        wall: median elapsed time, in milliseconds.
        ratio: published / compressed, low and high end of its interval.
        peak: activation memory, in bytes.
        energy: of a run above rest, in joules.
        backend: what ran the compressed network.
        machine: the board.
    """

    wall: tuple[float | None, float | None]
    ratio: tuple[float, float, float] | None
    peak: tuple[float | None, float | None]
    energy: tuple[float | None, float | None]
    backend: str
    machine: str

    @classmethod
    def of(cls, report: dict[str, Any]) -> Figures:
        """Read them from a report of another machine, of which nothing is taken for granted."""

        def both(*path: str) -> tuple[float | None, float | None]:
            return number(report, "a", *path), number(report, "b", *path)

        ratio = tuple(number(report, "wall_ratio", name) for name in ("value", "low", "high"))
        value, low, high = ratio
        known = value is not None and low is not None and high is not None
        return cls(
            wall=both("wall", "median"),
            ratio=(value, low, high) if known else None,  # type: ignore[arg-type]
            peak=both("peak_bytes"),
            energy=both("power", "joules_per_run"),
            backend=shown(str(at(report, "a", "backend") or "-"), 40),
            machine=shown(str(at(report, "machine", "board") or at(report, "machine", "cpu")), 40),
        )


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Return the cells of :data:`COLUMNS`, one row a board that has a report."""
    table = []
    for outcome in outcomes:
        if outcome.report is None:
            continue
        figures = Figures.of(outcome.report)
        ratio = figures.ratio
        table.append(
            (
                f"{shown(outcome.board.title, 40)}: {figures.machine}",
                *(cell(value, "ms") for value in figures.wall),
                f"{ratio[0]:.2f}x [{ratio[1]:.2f}, {ratio[2]:.2f}]" if ratio else "-",
                *(cell(value, "MiB", 2**20) for value in figures.peak),
                *(cell(value, "mJ", 1e-3) for value in figures.energy),
                figures.backend,
            )
        )
    return table


def save_plot(outcomes: Sequence[Outcome], path: Path, *, overwrite: bool = False) -> None:
    """Write a PNG: time, memory and energy of every board, compressed beside published.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: the file must not be replaced, or cannot be written.
    """
    measured = [outcome for outcome in outcomes if outcome.report is not None]
    figures = [Figures.of(outcome.report or {}) for outcome in measured]
    titles = [shown(outcome.board.title, 20) for outcome in measured]
    drawn = figure((10, 2 + 0.6 * len(measured)))
    axes = drawn.subplots(1, 3, sharey=True)
    kinds = (("time of a run [ms]", "wall", 1.0), ("memory [MiB]", "peak", 2.0**20))
    for place, (title, kind, unit) in zip(
        axes, (*kinds, ("energy of a run [mJ]", "energy", 1e-3)), strict=True
    ):
        for side, (label, color) in enumerate(
            (("compressed", "tab:blue"), ("as published", "tab:gray"))
        ):
            values = [(getattr(one, kind)[side] or 0) / unit for one in figures]
            heights = [index + 0.2 * (2 * side - 1) for index in range(len(figures))]
            bars = place.barh(heights, values, height=0.36, color=color, label=label)
            place.bar_label(bars, [f"{value:.3g}" if value else "-" for value in values])
        place.set_title(title)
        place.margins(x=0.2)
        place.set_xlim(left=0)
        if not any(any(getattr(one, kind)) for one in figures):
            place.set_xticks([])
    axes[0].set_yticks(range(len(titles)), titles, parse_math=False)
    axes[0].invert_yaxis()
    axes[0].legend(fontsize="small")
    with new_file(path, PICTURE, overwrite=overwrite) as temporary:
        drawn.savefig(temporary, format="png", dpi=150, metadata=PICTURE_TEXT)


def cell(value: float | None, unit: str, size: float = 1.0) -> str:
    """Return a number as so many units, each of ``size``; a dash where there is none."""
    return "-" if value is None else f"{value / size:.2f} {unit}"


def number(report: Any, *path: str) -> float | None:
    """Return the number at a place in a report, or None where there is none."""
    value = at(report, *path)
    right = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if right and abs(value) < 1e15 else None


def at(report: Any, *path: str) -> Any:
    """Return what stands at a place in a report, or None."""
    for name in path:
        report = report.get(name) if isinstance(report, dict) else None
    return report
