"""What runs a network and tells the time that it took: in this process, or in one of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks import peer_runner
from benchmarks.environments import last_line
from benchmarks.peers import Attempt
from waveedge.errors import ExportError
from waveedge.runtime import Session

__all__ = ["InProcess", "Runner", "Served", "Timed", "runner_of"]

Array = NDArray[Any]


class Timed(NamedTuple):
    """One run."""

    output: Array
    cpu_ms: float
    wall_ms: float


class Runner(Protocol):
    """A network that is loaded, on one thread.

    Attributes:
        runtime: what it runs on, as text.
    """

    runtime: str

    def run(self, image: Array) -> Timed:
        """Run it on one image; times are of this run alone, without moving the image here."""

    def close(self) -> None:
        """Free what it holds."""


class InProcess:
    """A bundle or ONNX file, on the runtime that :class:`waveedge.runtime.Session` gives it."""

    def __init__(self, path: Path) -> None:
        self._session: Session | None = Session(path, threads=1)
        self.runtime = self._session.backend

    def run(self, image: Array) -> Timed:
        """See :class:`Runner`."""
        assert self._session is not None
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        output = self._session.run(image)
        cpu_end, wall_end = time.process_time(), time.perf_counter()
        assert isinstance(output, np.ndarray)
        return Timed(output, 1000 * (cpu_end - cpu_start), 1000 * (wall_end - wall_start))

    def close(self) -> None:
        """See :class:`Runner`."""
        self._session = None


class Served:
    """A peer's file, run by ``peer_runner.py`` in the peer's environment, which lives until closed.

    Runtimes that exclude each other can take turns this way, image by image, on one machine.

    Raises:
        ExportError: it cannot be loaded, or from ``run``, it ended; with its last line of output.
    """

    def __init__(self, attempt: Attempt, file: Path) -> None:
        self.runtime = f"{attempt.peer.runtime}, a process of its own"
        self._title = attempt.peer.title
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (kept as long as the process)
        python, program = attempt.peer.environment.python, peer_runner.__file__
        arguments = (python, "-I", program, attempt.peer.runtime, file, json.dumps(attempt.loading))
        self._process = subprocess.Popen(
            [str(part) for part in arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def run(self, image: Array) -> Timed:
        """See :class:`Runner`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended: no answer will come
            peer_runner.send(self._process.stdin, image)
        times = peer_runner.receive(self._process.stdout)
        output = peer_runner.receive(self._process.stdout)
        if output is None:
            self._process.wait()
            self._log.seek(0)
            reason = last_line(self._log.read())
            self.close()
            raise ExportError(f"{self._title} cannot run it: {reason}")
        return Timed(output, *times)

    def close(self) -> None:
        """See :class:`Runner`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()


def runner_of(attempt: Attempt, file: Path) -> Runner:
    """Load what a peer made on the runtime that it was made for."""
    return InProcess(file) if attempt.peer.runtime == "onnxruntime" else Served(attempt, file)
