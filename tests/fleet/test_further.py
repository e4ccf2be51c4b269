"""Batches and streams on boards: the options travel, and the tables name what was refused there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from waveedge.cli import main
from waveedge.commands import fleet
from waveedge.fleet import Board
from waveedge.fleet.further import BATCH_COLUMNS, batch_rows, stream_rows
from waveedge.fleet.measure import Outcome
from waveedge.runtime.child import environment


def test_batches_and_streams_are_measured_there(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def here(
        boards: Sequence[Board], model: Path, arguments: Sequence[str], **_: Any
    ) -> list[Outcome]:
        """What a board runs, in a process of this machine."""
        command = [sys.executable, "-m", "waveedge", "bench", str(model), "--json", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
        )
        return [Outcome(board, json.loads(done.stdout)) for board in boards]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fleet, "measure", here)
    further = ("--batch", "1,3", "--throughput", "--streams", "2")
    with pytest.raises(SystemExit) as end:
        main(["bench", str(bundle), "--on", "orin", "--runs", "3", *further])
    assert end.value.code in (0, None)
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    rows = [line for line in lines if line and line[0].startswith("orin")]
    assert [row[1] for row in rows[1:]] == ["1", "3", "2"]
    assert rows[1].count("ms") == 2
    # The bundle is of one image: that row is refused there, and the table says so.
    assert rows[2].count("refused:") == 2


def test_reports_of_others_are_not_trusted() -> None:
    strange: list[dict[str, Any]] = [
        {"batches": 3, "throughput": []},
        {"batches": [None, {"batch": "x", "a": {"wall": 1}}] * 99},
        {"throughput": {"streams": 2, "a": None, "ratio": {"value": 1}}},
    ]
    outcomes = [Outcome(Board("me@board"), report) for report in strange]
    rows = batch_rows(outcomes)
    assert len(rows) == 16
    assert {len(row) for row in rows} == {len(BATCH_COLUMNS)}
    assert stream_rows(outcomes) == [("me@board", "2", "-", "-", "-")]
