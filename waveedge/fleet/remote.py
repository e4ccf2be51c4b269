"""waveedge on a board: which Python has it there, and how it gets there."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import IO

import waveedge
from waveedge.fleet.ssh import BoardError, Ssh
from waveedge.wheel import wheel_name, write_wheel

__all__ = ["find_python", "install"]

_PLACE = '"$HOME"/.local/share/waveedge'
_VENV = f"{_PLACE}/venv"

_FIND = """\
for python in {candidates}; do
  command -v "$python" >/dev/null 2>&1 || continue
  there=$("$python" -c 'import waveedge; print(waveedge.__version__)' 2>/dev/null) || continue
  echo "$there"
  command -v "$python"
  exit 0
done
exit 0
"""

_INSTALL = """\
set -e
mkdir -p {place}
cd {place}
cat > {wheel}.part
mv {wheel}.part {wheel}
[ -x venv/bin/python ] || {python} -m venv --system-site-packages venv
pip="venv/bin/python -m pip install --quiet --disable-pip-version-check"
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
        place=_PLACE, wheel=wheel_name(), python=_quoted(python) if python else "python3"
    )
    answer = ssh.run(script, send=send)
    if answer.status:
        raise ssh.failed("install waveedge", answer)


def _quoted(path: str) -> str:
    """A path for a shell; ``~/`` is the home of the user there."""
    if path.startswith("~/"):
        return f'"$HOME"/{shlex.quote(path[2:])}'
    return shlex.quote(path)
