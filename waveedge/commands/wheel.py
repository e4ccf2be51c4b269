"""``waveedge wheel``: one file by which a board gets this waveedge."""

from __future__ import annotations

from pathlib import Path

from waveedge import console
from waveedge.outputs import WHEEL, check_output, new_file
from waveedge.wheel import wheel_name, write_wheel

__all__ = ["run"]


def run(out: Path | None, *, overwrite: bool) -> None:
    """Write the wheel into a folder, the working one by default.

    Raises:
        OutputError: there is no such folder, or what lies there must not be replaced.
    """
    path = (out or Path()) / wheel_name()  # pip reads version and platform from the name
    check_output(path, WHEEL, overwrite=overwrite)
    with new_file(path, WHEEL, overwrite=overwrite) as temporary:
        write_wheel(temporary)
    console.out.print(f"wrote {path} ({console.size(path.stat().st_size)})")
    console.say(
        "On a board: python3 -m venv --system-site-packages waveedge && "
        f"waveedge/bin/pip install {path.name}"
    )
