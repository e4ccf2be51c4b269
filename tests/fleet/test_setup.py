"""``--setup``: waveedge installed on a board, what it lacks for that, and what stays there."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from waveedge.fleet import Board, measure
from waveedge.fleet.remote import PLACE
from waveedge.fleet.ssh import Ssh

Fleet = dict[str, Any]
QUICK = ("--runs", "3")
APT = "sudo apt install python3 python3-venv"

NO_VENV = """\
The virtual environment was not created successfully because ensurepip is not
available.  On Debian/Ubuntu systems, you need to install the python3-venv
package using the following command.

    apt install python3.10-venv
"""


def test_setup_installs_the_wheel_in_an_environment_of_its_own(
    fleet: Fleet, bundle: Path, tmp_path: Path, command_line: Callable[..., Any]
) -> None:
    host = fleet["board-a"]
    file = tmp_path / "fleet.yaml"
    file.write_text(f"boards: [{{host: board-a, name: orin, python: {sys.executable}}}]")
    status, out, err = command_line("bench", bundle, "--hosts", file, *QUICK, "--setup", "--json")
    assert status == 0, err
    assert '"runs": 3' in out
    assert not list((host.home / PLACE).glob("venv/lib/*/site-packages/torch"))
    # From now on it is found without being named.
    (again,) = measure([Board("board-a")], bundle, (*QUICK, "--alone"))
    assert again.error is None, again.error
    # It stays, and nothing else does; the command that is printed removes it.
    assert "orin: waveedge stays there, in ~/.local/share/waveedge. To remove it:\n" in err
    (line,) = [line.strip() for line in err.splitlines() if line.strip().startswith("ssh ")]
    assert line == f"ssh board-a 'rm -r ~/{PLACE}'"
    above = [".local", ".local/share"]
    assert [path for path in host.left() if not path.startswith(PLACE)] == above
    with Ssh("board-a") as ssh:
        ssh.ask(shlex.split(line)[-1], "remove it")
    assert host.left() == above
    host.clear()


def test_a_board_that_makes_no_virtual_environment_is_told_what_does(
    fleet: Fleet, bundle: Path, python: Callable[[str], str], tmp_path: Path
) -> None:
    """Debian's Python without python3-venv fails half-way, and leaves half of one behind."""
    (tmp_path / "says").write_text(NO_VENV)
    half = f"mkdir -p venv/bin; ln -s {sys.executable} venv/bin/python; cat {tmp_path}/says; exit 1"
    broken = python(f'case "$*" in *"-m venv"*) echo x >> {tmp_path}/tried; {half};; esac')
    for times in (1, 2):  # what the first left is not taken for an environment
        (outcome,) = measure([Board("board-b", python=broken)], bundle, QUICK, setup=True)
        assert outcome.error is not None
        assert outcome.error.what == "board-b: its Python makes no virtual environments"
        assert outcome.error.hint.endswith("sudo apt install python3-venv")
        assert (tmp_path / "tried").read_text() == "x\n" * times
        assert not outcome.installed
        assert not any("waveedge" in path for path in fleet["board-b"].left())
    fleet["board-b"].clear()


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of ssh, a shell of this machine that finds the programs in this folder alone."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "cat", "mkdir", "mv", "rm"):
        (programs / name).symlink_to(str(shutil.which(name)))
    home = tmp_path / "home"
    home.mkdir()
    ssh = tmp_path / "ssh"
    run = f"PATH={shlex.quote(str(programs))} HOME={shlex.quote(str(home))} exec sh -c"
    ssh.write_text(f'#!/bin/sh\nfor last; do :; done\n{run} "$last"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("WAVEEDGE_SSH", str(ssh))
    return programs


@pytest.mark.parametrize("setup", [False, True])
def test_a_board_without_python_is_told_so(setup: bool, bare: Path, bundle: Path) -> None:
    (outcome,) = measure([Board("me@board")], bundle, QUICK, setup=setup)
    assert outcome.error is not None
    assert outcome.error.what == "me@board: there is no Python"
    assert outcome.error.hint == f"Install Python on the board: {APT}"
    assert list((bare.parent / "home").iterdir()) == []


def test_a_python_without_waveedge_is_told_how_it_gets_there(bare: Path, bundle: Path) -> None:
    (bare / "python3").write_text("#!/bin/sh\nexit 1\n")
    (bare / "python3").chmod(0o755)
    (outcome,) = measure([Board("me@board")], bundle, QUICK)
    assert outcome.error is not None
    assert outcome.error.what == "me@board: its Python has no waveedge"
    assert outcome.error.hint == "Install it there: the same command with --setup."
