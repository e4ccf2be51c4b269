"""Killed at any moment, out of space, or not allowed to write: files are whole or absent."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from waveedge import console, interrupts

from .inside import run_inside
from .kills import catches

SMALL = ("--input-size", "32x32")


def test_verbs_killed_at_random_moments_keep_what_was_there() -> None:
    """One moment of each verb and signal; ``python kills.py 50`` tries fifty."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("kills.py")), "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    found = json.loads(done.stdout)
    assert not found["faults"]
    assert done.returncode == 0, done.stderr
    assert list(found["tried"].values()) == [1] * 9


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """Let no file of this process grow beyond 4 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("verb", ["compress", "export"])
def test_no_room_to_write(
    model: Path, tmp_path: Path, verb: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("small_files_only")  # only now, as the model is larger
    result = run_inside(tmp_path, verb, "model.pt", *SMALL)
    assert result.code == 1
    assert "error: cannot write" in result.err, result.err
    assert "Nothing was changed" in result.err
    assert "Traceback" not in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs Linux's /sys, read-only to all")
@pytest.mark.parametrize("verb", ["compress", "export"])
def test_a_folder_that_cannot_be_written(model: Path, tmp_path: Path, verb: str) -> None:
    target = "/sys/kernel/a.safetensors"
    result = run_inside(tmp_path, verb, "model.pt", "--out", target, *SMALL)
    assert result.code == 1
    assert "error: cannot write /sys/kernel/a.safetensors" in result.err
    assert "choose another place" in result.err


def test_an_interrupt_is_no_crash(model: Path, tmp_path: Path) -> None:
    """As a shell runs it; kills.py sends the other signals, at other moments."""
    command = [sys.executable, "-m", "waveedge", "compress", "model.pt", *SMALL]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=_default_signals
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "to calibrate" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=120) == 128 + signal.SIGINT
    assert "interrupted; nothing was written" in rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == [model]


def _default_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's "&" would have it ignored


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc of Linux")
@pytest.mark.parametrize(
    ("number", "delay"), [(signal.SIGINT, 0.0), (signal.SIGTERM, 0.1), (signal.SIGINT, 0.6)]
)
def test_an_interrupt_during_the_imports(
    model: Path, tmp_path: Path, number: signal.Signals, delay: float
) -> None:
    command = [sys.executable, "-m", "waveedge", "compress", "model.pt", *SMALL]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=_default_signals
    )
    while process.poll() is None and not catches(process.pid, signal.SIGTERM):
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    # On a slow machine it may have come to say what it assumes.
    assert errors.endswith("error: interrupted; nothing was written\n")
    assert "Traceback" not in errors
    assert process.returncode == 128 + number
    assert list(tmp_path.iterdir()) == [model]


class Destroyed:
    """Is interrupted in its destructor, where Python prints an exception and drops it."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass  # the interrupt arrives between two steps of the interpreter


def test_an_interrupt_that_python_drops_stops_the_next_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)  # "&" would ignore it
    try:
        with interrupts.remembered(), console.progress_bar() as update:
            update("working", 0, 2)
            Destroyed()
            with pytest.raises(KeyboardInterrupt):
                update("working", 1, 2)
            update("working", 2, 2)  # what is done stays done
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert "ignored" not in capsys.readouterr().err


def _close_output() -> None:
    os.close(1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_output_is_said(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = _version(tmp_path, stdout=full)
    assert done.stderr.startswith("error: standard output cannot be written: No space left")
    assert done.returncode == 1


def test_a_closed_output_is_said(tmp_path: Path) -> None:
    done = _version(tmp_path, preexec_fn=_close_output)
    assert done.stderr.startswith("error: standard output is closed")
    assert done.returncode == 1


def test_a_working_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    done = _version(folder, preexec_fn=folder.rmdir)
    assert done.stderr.startswith("error: the current folder does not exist any more")
    assert done.returncode == 1


def _version(folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "waveedge", "--version"]
    done = subprocess.run(
        command, cwd=folder, stderr=subprocess.PIPE, text=True, check=False, **options
    )
    assert len(done.stderr.splitlines()) == 2, done.stderr
    return done
