"""Jobs that end otherwise than with a report: killed, out of room, another version, nonsense."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from waveedge.fleet import Board, measure
from waveedge.fleet.measure import Outcome
from waveedge.fleet.ssh import BoardError

Fleet = dict[str, Any]
QUICK = ("--runs", "3")


@pytest.mark.parametrize("reused", [False, True])
def test_a_job_that_was_killed_there_is_said_to_be(
    reused: bool, fleet: Fleet, bundle: Path, fake: Callable[..., str]
) -> None:
    """So it is where the board restarted, and another process of this user has its number."""
    board = Board("board-a", python=fake(bench="sleep 60"))
    said: list[str] = []

    def say(_: str, state: str) -> None:
        said.append(state)
        assert said.count("measuring") < 20, "it takes a dead job for one that runs"
        if state == "measuring":
            for path in fleet["board-a"].home.rglob("pid"):
                if path.read_text().strip() != str(os.getpid()):
                    os.killpg(int(path.read_text()), signal.SIGKILL)
                if reused:
                    path.write_text(f"{os.getpid()}\n")

    (outcome,) = measure([board], bundle, QUICK, say=say)
    assert isinstance(outcome.error, BoardError)
    assert outcome.error.what == "board-a: the measurement ended without a result"
    assert "restarted" in outcome.error.hint
    assert fleet["board-a"].left() == []


def test_a_report_that_is_none_is_refused(
    fleet: Fleet, bundle: Path, fake: Callable[..., str]
) -> None:
    board = Board("board-a", python=fake(bench='echo "all went well"'))
    (outcome,) = measure([board], bundle, QUICK)
    assert outcome.error is not None
    assert outcome.error.what == "board-a: its report is not one: 'all went well\\n'"
    assert fleet["board-a"].left() == []


def test_another_version_is_refused(
    fleet: Fleet, bundle: Path, python: Callable[[str], str]
) -> None:
    old = python('case "$*" in *__version__*) echo 0.0.1; exit 0;; esac')
    (outcome,) = measure([Board("board-a", python=old)], bundle, QUICK)
    assert outcome.error is not None
    assert "it has waveedge 0.0.1, and here is" in outcome.error.what
    assert "--setup" in outcome.error.hint


@pytest.fixture
def small_disk(fleet: Fleet) -> Iterator[Callable[[str], Path]]:
    """Makes the home of ``board-b`` a file system of so many bytes; returns the home."""
    home = fleet["board-b"].home

    def mount(size: str) -> Path:
        options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs"]
        made = subprocess.run(["mount", *options, str(home)], capture_output=True, check=False)
        if made.returncode:
            pytest.skip(f"a file system of {size} cannot be mounted here")
        return home

    yield mount
    if home.is_mount():
        subprocess.run(["umount", str(home)], check=True)


def only(outcomes: list[Outcome]) -> tuple[str, str]:
    ((outcome),) = outcomes
    assert outcome.error is not None
    return outcome.error.what, outcome.error.hint


def test_a_full_disk_is_said_and_cleared(
    fleet: Fleet, bundle: Path, fake: Callable[..., str], small_disk: Callable[[str], Path]
) -> None:
    small_disk("8k")
    what, _ = only(measure([Board("board-b", python=fake())], bundle, QUICK))
    assert what == "board-b: its disk is full: it cannot take the bundle"
    assert fleet["board-b"].left() == []


@pytest.mark.parametrize(
    "does",
    [
        "cat /dev/zero > fill; exit 1",
        "cat /dev/zero > fill; sync; exit 0",
        "echo 'OSError: [Errno 28] No space left on device' >&2; exit 1",
    ],
)
def test_a_disk_that_fills_up_meanwhile_is_said_to_have(
    does: str,
    fleet: Fleet,
    bundle: Path,
    fake: Callable[..., str],
    small_disk: Callable[[str], Path],
) -> None:
    """Without room there is no status either, as where the job was killed."""
    small_disk("256k")
    what, hint = only(measure([Board("board-b", python=fake(bench=does))], bundle, QUICK))
    assert what == "board-b: its disk is full: it cannot write down what it measured"
    assert hint == "Free some of it."
    assert fleet["board-b"].left() == []
