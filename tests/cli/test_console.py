"""What a terminal shows while work goes on."""

from __future__ import annotations

import io
import time

import pytest

from waveedge import console


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What standard error shows, as on a terminal of 100 columns."""
    file = io.StringIO()
    shown = type(console.err)(file=file, force_terminal=True, width=100)
    monkeypatch.setattr(console, "err", shown)
    return file


def test_a_bar_tells_how_it_stands_and_the_time_left(terminal: io.StringIO) -> None:
    with console.progress_bar() as update:
        for done, quality in enumerate(("29.8 dB", "31.2 dB", "31.4 dB")):
            update(f"tuning, {quality}", done, 9)
            time.sleep(0.15)  # it is drawn ten times a second
    text = terminal.getvalue()
    assert "tuning, 31.4 dB" in text
    assert " left" in text
    frames = text.split("\r")
    assert max(frame.count("tuning, ") for frame in frames) == 1, "one bar, not one a quality"


def test_each_board_has_a_line_that_tells_its_state(terminal: io.StringIO) -> None:
    with console.states(["orin", "nano"]) as update:
        update("orin", "copying 1.0 MiB")
        update("nano", "connecting")
        time.sleep(0.15)
        update("orin", "done")
        update("nano", "failed")
    frames = [frame.splitlines() for frame in terminal.getvalue().split("\x1b[2K")]
    lines = [
        line.split() for frame in frames for line in frame if line.startswith(("orin", "nano"))
    ]
    shown = [(line[0], " ".join(line[1:-1])) for line in lines]
    assert {("orin", "copying 1.0 MiB"), ("nano", "connecting")} <= {*shown}
    assert shown[-2:] == [("orin", "done"), ("nano", "failed")]


def test_what_another_process_tells_is_not_told_twice(
    terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_hushed", False)
    console.say("one")
    console.hush()
    console.say("two")
    console.warn("three")
    with console.progress_bar() as update:
        update("tuning, 1.0 dB", 1, 2)
    assert terminal.getvalue().split() == ["one"]
