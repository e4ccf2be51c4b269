"""Bad inputs: each gets one clear message and exit status 1 or 2, and changes nothing.

``docs/errors.md`` has a row for each, which is what the run here gives. To write it anew::

    WAVEEDGE_WRITE_ERRORS=1 python -m pytest tests/cli/test_bad_input.py
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from waveedge.commands import inspect

from .cases import CASES, Case, broken_images
from .conftest import Run
from .inside import Result, run_inside
from .limit_cases import LIMIT_CASES

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "errors.md"
ALL = [*CASES, *LIMIT_CASES]


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_bad_input_gets_one_message_and_changes_nothing(
    case: Case, model: Path, tmp_path: Path
) -> None:
    assert model.is_file()
    arguments = case.make(tmp_path)
    before = _snapshot(tmp_path)
    result = run_inside(tmp_path, *arguments)
    assert result.err.count("error: ") == 1, result.err
    assert "Traceback" not in result.err + result.out
    assert "bug in waveedge" not in result.err, result.err
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", result.err)
    assert len(result.err) < 8000
    for text in case.says:
        assert text in result.err, result.err
    assert result.code == case.code, result.err
    assert _snapshot(tmp_path) == before
    _check_document(case, _row(case, result, tmp_path))


def _row(case: Case, result: Result, folder: Path) -> str:
    """The case as a row of the document's table."""
    message = result.err[result.err.index("error: ") + len("error: ") :].replace(str(folder), "...")
    what, _, hint = message.strip().partition("\n")
    cells = (case.name, what, " ".join(hint.split()), str(result.code))
    cells = tuple(cell if len(cell) <= 400 else f"{cell[:400]} ..." for cell in cells)
    return "| {} |".format(" | ".join(cell.replace("|", "\\|") for cell in cells))


def _check_document(case: Case, row: str) -> None:
    head, rows = _document()
    if os.environ.get("WAVEEDGE_WRITE_ERRORS"):
        rows[case.name] = row
        lines = [rows[known.name] for known in ALL if known.name in rows]
        DOCUMENT.write_text("\n".join([*head, *lines]) + "\n")
    assert rows.get(case.name) == row, "write it anew, as this file's first lines say"


def _document() -> tuple[list[str], dict[str, str]]:
    """The lines of the document above its rows, and the rows by name."""
    lines = DOCUMENT.read_text().splitlines()
    start = lines.index("|---|---|---|---|") + 1
    return lines[:start], {line.split(" | ")[0].removeprefix("| "): line for line in lines[start:]}


def test_the_document_has_these_cases_and_no_others() -> None:
    assert list(_document()[1]) == [case.name for case in ALL]


def test_a_fault_of_waveedge_is_called_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(inspect, "show", fails)  # a fake: there is no fault to be had
    result = run_inside(tmp_path, "inspect", "model.pt")
    assert result.code == 1
    assert "error: unexpected ZeroDivisionError: planted" in result.err
    assert "This is a bug in waveedge" in result.err


def test_as_a_process(run: Run) -> None:
    """The rows above run inside this process; this one is what a shell sees."""
    result = run("compress", "model.pt", "--bitz", 4)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: No such option: --bitz")
    assert result.err.endswith("See: waveedge compress --help\n")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = run_inside(tmp_path, "compress", "nowhere.pt", "--debug")
    assert result.code == 1
    assert "Traceback" in result.err
    assert "error: nowhere.pt does not exist" in result.err


def test_a_mixed_folder_is_used_and_its_broken_files_are_named(model: Path, tmp_path: Path) -> None:
    broken_images(tmp_path)
    random = np.random.default_rng(0)
    for index in range(6):
        pixels = random.integers(0, 255, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
    result = run_inside(
        tmp_path, "compress", model, "--calib", "images", "--input-size", "48x48", "--json"
    )
    assert result.code == 0, result.err
    assert "a.png" in result.err
    assert "b.jpg" in result.err
    assert json.loads(result.out)["quality"]["images"] >= 1
