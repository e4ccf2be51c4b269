"""One wheel file of this very waveedge, for boards to install.

It is made from the files that run here, however they were installed, and holds no calibration
photos, which a board has no use for. The format is that of PEP 427; the same files give the same
bytes.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import waveedge

__all__ = ["wheel_name", "write_wheel"]

_TIME = (2020, 1, 1, 0, 0, 0)
_APART = ("calibration", "export", "runtime")
"""Packages that an editable installation has beside the package ``waveedge``, not inside."""


def wheel_name() -> str:
    """Return the file's name: of this version, for any Python 3."""
    return f"waveedge-{waveedge.__version__}-py3-none-any.whl"


def write_wheel(path: Path) -> None:
    """Write the wheel to ``path``; less than 1 MiB.

    Raises:
        OSError: it cannot be written, or a file of the installation cannot be read.
    """
    about = f"waveedge-{waveedge.__version__}.dist-info"
    files = dict(_modules())
    distribution = metadata.distribution("waveedge")
    described = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO")
    commands = distribution.read_text("entry_points.txt")
    assert described is not None
    assert commands is not None
    files[f"{about}/METADATA"] = described.encode()
    files[f"{about}/entry_points.txt"] = commands.encode()
    files[f"{about}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: waveedge\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = f"{about}/RECORD"
    lines = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    files[record] = "\n".join([*lines, f"{record},,", ""]).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _TIME)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, content)


def _modules() -> Iterator[tuple[str, bytes]]:
    folders = {"waveedge": Path(str(waveedge.__file__)).parent}
    for room in _APART:
        found = find_spec(f"waveedge.{room}")
        assert found is not None
        assert found.origin is not None
        folder = Path(found.origin).parent
        if folder.parent != folders["waveedge"]:
            folders[f"waveedge/{room}"] = folder
    for inside, folder in folders.items():
        for file in sorted((*folder.rglob("*.py"), *folder.rglob("py.typed"))):
            yield f"{inside}/{file.relative_to(folder).as_posix()}", file.read_bytes()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
