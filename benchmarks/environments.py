"""Virtual environments, one for each family of peers: their requirements exclude each other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waveedge.console import say
from waveedge.errors import ExportError, MissingDependencyError, OutputError

__all__ = ["Environment", "install", "install_missing", "last_line"]

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Environment:
    """Where a peer runs: ``.venv-peers-NAME`` in the repository.

    Attributes:
        name: of its folder.
        packages: pip requirements; none for waveedge's own environment.
    """

    name: str
    packages: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where it is, or will be."""
        return ROOT / f".venv-peers-{self.name}"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        if not self.packages:
            return Path(sys.executable)
        return self.folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    @property
    def is_installed(self) -> bool:
        """Whether it is complete and of the versions named here."""
        return not self.packages or (
            self._marker.is_file() and self._marker.read_text() == "\n".join(self.packages)
        )

    def require(self) -> None:
        """Raise MissingDependencyError, with pip's reason, unless it is installed."""
        if self.is_installed:
            return
        why = f": {self._failure.read_text()}" if self._failure.is_file() else ""
        raise MissingDependencyError(
            f"the environment {self.name} is not installed{why}",
            hint=f"python -m benchmarks.peers {self.name}",
        )

    def run(
        self, worker: Path, arguments: Iterable[object], log: Path, title: str, seconds: int
    ) -> dict[str, Any]:
        """Run a script there, and return the JSON object that it prints last.

        Args:
            worker: the script.
            arguments: its own.
            log: a file for all that it prints.
            title: of the peer, for messages.
            seconds: after which it is given up.

        Raises:
            ExportError: it failed; the message ends with the last line of its output.
        """
        # Isolated: this folder must not be on the path, where its modules could hide others.
        command = [str(part) for part in (self.python, "-I", worker, *arguments)]
        with log.open("w") as output:
            try:
                done = subprocess.run(
                    command,
                    env=self.variables,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=seconds,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise ExportError(f"{title} did not end within {seconds} s") from error
        text = log.read_text(errors="replace")
        if done.returncode:
            raise ExportError(f"{title} failed: {last_line(text)}")
        printed: dict[str, Any] = json.loads(last_line(text))
        return printed

    @property
    def variables(self) -> dict[str, str]:
        """Of a process there: what it calls is its own, and it installs nothing.

        MNN's converter installs what it reports to its makers by, with the first pip on the path,
        and so an older protobuf, on which onnx breaks.
        """
        path = os.pathsep.join([str(self.python.parent), os.environ.get("PATH", os.defpath)])
        return {**os.environ, "PATH": path, "PIP_NO_INDEX": "1"}

    @property
    def _marker(self) -> Path:
        return self.folder / "installed"

    @property
    def _failure(self) -> Path:
        return self.folder / "failed"


def install(environment: Environment) -> None:
    """Create the environment.

    Raises:
        OutputError: pip failed; the message ends with its last line.
    """
    shutil.rmtree(environment.folder, ignore_errors=True)
    venv.create(environment.folder, with_pip=True)
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [str(environment.python), *pip, *environment.packages],
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        environment._failure.write_text(last_line(done.stderr))
        raise OutputError(
            f"pip cannot install {' '.join(environment.packages)}: {last_line(done.stderr)}",
            hint="Measure without it: python -m benchmarks --no-install",
        )
    environment._marker.write_text("\n".join(environment.packages))


def install_missing(environments: Iterable[Environment]) -> None:
    """Install what is not; one that cannot be is reported, and recorded later."""
    for environment in environments:
        if not environment.is_installed:
            say(f"installing {environment.name}: {' '.join(environment.packages)}")
            try:
                install(environment)
            except OutputError as error:
                say(f"failed: {error.what}")


def last_line(text: str) -> str:
    """The last line of a program's output that is not blank."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"
