"""One measurement on one board: copied, run detached, and brought home.

On the board all lies in ``~/.cache/waveedge/KEY``, the key a hash of the bundle: ``bundle`` has its
files, and one folder a job has ``pid``, ``log``, ``doctor``, ``engines``, ``out`` and at the end
``status``. The job runs on when the line is cut; the same command finds it by its name and goes on
where it was.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

from waveedge.files import sha256
from waveedge.filetypes import MANIFEST
from waveedge.fleet import scripts
from waveedge.fleet.ssh import BoardError, ConnectionLostError, Ssh
from waveedge.runtime.bundle import Bundle

__all__ = ["Job", "Result"]

_PATIENCE = 60.0
_PAUSE = 1.0
_ROOM_KIB = 1024
"""With less than that free, a job that failed is taken to have wanted for room."""


@dataclass(frozen=True)
class Result:
    """What a job brought home, as JSON values; None where the board printed none.

    Attributes:
        report: of ``waveedge bench --json``.
        doctor: of ``waveedge doctor --json``.
        engines: of ``waveedge build --race --json``, for a bundle that runs as engines.
    """

    report: dict[str, Any]
    doctor: dict[str, Any] | None
    engines: dict[str, Any] | None


class Job:
    """``waveedge bench`` of a bundle on a board, and what ``waveedge doctor`` says of it.

    Args:
        ssh: the board.
        python: on the board, as its shell takes it.
        bundle: what to measure.
        arguments: further options of ``waveedge bench``.
        say: called with what is being done.
    """

    def __init__(
        self,
        ssh: Ssh,
        python: str,
        bundle: Bundle,
        arguments: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        self._ssh, self._bundle, self._say = ssh, bundle, say
        arguments = [*arguments, *_images(bundle, arguments)]
        key = str(bundle.manifest["sha256"])[:16]
        command = json.dumps([python, *arguments])
        self._folder = f'"$HOME"/.cache/waveedge/{key}'
        self._name = f"job-{hashlib.sha256(command.encode()).hexdigest()[:16]}"
        engines = str(bundle.manifest["target"]).startswith("trt")
        self._run = scripts.RUN.format(
            build=scripts.BUILD.format(longest=scripts.LONGEST, python=python) if engines else "",
            folder=self._folder,
            job=self._name,
            longest=scripts.LONGEST,
            python=python,
            arguments=shlex.join(arguments),
        )

    def run(self, *, keep: bool = False) -> Result:
        """Measure, and return what came of it.

        Args:
            keep: leave the bundle on the board, so that the next time it need not be copied.

        Raises:
            BoardError: it failed there; the message is what the board printed.
            ConnectionLostError: the line was cut for longer than a minute. The job runs on.
        """
        state, _ = self._state()
        if state == "gone":  # the board was switched off meanwhile, or it ended a day ago
            self._remove(keep=True)
            state = "none"
        if state == "none":
            try:
                self._copy()
            except ConnectionLostError:
                raise
            except BoardError:
                self._remove(keep=keep)
                raise
            self._start()
        else:
            self._say("going on")
        status, room = self._wait()
        if status is None:
            self._remove(keep=keep)
            raise self._cut_short() if room else self._full()
        out, log, doctor, engines = (self._fetch(name) for name in scripts.RESULTS)
        self._remove(keep=keep)
        if status:
            raise self._refused(status, log, room)
        report = _object(out)
        if report is None:
            raise self._nonsense(out) if room else self._full()
        return Result(report, _object(doctor), _object(engines))

    def _copy(self) -> None:
        """Copy those files of the bundle that are not there yet, and check all of them there."""
        self._say("comparing files")
        wanted = {**self._bundle.manifest["files"]}
        wanted[MANIFEST] = sha256(self._bundle.path / MANIFEST)
        there = self._sums()
        changed = [name for name in sorted(wanted) if there.get(name) != wanted[name]]
        if not changed:
            return
        size = sum((self._bundle.path / name).stat().st_size for name in changed)
        self._say(f"copying {size / 2**20:.1f} MiB")

        def send(stdin: IO[bytes]) -> None:
            with tarfile.open(fileobj=stdin, mode="w|") as archive:
                for name in changed:
                    archive.add(self._bundle.path / name, name, recursive=False, filter=_nobodys)

        answer = self._ssh.run(f"cd {self._folder}/bundle && tar -xf - --no-same-owner", send=send)
        if answer.status:
            raise self._ssh.failed("take the bundle", answer)
        arrived = self._sums()
        for name in changed:
            if arrived.get(name) != wanted[name]:
                raise BoardError(
                    f"{self._ssh.host}: {name} did not arrive whole",
                    hint="Try again; if it happens twice, look at the board's disk.",
                )

    def _sums(self) -> dict[str, str]:
        printed = self._ssh.ask(
            f"mkdir -p {self._folder}/bundle && cd {self._folder}/bundle && "
            "for file in *; do [ -f $file ] && sha256sum -- $file; done; true",
            "make a folder in ~/.cache",
        )
        lines = (line.split() for line in printed.splitlines())
        return {line[1]: line[0] for line in lines if len(line) == 2}

    def _start(self) -> None:
        self._say("starting")
        script = self._run.encode()

        def send(stdin: IO[bytes]) -> None:
            stdin.write(script)

        answer = self._ssh.run(scripts.START.format(folder=self._folder, job=self._name), send=send)
        if answer.status:
            raise self._ssh.failed("start the measurement", answer)

    def _state(self) -> tuple[str, bool]:
        """How far it is, and whether the board's disk has room."""
        script = scripts.STATE.format(folder=self._folder, job=self._name)
        state, *free = self._ssh.ask(script, "say how far it is").splitlines() or [""]
        full = bool(free) and free[0].isdigit() and int(free[0]) < _ROOM_KIB
        return state.strip(), not full

    def _wait(self) -> tuple[int | None, bool]:
        """Wait until it ended; return its exit status, if any, and whether the disk has room."""
        heard = time.monotonic()
        while True:
            try:
                state, room = self._state()
            except ConnectionLostError as error:
                if time.monotonic() - heard > _PATIENCE:
                    raise ConnectionLostError(
                        error.what,
                        hint="The measurement goes on there. The same command brings its result.",
                    ) from error
                self._say("no line; trying again")
                time.sleep(_PAUSE)
                continue
            heard = time.monotonic()
            if state.startswith("ended"):
                number = state.removeprefix("ended").strip()
                return int(number) if number.isdigit() else 1, room
            if state != "running":
                return None, room
            self._say("measuring")
            time.sleep(_PAUSE)

    def _fetch(self, name: str) -> str:
        return self._ssh.ask(f"cat {self._folder}/{self._name}/{name}", "send the result")

    def _remove(self, *, keep: bool) -> None:
        """Remove the job's folder, and the bundle unless another job there needs it."""
        self._ssh.ask(
            scripts.REMOVE.format(folder=self._folder, job=self._name, keep=int(keep)), "clear up"
        )

    def _cut_short(self) -> BoardError:
        return BoardError(
            f"{self._ssh.host}: the measurement ended without a result",
            hint="It was killed, or the board restarted. Try again.",
        )

    def _nonsense(self, out: str) -> BoardError:
        return BoardError(f"{self._ssh.host}: its report is not one: {out[:80]!r}")

    def _full(self) -> BoardError:
        return self._ssh.full("write down what it measured")

    def _refused(self, status: int, log: str, room: bool) -> BoardError:
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        errors = [index for index, line in enumerate(lines) if line.startswith("error: ")]
        if status == 124:
            return BoardError(
                f"{self._ssh.host}: it took more than {scripts.LONGEST // 3600} hours"
            )
        if "No space left on device" in log or (not room and not errors):
            return self._full()
        if not errors:
            last = lines[-1][:300] if lines else f"exit status {status}"
            return BoardError(f"{self._ssh.host}: the measurement failed: {last}")
        what, *hint = lines[errors[-1] :]
        return BoardError(
            f"{self._ssh.host}: {what.removeprefix('error: ')[:500]}", hint=" ".join(hint)[:500]
        )


def _images(bundle: Bundle, arguments: Sequence[str]) -> list[str]:
    """The option that times the images of a bundle; [] where there are none of the size asked for.

    ``waveedge bench`` runs one at a time.
    """
    images, batch = bundle.manifest["images"], bundle.manifest["input"]["shape"][0]
    if images is None or "--input-size" in arguments or batch not in (1, str(batch)):
        return []
    return ["--images", f"../bundle/{images}"]


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the names and numbers of the desk's user."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.name.endswith(".sh") else 0o644
    return member
