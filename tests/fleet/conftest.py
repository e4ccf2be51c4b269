"""Boards for the tests: real ssh servers on loopback, each with a home of its own.

They run as the user who runs the tests, on ports and with keys made for the occasion; no file of
that user's is read or written.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import waveedge
from waveedge.wheel import wheel_name, write_wheel

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")

CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
SetEnv HOME={home} PIP_NO_COMPILE=1
"""
"""What is installed on a board is imported once: compiling all of it takes longer."""


@dataclass
class Host:
    """A running ssh server.

    Attributes:
        name: by which ssh knows it.
        home: of whoever logs in there; empty at first.
        server: its process.
        log: what the server wrote.
    """

    name: str
    home: Path
    server: subprocess.Popen[bytes]
    log: Path

    def left(self) -> list[str]:
        """What lies in the home."""
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*"))

    def logins(self) -> int:
        """How often somebody came in."""
        return self.log.read_text().count("Accepted publickey")

    def clear(self) -> None:
        """Empty the home."""
        for path in self.home.iterdir():
            shutil.rmtree(path)

    def cut(self) -> None:
        """End every connection, as a cable that is pulled; the server stays."""
        for pid in _children(self.server.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    own = [int(word) for word in listed.stdout.split()]
    # What is in a session of its own is a detached job: it outlives the line.
    return [child for child in own if "sshd" in _command(child)]


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Host]]:
    """Two boards, ``board-a`` and ``board-b``.

    ssh also knows ``behind``, which is ``board-b`` by way of ``board-a``, ``stranger``, whose host
    key is another than the known one, ``locked``, which knows no key of ours, and ``nobody``, where
    no server runs.
    """
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no ssh server here: apt install openssh-server")
    if os.geteuid() == 0 and not Path("/run/sshd").is_dir():
        pytest.skip("sshd as root needs /run/sshd: mkdir /run/sshd")
    folder = tmp_path_factory.mktemp("ssh")
    for key in ("host_key", "client_key", "other_key"):
        _done("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key)
    shutil.copy(folder / "client_key.pub", folder / "authorized_keys")
    hosts, aliases, known = {}, [], []
    for name in ("board-a", "board-b"):
        hosts[name], port = _serve(folder, name)
        aliases.append(_alias(folder, name, port))
        known.append(f"[127.0.0.1]:{port} {(folder / 'host_key.pub').read_text()}")
    aliases.append(_alias(folder, "behind", port, ProxyJump="board-a"))
    port = int(aliases[0].split("Port ")[1].split()[0])
    aliases.append(_alias(folder, "stranger", port, UserKnownHostsFile=folder / "strange"))
    wrong = (folder / "other_key.pub").read_text()
    (folder / "strange").write_text(f"[127.0.0.1]:{port} {wrong}")
    aliases.append(_alias(folder, "locked", port, IdentityFile=folder / "other_key"))
    aliases.append(_alias(folder, "nobody", _free_port()))
    (folder / "known_hosts").write_text("".join(known))
    (folder / "config").write_text("\n".join(aliases))
    before = os.environ.get("WAVEEDGE_SSH")
    os.environ["WAVEEDGE_SSH"] = f"ssh -F {folder / 'config'}"
    yield hosts
    os.environ.pop("WAVEEDGE_SSH")
    if before is not None:
        os.environ["WAVEEDGE_SSH"] = before
    for host in hosts.values():
        host.cut()
        host.server.terminate()
        host.server.wait(10)


def _serve(folder: Path, name: str) -> tuple[Host, int]:
    home, port = folder / name, _free_port()
    home.mkdir()
    config = folder / f"{name}.conf"
    config.write_text(CONFIG.format(port=port, folder=folder, home=home))
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        server = subprocess.Popen([str(SSHD), "-D", "-e", "-f", str(config)], stderr=file)
    for _ in range(100):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return Host(name, home, server, log), port
        time.sleep(0.05)
    raise AssertionError(log.read_text())


def _alias(folder: Path, name: str, port: int, **options: object) -> str:
    known = {
        "HostName": "127.0.0.1",
        "Port": port,
        "IdentityFile": folder / "client_key",
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": folder / "known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "LogLevel": "ERROR",
        **options,
    }
    return "\n".join([f"Host {name}", *(f"  {key} {value}" for key, value in known.items()), ""])


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _done(*command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="session")
def pythons(fleet: dict[str, Host], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A virtual environment for each board, with the wheel; what that needs is seen from here."""
    folder = tmp_path_factory.mktemp("venvs")
    wheel = folder / wheel_name()
    write_wheel(wheel)
    needed = [find_spec(name) for name in ("numpy", "onnxruntime", "rich", "typer")]
    seen = {str(Path(str(spec and spec.origin)).parents[1]) for spec in needed}
    programs = {}
    for name in fleet:
        _done(sys.executable, "-m", "venv", "--without-pip", folder / name)
        program = folder / name / "bin" / "python"
        pip = (sys.executable, "-m", "pip", "--python", program, "install", "--quiet")
        _done(*pip, "--disable-pip-version-check", "--no-deps", "--no-compile", wheel)
        (packages,) = (folder / name).glob("lib/python*/site-packages")
        (packages / "seen.pth").write_text("".join(f"{line}\n" for line in sorted(seen)))
        programs[name] = str(program)
    return programs


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network, compressed and exported."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 1)
    )
    images = torch.rand(4, 3, 16, 16)
    small = waveedge.compress(network.eval(), images, bits=8)
    out = tmp_path_factory.mktemp("bundle") / "net.ort"
    return waveedge.export(small, out, target="ort", images=images).path


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that runs as TensorRT engines, which no board here can build."""
    network = torch.nn.Conv2d(3, 4, 3).eval().requires_grad_(False)
    out = tmp_path_factory.mktemp("engines") / "net.trt"
    return waveedge.export(network, out, target="trt", images=torch.rand(2, 3, 8, 8)).path


@pytest.fixture
def command_line(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs waveedge in an empty folder; returns its exit status and what it printed."""
    from waveedge.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in arguments])
        out, err = capfd.readouterr()
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture
def python(tmp_path: Path) -> Callable[[str], str]:
    """Makes a program that does something first and then is this Python."""

    def make(first: str) -> str:
        program = tmp_path / "python-of-the-board"
        program.write_text(f'#!/bin/sh\n{first}\nexec {sys.executable} "$@"\n')
        program.chmod(0o755)
        return str(program)

    return make


@pytest.fixture
def fake(python: Callable[[str], str]) -> Callable[..., str]:
    """Makes a Python in which waveedge is a fake: for each verb, what the shell does instead."""

    def make(**verbs: str) -> str:
        verbs = {"doctor": "echo {}", "bench": "echo {}", "build": "echo {}", **verbs}
        cases = [f'*"-m waveedge {verb} "*) {does}; exit;;' for verb, does in verbs.items()]
        cases.append(f"*__version__*) echo {waveedge.__version__}; exit;;")
        return python("\n".join(['case "$*" in', *cases, "esac"]))

    return make
