"""Killed at any moment, out of space, or not allowed to write: files are whole or absent."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from waveedge import console, interrupts
from waveedge.runtime import open_bundle

from .conftest import Run

SMALL = ("--input-size", "32x32")


def _kill_when(arguments: list[str], folder: Path, ripe: Callable[[str], bool]) -> int:
    """Start the command line, kill it hard once ``ripe(its messages so far)``; its exit status."""
    messages = folder / "messages.txt"
    with messages.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "waveedge.cli", *arguments],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=stream,
        )
        deadline = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline:
            if ripe(messages.read_text()):
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        code = process.wait(timeout=240)
    messages.unlink()
    return code


def test_compress_killed_leaves_no_artifact(run: Run, model: Path, tmp_path: Path) -> None:
    code = _kill_when(
        ["compress", "model.pt", *SMALL], tmp_path, lambda text: "to calibrate" in text
    )
    assert code == -signal.SIGKILL
    assert list(tmp_path.glob("[!.]*")) == [model]


def test_export_killed_keeps_the_bundle_that_was_there(
    run: Run, model: Path, tmp_path: Path
) -> None:
    assert run("export", "model.pt", *SMALL).code == 0
    bundle = tmp_path / "model.ort"
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    code = _kill_when(
        ["export", "model.pt", *SMALL], tmp_path, lambda _text: bool(list(tmp_path.glob(".*.part")))
    )
    assert code == -signal.SIGKILL
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert open_bundle(bundle).model.is_file()
    # What a killed run left behind is hidden and in nobody's way.
    assert run("export", "model.pt", *SMALL).code == 0


def _small_files_only() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


@pytest.mark.parametrize("verb", ["compress", "export"])
def test_no_room_to_write(run: Run, model: Path, tmp_path: Path, verb: str) -> None:
    result = run(verb, "model.pt", *SMALL, preexec_fn=_small_files_only)
    assert result.code == 1
    assert "error: cannot write" in result.err, result.err
    assert "Nothing was changed" in result.err
    assert "Traceback" not in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs Linux's /sys, read-only to all")
@pytest.mark.parametrize("verb", ["compress", "export"])
def test_a_folder_that_cannot_be_written(run: Run, model: Path, verb: str) -> None:
    result = run(verb, "model.pt", "--out", "/sys/kernel/a.safetensors", *SMALL)
    assert result.code == 1
    assert "error: cannot write /sys/kernel/a.safetensors" in result.err
    assert "choose another place" in result.err


def test_an_interrupt_is_no_crash(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "waveedge.cli", "compress", "model.pt", *SMALL]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "to calibrate" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=120) == 130
    assert "interrupted; nothing was written" in rest
    assert "Traceback" not in rest
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
    before = signal.getsignal(signal.SIGINT)
    with interrupts.remembered(), console.progress_bar() as update:
        update("working", 0, 2)
        Destroyed()
        with pytest.raises(KeyboardInterrupt):
            update("working", 1, 2)
        update("working", 2, 2)  # what is done stays done
    assert signal.getsignal(signal.SIGINT) is before
    assert "ignored" not in capsys.readouterr().err
