"""What a board's shell says of a job."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from waveedge.fleet.scripts import STATE


def state(folder: Path, before: str = "") -> str:
    script = before + STATE.format(folder=folder, job="job-1")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


@pytest.mark.parametrize("pid", ["", "999999999"])
def test_a_job_whose_process_is_no_more_is_gone(tmp_path: Path, pid: str) -> None:
    assert state(tmp_path) == "none"
    (tmp_path / "job-1").mkdir()
    (tmp_path / "job-1/pid").write_text(pid)
    assert state(tmp_path) == "gone"
    (tmp_path / "job-1/status").write_text("3\n")
    assert state(tmp_path) == "ended 3"


def test_a_job_that_ends_while_it_is_asked_has_ended(tmp_path: Path) -> None:
    (tmp_path / "job-1").mkdir()
    (tmp_path / "job-1/pid").write_text("1")
    # When the process is looked for, it has just written its status and gone.
    ends = "grep() { echo 0 > status; return 1; }\n"
    assert state(tmp_path, before=ends) == "ended 0"
