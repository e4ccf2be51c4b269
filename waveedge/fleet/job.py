"""One measurement on one board: copied, run detached, and brought home.

On the board all lies in ``~/.cache/waveedge/KEY``, the key a hash of the bundle: ``bundle`` has its
files, and one folder a job has ``pid``, ``log``, ``doctor``, ``out`` and at the end ``status``. The
job runs on when the line is cut; the same command finds it by its name and goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import tarfile
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

from waveedge.files import sha256
from waveedge.filetypes import MANIFEST
from waveedge.fleet.ssh import BoardError, ConnectionLostError, Ssh
from waveedge.runtime.bundle import Bundle

__all__ = ["Job"]

_LONGEST = 6 * 3600
"""Seconds after which a board ends a job by itself: no orphan runs for ever."""

_PATIENCE = 60.0
_PAUSE = 1.0

_START = """\
set -e
cd {folder}
mkdir {job} 2>/dev/null || exit 0
cat > {job}/run.sh
if command -v setsid >/dev/null; then detached=setsid; else detached=nohup; fi
$detached sh {job}/run.sh >/dev/null 2>&1 </dev/null &
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -f {job}/pid ] && exit 0; sleep 0.2; done
echo "its shell did not start" >&2
exit 1
"""

_RUN = """\
cd {folder}/{job} || exit 1
: > out; : > log; : > doctor
echo $$ > pid
export XDG_CACHE_HOME="$PWD/cache"  # what libraries leave behind goes with the job
{python} -m waveedge doctor --json > doctor 2> /dev/null
{build}timeout -k 10 {longest} {python} -m waveedge bench ../bundle --json {arguments} > out 2> log
echo $? > status.part
mv status.part status
"""

_BUILD = """\
timeout -k 10 {longest} {python} -m waveedge build ../bundle --json > engines 2> log || {{
  echo $? > status.part; mv status.part status; exit
}}
"""
"""For a bundle that runs as engines: those that lie there and fit are kept."""

_STATE = """\
cd {folder}/{job} 2>/dev/null || {{ echo none; exit 0; }}
if [ -n "$(find status -mmin +1440 2>/dev/null)" ]; then echo gone
elif [ -f status ]; then echo "ended $(cat status)"
elif [ -f pid ] && kill -0 "$(cat pid)" 2>/dev/null; then echo running
else echo gone; fi
"""

_REMOVE = """\
rm -rf {folder}/{job}
[ {keep} = 1 ] || ls -d {folder}/job-* >/dev/null 2>&1 || rm -rf {folder}
rmdir "$HOME"/.cache/waveedge 2>/dev/null || true
"""


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
        key = str(bundle.manifest["sha256"])[:16]
        command = json.dumps([python, *arguments])
        self._folder = f'"$HOME"/.cache/waveedge/{key}'
        self._name = f"job-{hashlib.sha256(command.encode()).hexdigest()[:16]}"
        engines = str(bundle.manifest["target"]).startswith("trt")
        self._run = _RUN.format(
            build=_BUILD.format(longest=_LONGEST, python=python) if engines else "",
            folder=self._folder,
            job=self._name,
            longest=_LONGEST,
            python=python,
            arguments=shlex.join(arguments),
        )

    def run(self, *, keep: bool = False) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Measure, and return the report, and the doctor's, as their ``--json`` prints them.

        Args:
            keep: leave the bundle on the board, so that the next time it need not be copied.

        Raises:
            BoardError: it failed there; the message is what the board printed.
            ConnectionLostError: the line was cut for longer than a minute. The job runs on.
        """
        state = self._state()
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
        status = self._wait()
        out, log, doctor = (self._fetch(name) for name in ("out", "log", "doctor"))
        self._remove(keep=keep)
        if status:
            raise self._refused(status, log)
        report = _object(out)
        if report is None:
            raise BoardError(f"{self._ssh.host}: its report is not one: {out[:80]!r}")
        return report, _object(doctor)

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

        answer = self._ssh.run(_START.format(folder=self._folder, job=self._name), send=send)
        if answer.status:
            raise self._ssh.failed("start the measurement", answer)

    def _state(self) -> str:
        script = _STATE.format(folder=self._folder, job=self._name)
        return self._ssh.ask(script, "say how far it is").strip()

    def _wait(self) -> int:
        """Wait until the job ended, and return its exit status."""
        heard = time.monotonic()
        while True:
            try:
                state = self._state()
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
                return int(number) if number.isdigit() else 1
            if state != "running":
                self._remove(keep=True)
                raise BoardError(
                    f"{self._ssh.host}: the measurement ended without a result",
                    hint="It was killed, or the board restarted. Try again.",
                )
            self._say("measuring")
            time.sleep(_PAUSE)

    def _fetch(self, name: str) -> str:
        return self._ssh.ask(f"cat {self._folder}/{self._name}/{name}", "send the result")

    def _remove(self, *, keep: bool) -> None:
        """Remove the job's folder, and the bundle unless another job there needs it."""
        self._ssh.ask(
            _REMOVE.format(folder=self._folder, job=self._name, keep=int(keep)), "clear up"
        )

    def _refused(self, status: int, log: str) -> BoardError:
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        errors = [index for index, line in enumerate(lines) if line.startswith("error: ")]
        if status == 124:
            return BoardError(f"{self._ssh.host}: it took more than {_LONGEST // 3600} hours")
        if not errors:
            last = lines[-1][:300] if lines else f"exit status {status}"
            return BoardError(f"{self._ssh.host}: the measurement failed: {last}")
        what, *hint = lines[errors[-1] :]
        return BoardError(
            f"{self._ssh.host}: {what.removeprefix('error: ')[:500]}", hint=" ".join(hint)[:500]
        )


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
