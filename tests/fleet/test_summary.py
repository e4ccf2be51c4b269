"""The one table and the one picture of several boards: every figure of a report is in both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from waveedge.fleet import Board, rows, save_plot, summary
from waveedge.fleet.measure import Outcome


def side(ms: float, mib: int, joules: float | None) -> dict[str, Any]:
    power = None if joules is None else {"joules_per_run": joules, "total_joules_per_run": 9.0}
    return {
        "wall": {"median": ms},
        "peak_bytes": mib * 2**20,
        "power": power,
        "backend": "onnxruntime (CPU)",
    }


OUTCOMES = [
    Outcome(
        Board("me@jetson", "orin"),
        {
            "a": side(2.5, 3, 0.0125),
            "b": side(10.0, 12, 0.05),
            "wall_ratio": {"value": 4.0, "low": 3.5, "high": 4.5},
            "machine": {"board": "Orin Nano", "cpu": "arm"},
        },
    ),
    Outcome(Board("gone")),
    Outcome(
        Board("nano"),
        {"a": side(5.0, 3, None), "b": side(20.0, 12, None), "machine": {"cpu": "arm"}},
    ),
]


def test_the_table_has_time_memory_and_energy() -> None:
    assert rows(OUTCOMES) == [
        (
            *("orin: Orin Nano", "2.50 ms", "10.00 ms", "4.00x [3.50, 4.50]"),
            *("3.00 MiB", "12.00 MiB", "12.50 mJ", "50.00 mJ", "onnxruntime (CPU)"),
        ),
        (
            *("nano: arm", "5.00 ms", "20.00 ms", "-"),
            *("3.00 MiB", "12.00 MiB", "-", "-", "onnxruntime (CPU)"),
        ),
    ]


def test_the_picture_has_a_bar_for_each_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    make = summary.figure
    monkeypatch.setattr(summary, "figure", lambda size: drawn.append(make(size)) or drawn[0])
    save_plot(OUTCOMES, tmp_path / "fleet.png")
    assert (tmp_path / "fleet.png").read_bytes()[:4] == b"\x89PNG"
    (picture,) = drawn
    found = {
        axes.get_title(): (
            [text.get_text() for text in axes.texts],
            [bar.get_width() for bar in axes.patches],
        )
        for axes in picture.axes
    }
    # Compressed, board by board, and then as published.
    assert found == {
        "time of a run [ms]": (["2.5", "5", "10", "20"], [2.5, 5, 10, 20]),
        "memory [MiB]": (["3", "3", "12", "12"], [3, 3, 12, 12]),
        "energy of a run [mJ]": (["12.5", "-", "50", "-"], [12.5, 0, 50, 0]),
    }
    assert [text.get_text() for text in picture.axes[0].get_yticklabels()] == ["orin", "nano"]
