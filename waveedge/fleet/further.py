"""Tables of what several boards measured at several batches, and with several streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from waveedge.fleet.measure import Outcome
from waveedge.fleet.summary import at, number
from waveedge.runtime.schema import shown

__all__ = ["BATCH_COLUMNS", "STREAM_COLUMNS", "batch_rows", "stream_rows"]

BATCH_COLUMNS = (
    "board",
    "batch",
    "compressed",
    "images/s",
    "as published",
    "images/s",
    "faster by",
)
STREAM_COLUMNS = ("board", "streams", "compressed: images/s", "published: images/s", "more by")

_MOST_ROWS = 16


def batch_rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Return the cells of :data:`BATCH_COLUMNS`, one row a board and batch."""
    rows = []
    for title, report in _reports(outcomes):
        found = report.get("batches")
        for row in found[:_MOST_ROWS] if isinstance(found, list) else ():
            cells = [cell for side in ("a", "b") for cell in _batch_cells(row, side)]
            batch, ratio = number(row, "batch"), _ratio(row, "wall_ratio")
            rows.append((title, "-" if batch is None else f"{batch:.0f}", *cells, ratio))
    return rows


def stream_rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Return the cells of :data:`STREAM_COLUMNS`, one row a board that measured throughput."""
    rows = []
    for title, report in _reports(outcomes):
        found = report.get("throughput")
        streams = number(found, "streams")
        if streams is None:
            continue
        cells = [_rate(found, side) for side in ("a", "b")]
        rows.append((title, f"{streams:.0f}", *cells, _ratio(found, "ratio")))
    return rows


def _reports(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, dict[str, Any]]]:
    for outcome in outcomes:
        if outcome.report is not None:
            yield shown(outcome.board.title, 40), outcome.report


def _batch_cells(row: Any, side: str) -> tuple[str, str]:
    time, rate = number(row, side, "wall", "median"), number(row, side, "images_per_second")
    if at(row, side) is None:  # the network was measured alone
        return "-", "-"
    if time is None or rate is None:
        return shown(f"refused: {at(row, side, 'reason')}", 80), "-"
    return f"{time:.2f} ms", f"{rate:.1f}"


def _rate(found: Any, side: str) -> str:
    value, low, high = (number(found, side, end) for end in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "-"
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _ratio(row: Any, name: str) -> str:
    value, low, high = (number(row, name, end) for end in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return "-"
    return f"{value:.2f}x [{low:.2f}, {high:.2f}]"
