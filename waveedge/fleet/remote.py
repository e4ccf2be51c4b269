"""waveedge on a board: which Python has it there, and how it gets there."""

from __future__ import annotations

import re
import shlex
import tempfile
from pathlib import Path
from typing import IO

import waveedge
from waveedge.fleet.ssh import BoardError, Ssh
from waveedge.wheel import wheel_name, write_wheel

__all__ = ["PLACE", "find_python", "install"]

PLACE = ".local/share/waveedge"
"""Where :func:`install` puts it, from the home of the user there."""

_PLACE = f'"$HOME"/{PLACE}'
_VENV = f"{_PLACE}/venv"
_WITHOUT_VENV = r"ensurepip is not\s+available|No module named '?(venv|ensurepip)"
"""What a Debian without python3-venv prints, and others that leave these modules out."""

_NO_PYTHON, _NO_VENV = 91, 92  # exit statuses of _INSTALL, which no program there has

_FIND = """\
without=missing
for python in {candidates}; do
  command -v "$python" >/dev/null 2>&1 || continue
  without=waveedge
  there=$("$python" -c 'import waveedge; print(waveedge.__version__)' 2>/dev/null) || continue
  echo "$there"
  command -v "$python"
  exit 0
done
echo "$without"
"""

_INSTALL = """\
set -e
command -v {python} >/dev/null 2>&1 || exit {no_python}
mkdir -p {place}
cd {place}
cat > {wheel}.part
mv {wheel}.part {wheel}
if ! venv/bin/python -m pip --version >/dev/null 2>&1; then
  rm -rf venv  # what is left of one where the line was cut
  {python} -m venv --system-site-packages venv || {{
    cd ..; rm -rf waveedge; exit {no_venv}
  }}
fi
pip="venv/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir"
$pip --force-reinstall --no-deps {wheel}  # of the same version, pip would leave an older build
$pip {wheel}
"""


def find_python(ssh: Ssh, python: str = "") -> str:
    """Return the Python on the board that has this version of waveedge, as its shell takes it.

    Args:
        python: the one to use; by default that of :func:`install`, else ``python3``.

    Raises:
        BoardError: there is none; the hint says what makes one.
        ConnectionLostError: the board cannot be reached.
    """
    candidates = _quoted(python) if python else f"{_VENV}/bin/python python3"
    found = ssh.ask(_FIND.format(candidates=candidates), "look for waveedge").splitlines()
    if found == ["missing"]:
        raise _no_python(ssh, python)
    if len(found) < 2:
        raise BoardError(
            f"{ssh.host}: {python or 'its Python'} has no waveedge",
            hint="Install it there: the same command with --setup.",
        )
    if found[0] != waveedge.__version__:
        raise BoardError(
            f"{ssh.host}: it has waveedge {found[0][:40]}, and here is {waveedge.__version__}",
            hint="Install this one there: the same command with --setup.",
        )
    return shlex.quote(found[1])


def install(ssh: Ssh, python: str = "") -> None:
    """Install this waveedge in an environment of its own on the board, from one wheel file.

    It lies in ``~/.local/share/waveedge`` there, and sees what the system's Python has, such as
    TensorRT. numpy and onnxruntime come from where the board's pip takes packages.

    Args:
        python: what makes the environment; ``python3`` by default.

    Raises:
        BoardError: something is missing there, or its disk is full.
        ConnectionLostError: the board cannot be reached.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder) / wheel_name()
        write_wheel(wheel)
        content = wheel.read_bytes()

    def send(stdin: IO[bytes]) -> None:
        stdin.write(content)

    script = _INSTALL.format(
        place=_PLACE,
        wheel=wheel_name(),
        python=_quoted(python) if python else "python3",
        no_python=_NO_PYTHON,
        no_venv=_NO_VENV,
    )
    answer = ssh.run(script, send=send)
    if answer.status == _NO_PYTHON:
        raise _no_python(ssh, python)
    if answer.status == _NO_VENV and re.search(_WITHOUT_VENV, answer.text):
        raise BoardError(
            f"{ssh.host}: its Python makes no virtual environments",
            hint="Install on the board what does: sudo apt install python3-venv",
        )
    if answer.status:
        raise ssh.failed("install waveedge", answer)


def _no_python(ssh: Ssh, python: str) -> BoardError:
    return BoardError(
        f"{ssh.host}: there is no {python or 'Python'}",
        hint="Install Python on the board: sudo apt install python3 python3-venv"
        + (", or name the one that it has." if python else ""),
    )


def _quoted(path: str) -> str:
    """A path for a shell; ``~/`` is the home of the user there."""
    if path.startswith("~/"):
        return f'"$HOME"/{shlex.quote(path[2:])}'
    return shlex.quote(path)
