"""Pieces of the result pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.records import Record

__all__ = ["decibels", "interval", "number", "table"]


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
