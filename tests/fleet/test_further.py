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

SHORT = """
import functools, sys
from waveedge.cli import main
from waveedge.runtime import benchmark
module = sys.modules[benchmark.__module__]
module.measure_throughput = functools.partial(module.measure_throughput, seconds=0.05)
main()
"""


def test_batches_and_streams_are_measured_there(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def here(
        boards: Sequence[Board], model: Path, arguments: Sequence[str], **_: Any
    ) -> list[Outcome]:
        """What a board runs, in a process of this machine, with shorter windows."""
        command = [sys.executable, "-c", SHORT, "bench", str(model), "--json", *arguments]
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


def test_one_alone_has_dashes_where_the_other_would_be(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    timing = {"wall": {"median": 4.0}, "images_per_second": 250.0}
    report = {
        "a": {"wall": {"median": 4.0}, "peak_bytes": 2**20, "power": None, "backend": "onnx"},
        "b": None,
        "wall_ratio": None,
        "machine": {"board": "Orin"},
        "batches": [{"batch": 2, "a": timing, "b": None, "wall_ratio": None}],
        "throughput": {
            "streams": 2,
            "a": {"value": 9.0, "low": 8.0, "high": 10.0},
            "b": None,
            "ratio": None,
        },
    }
    given: list[str] = []

    def measured(boards: Sequence[Board], _: Path, arguments: Sequence[str], **__: Any) -> Any:
        given.extend(arguments)
        return [Outcome(board, report) for board in boards]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fleet, "measure", measured)
    with pytest.raises(SystemExit) as end:
        main(["bench", str(bundle), "--on", "orin", "--alone"])
    assert end.value.code in (0, None)
    assert "--alone" in given
    out = capfd.readouterr().out
    assert "30 runs" in out
    assert (tmp_path / "bench.png").read_bytes()[:4] == b"\x89PNG"
    lines = [line.split() for line in out.splitlines()]
    board, batch, streams = (line for line in lines if line and line[0].startswith("orin"))
    assert board == ["orin:", "Orin", "4.00", "ms", "-", "-", "1.00", "MiB", *"---", "onnx"]
    assert batch == ["orin", "2", "4.00", "ms", "250.0", "-", "-", "-"]
    assert streams == ["orin", "2", "9.0", "[8.0,", "10.0]", "-", "-"]


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
