"""One board, reached by the system's ``ssh``.

The user's own configuration, agent, jump hosts and known hosts apply, since it is their program
that runs; no password is asked for or handled. All commands share one connection (ControlMaster in
ssh_config(5)). ``WAVEEDGE_SSH`` names another command than ``ssh``, with options where needed, as
``GIT_SSH_COMMAND`` does for git.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from waveedge.errors import InputError, MissingDependencyError, WaveedgeError

__all__ = ["Answer", "BoardError", "ConnectionLostError", "Ssh", "require_host"]

_CONNECTION = 255  # ssh's own exit status
_ANSWER = 32 * 2**20  # bytes of output that are kept
_OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": "10",
    "ControlMaster": "auto",
    "ControlPersist": "60",
    # A line that went dead is noticed after 15 s.
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
}
_REASONS = {
    r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED": (
        "its host key is not the known one, or not known",
        "Connect once by hand and compare the key: ssh {host}",
    ),
    r"Permission denied \(": (
        "it lets nobody in with your keys",
        "Copy your key there: ssh-copy-id {host}",
    ),
    r"Could not resolve hostname": ("its name is not known", "Check the name, or ~/.ssh/config."),
    r"Connection refused|No route to host|timed out|Network is unreachable": (
        "nobody answers there",
        "Is the board on, in this network, and does it run an ssh server?",
    ),
    r"Connection (closed|reset)|Broken pipe|not responding|lost": (
        "the line was cut",
        "Run the same command again: it goes on where it was.",
    ),
}


class BoardError(WaveedgeError):
    """A board cannot do what it shall; the message is one line."""


class ConnectionLostError(BoardError):
    """A board cannot be reached, or no longer."""


@dataclass(frozen=True)
class Answer:
    """What a command on the board gave: exit status and output, as text."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All that it printed."""
        return self.err + self.out


class Ssh:
    """A connection to a board; use it in a ``with`` statement, which ends it.

    Args:
        host: as ``ssh`` takes it: a name, ``user@name``, or an alias of ssh_config.

    Raises:
        InputError: ``host`` is no name of a host.
        MissingDependencyError: there is no ssh here.
    """

    def __init__(self, host: str) -> None:
        require_host(host)
        self.host = host
        self._running: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="waveedge-")
        options = {**_OPTIONS, "ControlPath": str(Path(self._folder.name) / "%C")}
        self._command = [
            *shlex.split(os.environ.get("WAVEEDGE_SSH", "ssh")),
            *(f"-o{name}={value}" for name, value in options.items()),
        ]

    def __enter__(self) -> Ssh:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        subprocess.run(
            [*self._command, "-O", "exit", "--", self.host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        self._folder.cleanup()

    def run(self, script: str, *, send: Callable[[IO[bytes]], object] | None = None) -> Answer:
        """Run a script by the board's ``sh``.

        Args:
            script: what to run; it is passed as one argument.
            send: writes what the script reads from its standard input.

        Raises:
            ConnectionLostError: the board cannot be reached.
        """
        command = [*self._command, "--", self.host, f"sh -c {shlex.quote(script)}"]
        try:
            # A session of its own: Ctrl-C is for waveedge, which then says what goes on.
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE if send else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise MissingDependencyError(
                f"measuring on a board needs ssh: {error.strerror}",
                hint="Install OpenSSH's client: sudo apt install openssh-client",
            ) from error
        self._running = process
        try:
            if send is not None and process.stdin is not None:
                with suppress(BrokenPipeError):  # the script ended early: its answer says why
                    send(process.stdin)
            out, err = process.communicate()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            self._running = None
        answer = Answer(process.returncode, _text(out), _text(err))
        if answer.status == _CONNECTION:
            raise self._lost(answer.err)
        return answer

    def stop(self) -> None:
        """End what runs here of a command, from another thread; on the board it may go on."""
        if (process := self._running) is not None:
            process.kill()

    def ask(self, script: str, what: str) -> str:
        """Run a script that must succeed, and return its output.

        Raises:
            BoardError: it failed; ``what`` says in the message what it was to do.
            ConnectionLostError: the board cannot be reached.
        """
        answer = self.run(script)
        if answer.status:
            raise self.failed(what, answer)
        return answer.out

    def failed(self, what: str, answer: Answer) -> BoardError:
        """Return the error of a script that failed, with the last line that it printed."""
        lines = [line.strip() for line in (answer.err or answer.out).splitlines() if line.strip()]
        if "No space left on device" in answer.err:
            return self.full(what)
        reason = lines[-1][:300] if lines else f"exit status {answer.status}"
        return BoardError(f"{self.host}: it cannot {what}: {reason}")

    def full(self, what: str) -> BoardError:
        """Return the error of a board that wants for room on its disk."""
        return BoardError(
            f"{self.host}: its disk is full: it cannot {what}", hint="Free some of it."
        )

    def _lost(self, printed: str) -> ConnectionLostError:
        for pattern, (reason, hint) in _REASONS.items():
            if re.search(pattern, printed):
                return ConnectionLostError(
                    f"{self.host}: {reason}", hint=hint.format(host=self.host)
                )
        lines = [line.strip() for line in printed.splitlines() if line.strip()]
        return ConnectionLostError(
            f"{self.host}: ssh failed: {lines[-1][:300] if lines else 'it does not say why'}",
            hint=f"Try it by hand: ssh {self.host}",
        )


def require_host(host: str) -> None:
    """Raise InputError unless ``host`` can be one; ssh would take some other text as an option."""
    if not re.fullmatch(r"[^\s\-\x00][^\s\x00]*", host):
        raise InputError(
            f"{host!r} is no host", hint="Name one as ssh does: user@jetson, or an alias."
        )


def _text(printed: bytes) -> str:
    return printed[:_ANSWER].decode("utf-8", "replace")
