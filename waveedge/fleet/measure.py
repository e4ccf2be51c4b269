"""A bundle measured on several boards at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waveedge import interrupts
from waveedge.errors import WaveedgeError, reason
from waveedge.fleet.boards import Board
from waveedge.fleet.job import Job
from waveedge.fleet.remote import find_python, install
from waveedge.fleet.ssh import Ssh
from waveedge.runtime.bundle import open_bundle

__all__ = ["Outcome", "measure"]

_LOOK = 0.1
_END = 5.0


@dataclass
class Outcome:
    """What came of a board.

    Attributes:
        board: which.
        report: as ``waveedge bench --json`` prints it there; None where it failed.
        doctor: as ``waveedge doctor --json`` prints it there; None where that failed.
        engines: as ``waveedge build --race --json`` prints it there; None of a bundle that runs as
            no engine.
        installed: whether waveedge was installed there, where it stays.
        error: why there is no report.
    """

    board: Board
    report: dict[str, Any] | None = None
    doctor: dict[str, Any] | None = None
    engines: dict[str, Any] | None = None
    installed: bool = False
    error: WaveedgeError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        error = self.error and {"what": self.error.what, "hint": self.error.hint}
        board = {"name": self.board.title, "host": self.board.host}
        found = {"report": self.report, "doctor": self.doctor, "engines": self.engines}
        return {**board, "error": error, "installed": self.installed, **found}


def measure(
    boards: Sequence[Board],
    bundle: str | Path,
    arguments: Sequence[str] = (),
    *,
    setup: bool = False,
    keep: bool = False,
    say: Callable[[str, str], None] = lambda title, state: None,
) -> list[Outcome]:
    """Measure a bundle on boards, on all at once, each as ``waveedge bench`` does.

    Args:
        boards: which.
        bundle: the folder; it is checked before anything is copied.
        arguments: further options of ``waveedge bench``, for all boards.
        setup: install this waveedge there first.
        keep: leave the bundle there.
        say: called with the title of a board and what it is doing, from its own thread.

    Returns:
        one outcome a board, in their order; a board that failed holds back no other.

    Raises:
        ArtifactError: the bundle is damaged.
        InputError: there is no bundle, or a host is no host.
    """
    checked = open_bundle(bundle)
    outcomes = [Outcome(board) for board in boards]
    lines = [Ssh(board.host) for board in boards]
    stopped = threading.Event()

    def work(outcome: Outcome, ssh: Ssh) -> None:
        title = outcome.board.title

        def report(state: str) -> None:
            if stopped.is_set():
                raise WaveedgeError("stopped")
            say(title, state)

        try:
            with ssh:
                report("connecting")
                if setup:
                    report("installing waveedge")
                    install(ssh, outcome.board.python)
                    outcome.installed = True
                python = find_python(ssh, "" if setup else outcome.board.python)
                job = Job(ssh, python, checked, arguments, report)
                result = job.run(keep=keep)
                outcome.report, outcome.doctor = result.report, result.doctor
                outcome.engines = result.engines
            say(title, "done")
        except WaveedgeError as error:
            outcome.error = error
            say(title, "failed")
        except Exception as error:  # one board must not end the others
            outcome.error = WaveedgeError(f"{outcome.board.host}: {reason(error)}")
            say(title, "failed")

    # Daemons, so that an interrupted command need not wait for a board that does not answer.
    threads = [
        threading.Thread(target=work, args=pair, daemon=True)
        for pair in zip(outcomes, lines, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(_LOOK)
                interrupts.check()
    except BaseException:
        stopped.set()
        for thread, ssh in zip(threads, lines, strict=True):
            ssh.stop()
            thread.join(_END)
        raise
    return outcomes
