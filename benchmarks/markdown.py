"""Pieces of the result pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.machine import name_of
from benchmarks.records import Record, Records

__all__ = ["METRICS", "conditions", "decibels", "interval", "number", "table"]

METRICS = {
    "psnr_db": ("PSNR, dB", 1, "photos"),
    "accuracy": ("accuracy, %", 100, "images"),
    "mean_iou": ("mean IoU, %", 100, "slices"),
}
"""Metric of ``examples/scoring.py`` -> heading with its unit, factor, what a test set holds."""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def interval(ratio: Mapping[str, Any]) -> str:
    """A ratio with its 95 % interval."""
    return f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def number(value: float | None) -> str:
    """Two digits behind the point."""
    return "-" if value is None else f"{value:.2f}"


def decibels(row: Record) -> str:
    """A record's signal-to-noise ratio; JSON has no infinity, so none is that."""
    return "exact" if row["snr_db"] is None else f"{row['snr_db']:.1f} dB"


def conditions(records: Records, command: str) -> str:
    """The machine, the versions and the repetitions of a result file, in one sentence each."""
    machine = records.machine
    versions = ", ".join(f"{name} {text}" for name, text in records.versions.items())
    runs = sorted({row["runs"] for row in records.rows if "runs" in row})
    repeated = f"{', '.join(map(str, runs))} interleaved runs of each in random order, " * bool(
        runs
    )
    return (
        f"Measured on {name_of(machine)}, {machine['system']}, Python {machine['python']}; "
        f"{versions}. {repeated}medians, 95 % bootstrap intervals. "
        f"Written by `{command}`."
    )
