"""The race of a bundle's engines on boards: its result comes home, and one table has all of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from waveedge.commands import fleet as command
from waveedge.fleet import Board, measure
from waveedge.fleet.forms import FORM_COLUMNS, form_rows
from waveedge.fleet.measure import Outcome

Fleet = dict[str, Any]


def lap(form: str, time: float, **fields: Any) -> dict[str, Any]:
    known = {"file": f"{form}.onnx", "dla_core": None, "snr_db": 50.0, "admitted": True}
    slower = [time / 2, time / 2 - 0.1, time / 2 + 0.1]
    return {"form": form, **known, "chosen": False, "ms": time, "slower": slower, **fields}


RACED = {
    "engines": [{"form": "w8a8", "error": ""}, {"form": "odd", "error": "TensorRT refuses odd"}],
    "race": [
        lap("small", 1.0, snr_db=20.0, admitted=False),
        lap("w8a8", 2.0, chosen=True, dla_core=0),
        lap("published", 6.0, snr_db=90.0),
        lap("float16", 1.0, ms=None, slower=None, error="its GPU is another"),
    ],
}


def variant(path: str, joules: float) -> dict[str, Any]:
    return {
        "path": path,
        "backend": "TensorRT",
        "wall": {"median": 2.0},
        "peak_bytes": 3 * 2**20,
        "power": {"joules_per_run": joules},
    }


REPORT = {
    "a": variant("../bundle/w8a8.dla0.engine", 0.0125),
    "b": variant("../bundle/published.engine", 0.04),
    "input_source": "images",
}


def test_a_race_is_run_there_and_its_result_comes_home(
    fleet: Fleet, engines: Path, python: Callable[[str], str]
) -> None:
    """Only the build is a fake: there is no GPU here. The measurement takes the images there."""
    first = f'case "$*" in *" build ../bundle --race --json") echo {shlex.quote(json.dumps(RACED))}'
    board = Board("board-a", python=python(f"{first}; exit;; *' build '*) exit 1;; esac"))
    (outcome,) = measure([board], engines, ("--runs", "3"))
    assert outcome.error is None, outcome.error
    assert outcome.engines == RACED
    assert outcome.to_dict()["engines"] == RACED
    assert outcome.report is not None
    assert outcome.report["input_source"] == "images"
    assert fleet["board-a"].left() == []


def test_an_input_size_of_one_s_own_is_not_that_of_the_images(
    fleet: Fleet, engines: Path, fake: Callable[..., str], tmp_path: Path
) -> None:
    board = Board("board-a", python=fake(bench=f'echo "$*" >> {tmp_path}/asked; echo {{}}'))
    for arguments in ((), ("--input-size", "8x8")):
        (outcome,) = measure([board], engines, arguments)
        assert outcome.error is None, outcome.error
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert first.endswith("--images ../bundle/images.npy")
    assert "--images" not in second


def test_the_table_has_every_form_of_every_board(
    engines: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from waveedge.cli import main

    def measured(boards: Sequence[Board], *_: Any, **__: Any) -> list[Outcome]:
        return [Outcome(board, REPORT, engines=RACED) for board in boards]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "measure", measured)
    with pytest.raises(SystemExit) as end:
        main(["bench", str(engines), "--on", "orin", "--on", "nano"])
    assert end.value.code in (0, None)
    out = capfd.readouterr().out
    assert "30 interleaved pairs, 1 thread(s), on the bundle's images" in out
    assert sum("DLA core 0" in line and "chosen" in line for line in out.splitlines()) == 2

    (outcome,) = measured([Board("orin")])
    rows = form_rows([outcome])
    assert {len(row) for row in rows} == {len(FORM_COLUMNS)}
    assert [row[0] for row in rows] == ["orin"] * 5
    assert [row[1:] for row in rows] == [
        ("small", "1.00 ms", "0.50x [0.40, 0.60]", "20.0 dB", "-", "-", "not good enough"),
        (
            *("w8a8, DLA core 0", "2.00 ms", "1.00x [0.90, 1.10]", "50.0 dB"),
            *("3.00 MiB", "12.50 mJ", "chosen"),
        ),
        ("published", "6.00 ms", "3.00x [2.90, 3.10]", "90.0 dB", "3.00 MiB", "40.00 mJ", ""),
        ("float16", *"-----", "did not run: its GPU is another"),
        ("odd", *"-----", "no engine: TensorRT refuses odd"),
    ]


@pytest.mark.parametrize(
    "found",
    [
        None,
        {},
        {"race": 3, "engines": {}},
        {"race": [None, 1, {"ms": "x"}, {"ms": 1.0, "slower": [1, "x", None], "form": "\x1b[2J"}]},
        {"race": [{"ms": float("nan")}] * 999, "engines": [{"error": "e" * 9999}]},
    ],
)
def test_results_of_others_are_not_trusted(found: Any) -> None:
    rows = form_rows([Outcome(Board("me@board"), {}, engines=found)])
    assert len(rows) <= 2 * 64
    assert all(len(row) == len(FORM_COLUMNS) for row in rows)
    assert all(cell.isprintable() and len(cell) < 150 for row in rows for cell in row)
