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
